# The engine `ordinarydiffeq`: the same passes with an integrator of OrdinaryDiffEq.jl, `internalnorm` set to our norm.
#
# No sensitivity package takes part: the backward pass is our augmented problem, one solve per output interval. Written
# for OrdinaryDiffEq 5.46 to 7 from their documentation and sources. What the tests of this package run is this file
# over a stand-in of that interface, not OrdinaryDiffEq itself.

const ODE = Base.require(Main, :OrdinaryDiffEq)

"""How a pass steps with an algorithm of OrdinaryDiffEq; breakpoints are given to it as discontinuities."""
struct ForeignStepping{A}
    rtol::Float64
    atol::Float64
    first_step::Float64
    algorithm::A
    breakpoints::Vector{Float64}
end

"""
Our norm as OrdinaryDiffEq calls it: of single numbers, where it must be the absolute value; of the error over scale of
an attempt, which is noted once the integrator steps; and of arrays of other lengths.
"""
mutable struct InternalNorm{P}
    pass::P
    size::Int
    integrator::Any
end

(norm::InternalNorm)(u::Number, t) = abs(u)

function (norm::InternalNorm)(u::AbstractArray, t)
    length(u) == norm.size || return rms(u)
    error = convert(Vector{Float64}, vec(u))
    ratio = norm.pass.norm(error)::Float64
    norm.integrator === nothing || note_attempt!(norm.pass.watch, norm.integrator, error, ratio)
    return ratio
end

note_attempt!(::Unwatched, integrator, error, ratio) = nothing

function note_attempt!(watch::Recorder, integrator, error, ratio)
    t1 = integrator.t + integrator.dt
    see_step!(watch, Float64(integrator.t), Float64(t1), ratio <= 1, ratio, error, Vector{Float64}(integrator.uprev))
    return nothing
end

function advance!(work::Work, system, t0::Float64, t1::Float64, pass::Pass{<:ForeignStepping}, outputs = EndOnly())
    how = pass.how
    slopes!(dz, z, p, t) = evaluate!(dz, system, t, z, pass)
    norm = InternalNorm(pass, length(work.z), nothing)
    low, high = minmax(t0, t1)
    breaks = [t for t in how.breakpoints if low < t < high]
    first_step = isnan(how.first_step) ? NamedTuple() : (dt = min(how.first_step, high - low),)
    integrator = ODE.init(ODE.ODEProblem(slopes!, copy(work.z), (t0, t1)), how.algorithm; reltol = how.rtol,
                          abstol = how.atol, internalnorm = norm, save_everystep = false, saveat = wanted(outputs),
                          tstops = breaks, d_discontinuities = breaks, maxiters = pass.allowed, first_step...)
    norm.integrator = integrator
    ODE.solve!(integrator)
    (integrator.t == t1 && all(isfinite, integrator.u)) || return stopped
    copyto!(work.z, integrator.u)
    return keep!(outputs, integrator.sol) ? finished : stopped
end

wanted(::EndOnly) = Float64[]
wanted(outputs::Outputs) = outputs.ts

"""Copy the states saved at the output times; return whether they are all there."""
keep!(::EndOnly, solution) = true

function keep!(outputs::Outputs, solution)
    solution.t == outputs.ts || return false
    foreach(i -> outputs.ys[:, i] = solution.u[i], eachindex(outputs.ts))
    return true
end

const IN_OTHER_PACKAGES = Dict("DP5" => :OrdinaryDiffEqLowOrderRK, "Tsit5" => :OrdinaryDiffEqTsit5,
                               "Vern7" => :OrdinaryDiffEqVerner)

choice(engine) = occursin(':', engine) ? String(split(engine, ':'; limit = 2)[2]) : "DP5"

"""The algorithm that an engine names; since version 7 OrdinaryDiffEq leaves some to packages of their own."""
function algorithm(engine)
    name = choice(engine)
    isdefined(ODE, Symbol(name)) && return getfield(ODE, Symbol(name))()
    package = IN_OTHER_PACKAGES[name]
    Base.find_package(String(package)) === nothing &&
        throw(Declined("engine $engine: this OrdinaryDiffEq has no $name: add it by `]add $package`"))
    loaded = Base.require(Main, package)
    return Base.invokelatest(Base.invokelatest(getfield, loaded, Symbol(name)))
end

function how_of(::Val{:ordinarydiffeq}, plan::Plan, about::About)
    plan.stepping == "native" || throw(Declined("engine $(plan.engine): matched stepping is of the engine base alone"))
    first_step = plan.first_step === nothing ? NaN : plan.first_step
    return ForeignStepping(plan.rtol, plan.atol, first_step, algorithm(plan.engine), about.breakpoints)
end

function settings_by(::Val{:ordinarydiffeq}, problem::Problem, plan::Plan)
    norm, about = norm_of(problem.about, plan), problem.about
    common = fields(
        "solver" => "$(choice(plan.engine))() of OrdinaryDiffEq", "rtol" => plan.rtol, "atol" => plan.atol,
        "first_step" => described_first(plan, "OrdinaryDiffEq's"), "accept" => "ratio <= 1", "ratio_snapped" => false,
        "outputs" => "saveat", "breakpoints" => isempty(about.breakpoints) ? "none" : "d_discontinuities",
        "engine" => "ordinarydiffeq")
    return fields("forward" => [common; fields("norm" => norm.forward_text)],
                  "backward" => backward_settings(common, norm))
end

versions_by(::Val{:ordinarydiffeq}) = fields("OrdinaryDiffEq" => package_version(ODE))
