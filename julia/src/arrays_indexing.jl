# XLA's indexing: places are computed and count from 0; what would stick out is moved inside, dropped or filled.

"""
    update(x, piece, starts)

A copy of `x` with `piece` written at `starts`, moved inside where it would stick out.
"""
function update(x::AbstractArray{T, N}, piece, starts::NTuple{N, Any}) where {T, N}
    out = copy(x)
    places = ntuple(Val(N)) do d
        first = min(max(Int(starts[d]), 0), size(x, d) - size(piece, d))
        first+1:first+size(piece, d)
    end
    out[places...] = piece
    return out
end

"The place `i`, from 0, moved into a dimension of `n`, as an index from 1."
inside(i, n) = min(max(Int(i), 0), n - 1) + 1

"""
    take(x, index, dim)

The slices of `x` at `index` along a dimension, the last or first one for a place outside.
"""
function take(x::AbstractArray{T, N}, index::AbstractArray{<:Integer, M}, dim::Int) where {T, N, M}
    return taken(x, index, dim, nothing)
end
take(x::AbstractArray, index::Integer, dim::Int) = copy(selectdim(x, dim, inside(index, size(x, dim))))
take(x::AbstractVector, index::Integer, dim::Int) = x[inside(index, length(x))]

"""
    take_fill(x, index, dim, fill)

The slices of `x` at `index` along a dimension, `fill` for a place outside.
"""
function take_fill(x::AbstractArray{T}, index::AbstractArray{<:Integer}, dim::Int, fill) where {T}
    return taken(x, index, dim, convert(T, fill))
end

function taken(x::AbstractArray{T, N}, index::AbstractArray{<:Integer, M}, dim::Int, fill) where {T, N, M}
    n = size(x, dim)
    inner = prod(ntuple(d -> d < dim ? size(x, d) : 1, Val(N)))
    outer = prod(ntuple(d -> d > dim ? size(x, d) : 1, Val(N)))
    out = Array{T, 3}(undef, inner, length(index), outer)
    source = reshape(x, inner, n, outer)
    for k in 1:outer, (j, place) in enumerate(index)
        if fill !== nothing && !(0 <= place < n)
            out[:, j, k] .= fill
        else
            from = inside(place, n)
            for i in 1:inner
                out[i, j, k] = source[i, from, k]
            end
        end
    end
    shape = ntuple(Val(N + M - 1)) do d
        d < dim ? size(x, d) : (d < dim + M ? size(index, d - dim + 1) : size(x, d - M + 1))
    end
    return reshape(out, shape)
end

"""
    corner(x, start, at, window, starts, batch)

Where the window of one column of `start` begins in `x`, from 0, and whether it lies inside; it is moved inside.
"""
function corner(x::AbstractArray{T, N}, start, at, window::NTuple{N, Int}, starts, batch) where {T, N}
    fits = true
    first = ntuple(Val(N)) do d
        place = 0
        for (i, dim) in enumerate(starts)
            dim == d && (place = Int(start[i, at]))
        end
        for (dim, position) in batch
            dim == d && (place = at[position] - 1)
        end
        place
    end
    for d in 1:N
        fits &= 0 <= first[d] <= size(x, d) - window[d]
    end
    return ntuple(d -> min(max(first[d], 0), size(x, d) - window[d]), Val(N)), fits
end

"""
    gather(x, start; window, offset, dropped, starts, batch, fill)

XLA's gather: one window of `x` per column of `start`.

# Arguments
- `window`: the size of a window along every dimension of `x`.
- `offset`: the dimensions of the result that run over a window; the others run over the columns.
- `dropped`: the dimensions of `x` that the result does not have.
- `starts`: the dimension of `x` of each row of `start`.
- `batch`: pairs (dimension of `x`, dimension of the columns) that are walked together.
- `fill`: what stands where a window is not inside; `nothing` moves it inside.
"""
function gather(
    x::AbstractArray{T, N}, start::AbstractArray{<:Integer, M};
    window::NTuple{N, Int}, offset::NTuple{L, Int}, dropped::Dims, starts::Dims, batch, fill,
) where {T, N, M, L}
    columns = CartesianIndices(Base.tail(size(start)))
    kept = kept_sizes(window, dropped, Val(L))
    moves = CartesianIndices(window)
    shape = merged(offset, kept, size(columns), Val(L + M - 1))
    out = Array{T, L + M - 1}(undef, shape)
    for column in columns
        first, fits = corner(x, start, column, window, starts, batch)
        for move in moves
            place = merged(offset, kept_sizes(Tuple(move), dropped, Val(L)), Tuple(column), Val(L + M - 1))
            from = CartesianIndex(ntuple(d -> first[d] + move[d], Val(N)))
            out[CartesianIndex(place)] = fill === nothing || fits ? x[from] : convert(T, fill)
        end
    end
    return out
end

"The entries of a tuple whose dimensions are not dropped; `count` of them."
function kept_sizes(all::NTuple{N, Int}, dropped::Dims, count::Val{L}) where {N, L}
    return ntuple(count) do k
        seen = 0
        for d in 1:N
            d in dropped && continue
            seen += 1
            seen == k && return all[d]
        end
        0
    end
end

"A tuple with `mine` at the places `chosen`, in order, and `others` at the rest."
function merged(chosen::Dims, mine::Dims, others::Dims, total::Val{R}) where {R}
    return ntuple(total) do d
        before = 0
        for (k, place) in enumerate(chosen)
            place == d && return mine[k]
            before += place < d
        end
        others[d-before]
    end
end

"""
    scatter(combine, x, start, updates; window, absent, starts, batch, clip)

XLA's scatter: a copy of `x` with every update combined with what is at its place, one after the other.

# Arguments
- `combine`: a function of the element that is there and of the update.
- `window`: the dimensions of `updates` that run over a window; the others run over the columns of `start`.
- `absent`: the dimensions of `x` that a window does not have.
- `starts`, `batch`: as for `gather`.
- `clip`: move a window inside; otherwise one that is not inside is dropped.
"""
function scatter(
    combine::F, x::AbstractArray{T, N}, start::AbstractArray{<:Integer, M}, updates::AbstractArray;
    window::NTuple{L, Int}, absent::Dims, starts::Dims, batch, clip::Bool,
) where {F, T, N, M, L}
    out = copy(x)
    sizes = ntuple(k -> size(updates, window[k]), Val(L))
    full = widened(sizes, absent, 1, Val(N))
    columns, moves = CartesianIndices(Base.tail(size(start))), CartesianIndices(sizes)
    for column in columns
        first, fits = corner(x, start, column, full, starts, batch)
        fits || clip || continue
        for move in moves
            place = widened(Tuple(move), absent, 1, Val(N))
            at = CartesianIndex(ntuple(d -> first[d] + place[d], Val(N)))
            from = CartesianIndex(merged(window, Tuple(move), Tuple(column), Val(L + M - 1)))
            out[at] = combine(out[at], updates[from])
        end
    end
    return out
end

scatter(combine::F, x::AbstractArray, start, update::Number; facts...) where {F} =
    scatter(combine, x, start, fill(update); facts...)

"A tuple with `value` at the places `absent` and the entries of `some`, in order, at the rest."
function widened(some::Dims, absent::Dims, value::Int, total::Val{N}) where {N}
    return ntuple(total) do d
        d in absent ? value : some[d-count(<(d), absent)]
    end
end
