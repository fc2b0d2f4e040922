# A problem as it was exported: problem.jl, the arrays, and field.jl bound to them.

"""An exported folder that cannot be used; the text says why and what to do."""
struct BadProblem <: Exception
    text::String
end
Base.showerror(io::IO, bad::BadProblem) = print(io, bad.text)

"""A leaf of a state or of parameters: its name and NumPy shape."""
struct Leaf
    name::String
    shape::Vector{Int}
end

Base.length(leaf::Leaf) = prod(leaf.shape)

"""The facts of a problem: times, leaves in order, norms by (name, stepping)."""
struct About
    name::String
    digest::String
    version::String
    ts::Vector{Float64}
    breakpoints::Vector{Float64}
    tolerances::Vector{Float64}
    state::Vector{Leaf}
    params::Vector{Leaf}
    used::Vector{String}
    integrals::Vector{String}
    max_steps::Int
    norms::Dict{Tuple{String,String},Norm}
    norm_names::Vector{String}
end

"""
A problem whose functions are bound to its parameters and data:

    initial() -> y0                              loss(ys) -> value, of_ys, of_params       (ys of size (n, times))
    field(t, y) -> f                             initial_pull(a) -> flat over all leaves
    vjp(t, y, a) -> f, of_y, of_params           norms: (norm_K, norm_state_K) by K
    vjp_t(t, y, a) -> f, of_y, of_params, of_t
"""
struct Problem{I,F,V,W,L,P}
    about::About
    initial::I
    field::F
    vjp::V
    vjp_t::W
    loss::L
    initial_pull::P
    norms::Dict{Int,Tuple{Any,Any}}
end

Base.show(io::IO, problem::Problem) = print(io, "Problem($(repr(problem.about.name)))")

leaves(found) = Leaf[Leaf(name, shape) for (name, shape) in found]
total_size(leaves) = isempty(leaves) ? 0 : sum(length, leaves)

"""The leaves that the field uses, in the order of their adjoints."""
function used_leaves(about::About)
    return Leaf[about.params[findfirst(leaf -> leaf.name == name, about.params)] for name in about.used]
end

"""Return where each leaf stands in a flat vector."""
function slices(leaves)
    ends = cumsum([0; [length(leaf) for leaf in leaves]])
    return [start+1:stop for (start, stop) in zip(ends[1:end-1], ends[2:end])]
end

"""The blocks of z; `with_time` for one with a_t."""
function augmented_blocks(about::About, with_time::Bool)
    sized(found) = [(leaf.name, length(leaf)) for leaf in found]
    state = sized(about.state)
    groups = Any["y"=>state, "a_y"=>state, "a_params"=>sized(used_leaves(about))]
    with_time && push!(groups, "a_t" => [("", 1)])
    return blocks_of(groups)
end

state_blocks(about::About) = blocks_of(["y" => [(leaf.name, length(leaf)) for leaf in about.state]])

"""
    load(dir)

Return the problem of an exported folder.

Throws `BadProblem` or `BadArray` where the folder holds none that this version reads.
"""
function load(dir::AbstractString)
    place = Module(:Exported)
    facts = read_facts(place, dir)
    about = describe(facts)
    constants = Dict{String,Any}(key => read_npy(leaf_path(dir, "constants", key)) for key in facts.constants)
    params = read_leaves(dir, "params", facts.params)
    data = read_leaves(dir, "data", facts.data)
    Core.eval(place, :(const rt = $Arrays))
    Base.include(place, joinpath(abspath(dir), "field.jl"))
    function bind(name)  # what was just included belongs to a newer world than this function
        symbol = Symbol("bind_", name)
        Base.invokelatest(isdefined, place, symbol) || throw(BadProblem("$dir/field.jl defines no bind_$name"))
        return Base.invokelatest(Base.invokelatest(getfield, place, symbol), params, data, constants)
    end
    numbers = unique([norm.callable for norm in values(about.norms) if norm.callable != 0])
    called = Dict{Int,Tuple{Any,Any}}(k => (bind("norm_$k"), bind("norm_state_$k")) for k in numbers)
    functions = map(bind, ("initial", "field", "vjp", "vjp_t", "loss", "initial_pull"))
    return Problem(about, functions..., called)
end

function read_facts(place, dir)
    path = joinpath(abspath(dir), "problem.jl")
    isfile(path) || throw(BadProblem("$dir: no problem.jl, so it is no exported folder (crossbackend export --julia)"))
    facts = Base.include(place, path)
    if !(facts isa NamedTuple) || get(facts, :format, nothing) != 1
        got = facts isa NamedTuple ? repr(get(facts, :format, nothing)) : string(typeof(facts))
        throw(BadProblem("$path: format $got, this version reads format 1: export the problem anew"))
    end
    return facts
end

function describe(facts)
    norms = Dict{Tuple{String,String},Norm}()
    for norm in facts.norms
        norms[(norm.name, norm.stepping)] = Norm(
            norm.name, norm.across == "pooled", Dict{String,Float64}(norm.weights); norm.without_integrals,
            norm.per_entry, norm.callable, norm.text, norm.forward_text)
    end
    names = unique!(String[norm.name for norm in facts.norms])
    return About(facts.name, facts.digest, facts.crossbackend, facts.ts, facts.breakpoints, facts.tolerances,
                 leaves(facts.state), leaves(facts.params), facts.used, facts.integrals, facts.max_steps, norms, names)
end

"""The file of a leaf: `/` in its name makes folders, the empty name is `_`."""
leaf_path(dir, part, name) = joinpath(dir, "arrays", part, split(isempty(name) ? "_" : name, '/')...) * ".npy"

function read_leaves(dir, part, wanted)
    found = Dict{String,Any}()
    for (name, shape) in wanted
        path = leaf_path(dir, part, name)
        array = read_npy(path)
        numpy_shape(array) == Tuple(shape) ||
            throw(BadArray("$path: shape $(numpy_shape(array)), expected $(Tuple(shape))"))
        found[name] = widened(array)
    end
    return found
end

"""Whole numbers as Int64, whatever the file has; all else as it is."""
widened(array::AbstractArray{<:Integer}) = eltype(array) === Bool ? array : Int64.(array)
widened(number::Integer) = number isa Bool ? number : Int64(number)
widened(other) = other
