# The command line of run.jl.

"""A command line that cannot be run; the text says what was wrong with it."""
struct BadOption <: Exception
    text::String
end
Base.showerror(io::IO, bad::BadOption) = print(io, bad.text)

"""What a run covers."""
struct Options
    engine::String
    norms::Vector{String}
    steppings::Vector{String}
    rtols::Vector{Float64}
    atol_factor::Float64
    repeats::Int
    out::String
end

const HELP = """
usage: julia run.jl [options]

  --engine NAME     base (default), ordinarydiffeq[:DP5|:Tsit5|:Vern7] or
                    sciml[:backsolve|:interpolating|:gauss]
  --norm NAME       a norm; may be given more than once (default and seminorm)
  --stepping NAME   native or matched; may be given more than once (both; native
                    alone for the engines of other packages)
  --rtol NUMBER     relative tolerance; may be given more than once (the problem's)
  --atol-factor F   atol = F x rtol (0.01)
  --repeats K       timed runs of a native cell (5)
  --out DIR         folder for the records (results)
  --help            this text

Hand the records to Python by `crossbackend import DIR RUN`.
"""

const NAMES = ("engine", "norm", "stepping", "rtol", "atol-factor", "repeats", "out")

"""
    parse_options(arguments)

Return the `Options` of a command line, `nothing` where it asks for help. Empty lists stand for the defaults.

Throws `BadOption`.
"""
function parse_options(arguments)
    given = Dict(name => String[] for name in NAMES)
    rest = collect(String, arguments)
    while !isempty(rest)
        word = popfirst!(rest)
        word in ("--help", "-h") && return nothing
        name, value = split_option(word)
        name in NAMES || throw(BadOption("$word: expected $(join("--" .* NAMES, ", ")) or --help"))
        value === nothing && isempty(rest) && throw(BadOption("$word: expected a value after it"))
        push!(given[name], value === nothing ? popfirst!(rest) : value)
    end
    one(name, default) = isempty(given[name]) ? default : given[name][end]
    for name in given["stepping"]
        name in ("native", "matched") || throw(BadOption("--stepping $name: expected native or matched"))
    end
    rtols = [number_after("--rtol", text, 1.0) for text in given["rtol"]]
    factor = number_after("--atol-factor", one("atol-factor", "0.01"))
    repeats = count_after("--repeats", one("repeats", "5"))
    return Options(one("engine", "base"), given["norm"], given["stepping"], rtols, factor, repeats,
                   one("out", "results"))
end

function split_option(word)
    startswith(word, "--") || throw(BadOption("$word: expected an option, which begins with --"))
    parts = split(word[3:end], '='; limit = 2)
    return String(parts[1]), length(parts) == 1 ? nothing : String(parts[2])
end

function number_after(option, text, below = Inf)
    value = tryparse(Float64, text)
    value !== nothing && 0 < value < below && return value
    expected = below == Inf ? "a positive number" : "a number between 0 and $below"
    throw(BadOption("$option $text: expected $expected"))
end

function count_after(option, text)
    value = tryparse(Int, text)
    value !== nothing && 0 <= value <= 10^6 && return value
    throw(BadOption("$option $text: expected a whole number, 0 or more"))
end
