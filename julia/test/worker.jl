# The worker, spawned, over its pipes.

using .CrossBackend: Plan, load, record, solve, write_npy

const KINDS = Dict("<f8" => Float64, "<f4" => Float32, "|b1" => Bool, "<i8" => Int64)

"""Send a request and return the reply's header, as text, and its arrays in reversed sizes."""
function ask(worker, words...)
    println(worker, join(words, '\t'))
    header = readline(worker)
    said = match(r"\"arrays\": \[(.*)\]\}$", header).captures[1]
    arrays = Dict{String,Any}()
    for found in eachmatch(r"\[\"([^\"]*)\", \"([^\"]*)\", \[([0-9, ]*)\]\]", said)
        shape = [parse(Int, part) for part in split(found.captures[3], ", "; keepempty = false)]
        kind = KINDS[found.captures[2]]
        numbers = collect(reinterpret(kind, read(worker, prod(shape) * sizeof(kind))))
        arrays[found.captures[1]] = isempty(shape) ? numbers[1] : reshape(numbers, reverse(shape)...)
    end
    return header, arrays
end

ok(reply) = startswith(reply[1], "{\"ok\": true")
plan_words(norm, stepping, rtol, atol) = ("base", norm, stepping, rtol, atol, "-")

errors = tempname()
path = joinpath(@__DIR__, "..", "worker.jl")
worker = open(pipeline(`$(Base.julia_cmd()) --startup-file=no $path`; stderr = errors), "r+")

@testset "hello" begin
    header, arrays = ask(worker, "hello")
    @test occursin("\"julia\": \"$VERSION\"", header)
    @test occursin("\"engines\": [\"base\"", header)
    @test isempty(arrays)
end

@testset "solve and record are those of the package" begin
    dir = driven()
    @test ok(ask(worker, "load", "key", dir))
    @test ok(ask(worker, "compile", "key", "base", "mixed", "native", "-"))
    problem, plan = load(dir), Plan("mixed", "native", 1e-6, 1e-8)
    header, arrays = ask(worker, "solve", "key", plan_words("mixed", "native", "1e-06", "1e-08")...)
    bare = solve(problem, plan)
    @test occursin(r"\"seconds\": [0-9.e-]+", header)
    @test (arrays["loss"], arrays["y0"], arrays["params"]) == (bare.loss, bare.y0, bare.params)
    header, arrays = ask(worker, "record", "key", plan_words("mixed", "native", "1e-06", "1e-08")...)
    found = record(problem, plan)
    @test occursin("\"status\": \"ok\", \"message\": \"\", \"forward\": {\"nfe\": $(found.forward.nfe), \"t_min\": 0.0",
                   header)
    @test arrays["params"] == bare.params
    @test arrays["ys"] == found.ys
    @test arrays["backward/t1"] == found.backward.t1
    @test arrays["backward/accepted"] == found.backward.accepted
    @test arrays["backward/share_y"] isa Vector{Float32}
    place = findfirst(isequal("rms_a_y"), found.backward.meter.names)
    @test arrays["backward/rms_a_y"] == [row[place] for row in found.backward.seen]
    @test arrays["reconstruction"] == found.reconstruction
    @test sort!(collect(keys(arrays))) == sort!([
        "loss"; "y0"; "params"; "ys"; "reconstruction_t"; "reconstruction";
        ["forward/$name" for name in ["t0"; "t1"; "accepted"; found.forward.meter.names]];
        ["backward/$name" for name in ["t0"; "t1"; "accepted"; found.backward.meter.names]]])
    header, _ = ask(worker, "settings", "key", plan_words("mixed", "matched", "1e-06", "1e-08")...)
    @test occursin("\"solver\": \"DP5 (Julia)\", \"rtol\": 1.0e-6", header)
    @test occursin("\"a_t\": false", header)
end

@testset "functions are called with arrays" begin
    dir = mktempdir()
    for (i, argument) in enumerate((0.3, [0.0, 1.0, -0.5], [1.0, 2.0, 3.0]))
        write_npy(joinpath(dir, "$(i - 1).npy"), argument)
    end
    header, arrays = ask(worker, "call", "key", "vjp_t", dir)
    expected = Base.invokelatest(load(driven()).vjp_t, 0.3, [0.0, 1.0, -0.5], [1.0, 2.0, 3.0])
    @test [arrays[string(i)] for i in 0:3] == collect(expected)
    dir = mktempdir()
    write_npy(joinpath(dir, "0.npy"), fill(-2.0, 9))
    @test ask(worker, "call", "key", "norm_1", dir)[2]["0"] === 2.0
    @test occursin("function \\\"norm_2\\\": expected one of", ask(worker, "call", "key", "norm_2", dir)[1])
end

@testset "a failed solve is a reply" begin
    @test ok(ask(worker, "load", "short", lotka_volterra("worker_short"; max_steps = 20)))
    header, arrays = ask(worker, "solve", "short", plan_words("default", "native", "1e-06", "1e-08")...)
    @test occursin("\"ok\": false, \"status\": \"max_steps\", \"error\": \"forward solve: 20 steps reached", header)
    header, arrays = ask(worker, "record", "short", plan_words("default", "native", "1e-06", "1e-08")...)
    @test ok((header, arrays))
    @test occursin("\"status\": \"max_steps\"", header) && occursin("\"backward\": null", header)
    @test haskey(arrays, "forward/t0") && !haskey(arrays, "ys") && !haskey(arrays, "params")
end

@testset "mistakes are replies, and the worker goes on" begin
    function refused(words...)
        header, _ = ask(worker, words...)
        @test startswith(header, "{\"ok\": false, \"error\": ")
        return header
    end
    solving(key, norm, rtol) = refused("solve", key, plan_words(norm, "native", rtol, "1e-8")...)
    @test occursin("expected one of call, ", refused("jump"))
    @test occursin("request solve: 2 arguments, expected 7", refused("solve", "a", "b"))
    @test occursin("problem \\\"none\\\" is not loaded", solving("none", "mixed", "1e-6"))
    @test occursin("expected a positive number", solving("key", "mixed", "0"))
    @test occursin("norm \\\"mixd\\\": expected one of", solving("key", "mixd", "1e-6"))
    @test occursin("no problem.jl", refused("load", "x", mktempdir()))
    @test occursin("engine turbo: no such engine", refused("compile", "key", "turbo", "mixed", "native", "-"))
    @test ok(ask(worker, "forget", "key"))
    @test occursin("is not loaded", refused("compile", "key", "base", "mixed", "native", "-"))
end

@testset "what a problem prints does not disturb the replies" begin
    dir = decay("loud")
    source = read(joinpath(dir, "field.jl"), String)
    quiet = "ys -> (sum(abs2, ys) / 2, copy(ys), zeros(2))"
    write(joinpath(dir, "field.jl"), replace(source, quiet => "ys -> (println(\"from the loss\"); $(quiet[7:end]))"))
    @test ok(ask(worker, "load", "loud", dir))
    @test ok(ask(worker, "solve", "loud", plan_words("mixed", "native", "1e-06", "1e-08")...))
    @test ok(ask(worker, "quit"))
    @test success(worker)
    @test occursin("from the loss", read(errors, String))
end
