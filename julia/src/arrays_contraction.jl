# Products, running sums and the place of an extreme element.

"""
    batched(a, b)

`b * a` for every index of the dimensions behind the first two (of NumPy, `a @ b` with leading axes).
"""
function batched(a::AbstractArray{T, N}, b::AbstractArray{S, N}) where {T, S, N}
    inner, rows, columns = size(a, 1), size(a, 2), size(b, 1)
    lead = ntuple(d -> size(a, d + 2), Val(N - 2))
    out = Array{promote_type(T, S), N}(undef, (columns, rows, lead...))
    x, y = reshape(a, inner, rows, :), reshape(b, columns, inner, :)
    z = reshape(out, columns, rows, :)
    for k in axes(z, 3)
        product!(view(z, :, :, k), view(y, :, :, k), view(x, :, :, k))
    end
    return out
end

const SMALL = 1000  # multiplications below which a loop is faster than a call of BLAS

"Write `b * a` into `z`."
function product!(z::AbstractMatrix, b::AbstractMatrix, a::AbstractMatrix)
    length(b) * size(a, 2) > SMALL && return mul!(z, b, a)
    fill!(z, zero(eltype(z)))
    @inbounds for j in axes(a, 2), l in axes(a, 1)
        factor = a[l, j]
        @simd for i in axes(b, 1)
            z[i, j] += b[i, l] * factor
        end
    end
    return z
end

"""
    accumulate(combine, x, dim; reverse)

Combine along a dimension, from the end where `reverse`, and keep what was reached at every element.
"""
function accumulate(combine::F, x::AbstractArray{T, N}, dim::Int; reverse::Bool) where {F, T, N}
    inner = prod(ntuple(d -> d < dim ? size(x, d) : 1, Val(N)))
    n = size(x, dim)
    out = reshape(copy(x), inner, n, :)
    for k in axes(out, 3), step in 1:n-1
        at, before = reverse ? (n - step, n - step + 1) : (step + 1, step)
        for i in 1:inner
            out[i, at, k] = combine(out[i, before, k], out[i, at, k])
        end
    end
    return reshape(out, size(x))
end

"Whether `a` goes before `b` as an extreme: the first nan does, else what `better` says."
wins(better::F, a, b) where {F} = !isequal_nan(b) && (isequal_nan(a) || better(a, b))
isequal_nan(x) = x != x

"""
    argmax(x; dims)

The place of the largest element along a dimension, from 0; the first nan counts as such.
"""
argmax(x::AbstractArray; dims::Int) = extreme(>, x, dims)
argmax(x::AbstractVector) = extreme(>, x, 1)[1]

"""
    argmin(x; dims)

The place of the smallest element along a dimension, from 0; the first nan counts as such.
"""
argmin(x::AbstractArray; dims::Int) = extreme(<, x, dims)
argmin(x::AbstractVector) = extreme(<, x, 1)[1]

function extreme(better::F, x::AbstractArray{T, N}, dim::Int) where {F, T, N}
    inner = prod(ntuple(d -> d < dim ? size(x, d) : 1, Val(N)))
    source = reshape(x, inner, size(x, dim), :)
    out = zeros(Int64, inner, 1, size(source, 3))
    for k in axes(source, 3), i in 1:inner, j in 2:size(x, dim)
        if wins(better, source[i, j, k], source[i, out[i, 1, k]+1, k])
            out[i, 1, k] = j - 1
        end
    end
    return reshape(out, ntuple(d -> d == dim ? 1 : size(x, d), Val(N)))
end
