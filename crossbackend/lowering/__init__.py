"""JAX functions traced once and printed as readable source: NumPy's, that runs on NumPy alone, or Julia's on Base.

`trace` makes the jaxpr, `lower` prints jaxprs as one module, `Program.bind` makes a printed function callable;
`lower_julia` prints them in Julia. jax is imported inside `trace` and `lower` only; what comes out never needs it.
"""

from crossbackend.lowering.julia import JuliaProgram, lower_julia
from crossbackend.lowering.program import Program, lower
from crossbackend.lowering.trace import Traced, trace
from crossbackend.lowering.unsupported import UnsupportedPrimitive

__all__ = ["JuliaProgram", "Program", "Traced", "UnsupportedPrimitive", "lower", "lower_julia", "trace"]
