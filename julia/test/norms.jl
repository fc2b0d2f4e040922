# Norms and what a Meter takes apart, against values by hand.

using .CrossBackend: CalledNorm, GROUPS, Meter, Norm, Rule, WeightedNorm, blocks_of, forward, seen, snap, value

# z = (y/q: 1, y/x: 2, a_y/q: 1, a_y/x: 2, a_params/b: 1, a_params/w: 4)
const SIZES = ["y" => [("q", 1), ("x", 2)], "a_y" => [("q", 1), ("x", 2)], "a_params" => [("b", 1), ("w", 4)]]
const BLOCKS = blocks_of(SIZES)
const ERRORS = [3.0, 0.0, 0.0, 1.0, 2.0, 2.0, -0.5, 1.0, -1.0, 1.0, -1.0]
const ALL = Dict("y" => 1.0, "a_y" => 1.0, "a_params" => 1.0)
const SEMI = Dict("y" => 1.0, "a_y" => 1.0)

measured(norm; snapped = false, integrals = String[]) = WeightedNorm(norm, BLOCKS, integrals, snapped)(ERRORS)

@testset "blocks" begin
    @test [block.name for block in BLOCKS] == ["y/q", "y/x", "a_y/q", "a_y/x", "a_params/b", "a_params/w"]
    @test [block.at for block in BLOCKS] == [1:1, 2:3, 4:4, 5:6, 7:7, 8:11]
    @test [block.name for block in blocks_of(["y" => [("", 2)], "a_t" => [("", 1)]])] == ["y", "a_t"]
end

@testset "norms by hand" begin
    @test measured(Norm("mixed", false, ALL)) ≈ sqrt(9 / 3)             # rms y, over the whole state
    @test measured(Norm("pooled", true, ALL)) ≈ sqrt((9 + 9 + 4.25) / 11)
    @test measured(Norm("pooled-seminorm", true, SEMI)) ≈ sqrt(18 / 6)
    @test measured(Norm("a_params", false, Dict("a_params" => 1.0))) == 1  # the larger of 0.5 and 1
    @test measured(Norm("a leaf", false, Dict("a_params/b" => 4.0, "a_params" => 1.0))) == 2
    @test measured(Norm("tuple", false, ALL; per_entry = true)) == 3
    @test measured(Norm("weights", true, Dict("y" => 0.5, "a_y" => 1.0))) ≈ sqrt((0.25 * 9 + 9) / 6)
    without = Norm("mixed-integrals", false, SEMI; without_integrals = true)
    @test measured(without; integrals = ["q"]) ≈ sqrt(8 / 2)
    @test measured(without) ≈ sqrt(3)
    @test measured(forward(without); integrals = ["q"]) == 0
    @test measured(Norm("mixed", false, ALL); snapped = true) == snap(sqrt(3))
end

@testset "NaN and infinity are not lost" begin
    for (place, bad) in ((1, NaN), (11, NaN), (1, Inf)), is_pooled in (true, false)
        error = copy(ERRORS)
        error[place] = bad
        @test isequal(WeightedNorm(Norm("all", is_pooled, ALL), BLOCKS, String[], false)(error), bad)
    end
end

allocated(norm, error) = (norm(error); @allocated norm(error))

@testset "a norm allocates nothing" begin
    for is_pooled in (true, false), snapped in (true, false)
        @test allocated(WeightedNorm(Norm("all", is_pooled, ALL), BLOCKS, String[], snapped), ERRORS) == 0
    end
end

@testset "snapping" begin
    @test snap(1.0) == 1.0625       # 1 = 0.5 x 2: the middle of [8/16, 9/16) x 2
    @test snap(0.99) == 0.96875
    @test snap(1.5) == 1.5625
    @test snap(2.0^-10) == 2.0^-10 * 1.0625
    @test snap(prevfloat(2.0^-10)) == snap(0.0) == 2.0^-17
    @test snap(Inf) == Inf
    @test isnan(snap(NaN))
    for ratio in exp10.(-3:0.0137:5)
        @test snap(ratio) != 1 && abs(snap(ratio) / ratio - 1) <= 1 / 16
        @test snap(snap(ratio)) == snap(ratio)
    end
end

@testset "a meter by hand, pooled" begin
    meter = Meter(Norm("pooled", true, ALL), BLOCKS, String[])
    z = collect(1.0:11.0)
    found = Dict(zip(meter.names, seen(meter, 7.0, ERRORS, z)))
    whole = sqrt(22.25 / 11)
    @test found["ratio"] == 7
    @test found["ratio_y"] ≈ sqrt(3)
    @test found["ratio_a_params"] ≈ sqrt(4.25 / 5)
    @test found["ratio_state"] ≈ sqrt(3)
    @test found["rms_a_y"] ≈ sqrt((16 + 25 + 36) / 3)
    @test found["share_y"] ≈ sqrt(9 / 11) / whole
    @test sum(found["share_$g"]^2 for g in ("y", "a_y", "a_params")) ≈ 1
end

@testset "a meter by hand, maximum" begin
    meter = Meter(Norm("mixed-seminorm", false, SEMI; without_integrals = true), BLOCKS, ["q"])
    found = Dict(zip(meter.names, seen(meter, 2.0, ERRORS, zeros(11))))
    @test found["ratio_y"] == 0
    @test found["ratio_a_y"] == 2
    @test found["ratio_a_params"] == 1  # of a group that the norm does not see, too
    @test found["ratio_state"] == 2
    @test (found["share_y"], found["share_a_y"], found["share_a_params"]) == (0, 1, 0)
end

@testset "a meter of a callable norm" begin
    norm = Norm("worst", false, Dict{String,Float64}(); callable = 1)
    meter = Meter(norm, BLOCKS, String[], e -> maximum(abs, e), e -> maximum(abs, view(e, 1:6)))
    found = Dict(zip(meter.names, seen(meter, 3.0, ERRORS, zeros(11))))
    @test found["ratio_state"] == 3
    @test found["ratio_a_params"] == 1
    @test found["share_a_params"] ≈ 1 / 3
    @test CalledNorm(true, e -> maximum(abs, e))(ERRORS) == snap(3.0)
end

@testset "a forward meter has y alone" begin
    meter = Meter(forward(Norm("pooled", true, ALL)), blocks_of(SIZES[1:1]), String[])
    @test meter.names == ["ratio", "ratio_y"]
    @test seen(meter, 0.5, ERRORS[1:3], ERRORS[1:3]) ≈ [0.5, sqrt(3)]
end
