"""The augmented system of a problem as functions of flat NumPy vectors.

With z = (y, a_y, a_params[, a_t]) the continuous adjoint of dy/dt = f(t, y, params) is, backwards in time,

    dy/dt = f,   da_y/dt = -a_y . df/dy,   da_params/dt = -a_y . df/dparams,   da_t/dt = -a_y . df/dt

(Chen, Rubanova, Bettencourt, Duvenaud, *Neural Ordinary Differential Equations*, NeurIPS 2018, appendix B.1;
derived step by step in Khungurn, *Neural Ordinary Differential Equations*, 2022, section 2). a_params covers only
the leaves that f uses.

An engine evaluates it: `numpy` runs source printed from JAX's trace, on NumPy alone; `jax` calls the jitted
functions; `torch` calls torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from crossbackend import lowering, ops, tree
from crossbackend.bound import Bound
from crossbackend.errors import Mistake, UserError
from crossbackend.flattened import Flattened, ravel
from crossbackend.problem import Problem

ENGINES = ("numpy", "jax", "torch")


class Augmented:
    """A problem's functions over flat float64 vectors.

    Parameters
    ----------
    problem : Problem
    engine : {"numpy", "jax", "torch"}
    with_time : bool
        Carry a_t as the last entry of z.
    backward : sequence of str
        What the backward pass needs, made beside the rest: `adjoint`, the augmented field; or, along a y that is
        known, `along` (slopes of a_y and a_params), `along_y` and `along_params` (each alone).

    Attributes
    ----------
    layout : tree.Layout
        Of the state, size n.
    param_names : tuple of str
        All parameter leaves.
    used : tuple of str
        The leaves that the vector field uses: the blocks of a_params.
    shapes : dict of str to tuple of int
        Blocks of z in order.
    program : lowering.Program or None
        The printed source, with the engine `numpy`.
    """

    def __init__(
        self,
        problem: Problem,
        engine: str = "numpy",
        *,
        with_time: bool = False,
        backward: Sequence[str] = ("adjoint",),
    ) -> None:
        self.problem, self.engine, self.with_time, self.backward = problem, engine, with_time, tuple(backward)
        library = "torch" if engine == "torch" else "jax"
        missing = problem.lacks(library)
        if missing:
            got = f"{', '.join(missing)} given for another library alone"
            fix = f"Add a {library!r} entry, or use another engine."
            raise UserError(
                Mistake(f"Problem({problem.name!r}) with engine {engine!r}", got, f"{library} functions", fix)
            )
        self.flat = Flattened(problem, library)
        self.layout, self.params_layout = self.flat.layout, self.flat.params_layout
        self.param_names, self.used = self.flat.names, self.flat.used
        self.shapes = self.flat.shapes(with_time=with_time)
        self.size = sum(int(np.prod(shape, dtype=int)) for shape in self.shapes.values())
        self.program: lowering.Program | None = None
        self._functions = {"numpy": self._by_numpy, "jax": self._by_jax, "torch": self._by_torch}[engine]()

    def _adjoint(self, t: Any, z: Any, params: Any, data: Any) -> Any:
        n = self.layout.size
        dy, pull = self.flat.pullback(t, z[:n], params, data, with_time=self.with_time)
        of_y, of_params, of_t = pull(z[n : 2 * n])
        return ravel([dy, -of_y, *[-leaf for leaf in of_params], *([-of_t] if self.with_time else [])])

    # Engines.

    def _examples(self) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
        n, count = self.layout.size, len(self.problem.ts)
        t = np.float64(self.problem.ts[0])
        known = {"t": t, "y": np.zeros(n), "a": np.zeros(n)}
        backward = {
            "adjoint": (self._adjoint, {"t": t, "z": np.zeros(self.size)}),
            "along": (self.flat.along, known),
            "along_y": (self.flat.along_y, known),
            "along_params": (self.flat.along_params, known),
        }
        return {
            "initial": (self.flat.initial, {}),
            "field": (self.flat.field, {"t": t, "y": np.zeros(n)}),
            **{name: backward[name] for name in self.backward},
            "loss": (self.flat.loss, {"ys": np.zeros((count, n))}),
            "initial_pull": (self.flat.initial_pull, {"a": np.zeros(n)}),
        }

    def _by_numpy(self) -> dict[str, Callable[..., Any]]:
        constants = self.flat.constants()
        traced = {
            name: lowering.trace(function, {**args, **constants}, static=("params", "data"))
            for name, (function, args) in self._examples().items()
        }
        self.program = lowering.lower(traced)
        return {name: self.program.bind(name, **constants) for name in traced}

    def _by_jax(self) -> dict[str, Callable[..., Any]]:
        params, data = self.flat.bound.params, self.flat.bound.data
        compiled = {
            name: ops.jit(partial(function, params=params, data=data))
            for name, (function, _) in self._examples().items()
        }
        return {name: self._numpy_out(function) for name, function in compiled.items()}

    def _by_torch(self) -> dict[str, Callable[..., Any]]:
        params, data = self.flat.bound.params, self.flat.bound.data

        def called(function: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args: function(*(self.flat.bound.convert(np.asarray(a)) for a in args), params, data)

        return {name: self._numpy_out(called(function)) for name, (function, _) in self._examples().items()}

    def _numpy_out(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            with ops.precision(self.flat.bound.library, "float64"):
                out = function(*args)
            return tuple(ops.to_numpy(part) for part in out) if isinstance(out, tuple) else ops.to_numpy(out)

        return run

    def moved(self, by: np.ndarray) -> Augmented:
        """Return the same system with its parameters, flat, moved by an amount: for finite differences."""
        flat = self.params_layout.ravel(self.problem.params) + by
        other = copy.copy(self)
        params = self.params_layout.unravel(flat)
        other.flat = self.flat.moved(params)
        if self.program is not None:
            constants = {**self.flat.constants(), "params": params}
            other._functions = {name: self.program.bind(name, **constants) for name in self._functions}
        else:
            other._functions = {"jax": other._by_jax, "torch": other._by_torch}[self.engine]()
        return other

    @staticmethod
    def sizes(problem: Problem, engine: str = "numpy") -> dict[str, Any]:
        """Return the sizes of a problem's state and parameters, for its card."""
        bound = Bound(problem, "torch" if engine == "torch" else "jax")
        with ops.precision(bound.library, "float64"):
            flags = bound.field_leaves()
            y0 = tree.map_leaves(ops.to_numpy, bound.initial(bound.params, bound.data))
        state = {name: list(leaf.shape) for name, leaf in tree.leaves(y0)}
        shapes = {name: list(leaf.shape) for name, leaf in tree.leaves(problem.params)}
        sizes = [int(np.prod(shape, dtype=int)) for shape in shapes.values()]
        return {
            "state": state,
            "state_size": sum(int(np.prod(shape, dtype=int)) for shape in state.values()),
            "parameters": shapes,
            "parameter_size": sum(sizes),
            "field_parameter_size": sum(size for size, flag in zip(sizes, flags, strict=True) if flag),
        }

    # What a solver calls.

    def y0(self) -> np.ndarray:
        """Return y(t0), shape (n,)."""
        return np.array(self._functions["initial"](), dtype=np.float64)

    def function(self, name: str) -> Callable[..., np.ndarray]:
        """Return `field(t, y (n,))`, or one of `backward`, `adjoint(t, z (size,))` or `along...(t, y, a (n,))`."""
        return self._functions[name]

    def loss(self, ys: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the loss and its gradients with respect to ys, shape (len(ts), n), and to all parameters, flat."""
        value, of_ys, of_params = self._functions["loss"](ys)
        return float(value), np.asarray(of_ys), np.asarray(of_params)

    def time_gradient(self, ys: np.ndarray, of_ys: np.ndarray, a_y0: np.ndarray) -> np.ndarray:
        """Return the derivative of the loss with respect to every output time, shape (len(ts),).

        A later output time moves along the solution, dL/dt_i = dL/dy_i . f(t_i, y_i). The initial time moves with y0
        held fixed: dL/dt0 = a_t(t0) = -a_y . f, for the loss-to-go is constant along the solution (docs/adjoint.md).
        At a breakpoint it is the one-sided derivative on the side that the field itself takes there.

        Parameters
        ----------
        ys, of_ys : ndarray, shape (len(ts), n)
            The solution at the output times and the loss's gradient there.
        a_y0 : ndarray, shape (n,)
            a_y(t0) as the backward pass ends, the loss's own gradient at t0 included.
        """
        field = self.function("field")
        slopes = np.stack([field(t, y) for t, y in zip(self.problem.ts, ys, strict=True)])
        along = np.concatenate([of_ys[:1] - a_y0, of_ys[1:]])  # of_ys[0] has no part: y0 does not move with t0
        return np.sum(along * slopes, axis=1)

    def total(self, direct: np.ndarray, a_y0: np.ndarray, a_params: np.ndarray) -> dict[str, np.ndarray]:
        """Return the total derivative by leaf: through the loss itself, the initial state and the field.

        Parameters
        ----------
        direct : ndarray, flat over all parameters
        a_y0 : ndarray, shape (n,)
        a_params : ndarray, flat over the used leaves
        """
        whole = direct + np.asarray(self._functions["initial_pull"](a_y0))
        by_name = dict(zip(self.param_names, self.params_layout.slices, strict=True))
        start = 0
        for name in self.used:
            at = by_name[name]
            length = at.stop - at.start
            whole[at] += a_params[start : start + length]
            start += length
        return dict(zip(self.param_names, tree.values(self.params_layout.unravel(whole)), strict=True))
