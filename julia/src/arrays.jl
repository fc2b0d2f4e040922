"""
What a printed field calls beside Base: mathematics that throws for no value, and XLA's padding, indexing, products and
convolution.

A NumPy array of shape (a, b, c) is here an array of size (c, b, a), the same memory. Dimensions count from 1 as in
Julia; computed places (of a take, a gather, a dynamic slice) count from 0, as the traced program has them. No function
changes an argument.
"""
module Arrays

using LinearAlgebra: dot, mul!

include("arrays_maths.jl")
include("arrays_special.jl")
include("arrays_moves.jl")
include("arrays_indexing.jl")
include("arrays_contraction.jl")
include("arrays_conv.jl")

end
