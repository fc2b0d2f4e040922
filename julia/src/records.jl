# Records of format 1 on disk, for `crossbackend import`: OUT/records/KEY/NAME.npy for every array, then, last,
# OUT/records/KEY.json. Each is written under a temporary name and renamed: where the JSON is, all of it is.

const FORMAT = 1
const STATUSES = ("ok", "nan_in_field", "diverged", "step_underflow", "max_steps", "timeout", "out_of_memory",
                  "crashed", "unsupported")

"""A record that cannot be written; the text says why."""
struct BadRecord <: Exception
    text::String
end
Base.showerror(io::IO, bad::BadRecord) = print(io, bad.text)

"""What a record says of its cell: the plan's fields and how it ended."""
struct Cell
    problem::String
    backend::String
    norm::String
    stepping::String
    rtol::Float64
    atol::Float64
    first_step::Union{Nothing,Float64}
    status::String
    message::String
end

"""The name of a cell's files: letters, digits and `_.=-`."""
function key(cell::Cell)
    parts = (cell.problem, cell.backend, cell.norm, cell.stepping, string(cell.rtol))
    return replace(join(parts, "_"), r"[^A-Za-z0-9_.=-]" => "-")
end

"""
    write_record(out, cell, arrays; loss, forward, backward, ...)

Write a record and return its JSON file's path. `arrays` are pairs of name and array in reversed sizes.
"""
function write_record(out, cell::Cell, arrays; loss = nothing, forward = nothing, backward = nothing,
                      reconstruction_error = nothing, time = nothing, settings = nothing, versions = Fields(),
                      digest = "")
    rest = fields("loss" => loss, "forward" => forward, "backward" => backward,
                  "error" => fields("all" => nothing, "y0" => nothing, "params" => nothing, "floor" => nothing),
                  "reconstruction_error" => reconstruction_error, "rounding_floor" => nothing, "scaled" => nothing,
                  "error_split" => nothing, "time" => time, "peak_memory_bytes" => Int(Sys.maxrss()),
                  "settings" => something(settings, fields("forward" => Fields(), "backward" => Fields())),
                  "machine" => machine(), "versions" => [fields("julia" => string(VERSION)); versions],
                  "problem_digest" => digest)
    shown = Fields([name => fields("dtype" => dtype_name(eltype(array)), "shape" => Int[numpy_shape(array)...])
                    for (name, array) in arrays])
    whole = [fields("format" => FORMAT, "digest" => ""); plan_fields(cell); rest; fields("arrays" => shown)]
    folder = joinpath(out, "records")
    mkpath(folder)
    path = joinpath(folder, key(cell) * ".json")
    rm(path; force = true)  # its arrays are about to go
    write_arrays(joinpath(folder, key(cell)), arrays)
    write_whole(path, to_json(whole) * "\n")
    return path
end

plan_fields(cell::Cell) = fields(
    "problem" => cell.problem, "backend" => cell.backend, "norm" => cell.norm, "stepping" => cell.stepping,
    "rtol" => cell.rtol, "atol" => cell.atol, "gradient" => "backsolve", "dtype" => "float64", "device" => "cpu",
    "first_step" => cell.first_step, "status" => cell.status, "message" => cell.message)

function write_arrays(folder, arrays)
    temporary = joinpath(dirname(folder), ".$(basename(folder)).$(getpid()).tmp")
    try
        mkpath(temporary)
        for (name, array) in arrays
            path = joinpath(temporary, safe_parts(name)...) * ".npy"
            mkpath(dirname(path))
            write_npy(path, array)
        end
        rm(folder; force = true, recursive = true)
        mv(temporary, folder)
    finally
        rm(temporary; force = true, recursive = true)
    end
    return nothing
end

function write_whole(path, text)
    temporary = joinpath(dirname(path), ".$(basename(path)).$(getpid()).tmp")
    write(temporary, text)
    mv(temporary, path; force = true)
    return nothing
end

"""The parts of an array's name as a path; a name that would leave its folder is refused."""
function safe_parts(name)
    parts = split(name, '/')
    bad(part) = part in ("", ".", "..") || any(c -> c in ('\\', ':', '\0'), part)
    any(bad, parts) && throw(BadRecord("array $(repr(name)): expected names joined by /, without : and \\"))
    return parts
end

"""What the machine is, as far as Julia knows."""
machine() = fields(
    "system" => string(Sys.KERNEL), "architecture" => string(Sys.ARCH), "processor" => processor(),
    "cores" => Sys.CPU_THREADS, "memory_bytes" => Int(Sys.total_memory()), "julia" => string(VERSION))

function processor()
    found = Sys.cpu_info()
    return isempty(found) ? string(Sys.ARCH) : strip(found[1].model)
end

"""
    statistics(seconds, compile_s, first_s)

Return a record's `time` from the seconds of timed calls; quartiles are interpolated, as NumPy's percentiles are.
"""
function statistics(seconds, compile_s, first_s)
    sorted = sort(Float64.(seconds))
    function quantile(share)
        place = 1 + share * (length(sorted) - 1)
        low = floor(Int, place)
        high = min(low + 1, length(sorted))
        return sorted[low] + (place - low) * (sorted[high] - sorted[low])
    end
    return fields("compile_s" => compile_s, "first_s" => first_s, "min_s" => sorted[1], "median_s" => quantile(0.5),
                  "q1_s" => quantile(0.25), "q3_s" => quantile(0.75), "repeats" => length(sorted))
end

"""
    write_outcome(out, problem, plan, outcome; name, backend, time, settings, versions, turned)

Write what `record(problem, plan)` returned. `turned` says that the leaves have the shape that NumPy shall see, and not
the reversed one.
"""
function write_outcome(out, problem::Problem, plan::Plan, found::Outcome; name = problem.about.name,
                       backend = backend_name(plan), time = nothing, settings = settings(problem, plan),
                       versions = Fields(), turned = false)
    about = problem.about
    cell = Cell(name, backend, plan.norm, plan.stepping, plan.rtol, plan.atol, plan.first_step, found.status,
                found.message)
    arrays = step_arrays("forward", found.forward)
    found.backward === nothing || append!(arrays, step_arrays("backward", found.backward))
    if !isempty(found.reconstruction)
        append!(arrays, ["backward/reconstruction_t" => found.reconstruction_t,
                         "backward/reconstruction" => found.reconstruction])
    end
    found.ys === nothing || append!(arrays, solution_arrays(about, found.ys, turned))
    found.gradient === nothing || append!(arrays, leaf_arrays(about, found.gradient, turned))
    return write_record(
        out, cell, arrays; loss = found.gradient === nothing ? nothing : found.gradient.loss,
        forward = counts(found.forward, false),
        backward = found.backward === nothing ? nothing : counts(found.backward, true), time = time,
        reconstruction_error = isempty(found.reconstruction) ? nothing : maximum(found.reconstruction),
        settings = settings, versions = [fields("crossbackend" => about.version); versions], digest = about.digest)
end

backend_name(plan::Plan) = plan.engine == "base" ? "julia" : "julia:$(plan.engine)"

"""The counts of a pass as a record has them; `backward` adds the spurious and the masked attempts."""
function counts(watch::Recorder, backward)
    accepted = count(watch.accepted)
    evaluations = evaluated(watch)
    own = [evaluations[1:1]; fields("accepted" => accepted, "rejected" => length(watch.accepted) - accepted);
           evaluations[2:end]]
    backward || return own
    place = findfirst(isequal("ratio_state"), watch.meter.names)
    isempty(watch.seen) && return [own; fields("spurious" => nothing, "masked" => nothing)]
    state = [row[place] for row in watch.seen]
    return [own; fields("spurious" => count(.!watch.accepted .& (state .<= 1)),
                        "masked" => count(watch.accepted .& (state .> 1)))]
end

under(prefix, name) = isempty(name) ? prefix : "$prefix/$name"

"""Return the gradient by leaf: `gradient/y0/NAME` and `gradient/params/NAME`."""
function leaf_arrays(about::About, gradient::Gradient, turn = false)
    found = Pair{String,Any}[]
    for (prefix, leaves, flat) in (("gradient/y0", about.state, gradient.y0),
                                   ("gradient/params", about.params, gradient.params))
        for (leaf, at) in zip(leaves, slices(leaves))
            array = shaped(flat[at], reverse(leaf.shape))
            push!(found, under(prefix, leaf.name) => turn ? turned(array) : array)
        end
    end
    return found
end

"""Return the solution at the output times by entry, of NumPy shape (times, ...)."""
function solution_arrays(about::About, ys, turn = false)
    found = Pair{String,Any}[]
    for (leaf, at) in zip(about.state, slices(about.state))
        array = reshape(ys[at, :], reverse(leaf.shape)..., size(ys, 2))
        axes = [length(leaf.shape):-1:1; length(leaf.shape) + 1]
        push!(found, under("forward/ys", leaf.name) => turn ? permutedims(array, axes) : array)
    end
    return found
end

"""Return a flat part as an array of a size, a number for size ()."""
shaped(flat, size) = isempty(size) ? flat[1] : reshape(flat, Tuple(size))
