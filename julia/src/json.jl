# JSON, written only: ASCII, NaN and infinity as null, objects in the order given.

"""An object whose fields keep their order."""
const Fields = Vector{Pair{String,Any}}

fields(pairs::Pair...) = Fields([String(first(pair)) => last(pair) for pair in pairs])

"""
    to_json(value)

Return a value as JSON text. Vectors of pairs, dictionaries (sorted) and named tuples are objects.
"""
to_json(value) = sprint(json, value)

json(io::IO, ::Nothing) = print(io, "null")
json(io::IO, value::Bool) = print(io, value)
json(io::IO, value::Integer) = print(io, value)
json(io::IO, value::AbstractFloat) = isfinite(value) ? print(io, Float64(value)) : print(io, "null")
json(io::IO, value::Symbol) = json(io, String(value))
json(io::IO, value::NamedTuple) = json_object(io, pairs(value))
json(io::IO, value::AbstractDict) = json_object(io, sort!(collect(value); by = pair -> String(first(pair))))
json(io::IO, value::AbstractVector{<:Pair}) = json_object(io, value)
json(io::IO, ::AbstractVector{Union{}}) = print(io, "[]")  # of pairs too, for Julia

function json(io::IO, value::Union{AbstractVector,Tuple})
    print(io, '[')
    for (i, item) in enumerate(value)
        i > 1 && print(io, ", ")
        json(io, item)
    end
    print(io, ']')
end

function json_object(io::IO, pairs)
    print(io, '{')
    for (i, (name, item)) in enumerate(pairs)
        i > 1 && print(io, ", ")
        json(io, String(name))
        print(io, ": ")
        json(io, item)
    end
    print(io, '}')
end

function json(io::IO, text::AbstractString)
    print(io, '"')
    for character in text
        json_character(io, isvalid(character) ? character : '\ufffd')
    end
    print(io, '"')
end

function json_character(io::IO, character::Char)
    code = UInt32(character)
    if character in ('"', '\\')
        print(io, '\\', character)
    elseif 0x20 <= code < 0x7f
        print(io, character)
    elseif code <= 0xffff
        print(io, "\\u", string(code; base = 16, pad = 4))
    else  # two halves of UTF-16
        code -= 0x10000
        high, low = 0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff)
        print(io, "\\u", string(high; base = 16, pad = 4), "\\u", string(low; base = 16, pad = 4))
    end
end
