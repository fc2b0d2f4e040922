# The Dormand-Prince pair 5(4) with two step rules. Native stepping is that of SciPy's RK45: factors 0.9, 0.2, 10, no
# growth right after a rejection, a shrink after acceptance allowed, the first step clipped to the interval. Matched
# stepping is torchdiffeq's and diffrax's: their error estimate (SciPy's over -1.5), a factor in [1, 10] after
# acceptance, a first step that is not clipped.
#
# Dormand, Prince, A family of embedded Runge-Kutta formulae, J. Comput. Appl. Math. 6 (1980); dense output by Shampine,
# Some practical Runge-Kutta formulas, Math. Comp. 46 (1986); first step by Hairer, Norsett, Wanner, Solving Ordinary
# Differential Equations I, section II.4.

const NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
const STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
const WEIGHTS = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
const ERROR = (-71 / 57600, 0.0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)
const MATCHED_ERROR = map(e -> -e / 1.5, ERROR)
const DENSE = (
    (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
    (0.0, 0.0, 0.0, 0.0),
    (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
    (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
    (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
    (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
    (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
)

# min and max where a NaN in the second place loses and one in the first stays: what the step rules need of a NaN.
lesser(a, b) = b < a ? b : a
greater(a, b) = b > a ? b : a

"""How a pass steps: its tolerances, its rules, and a first step given (NaN for none)."""
struct Stepping
    rtol::Float64
    atol::Float64
    matched::Bool
    first_step::Float64
end

"""One pass: how it steps, its norm, its watch, and the attempts made so far of those allowed."""
mutable struct Pass{H,N,W<:Watch}
    how::H
    norm::N
    watch::W
    attempts::Int
    allowed::Int
end

Pass(how, norm, watch, allowed) = Pass(how, norm, watch, 0, allowed)

"""The vectors of a solve: the state z, its candidate, the argument of a stage, error over scale, the seven slopes."""
struct Work
    z::Vector{Float64}
    candidate::Vector{Float64}
    argument::Vector{Float64}
    error::Vector{Float64}
    k::NTuple{7,Vector{Float64}}
end

Work(size::Int) = Work(zeros(size), zeros(size), zeros(size), zeros(size), ntuple(_ -> zeros(size), 7))

"""Output times between steps, filled from the interpolant; `next` is the first that is still empty."""
mutable struct Outputs
    ts::Vector{Float64}
    ys::Matrix{Float64}
    next::Int
end

"""No outputs but the end."""
struct EndOnly end

"""How an advance ended: at t1; by a step that is too small; by a stop that keeps a solve from crawling on."""
@enum Ended finished too_small stopped

"""Put a[1] k[1] + a[2] k[2] + ... of entry i together; unrolled."""
@inline combined(a::NTuple{1,Float64}, k, i) = @inbounds a[1] * k[1][i]
@inline combined(a::NTuple{N,Float64}, k, i) where {N} = @inbounds combined(Base.front(a), k, i) + a[N] * k[N][i]

@inline function evaluate!(out, system, t, z, pass)
    evaluate!(out, system, t, z)
    see_field!(pass.watch, t, z, out, system.n)
    return nothing
end

"""
    advance!(work, system, t0, t1, pass, outputs)

Step work.z from t0 to t1 and say how it ended. `system` gives `evaluate!(out, system, t, z)` and `system.n`, the number
of entries that are the state's own.
"""
function advance!(work::Work, system, t0::Float64, t1::Float64, pass::Pass, outputs = EndOnly())
    direction = t1 < t0 ? -1.0 : 1.0
    t = t0
    evaluate!(work.k[1], system, t, work.z, pass)
    h_abs = first_step(work, system, t0, t1, direction, pass)
    while direction * (t - t1) < 0
        ended, t, h_abs = step!(work, system, t, t1, h_abs, direction, pass, outputs)
        ended === finished || return ended
    end
    return finished
end

"""Take one step that is accepted, whatever attempts it needs; return how that ended, the new t and the next length."""
function step!(work::Work, system, t, t1, h_abs, direction, pass::Pass, outputs)
    smallest = 10 * abs((direction > 0 ? nextfloat(t) : prevfloat(t)) - t)
    h_abs = h_abs < smallest ? smallest : h_abs
    rejected = false
    while true
        h_abs < smallest && return too_small, t, h_abs
        t_new = t + h_abs * direction
        direction * (t_new - t1) > 0 && (t_new = t1)
        h = t_new - t
        h_abs = abs(h)
        attempt!(work, system, t, h, pass)
        ratio = pass.norm(work.error)::Float64
        accepted = ratio < 1
        pass.attempts += 1
        see_step!(pass.watch, t, t_new, accepted, ratio, work.error, work.z)
        hopeless(pass, t, t_new, accepted) && return stopped, t, h_abs
        if accepted
            fill_outputs!(outputs, work, t, t_new)
            copyto!(work.z, work.candidate)
            copyto!(work.k[1], work.k[7])
            return finished, t_new, h_abs * growth(ratio, rejected, pass.how.matched)
        end
        h_abs *= greater(0.2, 0.9 * ratio^-0.2)
        rejected = true
    end
end

"""The factor of the next step after an accepted attempt."""
function growth(ratio, rejected, matched)
    factor = ratio == 0 ? 10.0 : lesser(10.0, 0.9 * ratio^-0.2)
    matched && return greater(1.0, factor)
    return rejected ? lesser(1.0, factor) : factor
end

"""Whether to stop after an attempt: t is lost, the step has underflown, or the attempts have run out."""
function hopeless(pass::Pass, t, t_new, accepted)
    isnan(t_new) && return true
    !accepted && abs(t_new - t) < 10 * eps(abs(t)) && return true
    return pass.attempts >= pass.allowed
end

"""Fill the stages, the candidate and the error over scale of an attempt of length h (with its sign) from t."""
function attempt!(work::Work, system, t, h, pass::Pass)
    z, argument, k = work.z, work.argument, work.k
    stage!(argument, z, STAGES[1], k, h)
    evaluate!(k[2], system, t + NODES[1] * h, argument, pass)
    stage!(argument, z, STAGES[2], k, h)
    evaluate!(k[3], system, t + NODES[2] * h, argument, pass)
    stage!(argument, z, STAGES[3], k, h)
    evaluate!(k[4], system, t + NODES[3] * h, argument, pass)
    stage!(argument, z, STAGES[4], k, h)
    evaluate!(k[5], system, t + NODES[4] * h, argument, pass)
    stage!(argument, z, STAGES[5], k, h)
    evaluate!(k[6], system, t + NODES[5] * h, argument, pass)
    stage!(work.candidate, z, WEIGHTS, k, h)
    evaluate!(k[7], system, t + h, work.candidate, pass)
    scaled_error!(work, pass.how.matched ? MATCHED_ERROR : ERROR, h, pass.how)
    return nothing
end

function stage!(argument, z, a, k, h)
    @inbounds @simd ivdep for i in eachindex(argument, z)
        argument[i] = z[i] + h * combined(a, k, i)
    end
    return nothing
end

"""The smallest relative tolerance that double precision can keep; a smaller one is raised to it, as SciPy does."""
const SMALLEST_RTOL = 100 * eps()

function scaled_error!(work::Work, e, h, how)
    z, candidate, error, k = work.z, work.candidate, work.error, work.k
    rtol, atol = max(how.rtol, SMALLEST_RTOL), how.atol
    @inbounds @simd ivdep for i in eachindex(error, z, candidate)
        scale = atol + max(abs(z[i]), abs(candidate[i])) * rtol
        error[i] = h * combined(e, k, i) / scale
    end
    return nothing
end

"""Return the length of the first step: the one given, or Hairer's under the norm of the pass."""
function first_step(work::Work, system, t0, t1, direction, pass::Pass)
    length = abs(t1 - t0)
    how, z, argument, error, f0, f1 = pass.how, work.z, work.argument, work.error, work.k[1], work.k[2]
    isnan(how.first_step) || return min(how.first_step, length)
    limit = how.matched ? Inf : length
    rtol, atol = max(how.rtol, SMALLEST_RTOL), how.atol
    @. error = z / (atol + abs(z) * rtol)
    d0 = pass.norm(error)::Float64
    @. error = f0 / (atol + abs(z) * rtol)
    d1 = pass.norm(error)::Float64
    h0 = lesser(d0 < 1e-5 || d1 < 1e-5 ? 1e-6 : 0.01 * d0 / d1, limit)
    @. argument = z + direction * h0 * f0
    evaluate!(f1, system, t0 + direction * h0, argument, pass)
    @. error = (f1 - f0) / (atol + abs(z) * rtol)
    d2 = pass.norm(error)::Float64 / h0
    steepest = greater(d1, d2)
    h1 = steepest <= 1e-15 ? max(1e-6, h0 * 1e-3) : (0.01 / steepest)^0.2
    return lesser(lesser(100 * h0, h1), limit)
end

fill_outputs!(::EndOnly, work, t, t_new) = nothing

"""Fill the outputs up to t_new by the quartic through the stages of the step from t."""
function fill_outputs!(outputs::Outputs, work::Work, t, t_new)
    h = t_new - t
    while outputs.next <= length(outputs.ts) && outputs.ts[outputs.next] <= t_new
        x = (outputs.ts[outputs.next] - t) / h
        b = map(p -> x * (p[1] + x * (p[2] + x * (p[3] + x * p[4]))), DENSE)
        for i in eachindex(work.z)
            outputs.ys[i, outputs.next] = work.z[i] + h * combined(b, work.k, i)
        end
        outputs.next += 1
    end
    return nothing
end
