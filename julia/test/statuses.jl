# Failed solves are statuses with a place, never exceptions.

using .CrossBackend: Declined, Failed, Plan, load, record, solve

recorded(dir, stepping; rtol = 1e-6, norm = "mixed") = record(load(dir), Plan(norm, stepping, rtol, 1e-2 * rtol))

@testset "$stepping: $status" for stepping in ("native", "matched"), (name, text, status, words) in (
    ("nan", "t > 0.5 ? NaN : y", "nan_in_field",
     r"^forward solve: the field is not finite at t = 0\.5\d*, where y is finite$"),
    ("blow_up", "y^2", "diverged", r"^forward solve: max\|y\| reached \S+ near t = 1$"),
    ("jump", "t > 0.5 ? 1e7 : 0.0", "step_underflow", r"^forward solve: the step fell under 10 ulp of t at t = 0\.5$"),
    ("nan_first", "NaN * y", "nan_in_field", r"at t = 0, where"))
    found = recorded(field_of("$(name)_$stepping", text), stepping; rtol = 1e-12)
    @test found.status == status
    @test occursin(words, found.message)
    @test found.gradient === nothing && found.ys === nothing && found.backward === nothing
    lengths, ulps = abs.(found.forward.t1 .- found.forward.t0), eps.(found.forward.t0)
    @test all((lengths .> 9 .* ulps)[found.forward.t1 .< 2])  # a shorter one is not attempted
    bare = solve(load(field_of("$(name)_$stepping", text)), Plan("mixed", stepping, 1e-12, 1e-14))
    @test bare isa Failed && bare.status == status && bare.message == found.message
end

@testset "attempts run out forwards" begin
    found = recorded(lotka_volterra("stopped"; max_steps = 20), "native")
    @test found.status == "max_steps"
    @test occursin(r"^forward solve: 20 steps reached t = ", found.message)
    @test length(found.forward.t0) == 20
end

@testset "a NaN in an attempt that was given up is forgotten" begin
    dir = field_of("recovered", "y < 0 ? NaN : -y"; max_steps = 12)
    found = record(load(dir), Plan("mixed", "native", 1e-9, 1e-11; first_step = 2.0))
    @test isnan(found.forward.seen[1][1]) && any(found.forward.accepted)
    @test found.status == "max_steps"
end

@testset "attempts run out backwards: those of all intervals count" begin
    whole = recorded(lotka_volterra(), "native")
    forward, backward = length(whole.forward.t0), length(whole.backward.t0)
    @test backward > forward + 1
    dir = lotka_volterra("stopped_late"; max_steps = forward + 1)
    found = recorded(dir, "native")
    @test found.status == "max_steps"
    @test occursin("backward solve: $(forward + 1) steps reached", found.message)
    @test found.ys == whole.ys
    @test found.gradient === nothing
    @test length(found.backward.t0) == forward + 1
    @test solve(load(dir), Plan("mixed", "native", 1e-6, 1e-8)) isa Failed
end

@testset "a loss that is not finite ends the backward pass at once" begin
    dir = field_of("bad_loss", "-y")
    source = read(joinpath(dir, "field.jl"), String)
    write(joinpath(dir, "field.jl"), replace(source, "2 .* ys, zeros(1)" => "NaN .* ys, zeros(1)"))
    for stepping in ("native", "matched")
        found = recorded(dir, stepping)
        @test found.status == "step_underflow"
        @test startswith(found.message, "backward solve: ")
        @test length(found.backward.t0) == 1
    end
end

@testset "counts and ranges are those of the field" begin
    found = recorded(decay("counted"; k = -1.0, ts = [0.0, 1.0]), "native")
    @test found.forward.nfe == 2 + 6 * length(found.forward.t0)
    @test (found.forward.t_min, found.forward.t_max) == (0, 1)
    @test found.forward.y_max ≈ 1.3 * exp(1) rtol = 1e-2
end

@testset "a norm or stepping that is not there" begin
    problem = load(decay())
    @test_throws Declined solve(problem, Plan("mixd", "native", 1e-6, 1e-8))
    @test_throws Declined solve(problem, Plan("mixed", "nativ", 1e-6, 1e-8))
end
