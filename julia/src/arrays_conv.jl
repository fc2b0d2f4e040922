# Convolution: the windows of one image are laid out as the columns of a matrix, and one product does the rest.

"""
    conv(x, kernel; strides, padding, x_dilation, kernel_dilation, groups = 1, batch_groups = 1)

Correlate `x` of size (space..., c, n) with `kernel` of size (window..., c / groups, out).

No flip of the kernel. A dilation puts zeros between the elements of `x` or of the kernel. The result has the size
(space..., out, n / batch_groups).
"""
function conv(
    x::AbstractArray{T, N}, kernel::AbstractArray{T, N};
    strides, padding, x_dilation, kernel_dilation, groups::Int = 1, batch_groups::Int = 1,
) where {T, N}
    rank = N - 2
    window = ntuple(d -> size(kernel, d), Val(rank))
    space = ntuple(Val(rank)) do d
        spread_size = size(x, d) == 0 ? 0 : (size(x, d) - 1) * x_dilation[d] + 1
        reach = (window[d] - 1) * kernel_dilation[d] + 1
        free = spread_size + sum(padding[d]) - reach
        free < 0 ? 0 : free ÷ strides[d] + 1
    end
    per_in, outs, n = size(kernel, N - 1), size(kernel, N), size(x, N) ÷ batch_groups
    out = zeros(T, (space..., outs, n))
    isempty(out) && return out
    pieces = max(groups, batch_groups)
    per_out, points, taps = outs ÷ pieces, prod(space), prod(window) * per_in
    weights, target = reshape(kernel, taps, outs), reshape(out, points, outs, n)
    lanes = ntuple(Val(rank)) do d
        Lane(window[d], space[d], size(x, d), strides[d], padding[d][1], x_dilation[d], kernel_dilation[d])
    end
    columns = Array{T}(undef, points, taps)
    for image in 1:n, piece in 1:pieces
        source = batch_groups > 1 ? (piece - 1) * n + image : image
        first = groups > 1 ? (piece - 1) * per_in : 0
        if piece == 1 || pieces > 1
            lay!(columns, x, lanes, source, first, per_in)
        end
        mine = (piece-1)*per_out+1:piece*per_out
        mul!(view(target, :, mine, image), columns, view(weights, :, mine))
    end
    return out
end

"What a convolution does along one dimension: sizes of the window, the result and the image, and where a window lies."
struct Lane
    window::Int
    space::Int
    size::Int
    stride::Int
    low::Int
    dilation::Int
    kernel_dilation::Int
end

"The element of the image, from 1, under the tap `k` of the window at `o` (both from 0); 0 where there is none."
function under(lane::Lane, o::Int, k::Int)
    place = o * lane.stride + k * lane.kernel_dilation - lane.low
    place < 0 && return 0
    whole, rest = lane.dilation == 1 ? (place, 0) : divrem(place, lane.dilation)
    return rest == 0 && whole < lane.size ? whole + 1 : 0
end

"Write what lies under every tap of every window of one image into `columns`, of size (windows, taps)."
function lay!(
    columns::Matrix{T}, x::AbstractArray{T}, lanes::NTuple{R, Lane}, image::Int, first::Int, per_in::Int,
) where {T, R}
    row, rest = lanes[1], Base.tail(lanes)
    taps = CartesianIndices(map(lane -> lane.window, lanes))
    lines = CartesianIndices(map(lane -> lane.space, rest))
    column = 0
    for channel in first+1:first+per_in, tap in taps
        column += 1
        at = 1
        for line in lines
            places = ntuple(d -> under(rest[d], line[d] - 1, tap[d+1] - 1), Val(R - 1))
            if any(iszero, places)
                columns[at:at+row.space-1, column] .= zero(T)
            else
                lay_row!(columns, x, row, tap[1] - 1, CartesianIndex(places..., channel, image), at, column)
            end
            at += row.space
        end
    end
    return columns
end

"Write one row of an image, as far as it lies under the windows, into a column."
function lay_row!(columns::Matrix, x::AbstractArray, row::Lane, tap::Int, where_::CartesianIndex, at::Int, column::Int)
    @inbounds for o in 0:row.space-1
        place = under(row, o, tap)
        columns[at+o, column] = place == 0 ? zero(eltype(columns)) : x[place, where_]
    end
    return columns
end
