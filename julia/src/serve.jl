# The worker's protocol: one line in, fields separated by tabs; one line of JSON out, then the arrays' raw bytes.

"""What a worker holds: the problems loaded, by key."""
struct Server
    problems::Dict{String,Problem}
    started::Float64
end

"""A request that is none; the text says what was wrong."""
struct BadRequest <: Exception
    text::String
end
Base.showerror(io::IO, bad::BadRequest) = print(io, bad.text)

"""A reply: fields of its header, and arrays by name (in reversed sizes) with their own element types."""
struct Reply
    header::Fields
    arrays::Vector{Pair{String,Any}}
end

Reply(pairs::Pair...; arrays = Pair{String,Any}[]) = Reply(fields(pairs...), arrays)

"""
    serve(input, output, started)

Answer requests until the input ends or `quit` comes. An error is a reply; it does not end the worker.
"""
function serve(input::IO, output::IO, started::Float64 = time())
    one_blas_thread()
    server = Server(Dict{String,Problem}(), started)
    for line in eachline(input)
        parts = String.(split(chomp(line), '\t'))
        reply = try
            Base.invokelatest(answer, server, parts)
        catch error
            error isa InterruptException && rethrow()
            Reply("ok" => false, "error" => sprint(showerror, error))
        end
        write_reply(output, reply)
        parts[1] == "quit" && break
    end
    return nothing
end

function write_reply(output::IO, reply::Reply)
    said = IOBuffer()  # written in one go
    arrays = [Any[name, dtype_name(eltype(array)), Int[numpy_shape(array)...]] for (name, array) in reply.arrays]
    ok = any(pair -> first(pair) == "ok", reply.header) ? Fields() : fields("ok" => true)
    print(said, to_json([ok; reply.header; fields("arrays" => arrays)]), '\n')
    for (_, array) in reply.arrays
        write_data(said, array)
    end
    write(output, take!(said))
    flush(output)
    return nothing
end

const REQUESTS = Dict(
    "hello" => 0, "load" => 2, "compile" => 5, "solve" => 7, "record" => 7, "settings" => 7, "call" => 3, "forget" => 1,
    "quit" => 0,
)

function answer(server::Server, parts)
    name, arguments = parts[1], parts[2:end]
    count = get(REQUESTS, name, nothing)
    known = join(sort!(collect(keys(REQUESTS))), ", ")
    count === nothing && throw(BadRequest("request $(repr(name)): expected one of $known"))
    length(arguments) == count ||
        throw(BadRequest("request $name: $(length(arguments)) arguments, expected $count, separated by tabs"))
    return request(Val(Symbol(name)), server, arguments...)
end

request(::Val{:hello}, server) = Reply(
    "julia" => string(VERSION), "engines" => engines(), "threads" => Threads.nthreads(),
    "seconds" => time() - server.started)

request(::Val{:quit}, server) = Reply()

function request(::Val{:load}, server, key, dir)
    seconds = @elapsed server.problems[key] = load(dir)
    return Reply("seconds" => seconds)
end

function request(::Val{:forget}, server, key)
    delete!(server.problems, key)
    return Reply()
end

function request(::Val{:compile}, server, key, engine, norm, stepping, first)
    problem = named(server, key)
    plan = warm_plan(problem.about, plan_of(engine, norm, stepping, 1.0, 1.0, first))
    seconds = @elapsed solve(problem, plan)
    return Reply("seconds" => seconds)
end

function request(::Val{:solve}, server, key, arguments...)
    problem, plan = asked(server, key, arguments...)
    seconds = @elapsed found = solve(problem, plan)
    found isa Failed && return Reply("ok" => false, "status" => found.status, "error" => found.message)
    return Reply("seconds" => seconds; arrays = gradient_arrays(found))
end

function request(::Val{:record}, server, key, arguments...)
    problem, plan = asked(server, key, arguments...)
    found = record(problem, plan)
    arrays = found.gradient === nothing ? Pair{String,Any}[] : gradient_arrays(found.gradient)
    found.ys === nothing || push!(arrays, "ys" => found.ys)
    append!(arrays, step_arrays("forward", found.forward))
    found.backward === nothing || append!(arrays, step_arrays("backward", found.backward))
    append!(arrays, ["reconstruction_t" => found.reconstruction_t, "reconstruction" => found.reconstruction])
    backward = found.backward === nothing ? nothing : evaluated(found.backward)
    return Reply("status" => found.status, "message" => found.message, "forward" => evaluated(found.forward),
                 "backward" => backward; arrays = arrays)
end

function request(::Val{:settings}, server, key, arguments...)
    problem, plan = asked(server, key, arguments...)
    return Reply(settings(problem, plan)...)
end

const CALLABLE = (:initial, :field, :vjp, :vjp_t, :loss, :initial_pull)

function request(::Val{:call}, server, key, name, dir)
    problem = named(server, key)
    f = called_function(problem, name)
    arguments = Any[]
    while isfile(joinpath(dir, "$(length(arguments)).npy"))
        push!(arguments, read_npy(joinpath(dir, "$(length(arguments)).npy")))
    end
    found = Base.invokelatest(f, arguments...)
    parts = found isa Tuple ? found : (found,)
    return Reply(; arrays = Pair{String,Any}[string(i - 1) => part for (i, part) in enumerate(parts)])
end

function called_function(problem::Problem, name)
    Symbol(name) in CALLABLE && return getfield(problem, Symbol(name))
    number = match(r"^norm_(state_)?([0-9]+)$", name)
    known = number === nothing ? nothing : get(problem.norms, parse(Int, number.captures[2]), nothing)
    known === nothing &&
        throw(BadRequest("function $(repr(name)): expected one of $(join(CALLABLE, ", ")) or a norm_K"))
    return known[number.captures[1] === nothing ? 1 : 2]
end

named(server::Server, key) = get(server.problems, key) do
    throw(BadRequest("problem $(repr(key)) is not loaded"))
end

function asked(server::Server, key, engine, norm, stepping, rtol, atol, first)
    return named(server, key), plan_of(engine, norm, stepping, tolerance(rtol), tolerance(atol), first)
end

function plan_of(engine, norm, stepping, rtol, atol, first)
    return Plan(engine, norm, stepping, rtol, atol, first == "-" ? nothing : tolerance(first))
end

function tolerance(text)
    value = tryparse(Float64, text)
    value !== nothing && 0 < value < Inf && return value
    throw(BadRequest("number $(repr(text)): expected a positive number"))
end

gradient_arrays(found::Gradient) = Pair{String,Any}["loss"=>found.loss, "y0"=>found.y0, "params"=>found.params]

function step_arrays(which, watch::Recorder)
    steps = Pair{String,Any}["t0"=>watch.t0, "t1"=>watch.t1, "accepted"=>watch.accepted]
    return Pair{String,Any}["$which/$name" => array for (name, array) in [steps; seen_arrays(watch)]]
end

"""How often and where the field was evaluated in a pass."""
function evaluated(watch::Recorder)
    some = watch.t_min <= watch.t_max
    return fields("nfe" => watch.nfe, "t_min" => some ? watch.t_min : nothing, "t_max" => some ? watch.t_max : nothing,
                  "y_max" => watch.y_max)
end
