# Whose error it was: each group's share of an attempt's error ratio, from what the norm itself is handed.

const STATE = ("y", "a_y")
const SHARES = ("share_y", "share_a_y", "share_a_params", "share_a_t")

"""
    Meter(norm, blocks, integrals, called, called_state)

Takes the error of an attempt apart by groups:

    ratio            what the step-size controller was given (rounded under matched stepping)
    ratio_y, ...     the norm's own rule within a group, weights left out
    ratio_state      the norm over (y, a_y) alone
    rms_a_y          rms of a_y itself where the attempt began
    share_y, ...     the norm with every other group at zero, over the norm

The last three rows are of the backward pass alone. `called` and `called_state` are the problem's functions `norm_K`
and `norm_state_K` of a callable norm, `nothing` for a norm by weights.
"""
struct Meter
    names::Vector{String}
    groups::Vector{String}
    ranges::Vector{UnitRange{Int}}
    group_of::Vector{String}
    alone::Vector{Rule}
    whole::Rule
    state::Rule
    called::Any
    called_state::Any
end

function Meter(norm::Norm, blocks, integrals, called = nothing, called_state = nothing)
    present = [g for g in GROUPS if any(group(b) == g && !isempty(b.at) for b in blocks)]
    names = ["ratio"; ["ratio_$g" for g in present]]
    if "a_y" in present
        append!(names, ["ratio_state", "rms_a_y"])
        append!(names, ["share_$g" for g in present])
    end
    rules = [Rule(alone(norm, g), blocks, integrals, present) for g in present]
    whole, state = Rule(norm, blocks, integrals, present), Rule(norm, blocks, integrals, STATE)
    return Meter(names, present, [b.at for b in blocks], map(group, blocks), rules, whole, state, called, called_state)
end

"""
    seen(meter, ratio, error, z)

Return what is kept of one attempt, in the order of `meter.names`.
"""
function seen(meter::Meter, ratio::Float64, error::Vector{Float64}, z::Vector{Float64})
    squares = [sum(abs2, view(error, at)) for at in meter.ranges]
    found = [ratio]
    append!(found, [value(rule, squares) for rule in meter.alone])
    "a_y" in meter.groups || return found
    whole, state, parts = meter.called === nothing ? by_weights(meter, squares) : by_function(meter, error)
    a_y = [z[i] for (at, g) in zip(meter.ranges, meter.group_of) if g == "a_y" for i in at]
    append!(found, (state, rms(a_y)))
    append!(found, [whole > 0 ? part / whole : 0.0 for part in parts])
    return found
end

function by_weights(meter::Meter, squares)
    only(g) = [other == g for other in meter.group_of]
    parts = [value(meter.whole, squares, only(g)) for g in meter.groups]
    return value(meter.whole, squares), value(meter.state, squares), parts
end

function by_function(meter::Meter, error)
    called(e) = Float64(meter.called(e))::Float64
    function only(g)
        masked = zero(error)
        for (at, other) in zip(meter.ranges, meter.group_of)
            other == g && (masked[at] = error[at])
        end
        return masked
    end
    parts = [called(only(g)) for g in meter.groups]
    return called(error), Float64(meter.called_state(error))::Float64, parts
end
