# A Julia user's own field, and their own results.

using .CrossBackend: BadRecord, Plan, gradient, load, read_npy, record, solve

own_field(t, y, p) = [(p.growth[1] - p.rate * y[2]) * y[1], (-p.growth[2] + y[1]) * y[2]]

function own_vjp(t, y, p, a)
    of_y = [a[1] * (p.growth[1] - p.rate * y[2]) + a[2] * y[2], -a[1] * p.rate * y[1] + a[2] * (-p.growth[2] + y[1])]
    return of_y, (growth = [a[1] * y[1], -a[2] * y[2]], rate = -a[1] * y[1] * y[2])
end

own_loss(ys) = (sum(abs2, ys), 2 .* ys)

const OWN = (growth = [1.5, 3.0], rate = 1.0)

own_gradient(; options...) = gradient(own_field, own_vjp, own_loss, [1.0, 1.0], OWN, 0:0.1:10; options...)

@testset "one's own field is solved as an exported one is" begin
    for stepping in ("native", "matched"), norm in ("default", "seminorm", "mixed", "pooled-seminorm")
        found = own_gradient(; norm = norm, stepping = stepping, rtol = 1e-8)
        exported = solve(load(lotka_volterra()), Plan(norm, stepping, 1e-8, 1e-10))
        @test found.status == "ok"
        @test found.loss ≈ exported.loss rtol = 1e-6
        @test found.gradient.growth ≈ exported.params[[1, 3]] rtol = 1e-5
        @test found.gradient.rate ≈ exported.params[2] rtol = 1e-5
        @test found.y0_gradient ≈ exported.y0 rtol = 1e-5
    end
    @test own_gradient(; norm = "seminorm").backward_nfe != own_gradient().backward_nfe
end

@testset "matrices keep their shape, y0 and the loss may depend on the parameters" begin
    weights, y0 = [0.1 -0.4 0.2; 0.3 -0.2 0.1], [0.5 1.0; -0.5 0.25; 0.1 0.2]
    field(t, y, p) = (p["w"]' * p["w"]) * y .* -1
    function vjp(t, y, p, a)
        w = p["w"]
        m = w' * w
        of_m = -a * y'
        return -m' * a, Dict("w" => w * (of_m + of_m'), "start" => 0.0)
    end
    direct = Dict("w" => [1.0 0.0 0.0; 0.0 0.0 0.0], "start" => 0.0)
    solved(w, start) = gradient(field, vjp, ys -> (sum(abs2, ys) + w[1, 1], 2 .* ys, direct), start .* y0,
                                Dict("w" => w, "start" => start), [0.0, 0.5, 1.0]; rtol = 1e-10,
                                initial_pull = a -> Dict("w" => zero(w), "start" => sum(a .* y0)))
    found = solved(weights, 1.2)
    @test size(found.gradient["w"]) == (2, 3)
    @test size(found.y0_gradient) == (3, 2)
    difference(move, by) = (solved(weights + move, 1.2 + by).loss - solved(weights - move, 1.2 - by).loss) / 2e-5
    for i in eachindex(weights)
        @test found.gradient["w"][i] ≈ difference([1e-5 * (j == i) for j in LinearIndices(weights)], 0.0) rtol = 1e-6
    end
    @test found.gradient["start"] ≈ difference(zero(weights), 1e-5) rtol = 1e-6
    out = mktempdir()
    path = record("matrix", found; out = out, seconds = [0.1, 0.2])
    stored(name) = read_npy(joinpath(path[1:end-5], name * ".npy"))
    @test stored("gradient/params/w") == permutedims(found.gradient["w"])  # NumPy sees (2, 3)
    @test stored("gradient/params/start") === found.gradient["start"]
    @test stored("gradient/y0") == permutedims(found.y0_gradient)
    @test size(stored("forward/ys")) == (2, 3, 3)                          # NumPy sees (3 times, 3, 2)
    @test stored("forward/ys")[:, :, 1] == permutedims(1.2 .* y0)
    holds(path, "\"problem\": \"matrix\", \"backend\": \"julia:own\"", "\"median_s\": ", "\"shape\": [2, 3]")
end

@testset "leaves that the field does not use" begin
    field(t, y, p) = -p.k .* y
    vjp(t, y, p, a) = (-p.k .* a, (k = -sum(a .* y), start = 0.0))
    solved(; options...) = gradient(field, vjp, ys -> (sum(abs2, ys) / 2, copy(ys)), [1.3], (k = 0.7, start = 1.3),
                                    [0.0, 1.0]; norm = "pooled", options...,
                                    initial_pull = a -> (k = 0.0, start = a[1]))
    exported = record(load(decay()), Plan("pooled", "native", 1e-6, 1e-8))
    found = solved(field_params = (:k,))
    @test [found.gradient.k, found.gradient.start] ≈ exported.gradient.params rtol = 1e-12
    @test found.outcome.backward.t1 ≈ exported.backward.t1 rtol = 1e-12
    @test !(solved().outcome.backward.seen[1][1] ≈ exported.backward.seen[1][1])  # one more entry, which is always 0
end

@testset "a field that fails" begin
    found = gradient((t, y, p) -> y .^ 2, (t, y, p, a) -> (2 .* y .* a, [0.0]), own_loss, [1.0], [1.0], [0.0, 2.0])
    @test found.status == "diverged"
    @test isnan(found.loss) && all(isnan, found.gradient) && found.backward_nfe == 0
    path = record("failed", found; out = mktempdir())
    holds(path, "\"status\": \"diverged\"", "\"loss\": null")
end

const RESULT = (loss = 1.5, gradient = Dict("w" => [1.0 2.0 3.0; 4.0 5.0 6.0], "layer/b" => Float32[1, 2]),
                y0_gradient = [1, 2], forward_nfe = 12, backward_nfe = 24, rtol = 1e-6, atol = 1e-8)

@testset "results of any program" begin
    out = mktempdir()
    path = record("mine"; out = out, backend = "julia:mine", ys = ones(3, 2), versions = Dict("Lux" => v"1.2.3"),
                  forward_steps = (t0 = [0.0, 0.0], t1 = [2.0, 1.0], accepted = [false, true]), RESULT...)
    stored(name) = read_npy(joinpath(path[1:end-5], name * ".npy"))
    @test stored("gradient/params/w") == [1.0 4.0; 2.0 5.0; 3.0 6.0]
    @test bits(stored("gradient/params/layer/b")) == bits([1.0, 2.0])
    @test stored("gradient/y0") == [1.0, 2.0]
    @test stored("forward/accepted") == [false, true]
    holds(path, "\"backend\": \"julia:mine\"", "\"forward\": {\"nfe\": 12, \"accepted\": 1, \"rejected\": 1}",
          "\"backward\": {\"nfe\": 24, \"accepted\": null, \"rejected\": null}", "\"Lux\": \"1.2.3\"",
          "\"gradient/params/w\": {\"dtype\": \"<f8\", \"shape\": [2, 3]}",
          "\"forward/ys\": {\"dtype\": \"<f8\", \"shape\": [3, 2]}")
    failed = record("mine"; out = out, status = "max_steps", message = "too long", rtol = 1e-3, atol = 1e-5)
    holds(failed, "\"status\": \"max_steps\", \"message\": \"too long\"", "\"forward\": null")
end

@testset "results that cannot be a record" begin
    out = mktempdir()
    tried(; changes...) = message(() -> record("mine"; merge((out = out,), RESULT, (; changes...))...), BadRecord)
    @test occursin("loss, backward_nfe missing", tried(loss = nothing, backward_nfe = nothing))
    @test occursin("rtol = -1, expected a positive number", tried(rtol = -1))
    @test occursin("status = \"fine\", expected one of ok, ", tried(status = "fine"))
    @test occursin("stepping = \"any\", expected native or matched", tried(stepping = "any"))
    @test occursin("backend = \"julia mine\", expected letters", tried(backend = "julia mine"))
    @test occursin("numbers of type Complex", tried(gradient = [1im]))
    @test occursin("have lengths (1, 2, 1)", tried(forward_steps = (t0 = [0.0], t1 = [1.0, 2.0], accepted = [true])))
    @test occursin("array \"gradient/params/../w\"", tried(gradient = Dict("../w" => [1.0])))
    @test occursin("name = \"my problem\", expected letters", message(() -> record("my problem"; RESULT...), BadRecord))
    @test isempty(filter(endswith(".json"), files(out)))
end
