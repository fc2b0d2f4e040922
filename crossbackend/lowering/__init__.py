"""JAX functions traced once and printed as readable NumPy source that runs on NumPy alone.

`trace` makes the jaxpr, `lower` prints jaxprs as one module, `Program.bind` makes a printed function callable.
jax is imported inside `trace` and `lower` only; the program that comes out never needs it.
"""

from crossbackend.lowering.julia import JuliaProgram, lower_julia
from crossbackend.lowering.program import Program, lower
from crossbackend.lowering.trace import Traced, trace
from crossbackend.lowering.unsupported import UnsupportedPrimitive

__all__ = ["JuliaProgram", "Program", "Traced", "UnsupportedPrimitive", "lower", "lower_julia", "trace"]
