"""A problem bound to one array library: its arrays converted once, its functions ready to call."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossbackend import ops, tree
from crossbackend.problem import Problem, is_function


class Bound:
    """A problem in one library, precision and place.

    Parameters
    ----------
    problem : Problem
    library : {"numpy", "torch", "jax"}
    dtype : {"float64", "float32"}
    device : str

    Attributes
    ----------
    params, data : nested dicts and lists of the library's arrays
    names : tuple of str
        The parameter leaves, in order.
    """

    def __init__(self, problem: Problem, library: str, dtype: str = "float64", device: str = "cpu") -> None:
        self.problem, self.library, self.dtype, self.device = problem, library, dtype, device
        self.params = self.convert(problem.params)
        self.data = self.convert(problem.data)
        self.names = tuple(tree.flatten(problem.params))

    def convert(self, arrays: Any) -> Any:
        """Return a tree of NumPy arrays in the library, floats in the bound precision."""
        with ops.precision(self.library, self.dtype):
            return tree.map_leaves(lambda leaf: ops.asarray(leaf, self.library, self.dtype, self.device), arrays)

    def time(self, t: float) -> Any:
        """Return a time as a 0-d array."""
        return self.convert(np.float64(t))

    def _call(self, role: str, *args: Any) -> Any:
        library = "jax" if self.library == "numpy" else self.library
        return self.problem.function(role, library)(*args)

    def initial(self, params: Any, data: Any) -> Any:
        """Return y(t0)."""
        if is_function(self.problem.initial):
            return self._call("initial", params, data)
        return self.convert(self.problem.initial)

    def field(self, t: Any, y: Any, params: Any, data: Any) -> Any:
        """Return dy/dt."""
        return self._call("vector_field", t, y, params, data)

    def loss(self, ys: Any, params: Any, data: Any) -> Any:
        """Return the loss, a 0-d array."""
        return self._call("loss", ys, params, data)

    def field_leaves(self) -> tuple[bool, ...]:
        """Tell, for every parameter leaf, whether the vector field uses it.

        Only these enter the adjoint state: an encoder's or a read-out's parameters are no part of the ODE.
        """
        if self.problem.field_params is not None:
            return tuple(name in self.problem.field_params for name in self.names)
        with ops.precision(self.library, self.dtype):
            y0 = tree.map_leaves(_detached, self.initial(self.params, self.data))
            t0 = self.time(self.problem.ts[0])
            return ops.dependence(lambda params: self.field(t0, y0, params, self.data), self.params)


def _detached(leaf: Any) -> Any:
    return leaf.detach() if hasattr(leaf, "detach") else leaf
