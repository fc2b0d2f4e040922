# One gradient with the engine `base`, bare or recorded: the same code with another watch.

"""
    Plan(norm, stepping, rtol, atol; engine = "base", first_step = nothing)

One cell: which engine solves it, under which norm, with which step rules and tolerances.
"""
struct Plan
    engine::String
    norm::String
    stepping::String
    rtol::Float64
    atol::Float64
    first_step::Union{Nothing,Float64}
end

Plan(norm, stepping, rtol, atol; engine = "base", first_step = nothing) =
    Plan(engine, norm, stepping, rtol, atol, first_step)

"""A loss and its gradient: with respect to y0, flat, and to all parameters, flat (the total derivative)."""
struct Gradient
    loss::Float64
    y0::Vector{Float64}
    params::Vector{Float64}
end

"""
What a recorded run gave: a status and its message, the gradient (`nothing` unless ok), the solution at the output
times (of size (n, times), `nothing` where the forward pass failed), and the watches of both passes.
"""
struct Outcome
    status::String
    message::String
    gradient::Union{Nothing,Gradient}
    ys::Union{Nothing,Matrix{Float64}}
    forward::Recorder
    backward::Union{Nothing,Recorder}
    reconstruction_t::Vector{Float64}
    reconstruction::Vector{Float64}
end

"""A bare solve that failed: its status and message."""
struct Failed
    status::String
    message::String
end

"""A plan that cannot be run; the text says why."""
struct Declined <: Exception
    text::String
end
Base.showerror(io::IO, declined::Declined) = print(io, declined.text)

"""The norm of a plan, as the problem names it for the plan's stepping."""
function norm_of(about::About, plan::Plan)
    plan.stepping in ("native", "matched") ||
        throw(Declined("stepping $(repr(plan.stepping)): expected native or matched"))
    found = get(about.norms, (plan.norm, plan.stepping), nothing)
    found === nothing || return found
    throw(Declined("norm $(repr(plan.norm)): expected one of $(join(about.norm_names, ", "))"))
end

"""Return the norm of each pass as a function of error over scale: forward, backward."""
function norms_of(problem::Problem, norm::Norm, plan::Plan)
    about, snapped = problem.about, plan.stepping == "matched"
    forward_norm = WeightedNorm(forward(norm), state_blocks(about), about.integrals, snapped)
    norm.callable == 0 || return forward_norm, CalledNorm(snapped, problem.norms[norm.callable][1])
    return forward_norm, WeightedNorm(norm, augmented_blocks(about, sees_time(norm)), about.integrals, snapped)
end

"""Return the watches of both passes."""
function recorders(problem::Problem, norm::Norm, y0)
    about = problem.about
    called = norm.callable == 0 ? (nothing, nothing) : problem.norms[norm.callable]
    meters = (Meter(forward(norm), state_blocks(about), about.integrals),
              Meter(norm, augmented_blocks(about, sees_time(norm)), about.integrals, called...))
    return map(meter -> Recorder(meter, max_abs(y0), about.ts[1], about.max_steps), meters)
end

"""
    solve(problem, plan)

Return the `Gradient` of a plan, or `Failed`; nothing is counted or kept.
"""
function solve(problem::Problem, plan::Plan)
    ready(plan.engine)
    gradient = Base.invokelatest(solve_by, engine_of(plan), problem, plan)
    gradient === nothing || return gradient
    outcome = record(problem, plan)  # once more, to say why
    return Failed(outcome.status, outcome.message)
end

"""
    record(problem, plan)

Return the `Outcome` of a plan: its steps, counts and ratios. The steps and the gradient are those of `solve`, to the
last bit. A failed solve is a status.
"""
function record(problem::Problem, plan::Plan)
    ready(plan.engine)
    return Base.invokelatest(record_by, engine_of(plan), problem, plan)
end

engine_of(plan::Plan) = Val(Symbol(family(plan.engine)))

function solve_by(engine::Val, problem::Problem, plan::Plan)
    norm = norm_of(problem.about, plan)
    watches = (Unwatched(), Unwatched())
    return run(problem, start(problem), how_of(engine, plan, problem.about), norms_of(problem, norm, plan), watches,
               Val(sees_time(norm))).gradient
end

function record_by(engine::Val, problem::Problem, plan::Plan)
    norm = norm_of(problem.about, plan)
    y0 = start(problem)
    watches = recorders(problem, norm, y0)
    ran = run(problem, y0, how_of(engine, plan, problem.about), norms_of(problem, norm, plan), watches,
              Val(sees_time(norm)))
    return outcome(ran, watches...)
end

how_of(::Val{:base}, plan::Plan, ::About) =
    Stepping(plan.rtol, plan.atol, plan.stepping == "matched", plan.first_step === nothing ? NaN : plan.first_step)

start(problem::Problem) = Vector{Float64}(vec(collect(problem.initial())))

"""What a run came to: the last pass, the solution stored, and the gradient if all went well."""
struct Ran
    backward::Bool
    stored::Stored
    ys::Union{Nothing,Matrix{Float64}}
    gradient::Union{Nothing,Gradient}
end

"""The pieces of a chain of solves, none where all is solved in one go."""
pieces_of(::Any, about::About) = NTuple{4,Float64}[]
pieces_of(how::Stepping, about::About) = how.matched && !isempty(about.breakpoints) ?
    chain(about.ts, about.breakpoints) : NTuple{4,Float64}[]

"""Run both passes: how they step, their norms and watches by pass, and whether z has a_t."""
function run(problem::Problem, y0, how, norms, watches, with_time::Val{T}) where {T}
    about = problem.about
    pieces = pieces_of(how, about)
    pass = Pass(how, norms[1], watches[1], about.max_steps)
    ended, stored = solve_forward(problem.field, y0, about.ts, pieces, pass)
    ended === finished || return Ran(false, stored, nothing, nothing)
    ys = isempty(pieces) ? stored.states : stored.states[:, [searchsortedfirst(stored.times, t) for t in about.ts]]
    loss, of_ys, direct = loss_of(problem, ys)
    pass = Pass(how, norms[2], watches[2], about.max_steps)
    vjp = T ? problem.vjp_t : problem.vjp
    n_params = total_size(used_leaves(about))
    ended, a_y, a_params = solve_backward(vjp, with_time, stored, of_ys, about.ts, n_params, pieces, pass)
    ended === finished || return Ran(true, stored, ys, nothing)
    return Ran(true, stored, ys, Gradient(loss, a_y, total(problem, direct, a_y, a_params)))
end

function loss_of(problem::Problem, ys)
    value, of_ys, direct = problem.loss(ys)
    return Float64(value), Matrix{Float64}(of_ys), Vector{Float64}(direct)
end

"""Return the total derivative with respect to all leaves: through the loss, the initial state and the field."""
function total(problem::Problem, direct, a_y, a_params)
    whole = direct .+ problem.initial_pull(a_y)
    return add_used!(Vector{Float64}(whole), problem.about, a_params)
end

function add_used!(whole, about::About, a_params)
    names = [leaf.name for leaf in about.params]
    ranges = slices(about.params)
    stop = 0
    for name in about.used
        at = ranges[findfirst(isequal(name), names)]
        whole[at] .+= view(a_params, stop+1:stop+length(at))
        stop += length(at)
    end
    return whole
end

"""Put a run and its watches together."""
function outcome(ran::Ran, forward_watch, backward_watch)
    if ran.gradient === nothing
        status, words = failure(ran.backward ? backward_watch : forward_watch)
        message = "$(ran.backward ? "backward" : "forward") solve: $words"
        return Outcome(status, message, nothing, ran.ys, forward_watch, ran.backward ? backward_watch : nothing,
                       Float64[], Float64[])
    end
    scale = max(max_abs(ran.stored.states), floatmin(Float64))
    order = sortperm(backward_watch.back_t)
    return Outcome("ok", "", ran.gradient, ran.ys, forward_watch, backward_watch, backward_watch.back_t[order],
                   backward_watch.back[order] ./ scale)
end
