# What run.jl does: the cells of one exported problem, one record each.

"""
    main(dir, arguments)

Run the problem exported to `dir` as the command line says. A mistake of the caller's is one sentence and exit status 2.
"""
function main(dir, arguments)
    status = command(dir, arguments)
    status == 0 || isinteractive() || exit(status)
    return nothing
end

function command(dir, arguments)
    one_blas_thread()
    try
        options = parse_options(arguments)
        options === nothing ? print(HELP) : run_all(dir, options)
        return 0
    catch error
        error isa Union{BadOption,BadProblem,BadArray,BadRecord,Declined} || rethrow()
        println(stderr, "run.jl: ", sprint(showerror, error))
        return 2
    end
end

"""The cells of a run that can be run, and a sentence on each that cannot."""
function cells(about::About, options::Options)
    own = options.engine != "base"
    steppings = isempty(options.steppings) ? (own ? ["native"] : ["native", "matched"]) : options.steppings
    own && "matched" in steppings &&
        throw(BadOption("--stepping matched: the engine $(options.engine) has its own rules"))
    usual = family(options.engine) == "sciml" ? ["default"] : ["default", "seminorm"]  # its norms are its own
    norms = isempty(options.norms) ? usual : options.norms
    rtols = isempty(options.rtols) ? about.tolerances : options.rtols
    for norm in norms
        norm in about.norm_names ||
            throw(BadOption("--norm $norm: expected one of $(join(about.norm_names, ", "))"))
    end
    found, declined = Plan[], String[]
    for norm in unique(norms), stepping in unique(steppings)
        if haskey(about.norms, (norm, stepping))
            append!(found, [Plan(norm, stepping, rtol, atol_of(rtol, options.atol_factor); engine = options.engine)
                            for rtol in unique(rtols)])
        else
            push!(declined, "$norm $stepping: this norm sees a_t, so its steps cannot be matched")
        end
    end
    return found, declined
end

"""The absolute tolerance, without the digits that only rounding made."""
atol_of(rtol, factor) = parse(Float64, @sprintf("%.12g", rtol * factor))

function run_all(dir, options::Options)
    ready(options.engine)
    started = time()
    problem = load(dir)
    loading = time() - started
    plans, declined = cells(problem.about, options)
    foreach(sentence -> println("declined ", sentence), declined)
    warmed = Dict{Tuple{String,String},Float64}()
    for plan in plans
        compiled = get!(warmed, (plan.norm, plan.stepping)) do
            loading + @elapsed solve(problem, warm_plan(problem.about, plan))
        end
        println(line(plan, run_cell(problem, plan, options, compiled)...))
        flush(stdout)
    end
    println("$(length(plans)) records in $(options.out): hand them over by `crossbackend import $(options.out) RUN`")
    return nothing
end

"""The same plan at the loosest tolerance, to be compiled by."""
function warm_plan(about::About, plan::Plan)
    rtol = maximum([about.tolerances; 1e-4])
    return Plan(plan.engine, plan.norm, plan.stepping, rtol, 1e-2 * rtol, plan.first_step)
end

"""Record a cell, time it where it is native and ended ok, and write it; return the outcome and its time."""
function run_cell(problem::Problem, plan::Plan, options::Options, compile_s)
    found = record(problem, plan)
    time = nothing
    if found.status == "ok" && plan.stepping == "native" && options.repeats > 0
        seconds = [@elapsed(solve(problem, plan)) for _ in 0:options.repeats]
        time = statistics(seconds[2:end], compile_s, seconds[1])
    end
    write_outcome(options.out, problem, plan, found; time = time, versions = versions_of(plan.engine))
    return found, time
end

function line(plan::Plan, found::Outcome, time)
    words = @sprintf("%s %s %s rtol %.0e: %s", plan.engine, plan.norm, plan.stepping, plan.rtol, found.status)
    found.gradient === nothing && return "$words, $(found.message)"
    words *= @sprintf(", loss %.8g, evaluations %d forward, %d backward", found.gradient.loss, found.forward.nfe,
                      found.backward.nfe)
    time === nothing && return words
    return words * @sprintf(", median %.3g ms", 1e3 * Dict(time)["median_s"])
end
