# The engine `sciml`: the adjoints of SciMLSensitivity.jl over Tsit5 of OrdinaryDiffEq.jl, with our vector-Jacobian
# products handed in as the field's Jacobians, so that all differentiate the same code.
#
# Untested: no test of this package runs it, for neither package can be installed there. Written for SciMLSensitivity 7
# from its documentation and sources (`autojacvec = false` takes `jac` and `paramjac` of the ODEFunction). Its norms are
# its own, so only `default` is here; what it integrates backwards is not seen, so there are counts and no steps.

const ODE_OF_SCIML = Base.require(Main, :OrdinaryDiffEq)
const Sensitivity = Base.require(Main, :SciMLSensitivity)

const ADJOINTS = Dict("backsolve" => :BacksolveAdjoint, "interpolating" => :InterpolatingAdjoint,
                      "gauss" => :GaussAdjoint)

"""How often the field and its Jacobian were evaluated."""
mutable struct Calls
    field::Int
    jacobian::Int
end

function adjoint_of(engine)
    name = occursin(':', engine) ? String(split(engine, ':'; limit = 2)[2]) : "backsolve"
    isdefined(Sensitivity, ADJOINTS[name]) ||
        throw(Declined("engine $engine: this SciMLSensitivity has no $(ADJOINTS[name])"))
    return getfield(Sensitivity, ADJOINTS[name])(; autojacvec = false)
end

"""The field with its Jacobians, row by row from the vector-Jacobian product, counted."""
function counted_function(problem::Problem, n, calls::Calls)
    function field!(dy, y, p, t)
        calls.field += 1
        copyto!(dy, problem.field(t, y))
        return nothing
    end
    function rows!(J, y, t, part)
        a = zeros(n)
        for i in 1:n
            a[i] = 1.0
            J[i, :] = problem.vjp(t, collect(y), a)[part]
            a[i] = 0.0
        end
        return nothing
    end
    jac!(J, y, p, t) = (calls.jacobian += 1; rows!(J, y, t, 2))
    paramjac!(J, y, p, t) = rows!(J, y, t, 3)
    return ODE_OF_SCIML.ODEFunction{true}(field!; jac = jac!, paramjac = paramjac!)
end

const ORIENTATION = Ref(0)

"""
Return 1 or -1: the factor of dL/du with which `adjoint_sensitivities` returns dL/du0. It has changed between versions,
so it is measured, once, on du/dt = p, L = u(1), where dL/du0 and dL/dp are 1.
"""
function orientation()
    ORIENTATION[] == 0 || return ORIENTATION[]
    f = ODE_OF_SCIML.ODEFunction{true}((du, u, p, t) -> (du .= p; nothing); jac = (J, u, p, t) -> (J .= 0; nothing),
                                       paramjac = (J, u, p, t) -> (J .= 1; nothing))
    solution = ODE_OF_SCIML.solve(ODE_OF_SCIML.ODEProblem(f, [1.0], (0.0, 1.0), [1.0]), ODE_OF_SCIML.Tsit5())
    found = Sensitivity.adjoint_sensitivities(
        solution, ODE_OF_SCIML.Tsit5(); t = [1.0], dgdu_discrete = (out, u, p, t, i) -> (out .= 1; nothing),
        sensealg = Sensitivity.BacksolveAdjoint(autojacvec = false))
    signs = round(Int, found[1][1]), round(Int, vec(collect(found[2]))[1])
    signs in ((1, 1), (-1, -1)) || throw(Declined("engine sciml: adjoint_sensitivities has signs of another kind"))
    return ORIENTATION[] = signs[1]
end

"""Solve forwards and backwards; return the gradient (`nothing` for a forward solve that failed), ys and the counts."""
function run_sciml(problem::Problem, plan::Plan)
    plan.norm == "default" && plan.stepping == "native" ||
        throw(Declined("engine $(plan.engine): norm default and native stepping alone"))
    about, calls = problem.about, Calls(0, 0)
    ts, y0, tsit5 = about.ts, start(problem), ODE_OF_SCIML.Tsit5()
    tolerances = (reltol = plan.rtol, abstol = plan.atol)
    f = counted_function(problem, length(y0), calls)
    ode = ODE_OF_SCIML.ODEProblem(f, y0, (ts[1], ts[end]), zeros(total_size(used_leaves(about))))
    solution = ODE_OF_SCIML.solve(ode, tsit5; tolerances..., maxiters = about.max_steps)
    forward_calls = calls.field
    ys = solution.t[end] == ts[end] ? reduce(hcat, [Vector{Float64}(solution(t)) for t in ts]) : nothing
    ys === nothing && return nothing, nothing, forward_calls, 0
    loss, of_ys, direct = loss_of(problem, ys)
    sign = orientation()
    jump!(out, u, p, t, i) = (out .= sign .* of_ys[:, i + 1]; nothing)
    a_y, a_params = Sensitivity.adjoint_sensitivities(solution, tsit5; t = ts[2:end], dgdu_discrete = jump!,
                                                      sensealg = adjoint_of(plan.engine), tolerances...)
    a_y0 = Vector{Float64}(vec(collect(a_y))) .+ of_ys[:, 1]
    whole = total(problem, direct, a_y0, Vector{Float64}(vec(collect(a_params))))
    return Gradient(loss, a_y0, whole), ys, forward_calls, calls.jacobian
end

solve_by(::Val{:sciml}, problem::Problem, plan::Plan) = run_sciml(problem, plan)[1]

function record_by(::Val{:sciml}, problem::Problem, plan::Plan)
    gradient, ys, forward_calls, backward_calls = run_sciml(problem, plan)
    watches = recorders(problem, norm_of(problem.about, plan), start(problem))
    watches[1].nfe, watches[2].nfe = forward_calls, backward_calls
    status, message = gradient === nothing ? ("crashed", "forward solve: it stopped before its end") : ("ok", "")
    backward = gradient === nothing ? nothing : watches[2]
    return Outcome(status, message, gradient, ys, watches[1], backward, Float64[], Float64[])
end

function settings_by(::Val{:sciml}, problem::Problem, plan::Plan)
    common = fields("solver" => "Tsit5() of OrdinaryDiffEq", "rtol" => plan.rtol, "atol" => plan.atol,
                    "norm" => "OrdinaryDiffEq's own", "engine" => plan.engine)
    return fields("forward" => common, "backward" => [common; fields("vjp" => "ours, as jac and paramjac")])
end

versions_by(::Val{:sciml}) = fields("OrdinaryDiffEq" => package_version(ODE_OF_SCIML),
                                    "SciMLSensitivity" => package_version(Sensitivity))
