# The effective settings of both passes, as a record states them.

"""
    settings(problem, plan)

Return `forward` and `backward`, each with its fields in order.
"""
function settings(problem::Problem, plan::Plan)
    ready(plan.engine)
    return Base.invokelatest(settings_by, engine_of(plan), problem, plan)
end

function settings_by(::Val{:base}, problem::Problem, plan::Plan)
    norm, about, matched = norm_of(problem.about, plan), problem.about, plan.stepping == "matched"
    chained = matched && !isempty(about.breakpoints)
    common = fields(
        "solver" => "DP5 (Julia)",
        "rtol" => plan.rtol,
        "atol" => plan.atol,
        "error_estimate" => matched ? "Dormand-Prince / -1.5 (Shampine's)" : "Dormand-Prince",
        "first_step" => described_first(plan, matched ? "Hairer" : "Hairer, clipped to the interval"),
        "after_acceptance" => matched ? "factor in [1, 10]" : "factor up to 10, at most 1 after a rejection",
        "accept" => "ratio < 1",
        "ratio_snapped" => matched,
        "ends" => "clipped to the interval",
        "outputs" => chained ? "one solve per piece" : "dense output",
        "breakpoints" => isempty(about.breakpoints) ? "none" : chained ? "chain of solves" : "not passed",
        "engine" => "base",
    )
    return fields("forward" => [common; fields("norm" => norm.forward_text)],
                  "backward" => backward_settings(common, norm))
end

function backward_settings(common, norm::Norm)
    own = fields("norm" => norm.text, "across" => across(norm), "outputs" => "restart at every output",
                 "a_t" => sees_time(norm))
    return [filter(pair -> first(pair) != "outputs", common); own]
end

across(norm::Norm) = norm.callable != 0 ? "callable" : norm.pooled ? "pooled" : "max"
described_first(plan::Plan, otherwise) = plan.first_step === nothing ? otherwise : number(plan.first_step)
