# What a printed field calls, against plain loops and known values. The Python tests compare whole programs with JAX.

using .CrossBackend: Arrays
using LinearAlgebra: dot

const rt = Arrays

same(a, b) = isequal(a, b) || isapprox(a, b; rtol = 1e-13, atol = 1e-15, nans = true)

@testset "domains" begin
    for (f, outside) in ((rt.sqrt, -1.0), (rt.log, -1.0), (rt.log1p, -1.5), (rt.asin, 1.5), (rt.acos, -1.5),
                         (rt.acosh, 0.5), (rt.atanh, 1.5), (rt.sin, Inf), (rt.cos, -Inf), (rt.tan, Inf))
        @test isnan(f(outside))
        @test isnan(f(NaN))
    end
    @test isequal(rt.sqrt(-0.0), -0.0)
    @test rt.sqrt(Inf) == Inf
    @test rt.log(0.0) == rt.log1p(-1.0) == -Inf
    @test rt.atanh(1.0) == Inf
    @test rt.sqrt(2.0f0) isa Float32
    @test isnan(rt.power(-8.0, 1 / 3)) && rt.power(-2.0, 3.0) == -8.0
    @test rt.power(-Inf, 0.5) == Inf && rt.power(-Inf, -0.5) == 0.0 && rt.power(0.0, -1.0) == Inf
    @test rt.power(NaN, 0.0) == rt.power(1.0, NaN) == 1.0
end

@testset "rounding, integers, order" begin
    @test rt.round_away.([0.5, -0.5, 1.5, 2.4, 0.49999999999999994, Inf]) == [1, -1, 2, 2, 0, Inf]
    @test rt.to_int.([NaN, Inf, -Inf, 3.9, -3.9, 1e300], typemin(Int64), typemax(Int64)) ==
          [0, typemax(Int64), typemin(Int64), 3, -3, typemax(Int64)]
    @test rt.to_int.([3e9, -3e9], -2147483648, 2147483647) == [2147483647, -2147483648]
    @test rt.divide_int.([7, -7, 7, 0, typemin(Int64)], [2, 2, 0, 0, -1]) == [3, -3, -1, -1, typemin(Int64)]
    @test rt.remainder_int.([7, -7, 7, typemin(Int64)], [2, 2, 0, -1]) == [1, -1, 7, 0]
    @test rt.shift_left.([3, 3, 3], [2, 64, -1]) == [12, 0, 0]
    @test rt.shift_right.([-8, -8, 8], [1, 64, -1]) == [-4, -1, 0]
    ascending = [-NaN, -Inf, -1.0, -0.0, 0.0, 1.0, Inf, NaN]
    @test all(rt.lt_to(ascending[i], ascending[j]) == (i < j) for i in 1:8, j in 1:8)
    @test all(rt.le_to(ascending[i], ascending[j]) == (i <= j) for i in 1:8, j in 1:8)
    @test rt.nextafter(1.0, 2.0) == nextfloat(1.0) && rt.nextafter(1.0, -Inf) == prevfloat(1.0)
    @test isequal(rt.nextafter(0.0, -0.0), -0.0) && isnan(rt.nextafter(NaN, 1.0))
    @test rt.logistic(0.0) == 0.5 && rt.logistic(-800.0) == 0.0 && rt.logistic(800.0) == 1.0
    @test rt.logaddexp(-Inf, -Inf) == -Inf && rt.logaddexp(Inf, 1.0) == Inf && rt.logaddexp(0.0, 0.0) ≈ log(2)
end

@testset "special functions" begin
    # erf(x), erfc(x), lgamma(x), digamma(x) to 17 digits
    known = ((0.3, 0.32862675945912742, 0.67137324054087258, 1.0957979948180756, -3.5025242222001331),
             (1.7, 0.98379045859077456, 0.016209541409225439, -0.095807697407065874, 0.20854787487349392),
             (4.5, 0.99999999980338396, 1.9661604415428875e-10, 2.4537365708424422, 1.3888709263595289),
             (-1.2, -0.91031397822963537, 1.9103139782296354, 1.5791760340399836, 4.8683247666271961))
    for (x, erf, erfc, lgamma, digamma) in known
        @test rt.erf(x) ≈ erf rtol = 1e-14
        @test rt.erfc(x) ≈ erfc rtol = 1e-14
        @test rt.lgamma(x) ≈ lgamma rtol = 1e-13
        @test rt.digamma(x) ≈ digamma rtol = 1e-12
    end
    for x in -6:0.037:12  # the series, which serve where this Julia has no openlibm
        @test rt.erf_series(x) ≈ rt.erf(x) rtol = 1e-14
        @test rt.erfc_series(x) ≈ rt.erfc(x) rtol = 1e-12
        @test rt.lgamma_series(x) ≈ rt.lgamma(x) rtol = 1e-12 atol = 1e-14
        y = rt.erf(x / 4)
        abs(y) < 1 && @test rt.erf(rt.erf_inv(y)) ≈ y rtol = 1e-14
    end
    @test rt.erf_inv(1 - 1e-13) ≈ 5.2614833313726765
    @test rt.erf_inv(1.0) == Inf && rt.erf_inv(-1.0) == -Inf && isnan(rt.erf_inv(1.5))
    @test all(isequal(f(x), g(x)) for (f, g) in ((rt.erf, rt.erf_series), (rt.erfc, rt.erfc_series),
              (rt.lgamma, rt.lgamma_series)) for x in (0.0, Inf, -Inf, NaN))
    @test isnan(rt.digamma(0.0)) && isnan(rt.digamma(-2.0)) && rt.digamma(Inf) == Inf
end

@testset "reading" begin
    tree = Dict{String, Any}("w" => [1.0 2.0], "n" => 3, "mask" => trues(2))
    @test rt.leaf(tree, "w", Matrix{Float64}) === tree["w"]
    @test rt.leaf(tree, "n", Float64) === 3.0
    @test rt.leaf(tree, "mask", Vector{Bool}) isa Vector{Bool}
    @test_throws ArgumentError("there is no array \"v\" among [\"mask\", \"n\", \"w\"]") rt.leaf(tree, "v", Float64)
end

@testset "moves" begin
    x = reshape(collect(1.0:24.0), 4, 3, 2)
    y = -x[:, 1:2, :]
    @test rt.join((x, y), 2) == cat(x, y; dims = 2)
    @test rt.join((x, x, x), 3) == cat(x, x, x; dims = 3)
    @test rt.join((view(x, :, 2:3, :), y), 1) == cat(x[:, 2:3, :], y; dims = 1)
    @test size(rt.stack((x, x), 2)) == (4, 2, 3, 2)
    @test rt.stack((x, -x), 4)[:, :, :, 2] == -x
    @test rt.tile(x, (2, 1, 3)) == repeat(x, 2, 1, 3)
    @test rt.spread([1.0 2.0], (3, 2)) == [1.0 2.0; 1.0 2.0; 1.0 2.0]
    @test rt.spread(7, (2,)) == [7, 7]
    @test rt.pad([1.0, 2.0, 3.0], 0.0, ((1, 2, 1),)) == [0, 1, 0, 2, 0, 3, 0, 0]
    @test rt.pad([1.0, 2.0, 3.0], 9.0, ((-1, -1, 1),)) == [9, 2, 9]
    @test rt.pad([1.0, 2.0, 3.0], 9.0, ((-2, 1, 0),)) == [3, 9]
    @test rt.pad([1.0 2.0; 3.0 4.0], 0.0, ((0, 1, 0), (-1, 0, 0))) == reshape([2.0, 4.0, 0.0], 3, 1)
    @test isempty(rt.pad([1.0, 2.0], 0.0, ((-3, 1, 0),)))
    @inferred rt.join((x, y), 2)
    @inferred rt.stack((x, x), 2)
    @inferred rt.tile(x, (2, 1, 3))
end

@testset "indexing" begin
    x = reshape(collect(1.0:12.0), 4, 3)
    @test rt.take(x, [2, 0, 9, -1], 2) == x[:, [3, 1, 3, 1]]
    @test rt.take(x, [1 3; 0 0], 1) == x[[2 4; 1 1], :]
    @test rt.take(x, 2, 2) == x[:, 3]
    @test isequal(rt.take_fill(x, [0, 3, -1], 2, NaN), hcat(x[:, 1], fill(NaN, 4, 2)))
    @test rt.update(x, fill(0.0, 2, 1), (3, 9))[:, 3] == [9.0, 10.0, 0.0, 0.0]
    facts = (window = (1, 2), offset = (1,), dropped = (1,), starts = (1, 2), batch = ())
    rows = rt.gather(x, [0 2; 1 9]; facts..., fill = nothing)
    @test rows == hcat(x[1, 2:3], x[3, 2:3])
    filled = rt.gather(x, [0 2; 1 9]; facts..., fill = 0.0)
    @test filled == hcat(x[1, 2:3], [0.0, 0.0])
    added = rt.scatter(+, x, [1 1 7], [1.0 2.0 3.0; 10.0 20.0 30.0; 100.0 200.0 300.0];
                       window = (1,), absent = (1,), starts = (1,), batch = (), clip = false)
    @test added == x .+ [0, 1, 0, 0] .* [3.0 30.0 300.0]
    written = rt.scatter(rt.second, x, [7], 5.0; window = (), absent = (1, 2), starts = (1,), batch = (), clip = true)
    @test written[4, 1] == 5.0 && x[4, 1] == 4.0
end

@testset "products and extremes" begin
    a, b = reshape(collect(1.0:24.0), 4, 3, 2), reshape(collect(1.0:40.0), 5, 4, 2)
    @test rt.batched(a, b) == cat(b[:, :, 1] * a[:, :, 1], b[:, :, 2] * a[:, :, 2]; dims = 3)
    big = (randn(20, 30, 3), randn(25, 20, 3))
    @test same(rt.batched(big...)[:, :, 2], big[2][:, :, 2] * big[1][:, :, 2])
    x = [3.0 NaN 1.0; 4.0 5.0 NaN]
    @test rt.argmax(x; dims = 1) == [1 1 2] .- [0 1 1]
    @test rt.argmin(x; dims = 2) == reshape([1, 2], 2, 1)
    @test rt.argmax([1, 7, 7, 2]) == 1
    @test rt.accumulate(+, [1 2; 3 4], 1; reverse = false) == [1 2; 4 6]
    @test rt.accumulate(max, [1 5; 3 4], 2; reverse = true) == [5 5; 4 4]
end

"A convolution by its definition, in Julia's order of dimensions."
function slow_conv(x, kernel; strides, padding, x_dilation, kernel_dilation, groups = 1, batch_groups = 1)
    widths = ntuple(d -> d > 2 ? (0, 0, 0) : (padding[d]..., x_dilation[d] - 1), 4)
    image = rt.pad(x, 0.0, widths)
    reach = ntuple(d -> (size(kernel, d) - 1) * kernel_dilation[d] + 1, 2)
    space = ntuple(d -> max(0, (size(image, d) - reach[d]) ÷ strides[d] + 1), 2)
    outs, n = size(kernel, 4), size(x, 4) ÷ batch_groups
    out = zeros(space..., outs, n)
    per_out = outs ÷ max(groups, batch_groups)
    for o in 1:outs, m in 1:n, j in 1:space[2], i in 1:space[1], tap in CartesianIndices(size(kernel)[1:3])
        k, l, c = Tuple(tap)
        piece = (o - 1) ÷ per_out
        channel = groups > 1 ? piece * size(kernel, 3) + c : c
        from = batch_groups > 1 ? piece * n + m : m
        row = (i - 1) * strides[1] + (k - 1) * kernel_dilation[1] + 1
        column = (j - 1) * strides[2] + (l - 1) * kernel_dilation[2] + 1
        out[i, j, o, m] += image[row, column, channel, from] * kernel[k, l, c, o]
    end
    return out
end

@testset "convolution" begin
    plain = (strides = (1, 1), padding = ((0, 0), (0, 0)), x_dilation = (1, 1), kernel_dilation = (1, 1))
    padded = merge(plain, (padding = ((1, 2), (0, 1)), strides = (2, 3)))
    spread = merge(plain, (kernel_dilation = (2, 1), padding = ((-1, 2), (1, 1))))
    for facts in (plain, padded, spread, merge(plain, (x_dilation = (2, 3),)))
        x, kernel = randn(7, 6, 4, 2), randn(3, 2, 4, 5)
        @test same(rt.conv(x, kernel; facts...), slow_conv(x, kernel; facts...))
        grouped = randn(3, 2, 2, 6)
        @test same(rt.conv(x, grouped; facts..., groups = 2), slow_conv(x, grouped; facts..., groups = 2))
        batched = randn(3, 2, 4, 6)
        @test same(rt.conv(x, batched; facts..., batch_groups = 2), slow_conv(x, batched; facts..., batch_groups = 2))
    end
    @test size(rt.conv(randn(2, 2, 1, 1), randn(3, 3, 1, 1); plain...)) == (0, 0, 1, 1)
    @inferred rt.conv(randn(4, 4, 1, 2), randn(3, 3, 1, 1); plain...)
end
