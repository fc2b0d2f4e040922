# Reading, joining, padding and repeating arrays.

"""
    leaf(tree, name, T)

Read the array or number `name` of a dictionary as a `T`.
"""
function leaf(tree::AbstractDict, name::AbstractString, ::Type{T}) where {T}
    haskey(tree, name) || throw(ArgumentError("there is no array \"$name\" among $(sort!(collect(keys(tree))))"))
    return convert(T, tree[name])::T
end

"""
    spread(x, size)

A new array of `size` filled with `x`, which broadcasts to it.
"""
spread(x::Number, size::Dims) = fill(x, size)
function spread(x::AbstractArray{T}, size::Dims{N}) where {T, N}
    out = Array{T, N}(undef, size)
    out .= x
    return out
end

"""
    apart(f, args...)

`f(args...)`, never inlined: a function of a hundred dotted lines compiles in seconds instead of minutes.
"""
@noinline apart(f::F, args::Vararg{Any, N}) where {F, N} = f(args...)

"A new array for truth values: bytes, which are faster to read and write than Julia's packed bits."
mask(size::Dims{N}) where {N} = Array{Bool, N}(undef, size)

"""
    join(arrays, dim)

Join arrays along a dimension, as `cat` does; the type of the result does not depend on a value.
"""
function join(arrays::Tuple{AbstractArray{T, N}, Vararg{AbstractArray}}, dim::Int) where {T, N}
    total = sum(map(x -> size(x, dim), arrays))
    lead = size(arrays[1])
    out = Array{T, N}(undef, ntuple(d -> d == dim ? total : lead[d], Val(N)))
    inner = prod(ntuple(d -> d < dim ? lead[d] : 1, Val(N)))
    outer = prod(ntuple(d -> d > dim ? lead[d] : 1, Val(N)))
    start = 0
    for x in arrays
        start = copy_slabs!(out, x, inner * size(x, dim), inner * total, outer, start)
    end
    return out
end

"Copy `count` slabs of `x`, each of `width` elements, to every `stride`-th element of `out`; return where the next go."
function copy_slabs!(out::Array, x::AbstractArray, width::Int, stride::Int, count::Int, start::Int)
    for slab in 0:count-1
        copyto!(out, start + slab * stride + 1, x, slab * width + 1, width)
    end
    return start + width
end

"""
    stack(arrays, dim)

Join arrays of one size along a new dimension.
"""
function stack(arrays::Tuple{AbstractArray{T, N}, Vararg{AbstractArray}}, dim::Int) where {T, N}
    old = size(arrays[1])
    new = ntuple(d -> d < dim ? old[d] : (d == dim ? 1 : old[d-1]), Val(N + 1))
    return join(map(x -> reshape(x, new), arrays), dim)
end

"""
    tile(x, counts)

Repeat an array along every dimension.
"""
function tile(x::AbstractArray{T, N}, counts::NTuple{N, Int}) where {T, N}
    each = ntuple(i -> isodd(i) ? size(x, (i + 1) ÷ 2) : 1, Val(2N))
    every = ntuple(i -> isodd(i) ? size(x, (i + 1) ÷ 2) : counts[i÷2], Val(2N))
    return reshape(spread(reshape(x, each), every), size(x) .* counts)
end

"""
    pad(x, fill, widths)

Pad each dimension by (low, high, interior) elements of `fill`; a negative low or high cuts off.
"""
function pad(x::AbstractArray{T, N}, fill_value, widths::NTuple{N, NTuple{3, Int}}) where {T, N}
    inner = ntuple(d -> size(x, d) + max(size(x, d) - 1, 0) * widths[d][3], Val(N))
    out = fill(convert(T, fill_value), ntuple(d -> max(inner[d] + widths[d][1] + widths[d][2], 0), Val(N)))
    places = ntuple(d -> landing(size(x, d), size(out, d), widths[d]), Val(N))
    out[map(last, places)...] = x[map(first, places)...]
    return out
end
pad(x::Number, fill_value, ::Tuple{}) = x

"The elements of a padded dimension that stay inside, and where they go."
function landing(count::Int, total::Int, (low, _, between)::NTuple{3, Int})
    step = between + 1
    first = max(0, -fld(low, step))
    last = min(count, fld(total - 1 - low, step) + 1)
    last > first || return 1:0, 1:step:0
    return first+1:last, low+first*step+1:step:low+(last-1)*step+1
end
