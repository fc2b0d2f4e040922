# Exported folders written by hand: what `crossbackend export --julia` writes, with functions short enough to check.

using .CrossBackend: write_npy

const FIXTURES = mktempdir()

"""Every norm of the folders below, for both step rules, as the export names them."""
function fixture_norms(own = "")
    all = """[("y", 1.0), ("a_y", 1.0), ("a_params", 1.0)]"""
    semi = """[("y", 1.0), ("a_y", 1.0)]"""
    rows = String[]
    function row(name, stepping, across, weights; without = false, time = false)
        push!(rows, """(name = "$name", stepping = "$stepping", across = "$across", weights = $weights,
               without_integrals = $without, per_entry = false, callable = 0, sees_time = $time, text = "$name",
               forward_text = "rms y")""")
    end
    with_time(weights) = replace(weights, "]" => ", (\"a_t\", 1.0)]")
    for stepping in ("native", "matched")
        native = stepping == "native"
        row("default", stepping, native ? "pooled" : "max", all)
        row("seminorm", stepping, native ? "pooled" : "max", semi)
        for (name, across, weights) in (("mixed", "max", all), ("mixed-seminorm", "max", semi),
                                        ("pooled", "pooled", all), ("pooled-seminorm", "pooled", semi))
            row(name, stepping, across, weights)
            row("$name-integrals", stepping, across, weights; without = true)
        end
    end
    row("mixed-t", "native", "max", with_time(all); time = true)
    row("mixed-seminorm-t", "native", "max", with_time(semi); time = true)
    isempty(own) || push!(rows, own)
    return "[" * join(rows, ",\n             ") * "]"
end

"""Write an exported folder and return its path."""
function fixture(name; field, ts, breakpoints = Float64[], state, params, used = first.(params),
                 data = Pair{String,Any}[], integrals = String[], max_steps = 100000, own = "",
                 tolerances = [1e-3, 1e-6])
    dir = joinpath(FIXTURES, name)
    for (part, arrays) in (("params", params), ("data", data)), (leaf, array) in arrays
        path = joinpath(dir, "arrays", part, (isempty(leaf) ? "_" : leaf) * ".npy")
        mkpath(dirname(path))
        write_npy(path, array)
    end
    shapes(arrays) = Tuple{String,Vector{Int}}[(leaf, collect(reverse(size(array)))) for (leaf, array) in arrays]
    write(joinpath(dir, "field.jl"), field)
    write(joinpath(dir, "problem.jl"), """
    (format = 1, crossbackend = "0.4.0", name = "$name", digest = "0", ts = $(repr(collect(Float64, ts))),
     breakpoints = $(repr(breakpoints)), tolerances = $(repr(tolerances)), state = $(repr(state)),
     params = $(repr(shapes(params))), used = $(repr(collect(String, used))), data = $(repr(shapes(data))),
     constants = String[], integrals = $(repr(integrals)), max_steps = $max_steps,
     norms = $(fixture_norms(own)))
    """)
    return dir
end

"""Predator and prey; the loss is the sum of squares at all times."""
lotka_volterra(name = "lotka_volterra"; ts = 0:0.1:10, options...) = fixture(
    name; ts = ts, state = [("", [2])], params = ["p" => [1.5, 1.0, 3.0, 1.0]], options..., field = """
    bind_initial(params, data, constants) = () -> [1.0, 1.0]

    function bind_field(params, data, constants)
        p = params["p"]::Vector{Float64}
        return (t, y) -> [(p[1] - p[2] * y[2]) * y[1], (-p[3] + p[4] * y[1]) * y[2]]
    end

    function bind_vjp(params, data, constants)
        p = params["p"]::Vector{Float64}
        function vjp(t, y, a)
            f = [(p[1] - p[2] * y[2]) * y[1], (-p[3] + p[4] * y[1]) * y[2]]
            of_y = [a[1] * (p[1] - p[2] * y[2]) + a[2] * p[4] * y[2],
                    -a[1] * p[2] * y[1] + a[2] * (-p[3] + p[4] * y[1])]
            return f, of_y, [a[1] * y[1], -a[1] * y[1] * y[2], -a[2] * y[2], a[2] * y[1] * y[2]]
        end
        return vjp
    end

    function bind_vjp_t(params, data, constants)
        vjp = bind_vjp(params, data, constants)
        return (t, y, a) -> (vjp(t, y, a)..., 0.0)
    end

    bind_loss(params, data, constants) = ys -> (sum(abs2, ys), 2 .* ys, zeros(4))
    bind_initial_pull(params, data, constants) = a -> zeros(4)
    """)

"""A field that jumps at t = 1 and t = 2.5, where an output is; its initial state is a parameter too."""
stairs(name = "stairs"; options...) = fixture(
    name; ts = [0.0, 0.7, 2.5, 4.0], breakpoints = [1.0, 2.5], state = [("", Int[])],
    params = ["k" => fill(0.8), "level" => [1.0, -0.3, 0.5], "start" => fill(1.5)], used = ["k", "level"], options...,
    field = """
    place(t) = t < 1 ? 1 : t < 2.5 ? 2 : 3

    bind_initial(params, data, constants) = () -> [params["start"]]

    function bind_field(params, data, constants)
        k, level = params["k"]::Float64, params["level"]::Vector{Float64}
        return (t, y) -> [-k * y[1]^2 + level[place(t)]]
    end

    function bind_vjp(params, data, constants)
        k, level = params["k"]::Float64, params["level"]::Vector{Float64}
        function vjp(t, y, a)
            of_params = [-a[1] * y[1]^2, 0.0, 0.0, 0.0]
            of_params[1 + place(t)] = a[1]
            return [-k * y[1]^2 + level[place(t)]], [-2k * y[1] * a[1]], of_params
        end
        return vjp
    end

    function bind_vjp_t(params, data, constants)
        vjp = bind_vjp(params, data, constants)
        return (t, y, a) -> (vjp(t, y, a)..., 0.0)
    end

    function bind_loss(params, data, constants)
        return ys -> (sum(sin, ys) + params["start"]^2, cos.(ys), [0.0, 0.0, 0.0, 0.0, 2 * params["start"]])
    end

    bind_initial_pull(params, data, constants) = a -> [0.0, 0.0, 0.0, 0.0, a[1]]
    """)

"""y' = -k y from y(0) = start, both parameters; the loss is half the sum of squares at all times."""
decay(name = "decay"; k = 0.7, start = 1.3, ts = [0.0, 1.0], options...) = fixture(
    name; ts = ts, state = [("", [1])], options..., params = ["k" => fill(k), "start" => [start]], used = ["k"],
    field = """
    bind_initial(params, data, constants) = () -> copy(params["start"])

    function bind_field(params, data, constants)
        k = params["k"]::Float64
        return (t, y) -> -k .* y
    end

    function bind_vjp(params, data, constants)
        k = params["k"]::Float64
        return (t, y, a) -> (-k .* y, -k .* a, [-a[1] * y[1]])
    end

    bind_vjp_t(params, data, constants) = (t, y, a) -> (bind_vjp(params, data, constants)(t, y, a)..., 0.0)
    bind_loss(params, data, constants) = ys -> (sum(abs2, ys) / 2, copy(ys), zeros(2))
    bind_initial_pull(params, data, constants) = a -> [0.0, a[1]]
    """)

const OWN_NORM = """(name = "worst", stepping = "native", across = "max", weights = Tuple{String,Float64}[],
               without_integrals = false, per_entry = false, callable = 1, sees_time = false, text = "worst(blocks)",
               forward_text = "rms y")"""

"""A driven oscillator x with the integral q of its square, and norms that leave q out, see a_t, or are a function."""
driven(name = "driven"; options...) = fixture(
    name; ts = [0.0, 1.0, 2.0, 5.0], state = [("q", Int[]), ("x", [2])], integrals = ["q"], own = OWN_NORM,
    params = ["matrix" => [-0.1 -1.2; 1.0 -0.05], "push" => [0.7]], options..., field = """
    # matrix is the transpose of NumPy's: A' = [-0.1 -1.2; 1.0 -0.05], so that x' = A x is x' = transpose(matrix) x
    function slopes(m, push, t, y)
        x1, x2 = y[2], y[3]
        return [x1^2 + x2^2, m[1, 1] * x1 + m[2, 1] * x2 + push[1] * sin(3t), m[1, 2] * x1 + m[2, 2] * x2]
    end

    bind_initial(params, data, constants) = () -> [0.0, 1.0, -0.5]

    function bind_field(params, data, constants)
        m, push = params["matrix"]::Matrix{Float64}, params["push"]::Vector{Float64}
        return (t, y) -> slopes(m, push, t, y)
    end

    function bind_vjp(params, data, constants)
        m, push = params["matrix"]::Matrix{Float64}, params["push"]::Vector{Float64}
        function vjp(t, y, a)
            x1, x2 = y[2], y[3]
            of_x1 = 2 * a[1] * x1 + a[2] * m[1, 1] + a[3] * m[1, 2]
            of_x2 = 2 * a[1] * x2 + a[2] * m[2, 1] + a[3] * m[2, 2]
            of_params = [a[2] * x1, a[2] * x2, a[3] * x1, a[3] * x2, a[2] * sin(3t)]
            return slopes(m, push, t, y), [0.0, of_x1, of_x2], of_params
        end
        return vjp
    end

    function bind_vjp_t(params, data, constants)
        vjp, push = bind_vjp(params, data, constants), params["push"]::Vector{Float64}
        return (t, y, a) -> (vjp(t, y, a)..., 3 * a[2] * push[1] * cos(3t))
    end

    function bind_loss(params, data, constants)
        return function (ys)
            of_ys = zero(ys)
            of_ys[1, end] = 1.0
            of_ys[2, :] .= ys[2, :]
            return ys[1, end] + 0.5 * sum(abs2, ys[2, :]), of_ys, zeros(5)
        end
    end

    bind_initial_pull(params, data, constants) = a -> zeros(5)
    bind_norm_1(params, data, constants) = e -> maximum(abs, e)
    bind_norm_state_1(params, data, constants) = e -> maximum(abs, view(e, 1:6))
    """)

"""A problem of one state whose field is given as Julia text, with y and t."""
field_of(name, text; ts = [0.0, 2.0], start = 1.0, options...) = fixture(
    name; ts = ts, state = [("", [1])], params = ["start" => [start]], used = String[], options..., field = """
    bind_initial(params, data, constants) = () -> copy(params["start"])
    slope(t, y) = $text
    bind_field(params, data, constants) = (t, y) -> [slope(t, y[1])]
    bind_vjp(params, data, constants) = (t, y, a) -> ([slope(t, y[1])], [0.0 * a[1]], Float64[])
    bind_vjp_t(params, data, constants) = (t, y, a) -> ([slope(t, y[1])], [0.0 * a[1]], Float64[], 0.0)
    bind_loss(params, data, constants) = ys -> (sum(abs2, ys), 2 .* ys, zeros(1))
    bind_initial_pull(params, data, constants) = a -> zeros(1)
    """)

# What several parts check with.

"""The message of the error that a call raises; fails where it raises another kind or none."""
function message(call, kind)
    try
        call()
    catch error
        @test error isa kind
        return sprint(showerror, error)
    end
    @test "nothing was raised" == ""
    return ""
end

"""An array's size, kind and bits: what two equal files have in common."""
bits(array) = (size(array), eltype(array), reinterpret(UInt8, vec(collect(array))))

"""Test that a file holds some texts."""
holds(path, parts...) = (text = read(path, String); foreach(part -> @test(occursin(part, text)), parts))

"""Every file of a folder by its path within it."""
files(folder) = sort!([relpath(joinpath(root, name), folder) for (root, _, names) in walkdir(folder) for name in names])
