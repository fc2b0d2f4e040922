# .npy files and JSON.

using .CrossBackend: BadArray, dtype_name, numpy_shape, read_npy, to_json, turned, write_npy

through(array) = (path = tempname(); write_npy(path, array); read_npy(path))

@testset "every kind comes back to the bit" begin
    odd = reinterpret(Float64, [0x7ff8000000000123, 0xfff0000000000000, 0x8000000000000000, 0x0000000000000001])
    for array in (collect(odd), zeros(3, 2, 0), reshape(1.0:24.0, 4, 3, 2), Float32[1, -0.0, NaN],
                  Int64[typemin(Int64), 7], Int32[-5 6], UInt8[0, 255], [true, false, true], Float64[])
        @test bits(through(array)) == bits(array)
    end
    @test through(2.5) === 2.5
    @test through(-3) === -3
    @test through(true) === true
end

@testset "a file is what NumPy writes" begin
    path = tempname()
    write_npy(path, reshape(collect(1.0:6.0), 3, 2))  # NumPy's [[1, 2, 3], [4, 5, 6]]
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }"
    expected = [UInt8[0x93]; codeunits("NUMPY"); 0x01; 0x00; 0x76; 0x00; codeunits(rpad(header, 117) * "\n");
                reinterpret(UInt8, collect(1.0:6.0))]
    @test read(path) == expected
    @test numpy_shape(read_npy(path)) == (2, 3)
    @test bits(through(turned([1.0 2.0 3.0; 4.0 5.0 6.0]))) == bits(reshape(collect(1.0:6.0), 3, 2))
    @test dtype_name(Bool) == "|b1"
end

@testset "Fortran order and version 2 are read" begin
    header = codeunits("{'descr': '<i8', 'fortran_order': True, 'shape': (2, 3), }\n")
    bytes = [UInt8[0x93]; codeunits("NUMPY"); 0x02; 0x00; reinterpret(UInt8, UInt32[length(header)]); header;
             reinterpret(UInt8, [1, 4, 2, 5, 3, 6])]
    path = tempname()
    write(path, bytes)
    @test read_npy(path) == reshape(1:6, 3, 2)
end

@testset "what cannot be read says why" begin
    path = tempname()
    @test occursin("no such file", message(() -> read_npy(path), BadArray))
    write(path, "PK not an array")
    @test occursin("not a .npy file", message(() -> read_npy(path), BadArray))
    write_npy(path, [1.0, 2.0])
    whole = read(path)
    write(path, whole[1:end-1])
    @test occursin("do not fill an array of shape [2]", message(() -> read_npy(path), BadArray))
    write(path, [whole; 0x00])
    @test occursin("do not fill", message(() -> read_npy(path), BadArray))
    write(path, replace(String(copy(whole)), "<f8" => "<c8"))
    @test occursin("numbers of the kind \"<c8\"", message(() -> read_npy(path), BadArray))
    @test occursin("Float16 has no .npy form", message(() -> write_npy(path, Float16[1]), BadArray))
end

@testset "JSON" begin
    @test to_json("a\"b\\c\nd\te\u00e9\U1F600\x7f") == "\"a\\\"b\\\\c\\u000ad\\u0009e\\u00e9\\ud83d\\ude00\\u007f\""
    @test to_json(String(UInt8[0x61, 0xff])) == "\"a\\ufffd\""
    @test to_json(Any[1, 2.5, true, nothing, NaN, -Inf, 1f0]) == "[1, 2.5, true, null, null, null, 1.0]"
    @test to_json(["b" => 1, "a" => []]) == "{\"b\": 1, \"a\": []}"
    @test to_json(Dict("b" => (x = 1,), "a" => "s")) == "{\"a\": \"s\", \"b\": {\"x\": 1}}"
    @test to_json(()) == "[]"
    @test parse(Float64, to_json(0.1 + 0.2)) === 0.1 + 0.2
end
