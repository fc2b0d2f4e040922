# The forward solve, and the continuous adjoint solved backwards with z = (y, a_y, a_params[, a_t]):
#
#     dy/dt = f,   da_y/dt = -a_y df/dy,   da_params/dt = -a_y df/dparams,   da_t/dt = -a_y df/dt
#
# y is reset to the stored solution and a_y jumps by the loss's own gradient at every output time.

"""A problem's field as a system of a solve, its t kept in [lo, hi]."""
struct FieldSystem{F}
    f::F
    n::Int
    lo::Float64
    hi::Float64
end

evaluate!(out, system::FieldSystem, t, y) = (copyto!(out, system.f(clamp(t, system.lo, system.hi), y)); nothing)

"""The augmented field, from a problem's vector-Jacobian product; T says whether z has a_t."""
struct AdjointSystem{T,V}
    vjp::V
    n::Int
    lo::Float64
    hi::Float64
    y::Vector{Float64}
    a::Vector{Float64}
end

AdjointSystem{T}(vjp::V, n, lo, hi) where {T,V} = AdjointSystem{T,V}(vjp, n, lo, hi, zeros(n), zeros(n))

function evaluate!(out, system::AdjointSystem, t, z)
    copyto!(system.y, 1, z, 1, system.n)
    copyto!(system.a, 1, z, system.n + 1, system.n)
    put_slopes!(out, system, system.vjp(clamp(t, system.lo, system.hi), system.y, system.a)...)
    return nothing
end

function put_slopes!(out, system::AdjointSystem{T}, f, of_y, of_params, of_t = 0.0) where {T}
    n = system.n
    @inbounds for i in 1:n
        out[i] = f[i]
        out[n + i] = -of_y[i]
    end
    @inbounds for i in eachindex(of_params)
        out[2n + i] = -of_params[i]
    end
    T && (out[end] = -of_t)
    return nothing
end

"""
    chain(ts, breakpoints)

Return the pieces (start, end, lo, hi) between all output times and breakpoints. The field's t is kept in [lo, hi],
strictly inside the piece at a breakpoint, so that a field evaluated there takes this piece's side.
"""
function chain(ts, breakpoints)
    times = sort!(unique([ts; breakpoints]))
    return [
        (start, stop, start in breakpoints ? nextfloat(start) : -Inf, stop in breakpoints ? prevfloat(stop) : Inf) for
        (start, stop) in zip(times[1:end-1], times[2:end])
    ]
end

"""The solution at the output times, and at the breakpoints between them in a chain of solves."""
struct Stored
    times::Vector{Float64}
    states::Matrix{Float64}
end

"""
    solve_forward(f, y0, ts, pieces, pass)

Solve the field over all output times, piece by piece where there are pieces; return how it ended and the solution.
"""
function solve_forward(f, y0::Vector{Float64}, ts::Vector{Float64}, pieces, pass::Pass)
    n = length(y0)
    work = Work(n)
    copyto!(work.z, y0)
    if isempty(pieces)
        outputs = Outputs(ts, zeros(n, length(ts)), 1)
        ended = advance!(work, FieldSystem(f, n, -Inf, Inf), ts[1], ts[end], pass, outputs)
        return ended, Stored(ts, outputs.ys)
    end
    stored = Stored([pieces[1][1]; [piece[2] for piece in pieces]], zeros(n, length(pieces) + 1))
    stored.states[:, 1] = y0
    for (i, (start, stop, lo, hi)) in enumerate(pieces)
        ended = advance!(work, FieldSystem(f, n, lo, hi), start, stop, pass)
        ended === finished || return ended, stored
        stored.states[:, i + 1] = work.z
    end
    return finished, stored
end

"""
    solve_backward(vjp, with_time, stored, of_ys, ts, n_params, pieces, pass)

Return how the backward pass ended, a_y(t0) with the loss's own gradient there, and a_params. Over one call after the
other between outputs a_params is carried along; in a chain it starts from zero in each piece and is added up.
"""
function solve_backward(vjp, ::Val{T}, stored, of_ys, ts, n_params, pieces, pass::Pass) where {T}
    n = size(stored.states, 1)
    work = Work(2n + n_params + T)
    a_y, a_params = of_ys[:, end], zeros(n_params)
    whole = AdjointSystem{T}(vjp, n, -Inf, Inf)
    times = stored.times
    for i in length(times):-1:2
        system = isempty(pieces) ? whole : AdjointSystem{T}(vjp, n, pieces[i - 1][3], pieces[i - 1][4])
        isempty(pieces) || fill!(work.z, 0.0)
        copyto!(work.z, 1, stored.states, (i - 1) * n + 1, n)
        copyto!(work.z, n + 1, a_y, 1, n)
        ended = advance!(work, system, times[i], times[i - 1], pass)
        ended === finished || return ended, a_y, a_params
        see_return!(pass.watch, times[i - 1], work.z, view(stored.states, :, i - 1))
        copyto!(a_y, 1, work.z, n + 1, n)
        output = searchsortedfirst(ts, times[i - 1])
        ts[output] == times[i - 1] && (a_y .+= view(of_ys, :, output))
        if isempty(pieces)
            copyto!(a_params, 1, work.z, 2n + 1, n_params)
        else
            a_params .+= view(work.z, 2n+1:2n+n_params)
        end
    end
    return finished, a_y, a_params
end
