# The engines beside `base`, each in a file of its own that is loaded when it is first asked for.

"""Engine, the packages that it needs, and what may be named after a colon (the first is the default)."""
const ENGINES = (
    (name = "ordinarydiffeq", packages = ("OrdinaryDiffEq",), choices = ("DP5", "Tsit5", "Vern7")),
    (name = "sciml", packages = ("OrdinaryDiffEq", "SciMLSensitivity"),
     choices = ("backsolve", "interpolating", "gauss")),
)

const LOADED = Set{String}()

family(engine) = String(first(split(engine, ':'; limit = 2)))

"""
    why_not(engine)

Return why an engine cannot be used here, or `nothing`.
"""
function why_not(engine::AbstractString)
    engine == "base" && return nothing
    found = findfirst(known -> known.name == family(engine), ENGINES)
    all = join(["base"; [known.name for known in ENGINES]], ", ")
    found === nothing && return "no such engine: expected one of $all"
    known = ENGINES[found]
    if occursin(':', engine) && !(split(engine, ':'; limit = 2)[2] in known.choices)
        return "no such choice: expected $(known.name):CHOICE with one of $(join(known.choices, ", "))"
    end
    lacking = [package for package in known.packages if Base.find_package(package) === nothing]
    isempty(lacking) && return nothing
    return "this Julia finds no $(join(lacking, " and no ")): add it by `]add $(join(lacking, " "))`"
end

"""The engines that can be used here."""
engines() = ["base"; [known.name for known in ENGINES if why_not(known.name) === nothing]]

"""
    ready(engine)

Load an engine's file if it has not been.

Throws `Declined` where it cannot be used.
"""
function ready(engine::AbstractString)
    (engine == "base" || engine in LOADED) && return nothing
    reason = why_not(engine)
    reason === nothing || throw(Declined("engine $engine: $reason"))
    if !any(loaded -> family(loaded) == family(engine), LOADED)
        beside = joinpath(@__DIR__, "engines")
        folder = isdir(beside) ? beside : joinpath(dirname(@__DIR__), "engines")
        Base.include(@__MODULE__, joinpath(folder, family(engine) * ".jl"))
    end
    push!(LOADED, engine)
    return nothing
end

"""Versions of the packages that an engine runs on, for a record."""
versions_of(engine) = Base.invokelatest(versions_by, Val(Symbol(family(engine))))
versions_by(::Val) = Fields()

"""The version in the Project.toml of a loaded package."""
function package_version(package::Module)
    path = joinpath(dirname(dirname(pathof(package))), "Project.toml")
    found = isfile(path) ? match(r"^version\s*=\s*\"(.*)\""m, read(path, String)) : nothing
    return found === nothing ? "unknown" : String(found.captures[1])
end
