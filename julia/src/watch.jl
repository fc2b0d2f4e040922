# What sees every evaluation and every attempt of a pass, counts them, and classifies a failure. A bare pass has a
# watch that does nothing and compiles away; the steps are the same to the last bit.

abstract type Watch end

"""The watch of a bare pass."""
struct Unwatched <: Watch end

"""
    Recorder(meter, y0_max, span, max_steps)

The watch of a recorded pass. A failed pass is `nan_in_field` if f was not finite at a finite y since the last accepted
step; else `diverged` if max|y| > 1e8 (1 + max|y0|); else `max_steps` if the attempts ran out; else `step_underflow`.
"""
mutable struct Recorder <: Watch
    meter::Meter
    limit::Float64
    start::Float64
    max_steps::Int
    nfe::Int
    t0::Vector{Float64}
    t1::Vector{Float64}
    accepted::Vector{Bool}
    seen::Vector{Vector{Float64}}
    t_min::Float64
    t_max::Float64
    y_max::Float64
    nan_at::Float64
    back_t::Vector{Float64}
    back::Vector{Float64}
end

function Recorder(meter::Meter, y0_max::Float64, start::Float64, max_steps::Int)
    return Recorder(meter, 1e8 * (1 + y0_max), start, max_steps, 0, Float64[], Float64[], Bool[], Vector{Float64}[],
                    Inf, -Inf, 0.0, NaN, Float64[], Float64[])
end

"""
    max_abs(x, n)

Return the largest |x[i]| of the first n entries; NaN where one is, 0 of none.
"""
function max_abs(x, n = length(x))
    largest = 0.0
    for i in 1:n
        largest = max(largest, abs(x[i]))  # NaN wins
    end
    return largest
end

"""Note one evaluation at (t, y) that gave `out`; the first n entries of both are the state's."""
see_field!(::Unwatched, t, y, out, n) = nothing

function see_field!(watch::Recorder, t, y, out, n)
    watch.nfe += 1
    watch.t_min, watch.t_max = t < watch.t_min ? t : watch.t_min, t > watch.t_max ? t : watch.t_max
    y_max = max_abs(y, n)
    isfinite(y_max) && !all(isfinite(out[i]) for i in 1:n) && (watch.nan_at = t)
    y_max > watch.y_max && (watch.y_max = y_max)
    return nothing
end

"""Note one attempt from t0 (where the state was z) to t1, its error over scale and the ratio that came of it."""
see_step!(::Unwatched, t0, t1, accepted, ratio, error, z) = nothing

function see_step!(watch::Recorder, t0, t1, accepted, ratio, error, z)
    push!(watch.t0, t0)
    push!(watch.t1, t1)
    push!(watch.accepted, accepted)
    push!(watch.seen, seen(watch.meter, ratio, error, z))
    accepted && t1 != t0 && (watch.nan_at = NaN)
    return nothing
end

"""Note how far the backward solve's y, the first n entries of z, is from the stored one at time t."""
see_return!(::Unwatched, t, z, stored) = nothing

function see_return!(watch::Recorder, t, z, stored)
    push!(watch.back_t, t)
    push!(watch.back, max_abs([z[i] - stored[i] for i in eachindex(stored)]))
    return nothing
end

"""
    failure(watch)

Return the status of a failed pass and a sentence that says where it failed.
"""
function failure(watch::Recorder)
    place = isempty(watch.t0) ? watch.start : watch.t0[end]
    if !isnan(watch.nan_at)
        return "nan_in_field", "the field is not finite at t = $(number(watch.nan_at)), where y is finite"
    elseif watch.y_max > watch.limit
        return "diverged", "max|y| reached $(number(watch.y_max, 3)) near t = $(number(place))"
    elseif length(watch.t0) >= watch.max_steps
        return "max_steps", "$(watch.max_steps) steps reached t = $(number(place))"
    end
    return "step_underflow", "the step fell under 10 ulp of t at t = $(number(place))"
end

number(value, digits = 6) = lowercase(digits == 3 ? @sprintf("%.3g", value) : @sprintf("%.6g", value))

"""
    seen_arrays(watch)

Return the numbers of all attempts by name: ratios in Float64, shares in Float32; none without attempts.
"""
function seen_arrays(watch::Recorder)
    isempty(watch.seen) && return Pair{String,Any}[]
    column(i) = [row[i] for row in watch.seen]
    return Pair{String,Any}[
        name => name in SHARES ? Float32.(column(i)) : column(i) for (i, name) in enumerate(watch.meter.names)
    ]
end
