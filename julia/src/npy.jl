# NumPy's .npy files, version 1 to 3, of plain numbers. A NumPy array of shape (a, b, c) is here an Array of size
# (c, b, a), the same memory order, so that nothing is moved; a user's own arrays keep their shape and are turned.

const NPY_MAGIC = UInt8[0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]
const NPY_TYPES = ("<f8" => Float64, "<f4" => Float32, "<i8" => Int64, "<i4" => Int32, "|u1" => UInt8, "|b1" => Bool)

"""An array file that cannot be read; the text says which and why."""
struct BadArray <: Exception
    text::String
end
Base.showerror(io::IO, bad::BadArray) = print(io, bad.text)

"""
    dtype_name(T)

Return NumPy's name of an element type, such as `<f8`.
"""
function dtype_name(::Type{T}) where {T}
    for (name, type) in NPY_TYPES
        type === T && return name
    end
    throw(BadArray("an array of $T has no .npy form here: use Float64, Float32, Int64, Int32, UInt8 or Bool"))
end

"""
    numpy_shape(array)

Return the NumPy shape of an array in reversed order, as a tuple; () for a number.
"""
numpy_shape(array) = reverse(size(array))

"""
    read_npy(path)

Return the array of a file in reversed sizes, or a number for a file of shape ().
"""
function read_npy(path::AbstractString)
    isfile(path) || throw(BadArray("$path: no such file"))
    return open(io -> read_npy(io, path), path)
end

function read_npy(io::IO, where_from::AbstractString)
    read(io, 6) == NPY_MAGIC || throw(BadArray("$where_from: not a .npy file"))
    bytes = read(io, 2)
    length(bytes) == 2 && bytes[1] in 1:3 || throw(BadArray("$where_from: a .npy of an unknown version"))
    counted = read(io, bytes[1] == 1 ? 2 : 4)
    count = foldr((byte, rest) -> Int(byte) + 256 * rest, counted; init = 0)
    header = String(read(io, count))
    type, shape, fortran = npy_header(header, where_from)
    size = fortran ? shape : reverse(shape)
    data = read(io, prod(size) * sizeof(type))
    if length(data) != prod(size) * sizeof(type) || !eof(io)
        throw(BadArray("$where_from: $(length(data)) bytes of numbers do not fill an array of shape $shape"))
    end
    array = reshape(collect(reinterpret(type, data)), Tuple(size))
    isempty(shape) && return array[]
    return fortran && length(shape) > 1 ? permutedims(array, length(shape):-1:1) : array
end

"""Return (element type, shape, whether in Fortran order) of a header such as
`{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }`."""
function npy_header(header::AbstractString, where_from::AbstractString)
    descr = match(r"'descr':\s*'([^']*)'", header)
    order = match(r"'fortran_order':\s*(True|False)", header)
    shape = match(r"'shape':\s*\(([0-9, L]*)\)", header)
    if descr === nothing || order === nothing || shape === nothing
        throw(BadArray("$where_from: a .npy header that is none: $(repr(strip(header)))"))
    end
    name = replace(String(descr.captures[1]), "=" => "<")
    for (known, type) in NPY_TYPES
        if known == name || (sizeof(type) == 1 && known[2:end] == lstrip(name, ('<', '>', '|')))
            sizes = [parse(Int, part) for part in split(shape.captures[1], r"[,\sL]+"; keepempty = false)]
            return type, sizes, order.captures[1] == "True"
        end
    end
    throw(BadArray("$where_from: numbers of the kind $(repr(name)), expected one of $(join(first.(NPY_TYPES), ", "))"))
end

"""
    write_npy(path or io, array)

Write an array (or number) in reversed sizes, so that NumPy reads the shape `numpy_shape(array)`.
"""
write_npy(path::AbstractString, array) = open(io -> write_npy(io, array), path, "w")

function write_npy(io::IO, array::Union{AbstractArray{T},T}) where {T<:Number}
    shape = numpy_shape(array)
    inside = join(shape, ", ") * (length(shape) == 1 ? "," : "")
    header = "{'descr': '$(dtype_name(T))', 'fortran_order': False, 'shape': ($inside), }"
    header *= " "^(63 - (10 + length(header)) % 64) * "\n"
    write(io, NPY_MAGIC, UInt8[1, 0], UInt8[length(header) % 256, length(header) ÷ 256], header)
    write_data(io, array)
    return nothing
end

"""Write an array's numbers alone, little-endian, in memory order."""
write_data(io::IO, array::Array) = (write(io, array); nothing)
write_data(io::IO, array::AbstractArray) = (write(io, collect(array)); nothing)
write_data(io::IO, number::Number) = (write(io, number); nothing)

"""
    turned(array)

Return a user's own array with its axes reversed, so that `write_npy` gives NumPy the shape that it has in Julia.
"""
turned(array::AbstractArray) = ndims(array) < 2 ? collect(array) : permutedims(array, ndims(array):-1:1)
turned(number::Number) = number
