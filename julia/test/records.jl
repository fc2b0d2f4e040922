# Result folders.

using .CrossBackend: BadRecord, Cell, Plan, load, read_npy, record, safe_parts, statistics, write_outcome, write_record

@testset "a record of a run" begin
    out = mktempdir()
    problem, plan = load(driven()), Plan("mixed", "native", 1e-6, 1e-8)
    found = record(problem, plan)
    path = write_outcome(out, problem, plan, found; time = statistics([3.0, 1.0, 2.0, 4.0], 0.5, 0.25))
    @test path == joinpath(out, "records", "driven_julia_mixed_native_1.0e-6.json")
    folder = path[1:end-5]
    shares = ["ratio_a_params", "ratio_a_y", "ratio_state", "ratio_y", "reconstruction", "reconstruction_t", "rms_a_y",
              "share_a_params", "share_a_y", "share_y", "t0", "t1"]
    @test files(folder) == sort!([
        ["backward/$name.npy" for name in ["accepted"; "ratio"; shares]]; "forward/accepted.npy"; "forward/ratio.npy";
        "forward/ratio_y.npy"; "forward/t0.npy"; "forward/t1.npy"; "forward/ys/q.npy"; "forward/ys/x.npy";
        "gradient/params/matrix.npy"; "gradient/params/push.npy"; "gradient/y0/q.npy"; "gradient/y0/x.npy"])
    array(name) = read_npy(joinpath(folder, name * ".npy"))
    @test array("gradient/params/matrix") == reshape(found.gradient.params[1:4], 2, 2)
    @test array("gradient/y0/q") === found.gradient.y0[1]
    @test array("forward/ys/x") == found.ys[2:3, :]
    @test array("forward/ys/q") == found.ys[1, :]
    @test array("backward/share_y") isa Vector{Float32}
    @test array("backward/accepted") == found.backward.accepted
    backward = found.backward
    state = [row[findfirst(isequal("ratio_state"), backward.meter.names)] for row in backward.seen]
    holds(path, "{\"format\": 1, \"digest\": \"\", \"problem\": \"driven\", \"backend\": \"julia\", \"norm\": ",
          "\"rtol\": 1.0e-6, \"atol\": 1.0e-8, \"gradient\": \"backsolve\", \"dtype\": \"float64\"",
          "\"status\": \"ok\", \"message\": \"\", \"loss\": $(found.gradient.loss)",
          "\"nfe\": $(backward.nfe), \"accepted\": $(count(backward.accepted)), " *
          "\"rejected\": $(count(.!backward.accepted)), \"t_min\": 0.0, \"t_max\": 5.0, \"y_max\": ",
          "\"spurious\": $(count(.!backward.accepted .& (state .<= 1))), \"masked\": 0",
          "\"reconstruction_error\": $(maximum(found.reconstruction))",
          "\"time\": {\"compile_s\": 0.5, \"first_s\": 0.25, \"min_s\": 1.0, \"median_s\": 2.5, \"q1_s\": 1.75, " *
          "\"q3_s\": 3.25, \"repeats\": 4}",
          "\"versions\": {\"julia\": \"$VERSION\", \"crossbackend\": \"0.4.0\"}", "\"solver\": \"DP5 (Julia)\"",
          "\"problem_digest\": \"0\"", "\"gradient/params/matrix\": {\"dtype\": \"<f8\", \"shape\": [2, 2]}",
          "\"gradient/y0/q\": {\"dtype\": \"<f8\", \"shape\": []}", "\"backward/accepted\": {\"dtype\": \"|b1\"")
    @test endswith(read(path, String), "}\n")
end

@testset "a record of a failed run" begin
    out = mktempdir()
    problem, plan = load(lotka_volterra("failing"; max_steps = 20)), Plan("default", "native", 1e-6, 1e-8)
    path = write_outcome(out, problem, plan, record(problem, plan))
    @test files(path[1:end-5]) == ["forward/$name.npy" for name in ("accepted", "ratio", "ratio_y", "t0", "t1")]
    holds(path, "\"status\": \"max_steps\"", "\"loss\": null", "\"backward\": null", "\"reconstruction_error\": null",
          "\"time\": null", "20 steps reached t = ")
end

const SOME = Cell("some", "julia:a b/c", "mixed", "native", 1e-3, 1e-5, nothing, "ok", "")

@testset "a record replaces the one before it, whole" begin
    out = mktempdir()
    path = write_record(out, SOME, ["a/b" => [1.0], "c" => [2.0]]; loss = 1.0)
    @test basename(path) == "some_julia-a-b-c_mixed_native_0.001.json"
    write_record(out, SOME, ["c" => [3.0]]; loss = NaN)
    @test files(joinpath(out, "records")) == [basename(path), "$(basename(path)[1:end-5])/c.npy"]
    @test read_npy(joinpath(path[1:end-5], "c.npy")) == [3.0]
    holds(path, "\"loss\": null")
    @test_throws BadRecord write_record(out, SOME, ["../c" => [4.0]])
    @test files(joinpath(out, "records")) == ["$(basename(path)[1:end-5])/c.npy"]  # no JSON: it is not whole
end

@testset "names that would leave the folder" begin
    for name in ("..", "a/../b", "/a", "a//b", "", "a\\b", "c:", "a/.")
        @test_throws BadRecord safe_parts(name)
    end
    @test safe_parts("gradient/params/mlp/0/w") == ["gradient", "params", "mlp", "0", "w"]
end
