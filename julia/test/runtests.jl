# Run by `julia --startup-file=no julia/test/runtests.jl`, or some parts of it with their names after it.

using Test

include(joinpath(@__DIR__, "..", "src", "CrossBackend.jl"))
using .CrossBackend

include("fixtures.jl")

const PARTS = ("files", "norms", "dopri5", "adjoint", "statuses", "records", "own", "commands", "worker", "engines",
               "arrays")

@testset "CrossBackend" begin
    for part in (isempty(ARGS) ? PARTS : ARGS)
        part in PARTS || error("no part $part: expected $(join(PARTS, ", "))")
        @testset "$part" begin
            include("$part.jl")
        end
    end
end
