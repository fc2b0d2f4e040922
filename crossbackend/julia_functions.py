"""What a Julia program of a problem is made of: its functions, traced over flat vectors, and its norms, resolved.

Traced by JAX: `initial`, `field`, `vjp` and `vjp_t` (f with a.df/dy, a.df/dparams and a.df/dt), `loss` with its
gradients, `initial_pull`, and of every callable norm of the problem's own `norm_K` and `norm_state_K`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossbackend import lowering, norms, ops, ratios
from crossbackend.errors import Mistake, UserError
from crossbackend.flattened import Flattened, ravel
from crossbackend.norms import Norm
from crossbackend.plan import STEPPINGS
from crossbackend.problem import Problem


@dataclass(frozen=True)
class PlanNorm:
    """What a plan's norm and stepping mean: the norm, and the number K of its function, 0 for one by weights."""

    name: str
    stepping: str
    norm: Norm
    callable: int


class Functions:
    """A problem's functions and norms, ready to be printed.

    Parameters
    ----------
    problem : Problem

    Attributes
    ----------
    flat : Flattened
    traced : dict of str to lowering.Traced
        By name; `params` and `data` are static.
    norms : tuple of PlanNorm
        Every norm that a plan can name, once a stepping.
    left_out : dict of str to str
        Callable norms that JAX cannot trace, each with the reason.

    Raises
    ------
    UserError
        A problem without functions for JAX.
    """

    def __init__(self, problem: Problem) -> None:
        missing = problem.lacks("jax")
        if missing:
            got = f"{', '.join(missing)} given for torch alone"
            raise UserError(Mistake(f"Problem({problem.name!r})", got, "jax functions", "Add a 'jax' entry."))
        self.problem = problem
        self.flat = Flattened(problem, "jax")
        self.constants = self.flat.constants()
        self.traced = {name: self._trace(function, args) for name, (function, args) in self._examples().items()}
        self.left_out: dict[str, str] = {}
        self.norms = self._norms()

    def _trace(self, function: Callable[..., Any], args: Mapping[str, Any]) -> lowering.Traced:
        return lowering.trace(function, {**args, **self.constants}, static=("params", "data"))

    def _examples(self) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
        flat, n = self.flat, self.flat.layout.size
        t, y = np.float64(self.problem.ts[0]), np.zeros(n)

        def vjp(t: Any, y: Any, a: Any, params: Any, data: Any) -> Any:
            dy, pull = flat.pullback(t, y, params, data)
            of_y, of_params, _ = pull(a)
            return dy, of_y, ravel(of_params, like=a)

        def vjp_t(t: Any, y: Any, a: Any, params: Any, data: Any) -> Any:
            dy, pull = flat.pullback(t, y, params, data, with_time=True)
            of_y, of_params, of_t = pull(a)
            return dy, of_y, ravel(of_params, like=a), of_t

        return {
            "initial": (flat.initial, {}),
            "field": (flat.field, {"t": t, "y": y}),
            "vjp": (vjp, {"t": t, "y": y, "a": y}),
            "vjp_t": (vjp_t, {"t": t, "y": y, "a": y}),
            "loss": (flat.loss, {"ys": np.zeros((len(self.problem.ts), n))}),
            "initial_pull": (flat.initial_pull, {"a": y}),
        }

    def _norms(self) -> tuple[PlanNorm, ...]:
        """Return every norm a plan can name; the functions of the problem's own are traced on the way."""
        found: list[PlanNorm] = []
        numbers: dict[str, int] = {}
        for name in (*norms.names(), *self.problem.norms):
            for stepping in STEPPINGS:
                norm = norms.resolve(name, stepping, self.problem.norms)
                if norm is None:  # the library's own
                    norm = norms.NAMED["pooled-seminorm" if name == "seminorm" else "pooled"]
                if norm.function is not None and name not in numbers:
                    numbers[name] = self._callable(norm, max(numbers.values(), default=0) + 1)
                if name not in self.left_out:
                    found.append(PlanNorm(name, stepping, norm, numbers.get(name, 0)))
        return tuple(found)

    def _callable(self, norm: Norm, number: int) -> int:
        """Trace a callable norm as `norm_K` and `norm_state_K`; note why where that cannot be done."""
        shapes = self.flat.shapes(with_time=False)
        error = {"e": np.zeros(sum(math.prod(shape) for shape in shapes.values()))}
        try:
            made = {
                f"norm_{number}": self._trace(over_blocks(norm, shapes, self.problem.integrals), error),
                f"norm_state_{number}": self._trace(
                    over_blocks(norm, shapes, self.problem.integrals, state_alone=True), error
                ),
            }
            lowering.lower_julia(made)
        except Exception as problem:
            words = "; ".join(str(problem).strip().splitlines()[:1]) or type(problem).__name__
            self.left_out[norm.name] = f"its function cannot be printed in Julia: {type(problem).__name__}: {words}"
            return 0
        self.traced |= made
        return number


def over_blocks(
    norm: Norm, shapes: Mapping[str, tuple[int, ...]], integrals: Any = (), *, state_alone: bool = False
) -> Callable[..., Any]:
    """Return a callable norm as a function of error over scale of all of z = (y, a_y, a_params), flat.

    Blocks that it may not see are left out. With `state_alone` it is given y and a_y, and zeros for any other block
    that it asks for by name, as `ratios.Meter` does.
    """
    ends = np.cumsum([0, *(math.prod(shape) for shape in shapes.values())]).tolist()
    function = norm.function
    assert function is not None

    def measured(e: Any, params: Any, data: Any) -> Any:
        del params, data  # every printed function takes them
        xp = ops.namespace(e)
        blocks = {
            name: xp.reshape(e[start:end], shape)
            for (name, shape), start, end in zip(shapes.items(), ends[:-1], ends[1:], strict=True)
            if norm.sees(name, integrals)
        }
        if state_alone:
            blocks = ratios.state_alone(blocks, xp)
        return xp.asarray(function(blocks), dtype=e.dtype)

    return measured
