# A stand-in: the part of OrdinaryDiffEq.jl's documented interface that engines/ordinarydiffeq.jl uses, over the pair of
# Bogacki and Shampine, orders 3 and 2. It calls the norm where the real one does: of states and numbers to begin with,
# of single numbers for every scale, and of the whole error of an attempt.

__precompile__(false)

module OrdinaryDiffEq

struct Tsit5 end

struct ODEProblem
    f!::Any
    u0::Vector{Float64}
    tspan::Tuple{Float64,Float64}
end

mutable struct Solution
    t::Vector{Float64}
    u::Vector{Vector{Float64}}
end

mutable struct Integrator
    problem::ODEProblem
    u::Vector{Float64}
    uprev::Vector{Float64}
    t::Float64
    dt::Float64
    stops::Vector{Float64}
    sol::Solution
    opts::Any
end

function init(problem::ODEProblem, ::Tsit5; reltol, abstol, internalnorm, save_everystep, saveat, tstops,
              d_discontinuities, maxiters, dt = nothing)
    save_everystep && error("the stand-in saves at output times alone")
    tstops == d_discontinuities || error("the stand-in takes equal stops and discontinuities")
    t0, t1 = problem.tspan
    direction = sign(t1 - t0)
    internalnorm(problem.u0, t0) isa Float64 || error("a norm of a state is a number")
    internalnorm(ones(length(problem.u0) + 1), t0) == 1 || error("a norm of another length is the RMS")
    slope = similar(problem.u0)
    problem.f!(slope, problem.u0, nothing, t0)
    first_step = dt === nothing ? 1e-4 * abs(t1 - t0) : dt
    stops = sort!([tstops; t1]; rev = direction < 0)
    solution = Solution(filter(==(t0), saveat), [copy(problem.u0) for t in saveat if t == t0])
    return Integrator(problem, copy(problem.u0), copy(problem.u0), t0, direction * first_step, stops, solution,
                      (reltol = reltol, abstol = abstol, norm = internalnorm, maxiters = maxiters,
                       saveat = filter(!=(t0), saveat)))
end

function solve!(integrator::Integrator)
    t1 = integrator.problem.tspan[2]
    direction = sign(t1 - integrator.problem.tspan[1])
    for _ in 1:integrator.opts.maxiters
        integrator.t == t1 && break
        stop = integrator.stops[1]
        landing = abs(integrator.dt) >= abs(stop - integrator.t)
        landing && (integrator.dt = stop - integrator.t)
        abs(integrator.dt) <= eps(integrator.t) && break
        u, error = attempt(integrator)
        ratio = integrator.opts.norm(error, integrator.t)
        if ratio <= 1
            t = landing ? stop : integrator.t + integrator.dt
            landing && popfirst!(integrator.stops)
            save!(integrator, t, u)
            integrator.t, integrator.u = t, u
            integrator.uprev = copy(u)
        end
        isnan(ratio) && (ratio = 1e10)
        integrator.dt = direction * abs(integrator.dt) * clamp(0.9 * ratio^(-1 / 3), 0.2, 5.0)
    end
    return integrator.sol
end

function attempt(integrator)
    u, t, h, opts = integrator.uprev, integrator.t, integrator.dt, integrator.opts
    slope(u, t) = (k = similar(u); integrator.problem.f!(k, u, nothing, t); k)
    k1 = slope(u, t)
    k2 = slope(u .+ h / 2 .* k1, t + h / 2)
    k3 = slope(u .+ 3h / 4 .* k2, t + 3h / 4)
    new = u .+ h .* (2 .* k1 .+ 3 .* k2 .+ 4 .* k3) ./ 9
    k4 = slope(new, t + h)
    error = h .* (-5 / 72 .* k1 .+ 1 / 12 .* k2 .+ 1 / 9 .* k3 .- 1 / 8 .* k4)
    scale = [opts.abstol + opts.reltol * max(opts.norm(a, t), opts.norm(b, t)) for (a, b) in zip(u, new)]
    return new, error ./ scale
end

"""Save the output times of a step, on the cubic through its ends and their slopes."""
function save!(integrator, t, u)
    from, h = integrator.t, t - integrator.t
    k0, k1 = similar(u), similar(u)
    integrator.problem.f!(k0, integrator.uprev, nothing, from)
    integrator.problem.f!(k1, u, nothing, t)
    for time in integrator.opts.saveat
        from < time <= t || continue
        x = (time - from) / h
        push!(integrator.sol.t, time)
        push!(integrator.sol.u, time == t ? copy(u) : (1 - x) .* integrator.uprev .+ x .* u .+ x * (x - 1) .*
              ((1 - 2x) .* (u .- integrator.uprev) .+ (x - 1) * h .* k0 .+ x * h .* k1))
    end
    return nothing
end

end
