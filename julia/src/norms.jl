# Norms of error over scale, over the named blocks of the augmented state z = (y, a_y, a_params[, a_t]).
#
# A norm is the root mean square (RMS) within a block; across blocks it is a maximum or one RMS over all entries seen,
# with a weight per block. Weight 0 leaves a block out.

const GROUPS = ("y", "a_y", "a_params", "a_t")

"""One array of z: its full name (`y`, `y/q`, `a_params/w`, `a_t`) and where it stands."""
struct Block
    name::String
    at::UnitRange{Int}
end

group(block::Block) = String(first(split(block.name, '/'; limit = 2)))
entry(block::Block) = occursin('/', block.name) ? String(split(block.name, '/'; limit = 2)[2]) : ""

"""
    blocks_of(groups)

Return the blocks of a flat vector from `"y" => [(name, size), ...]` pairs, one after the other.
"""
function blocks_of(groups)
    found = Block[]
    stop = 0
    for (group_name, leaves) in groups, (name, size) in leaves
        full = isempty(name) ? group_name : "$group_name/$name"
        push!(found, Block(full, stop+1:stop+size))
        stop += size
    end
    return found
end

"""
    Norm(name, pooled, weights; without_integrals, per_entry, callable, sees_time, text, forward_text)

A norm over named blocks, as a problem names it. `callable` is the number of the problem's own function `norm_K`, 0 for
a norm by weights; `text` and `forward_text` are its formula on the backward and the forward pass.
"""
struct Norm
    name::String
    pooled::Bool
    weights::Dict{String,Float64}
    without_integrals::Bool
    per_entry::Bool
    callable::Int
    text::String
    forward_text::String
end

function Norm(name, pooled, weights; without_integrals = false, per_entry = false, callable = 0, text = name,
              forward_text = "rms y")
    return Norm(name, pooled, Dict{String,Float64}(weights), without_integrals, per_entry, callable, text, forward_text)
end

sees_time(norm::Norm) = get(norm.weights, "a_t", 0.0) != 0

"""The norm of the forward pass: rms y, without the integrals where the norm leaves them out."""
forward(norm::Norm) = Norm("$(norm.name), forward", false, Dict("y" => 1.0), norm.without_integrals, norm.per_entry, 0,
                           norm.forward_text, norm.forward_text)

"""The norm's own rule with one group alone at weight 1."""
alone(norm::Norm, name) = Norm(norm.name, norm.pooled, Dict(name => 1.0), norm.without_integrals, norm.per_entry, 0,
                               "", "")

weight(norm::Norm, block::Block) = get(() -> get(norm.weights, group(block), 0.0), norm.weights, block.name)

function sees(norm::Norm, block::Block, integrals)
    norm.without_integrals && group(block) in ("y", "a_y") && entry(block) in integrals && return false
    return norm.callable != 0 || weight(norm, block) != 0
end

"""The entries of a state are one block, unless the norm takes each for itself; each parameter's a is its own."""
merged_name(norm::Norm, block::Block) = group(block) in ("y", "a_y") && !norm.per_entry ? group(block) : block.name

"""Some blocks that count as one: their weight, number of entries, and which blocks they are."""
struct Part
    weight::Float64
    size::Int
    members::Vector{Int}
end

"""A norm by weights as a rule over the sum of squares of every block."""
struct Rule
    pooled::Bool
    parts::Vector{Part}
end

"""
    Rule(norm, blocks, integrals, groups)

Return the rule of a norm over the blocks that it sees, those of the given groups alone.
"""
function Rule(norm::Norm, blocks, integrals, groups = GROUPS)
    keys, members = Tuple{String,Float64}[], Vector{Int}[]
    for (i, block) in enumerate(blocks)
        (isempty(block.at) || !(group(block) in groups) || !sees(norm, block, integrals)) && continue
        key = (merged_name(norm, block), weight(norm, block))
        found = findfirst(isequal(key), keys)
        found === nothing ? (push!(keys, key); push!(members, [i])) : push!(members[found], i)
    end
    entries(which) = sum(length(blocks[i].at) for i in which)
    return Rule(norm.pooled, [Part(key[2], entries(which), which) for (key, which) in zip(keys, members)])
end

"""
    value(rule, squares, counts)

Return the norm from every block's sum of squares; blocks where `counts` is false are taken for zero, not left out.
"""
function value(rule::Rule, squares, counts = trues(length(squares)))
    isempty(rule.parts) && return 0.0
    inside(part) = sum(counts[i] ? squares[i] : 0.0 for i in part.members)
    if rule.pooled
        total = sum(part.weight^2 * inside(part) for part in rule.parts)
        return sqrt(total / sum(part.size for part in rule.parts))
    end
    return maximum(part.weight * sqrt(inside(part) / part.size) for part in rule.parts)
end

"""A norm of a flat vector, by weights; nothing is allocated when it is called."""
struct WeightedNorm
    pooled::Bool
    snapped::Bool
    weights::Vector{Float64}
    sizes::Vector{Int}
    ranges::Vector{Vector{UnitRange{Int}}}
end

function WeightedNorm(norm::Norm, blocks, integrals, snapped::Bool)
    parts = Rule(norm, blocks, integrals).parts
    ranges = [joined([blocks[i].at for i in part.members]) for part in parts]
    return WeightedNorm(norm.pooled, snapped, [p.weight for p in parts], [p.size for p in parts], ranges)
end

"""Return ranges with neighbours made one."""
function joined(ranges)
    found = UnitRange{Int}[]
    for range in ranges
        if !isempty(found) && last(found[end]) + 1 == first(range)
            found[end] = first(found[end]):last(range)
        else
            push!(found, range)
        end
    end
    return found
end

function square(error::Vector{Float64}, ranges::Vector{UnitRange{Int}})
    total = 0.0
    for range in ranges
        part = 0.0
        @inbounds @simd for i in range
            part += error[i] * error[i]
        end
        total += part
    end
    return total
end

function (norm::WeightedNorm)(error::Vector{Float64})
    ratio = norm.pooled ? pooled(norm, error) : largest(norm, error)
    return norm.snapped ? snap(ratio) : ratio
end

function pooled(norm::WeightedNorm, error::Vector{Float64})
    total, size = 0.0, 0
    for k in eachindex(norm.weights)
        total += norm.weights[k]^2 * square(error, norm.ranges[k])
        size += norm.sizes[k]
    end
    return sqrt(total / size)
end

function largest(norm::WeightedNorm, error::Vector{Float64})
    ratio = 0.0
    for k in eachindex(norm.weights)
        root = norm.weights[k] * sqrt(square(error, norm.ranges[k]) / norm.sizes[k])
        ratio = max(ratio, root)  # of a NaN too, which must not be lost
    end
    return ratio
end

"""A problem's own function of the whole error as a norm."""
struct CalledNorm{F}
    snapped::Bool
    f::F
end

function (norm::CalledNorm)(error::Vector{Float64})
    ratio = Float64(norm.f(error))::Float64
    return norm.snapped ? snap(ratio) : ratio
end

"""Return the root mean square of some entries; 0 of none."""
rms(x) = isempty(x) ? 0.0 : sqrt(sum(abs2, x) / length(x))
