# Records of what a Julia user's own program found.

"""
    record(name, solved; backend = "julia:own", out = "results", seconds = nothing)

Write what `gradient` found, with every step, as a record of the problem called `name`; return the JSON file's path.
`seconds` are the seconds of timed calls, if there were any.
"""
function record(name::AbstractString, solved::Solved; backend = "julia:own", out = "results", seconds = nothing)
    plan = solved.plan
    check_cell(name, backend, plan.stepping, plan.rtol, plan.atol, solved.status)
    time = timed(seconds)
    return write_outcome(out, solved.problem, plan, solved.outcome; name = name, backend = backend, time = time,
                         turned = true)
end

"""
    record(name; loss, gradient, y0_gradient, forward_nfe, backward_nfe, rtol, atol, ...)

Write one's own result as a record of the problem called `name`; return the JSON file's path.

An array's size in Julia is its shape in NumPy: a 2x3 matrix is stored with shape (2, 3), its rows one after the other.

- `gradient`: the total derivative of the loss, as `Dict(leaf => array)` with the problem's leaf names (`mlp/0/w`), or
  one array where the parameters are one array; so is `y0_gradient`, with the entries of the state.
- `forward_nfe`, `backward_nfe`: evaluations of the field, and of the augmented field backwards.
- `norm`, `stepping`, `rtol`, `atol`: the cell, as in `crossbackend run`; `backend` is the name of its column.
- `status`, `message`: how the solve ended, `ok` by default; a failed one needs neither loss nor gradient.
- `ys`: the solution at the output times, leading axis time, as an array or by entry.
- `forward_steps`, `backward_steps`: `(t0 = [...], t1 = [...], accepted = [...])` of all attempts.
- `seconds`: of timed calls. `settings`: `(forward = (...,), backward = (...,))`. `versions`: package => version.
"""
function record(name::AbstractString; loss = nothing, gradient = nothing, y0_gradient = nothing, forward_nfe = nothing,
                backward_nfe = nothing, norm = "default", stepping = "native", rtol, atol, first_step = nothing,
                backend = "julia:own", out = "results", status = "ok", message = "", ys = nothing,
                forward_steps = nothing, backward_steps = nothing, seconds = nothing, settings = nothing,
                versions = Dict{String,String}(), problem_digest = "")
    check_cell(name, backend, stepping, rtol, atol, status)
    if status == "ok"
        missed = [string(what) for (what, given) in pairs((loss = loss, gradient = gradient, forward_nfe = forward_nfe,
                                                            backward_nfe = backward_nfe)) if given === nothing]
        isempty(missed) || throw(BadRecord("record($(repr(name))): $(join(missed, ", ")) missing; a failed solve has " *
                                           "another status than ok"))
    end
    cell = Cell(name, backend, norm, stepping, Float64(rtol), Float64(atol), first_step, status, message)
    arrays = [named_arrays("gradient/params", gradient); named_arrays("gradient/y0", y0_gradient);
              named_arrays("forward/ys", ys); named_steps("forward", forward_steps);
              named_steps("backward", backward_steps)]
    time = timed(seconds)
    return write_record(out, cell, arrays; loss = loss === nothing ? nothing : Float64(loss),
                        forward = handed_counts(forward_nfe, forward_steps),
                        backward = handed_counts(backward_nfe, backward_steps), time = time, settings = settings,
                        versions = Fields([string(package) => string(versions[package]) for package in keys(versions)]),
                        digest = problem_digest)
end

timed(::Nothing) = nothing
timed(seconds) = isempty(seconds) ? nothing : statistics(seconds, nothing, nothing)

function check_cell(name, backend, stepping, rtol, atol, status)
    wrong(what, got, expected) = throw(BadRecord("record($(repr(name))): $what = $(repr(got)), expected $expected"))
    occursin(r"^[A-Za-z0-9_-]+$", name) || wrong("name", name, "letters, digits, _ and -")
    occursin(r"^[A-Za-z0-9_:.-]+$", backend) || wrong("backend", backend, "letters, digits and _:.-")
    stepping in ("native", "matched") || wrong("stepping", stepping, "native or matched")
    status in STATUSES || wrong("status", status, "one of $(join(STATUSES, ", "))")
    for (what, value) in (("rtol", rtol), ("atol", atol))
        value isa Real && 0 < value < Inf || wrong(what, value, "a positive number")
    end
    return nothing
end

named_arrays(prefix, ::Nothing) = Pair{String,Any}[]
named_arrays(prefix, array::Union{AbstractArray,Number}) = Pair{String,Any}[prefix=>handed(prefix, array)]
named_arrays(prefix, found) = Pair{String,Any}[
    under(prefix, string(name)) => handed(under(prefix, string(name)), found[name]) for name in names_of(found)
]

"""An array of numbers as it is stored: of Float64, its axes reversed."""
function handed(name, array)
    eltype(array) <: Real || throw(BadRecord("$name: numbers of type $(eltype(array)), expected real ones"))
    return turned(Float64.(array))
end

named_steps(which, ::Nothing) = Pair{String,Any}[]
function named_steps(which, steps)
    t0, t1, accepted = Float64.(steps.t0), Float64.(steps.t1), collect(Bool, steps.accepted)
    length(t0) == length(t1) == length(accepted) ||
        throw(BadRecord("$(which)_steps: t0, t1 and accepted have lengths $(length.((t0, t1, accepted)))"))
    return Pair{String,Any}["$which/t0"=>t0, "$which/t1"=>t1, "$which/accepted"=>accepted]
end

handed_counts(::Nothing, steps) = nothing
function handed_counts(nfe, steps)
    accepted = steps === nothing ? nothing : count(steps.accepted)
    rejected = steps === nothing ? nothing : length(steps.accepted) - accepted
    return fields("nfe" => Int(nfe), "accepted" => accepted, "rejected" => rejected)
end
