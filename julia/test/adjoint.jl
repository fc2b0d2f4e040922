# Gradients against closed forms and finite differences; recording against not recording.

using .CrossBackend: Plan, chain, load, record, solve

close(a, b) = maximum(abs.(a .- b)) / maximum(abs.(b))

@testset "a closed form" begin
    k, start, ts = 0.7, 1.3, [0.0, 0.5, 2.0, 3.0]
    found = solve(load(decay(; k = k, start = start, ts = ts)), Plan("mixed", "native", 1e-10, 1e-12))
    y = start .* exp.(-k .* ts)
    @test found.loss ≈ sum(abs2, y) / 2 rtol = 1e-9
    @test found.params ≈ [-sum(ts .* y .^ 2), sum(y .^ 2) / start] rtol = 1e-8   # k, start
    @test found.y0 ≈ [sum(y .^ 2) / start] rtol = 1e-8
end

@testset "predator and prey as other programs have it" begin
    # Forward mode through OrdinaryDiffEq at 1e-10; the second entry as central differences give it.
    params = [69.55371416, -1105.12225683, 1030.65889978, -3627.01786254]
    y0 = [-1039.42851195, -257.99415433]
    problem = load(lotka_volterra())
    for stepping in ("native", "matched"), norm in ("default", "seminorm")
        found = solve(problem, Plan(norm, stepping, 1e-10, 1e-12))
        @test close(found.params, params) < 1e-7
        @test close(found.y0, y0) < 1e-7
    end
end

"""Central differences of the loss with respect to one array of parameters, by problems made anew."""
function differences(make, array; step = 1e-5, plan = Plan("mixed", "matched", 1e-11, 1e-13))
    loss(moved) = solve(load(make(moved)), plan).loss
    return [(moved = zero(array); moved[i] = step; (loss(array + moved) - loss(array - moved)) / 2step)
            for i in eachindex(array)]
end

@testset "finite differences" begin
    plan = Plan("mixed", "matched", 1e-10, 1e-12)
    level = [1.0, -0.3, 0.5]
    make = moved -> stairs("stairs_moved"; params = ["k" => fill(0.8), "level" => moved, "start" => fill(1.5)])
    found = solve(load(stairs()), plan).params
    @test close(found[2:4], differences(make, level)) < 1e-7
    make = moved -> stairs("stairs_moved"; params = ["k" => fill(0.8), "level" => level, "start" => moved])
    @test close(found[5], only(differences(make, fill(1.5)))) < 1e-7  # of the initial state and the loss itself

    matrix = [-0.1 -1.2; 1.0 -0.05]
    make = moved -> driven("driven_moved"; params = ["matrix" => moved, "push" => [0.7]])
    @test close(solve(load(driven()), plan).params[1:4], differences(make, matrix)) < 1e-7
end

@testset "a declared breakpoint ends a step, in matched stepping" begin
    problem = load(stairs())
    found = record(problem, Plan("mixed", "matched", 1e-6, 1e-8))
    for time in (1.0, 2.5), watch in (found.forward, found.backward)
        @test any(watch.accepted .& (watch.t1 .== time))
        @test !any(min.(watch.t0, watch.t1) .< time .< max.(watch.t0, watch.t1))
    end
    @test !any(found.backward.seen .=== nothing)
    @test found.reconstruction_t == [0.0, 0.7, 1.0, 2.5]
    native = record(problem, Plan("mixed", "native", 1e-6, 1e-8))
    @test native.reconstruction_t == [0.0, 0.7, 2.5]
    @test any(native.forward.t0 .< 1.0 .< native.forward.t1)
end

@testset "pieces take their own side of a breakpoint" begin
    @test chain([0.0, 1.0, 2.0], [0.5, 1.0]) == [
        (0.0, 0.5, -Inf, prevfloat(0.5)), (0.5, 1.0, nextfloat(0.5), prevfloat(1.0)), (1.0, 2.0, nextfloat(1.0), Inf)]
end

@testset "recording moves nothing" begin
    for (make, norms) in ((lotka_volterra, ("default",)), (stairs, ("mixed",)),
                          (driven, ("pooled-seminorm", "mixed-t", "worst", "mixed-integrals")))
        problem = load(make())
        for norm in norms, stepping in ("native", "matched")
            haskey(problem.about.norms, (norm, stepping)) || continue
            plan = Plan(norm, stepping, 1e-5, 1e-7)
            bare, recorded = solve(problem, plan), record(problem, plan).gradient
            @test bare.loss === recorded.loss
            @test bare.y0 == recorded.y0
            @test bare.params == recorded.params
        end
    end
end

@testset "what a_t and the seminorm do" begin
    problem = load(driven())
    nfe(norm) = record(problem, Plan(norm, "native", 1e-7, 1e-9)).backward.nfe
    @test nfe("mixed-seminorm") < nfe("mixed")
    with_time = record(problem, Plan("mixed-t", "native", 1e-7, 1e-9))
    @test "ratio_a_t" in with_time.backward.meter.names
    @test with_time.gradient.params ≈ solve(problem, Plan("mixed", "native", 1e-9, 1e-11)).params rtol = 1e-6
end

@testset "the reconstruction error" begin
    found = record(load(lotka_volterra()), Plan("mixed", "native", 1e-6, 1e-8))
    @test found.reconstruction_t == collect(0:0.1:9.9)
    @test 0 < maximum(found.reconstruction) < 1e-5
end
