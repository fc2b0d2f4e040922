"""
One ODE problem, its gradient by the continuous adjoint, and every step on the way, in Base Julia.

A problem exported by `crossbackend export --julia` is loaded by `load`, solved by `solve`, and solved with every step
noted by `record`. `gradient` solves a field and a vector-Jacobian product of one's own by the same engine, and
`record(name; ...)` writes what any program found as a record for `crossbackend import`.
"""
module CrossBackend

using LinearAlgebra: BLAS
using Printf

"""Let BLAS use one thread, unless the environment says how many: on matrices of this size more cost more than they do."""
one_blas_thread() = haskey(ENV, "OPENBLAS_NUM_THREADS") ? nothing : BLAS.set_num_threads(1)

include("snapping.jl")
include("npy.jl")
include("json.jl")
include("norms.jl")
include("meter.jl")
include("watch.jl")
include("dopri5.jl")
include("adjoint.jl")
include("arrays.jl")
include("problem.jl")
include("solve.jl")
include("engines.jl")
include("settings.jl")
include("serve.jl")
include("records.jl")
include("own.jl")
include("handed.jl")
include("options.jl")
include("main.jl")

end
