# The command line of run.jl.

using .CrossBackend: BadOption, atol_of, cells, load, parse_options

options(words...) = parse_options(collect(words))

@testset "options" begin
    @test options("--help") === nothing
    found = options("--norm", "mixed", "--norm=pooled", "--stepping", "native", "--rtol", "1e-4", "--rtol=1e-5",
                    "--out", "x", "--atol-factor", "0.1", "--repeats", "2", "--engine", "ordinarydiffeq:Tsit5")
    @test (found.engine, found.norms, found.steppings) == ("ordinarydiffeq:Tsit5", ["mixed", "pooled"], ["native"])
    @test (found.rtols, found.atol_factor, found.repeats, found.out) == ([1e-4, 1e-5], 0.1, 2, "x")
    plain = options()
    @test (plain.engine, plain.norms, plain.rtols, plain.atol_factor, plain.out) == ("base", [], [], 0.01, "results")
    @test atol_of(1e-6, 1e-2) === 1e-8
end

@testset "bad options" begin
    said(words...) = message(() -> options(words...), BadOption)
    @test said("--tolerance", "1") == "--tolerance: expected --engine, --norm, --stepping, --rtol, --atol-factor, " *
                                      "--repeats, --out or --help"
    @test said("mixed") == "mixed: expected an option, which begins with --"
    @test said("--norm") == "--norm: expected a value after it"
    @test said("--rtol", "2") == "--rtol 2: expected a number between 0 and 1.0"
    @test said("--rtol", "x") == "--rtol x: expected a number between 0 and 1.0"
    @test said("--atol-factor", "-1") == "--atol-factor -1: expected a positive number"
    @test said("--repeats", "1.5") == "--repeats 1.5: expected a whole number, 0 or more"
    @test said("--stepping", "both") == "--stepping both: expected native or matched"
end

@testset "cells" begin
    about = load(driven()).about
    plans, declined = cells(about, options())
    @test [(plan.norm, plan.stepping, plan.rtol) for plan in plans] == [
        (norm, stepping, rtol) for norm in ("default", "seminorm") for stepping in ("native", "matched") for
        rtol in (1e-3, 1e-6)]
    @test plans[2].atol === 1e-8
    plans, declined = cells(about, options("--norm", "mixed-t", "--rtol", "1e-4"))
    @test length(plans) == 1
    @test declined == ["mixed-t matched: this norm sees a_t, so its steps cannot be matched"]
    said = message(() -> cells(about, options("--norm", "mixd")), BadOption)
    @test occursin("--norm mixd: expected one of default, ", said)
    other = options("--engine", "sciml", "--stepping", "matched")
    @test occursin("the engine sciml has its own rules", message(() -> cells(about, other), BadOption))
    @test all(plan.stepping == "native" for plan in cells(about, options("--engine", "ordinarydiffeq"))[1])
end

"""Run run.jl of an exported folder; return its exit status, output and errors."""
function run_program(dir, words...)
    write(joinpath(dir, "run.jl"), """
    include(raw"$(joinpath(@__DIR__, "..", "src", "CrossBackend.jl"))")
    CrossBackend.main(@__DIR__, ARGS)
    """)
    out, errors = IOBuffer(), IOBuffer()
    command = `$(Base.julia_cmd()) --startup-file=no $(joinpath(dir, "run.jl")) $(collect(words))`
    done = run(pipeline(ignorestatus(command); stdout = out, stderr = errors))
    return done.exitcode, String(take!(out)), String(take!(errors))
end

@testset "a run" begin
    out = joinpath(mktempdir(), "results")
    status, said, errors = run_program(lotka_volterra("ran"), "--rtol", "1e-5", "--repeats", "3", "--out", out)
    @test status == 0 && errors == ""
    @test count("\n", said) == 5
    line = r"base seminorm native rtol 1e-05: ok, loss 1717\.\d+, evaluations \d+ forward, \d+ backward, median \S+ ms"
    @test occursin(line, said)
    @test occursin("4 records in $out", said)
    names = filter(endswith(".json"), readdir(joinpath(out, "records")))
    @test names == ["ran_julia_$(norm)_$(stepping)_1.0e-5.json" for norm in ("default", "seminorm") for
                    stepping in ("matched", "native")]
    holds(joinpath(out, "records", names[2]), "\"repeats\": 3", "\"compile_s\": ")
    holds(joinpath(out, "records", names[1]), "\"time\": null")
end

@testset "a run that cannot be" begin
    status, said, errors = run_program(lotka_volterra("refused"), "--norm", "none")
    @test status == 2 && said == ""
    @test occursin(r"^run\.jl: --norm none: expected one of default, [^\n]*\n$", errors)
    dir = decay("old")
    write(joinpath(dir, "problem.jl"), "(format = 2,)")
    status, said, errors = run_program(dir)
    @test status == 2
    @test occursin("format 2, this version reads format 1: export the problem anew", errors)
end
