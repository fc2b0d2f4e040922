# The pair itself, and its two step rules.

using .CrossBackend: DENSE, ERROR, MATCHED_ERROR, NODES, STAGES, WEIGHTS, FieldSystem, Outputs, Pass, Plan, Stepping,
    Unwatched, WeightedNorm, Work, advance!, attempt!, blocks_of, evaluate!, finished, growth, load, record,
    snap, solve, solve_forward

"""The norm of the forward pass, for a state of n entries."""
function rms_y(n)
    norm = CrossBackend.Norm("rms y", false, Dict("y" => 1.0))
    return WeightedNorm(norm, blocks_of(["y" => [("", n)]]), String[], false)
end

how(rtol; matched = false, first_step = NaN) = Stepping(rtol, 1e-2 * rtol, matched, first_step)

@testset "coefficients are those of a pair of orders 5 and 4 with a dense output" begin
    nodes = [0.0; NODES[1:5]...]
    @test [sum(row) for row in STAGES] ≈ nodes[2:end]
    for power in 0:4
        @test sum(WEIGHTS .* nodes .^ power) ≈ 1 / (power + 1)
    end
    lower = [WEIGHTS..., 0.0] .- [ERROR...]
    for power in 0:3
        @test sum(lower .* [nodes; 1.0] .^ power) ≈ 1 / (power + 1)
    end
    @test abs(sum(lower .* [nodes; 1.0] .^ 4) - 1 / 5) > 1e-4
    @test [sum(row) for row in DENSE] ≈ [WEIGHTS..., 0.0] atol = 1e-14
    @test [row[1] for row in DENSE] == [1; zeros(6)]
    @test collect(MATCHED_ERROR) ≈ collect(ERROR) ./ -1.5
end

"""The error of one step of length h on y' = cos(t) y from t = 0.3, y = 1."""
function local_error(h)
    work = Work(1)
    work.z .= 1
    system = FieldSystem((t, y) -> cos.(t) .* y, 1, -Inf, Inf)
    evaluate!(work.k[1], system, 0.3, work.z)
    attempt!(work, system, 0.3, h, Pass(how(1e-6), rms_y(1), Unwatched(), 10))
    return abs(work.candidate[1] - exp(sin(0.3 + h) - sin(0.3)))
end

@testset "a step of half the length has a sixty-fourth of the error" begin
    @test 56 < local_error(0.2) / local_error(0.1) < 72
end

@testset "the error follows the tolerance, at the end and between the steps" begin
    ts = collect(0:0.37:7.4)
    for rtol in (1e-4, 1e-6, 1e-8, 1e-10), matched in (false, true)
        pass = Pass(how(rtol; matched = matched), rms_y(2), Unwatched(), 10^5)
        ended, stored = solve_forward((t, y) -> [y[2], -y[1]], [0.0, 1.0], ts, NTuple{4,Float64}[], pass)
        @test ended === finished
        worst = maximum(abs.(stored.states .- [sin.(ts) cos.(ts)]'))
        @test rtol / 100 < worst < 20rtol
    end
end

@testset "as many steps as SciPy takes on predator and prey" begin
    found = record(load(lotka_volterra("two_times"; ts = [0.0, 10.0])), Plan("default", "native", 1e-8, 1e-8)).forward
    @test count(found.accepted) == 196
    @test found.nfe == 1268
    @test found.nfe == 6 * length(found.t0) + 2
end

@testset "the next step" begin
    @test growth(0.5, false, false) == 0.9 * 0.5^-0.2
    @test growth(1e-9, false, false) == growth(0.0, false, false) == 10
    @test growth(0.99, false, false) < 1         # native stepping may shrink after acceptance
    @test growth(0.5, true, false) == 1          # and does not grow after a rejection
    @test growth(0.99, true, false) < 1
    @test growth(0.99, false, true) == 1         # matched stepping does not shrink
    @test growth(0.5, true, true) == 0.9 * 0.5^-0.2
    @test growth(0.0, true, true) == 10
end

@testset "steps follow the rule" begin
    for (stepping, snapped) in (("native", false), ("matched", true))
        watch = record(load(lotka_volterra("rule"; ts = [0.0, 10.0])), Plan("mixed", stepping, 1e-4, 1e-6)).forward
        @test count(.!watch.accepted) > 3
        for i in 2:length(watch.t0)-1
            before, after = watch.t1[i-1] - watch.t0[i-1], watch.t1[i] - watch.t0[i]
            ratio = watch.seen[i-1][1]
            @test !snapped || ratio == snap(ratio)
            rejected = i > 2 && !watch.accepted[i-2]
            factor = watch.accepted[i-1] ? growth(ratio, rejected, stepping == "matched") : max(0.2, 0.9 * ratio^-0.2)
            @test after ≈ before * factor rtol = 1e-10
            @test watch.t0[i] == (watch.accepted[i-1] ? watch.t1[i-1] : watch.t0[i-1])
        end
        @test watch.t1[end] == 10
    end
end

@testset "a hopeless attempt is cut to a fifth" begin
    for stepping in ("native", "matched")
        watch = record(load(lotka_volterra("far"; ts = [0.0, 10.0])),
                       Plan("mixed", stepping, 1e-8, 1e-10; first_step = 4.0)).forward
        @test watch.seen[1][1] > 1e4
        @test watch.t1[1:3] ≈ [4.0, 0.8, 0.16]
    end
end

"""The watch of a forward solve of y' = 0.001 y over [0, 0.1]: Hairer's first guess is far beyond its end."""
slow(stepping; options...) = record(load(decay("slow"; k = -1e-3, ts = [0.0, 0.1])),
                                    Plan("mixed", stepping, 1e-6, 1e-8; options...)).forward

@testset "the first step" begin
    @test slow("native").t_max == 0.1     # clipped to the interval, the evaluation that chooses it too
    @test slow("matched").t_max > 5       # not clipped
    @test slow("matched").t1[end] == 0.1  # but for the step itself
    given = slow("native"; first_step = 0.02)
    @test given.t1[1] == 0.02
    @test given.nfe == 6 * length(given.t0) + 1
    @test slow("native"; first_step = 3.0).t1[1] == 0.1
    native, matched = (record(load(lotka_volterra()), Plan("mixed", stepping, 1e-6, 1e-8; first_step = 0.05)).forward
                       for stepping in ("native", "matched"))
    @test matched.seen[1][1] == snap(native.seen[1][1] / 1.5)  # their error estimate
end

@testset "outputs are interpolated and move no step" begin
    few, many = (record(load(lotka_volterra("outputs$(length(ts))"; ts = ts)), Plan("mixed", "native", 1e-6, 1e-8))
                 for ts in ([0.0, 10.0], collect(0:0.1:10)))
    @test few.forward.t1 == many.forward.t1
    @test many.ys[:, 1] == [1, 1]
    @test few.ys[:, end] == many.ys[:, end]
end

"""Bytes that a solve over [0, t1] allocates with a field that allocates none."""
function bytes(t1)
    slopes = [1.0, 2.0]
    work, system = Work(2), FieldSystem((t, y) -> slopes, 2, -Inf, Inf)
    pass = Pass(how(1e-6; first_step = 0.5), rms_y(2), Unwatched(), 10^9)
    return @allocated advance!(work, system, 0.0, t1, pass)
end

@testset "a step allocates nothing" begin
    bytes(1.0)
    @test bytes(1.0) == bytes(1e9)
end
