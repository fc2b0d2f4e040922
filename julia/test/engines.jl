# The engines of other packages: declined where those are missing, and `ordinarydiffeq` over a stand-in.
#
# The stand-in has the documented interface that the engine uses and steps by a pair of its own. What passes here is the
# engine's own code; that OrdinaryDiffEq has this interface is not tested.

using .CrossBackend: Declined, Plan, engines, load, record, settings, solve, versions_of, why_not

@testset "why an engine cannot be used" begin
    @test why_not("base") === nothing
    @test why_not("turbo") == "no such engine: expected one of base, ordinarydiffeq, sciml"
    @test why_not("sciml:forward") == "no such choice: expected sciml:CHOICE with one of backsolve, interpolating, " *
                                      "gauss"
    @test occursin("no such choice", why_not("ordinarydiffeq:RK4"))
    for (engine, packages, words) in (
        ("sciml:gauss", ["OrdinaryDiffEq", "SciMLSensitivity"],
         "OrdinaryDiffEq and no SciMLSensitivity: add it by `]add OrdinaryDiffEq SciMLSensitivity`"),
        ("ordinarydiffeq", ["OrdinaryDiffEq"], "OrdinaryDiffEq: add it by `]add OrdinaryDiffEq`"))
        if all(package -> Base.find_package(package) === nothing, packages)
            plan = Plan("default", "native", 1e-6, 1e-8; engine = engine)
            said = message(() -> solve(load(decay()), plan), Declined)
            @test said == "engine $engine: this Julia finds no $words"
            @test !(first(split(engine, ':')) in engines())
        end
    end
end

@testset "every engine's file is Julia" begin
    for name in ("ordinarydiffeq", "sciml")
        text = read(joinpath(@__DIR__, "..", "engines", "$name.jl"), String)
        place, count = 1, 0
        while place <= ncodeunits(text)
            expression, place = Meta.parse(text, place)
            @test !(expression isa Expr && expression.head in (:error, :incomplete))
            count += 1
        end
        @test count > 8
    end
end

if Base.find_package("OrdinaryDiffEq") === nothing
    push!(LOAD_PATH, joinpath(@__DIR__, "standin"))
    @testset "ordinarydiffeq over a stand-in" begin
        ours(norm; rtol = 1e-7, first_step = nothing, engine = "ordinarydiffeq:Tsit5") =
            Plan(norm, "native", rtol, 1e-2 * rtol; engine = engine, first_step = first_step)
        for (make, norm) in ((lotka_volterra, "default"), (driven, "mixed-seminorm"), (driven, "mixed-t"),
                             (driven, "worst"), (stairs, "mixed"))
            problem = load(make())
            bare, found = solve(problem, ours(norm)), record(problem, ours(norm))
            base = solve(problem, Plan(norm, "native", 1e-10, 1e-12))
            @test found.status == "ok"
            @test bare.params == found.gradient.params && bare.y0 == found.gradient.y0
            @test bare.params ≈ base.params rtol = 1e-4
            for watch in (found.forward, found.backward)
                @test watch.nfe > 3 * length(watch.t0)
                @test all(row[1] <= 1 for row in watch.seen) == all(watch.accepted)
                @test watch.accepted == [row[1] <= 1 for row in watch.seen]
            end
            @test found.forward.t1[end] == problem.about.ts[end]
            @test found.backward.t1[end] == problem.about.ts[1]
            accepted = findall(found.forward.accepted[1:end-1])
            @test found.forward.t0[accepted .+ 1] == found.forward.t1[accepted]
        end
        problem = load(stairs())
        found = record(problem, ours("mixed"))
        @test any(found.forward.t1 .== 1.0)  # its breakpoints are stops
        @test record(problem, ours("mixed"; first_step = 0.01)).forward.t1[1] == 0.01
        short = record(load(lotka_volterra("standin_short"; max_steps = 20)), ours("mixed"))
        @test short.status == "max_steps" && length(short.forward.t0) == 20
        @test solve(load(lotka_volterra("standin_short"; max_steps = 20)), ours("mixed")).status == "max_steps"
        bad = record(load(field_of("standin_nan", "t > 0.5 ? NaN : y")), ours("mixed"))
        @test bad.status == "nan_in_field"
        matched = Plan("mixed", "matched", 1e-6, 1e-8; engine = "ordinarydiffeq:Tsit5")
        said = message(() -> solve(problem, matched), Declined)
        @test occursin("matched stepping is of the engine base alone", said)
        said = message(() -> solve(problem, ours("mixed"; engine = "ordinarydiffeq")), Declined)
        @test occursin("this OrdinaryDiffEq has no DP5: add it by `]add OrdinaryDiffEqLowOrderRK`", said)
        forward = Dict(Dict(settings(problem, ours("mixed")))["forward"])
        @test (forward["solver"], forward["breakpoints"]) == ("Tsit5() of OrdinaryDiffEq", "d_discontinuities")
        @test versions_of("ordinarydiffeq:Tsit5") == ["OrdinaryDiffEq" => "0.0.1"]
    end
    pop!(LOAD_PATH)
end
