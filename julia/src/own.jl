# A Julia user's own field and vector-Jacobian product, solved by our engine.

"""What `gradient` found: the loss, the gradients in the form of `params` and `y0`, and counts. See `record`."""
struct Solved{P,Y}
    loss::Float64
    gradient::P
    y0_gradient::Y
    forward_nfe::Int
    backward_nfe::Int
    status::String
    message::String
    problem::Problem
    plan::Plan
    outcome::Outcome
end

const OWN_NORMS = (
    ("mixed", false, ("y", "a_y", "a_params"), "max(rms y, rms a_y, rms of each a_params)"),
    ("mixed-seminorm", false, ("y", "a_y"), "max(rms y, rms a_y)"),
    ("pooled", true, ("y", "a_y", "a_params"), "rms(y, a_y, a_params)"),
    ("pooled-seminorm", true, ("y", "a_y"), "rms(y, a_y)"),
)

"""The norms by name and stepping: `default` and `seminorm` are pooled natively, as SciPy's, and mixed when matched."""
function own_norms()
    found = Dict{Tuple{String,String},Norm}()
    for stepping in ("native", "matched"), (name, pooled, groups, text) in OWN_NORMS
        norm = Norm(name, pooled, Dict(group => 1.0 for group in groups); text = text)
        found[(name, stepping)] = norm
        pooled == (stepping == "native") || continue
        found[(endswith(name, "-seminorm") ? "seminorm" : "default", stepping)] = norm
    end
    return found
end

"""
    gradient(field, vjp, loss, y0, params, ts; norm = "default", stepping = "native", rtol = 1e-6, atol = rtol / 100)

Solve one's own field by this package's Dormand-Prince solver and its continuous adjoint; return a `Solved`.

- `field(t, y, params)` returns dy/dt; y has y0's size.
- `vjp(t, y, params, a)` returns `(a . df/dy, a . df/dparams)`, the second in the form of `params`.
- `loss(ys)` returns `(value, dvalue/dys)`, ys of size `(size(y0)..., length(ts))`; a third value, in the form of
  `params`, is the loss's own derivative with respect to them.
- `params` is an array, or a dictionary or named tuple of arrays and numbers.
- `field_params` names the leaves of `params` that the field uses, all by default: a norm over a_params sees those.
- `initial_pull(a)`, where y0 depends on the parameters, returns `a . dy0/dparams` in the form of `params`.
- `breakpoints` are times at which the field jumps; matched stepping ends steps there.
- `norm` is default, seminorm, mixed, mixed-seminorm, pooled or pooled-seminorm.

A solve that fails has a `status` other than `ok`, and a loss and gradients of NaN.
"""
function gradient(field, vjp, loss, y0, params, ts; norm = "default", stepping = "native", rtol = 1e-6,
                  atol = rtol / 100, first_step = nothing, breakpoints = Float64[], initial_pull = nothing,
                  field_params = nothing, name = "own", max_steps = 100000)
    plan = Plan(norm, stepping, Float64(rtol), Float64(atol); first_step = first_step)
    about = own_about(y0, params, ts, breakpoints, field_params, name, max_steps)
    problem = own_problem(about, field, vjp, loss, y0, params, initial_pull)
    found = record(problem, plan)
    flat = found.gradient === nothing ?
        Gradient(NaN, fill(NaN, total_size(about.state)), fill(NaN, total_size(about.params))) : found.gradient
    backward_nfe = found.backward === nothing ? 0 : found.backward.nfe
    return Solved(flat.loss, rebuilt(params, flat.params), reshape(flat.y0, size(y0)), found.forward.nfe, backward_nfe,
                  found.status, found.message, problem, plan, found)
end

function own_about(y0, params, ts, breakpoints, field_params, name, max_steps)
    times = collect(Float64, ts)
    inside = sort!(unique(Float64[t for t in breakpoints if times[1] <= t <= times[end]]))
    leaves = own_leaves(params)
    names = [leaf.name for leaf in leaves]
    used = field_params === nothing ? names : filter(in(string.(field_params)), names)
    return About(name, "", "", times, inside, Float64[], [Leaf("", collect(reverse(size(y0))))], leaves, used, String[],
                 max_steps, own_norms(), ["default"; "seminorm"; [norm[1] for norm in OWN_NORMS]])
end

function own_problem(about::About, field, vjp, loss, y0, params, initial_pull)
    start, shape, count = vec(Float64.(y0)), size(y0), total_size(about.params)
    y_of(y) = reshape(y, shape)
    f(t, y) = vec(field(t, y_of(y), params))
    function pulled(t, y, a)
        of_y, of_params = vjp(t, y_of(y), params, y_of(a))
        return f(t, y), vec(of_y), flattened(of_params, about.used)
    end
    function of_loss(ys)
        found = loss(reshape(ys, shape..., size(ys, 2)))
        return found[1], reshape(found[2], size(ys)), length(found) == 2 ? zeros(count) : flattened(found[3])
    end
    pull = initial_pull === nothing ? a -> zeros(count) : a -> flattened(initial_pull(y_of(a)))
    no_time(t, y, a) = throw(Declined("a norm that sees a_t needs df/dt"))
    return Problem(about, () -> start, f, pulled, no_time, of_loss, pull, Dict{Int,Tuple{Any,Any}}())
end

# Parameters are an array (one leaf of the empty name) or arrays by name, a dictionary's in sorted order.

names_of(params::AbstractDict) = sort!(collect(keys(params)); by = string)
names_of(params::NamedTuple) = collect(keys(params))

own_leaves(params) = [Leaf(string(name), collect(reverse(size(params[name])))) for name in names_of(params)]
own_leaves(params::Union{AbstractArray,Number}) = [Leaf("", collect(reverse(size(params))))]

flattened(params::AbstractArray, used = nothing) = convert(Vector{Float64}, vec(params))
flattened(params::Number, used = nothing) = [Float64(params)]

function flattened(params, used = nothing)
    names = used === nothing ? names_of(params) : filter(name -> string(name) in used, names_of(params))
    return reduce(vcat, [flattened(params[name]) for name in names]; init = Float64[])
end

"""Return flat numbers in the form of `params`."""
rebuilt(params::AbstractArray, flat) = reshape(flat, size(params))
rebuilt(params::Number, flat) = flat[1]

function rebuilt(params, flat)
    found, stop = Dict{Any,Any}(), 0
    for name in names_of(params)
        count = length(params[name])
        found[name] = rebuilt(params[name], flat[stop+1:stop+count])
        stop += count
    end
    return params isa NamedTuple ? NamedTuple{keys(params)}(Tuple(found[name] for name in keys(params))) : found
end
