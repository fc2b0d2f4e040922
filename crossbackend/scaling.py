"""The same gradient from a loss of another size: what happens where the adjoint is not far below atol.

The adjoint is linear in the loss: c times the loss has c times the gradient. The step-size controller is not: it holds
the error of a_y against atol + rtol |a_y|, so that an adjoint far below atol (the gradient of a mean over many entries)
is not controlled at all. A plan run with the loss times 1 / rms(dL/dy), and its gradient divided by that number again,
shows what control would have cost and what it would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from crossbackend import ops, tree
from crossbackend.bound import Bound
from crossbackend.problem import Problem
from crossbackend.record import Gradient


def loss_scale(problem: Problem, library: str, ys: Mapping[str, np.ndarray]) -> float | None:
    """Return 1 / rms(dL/dy(t_i)), at the output time where that rms is largest; None where it is zero or not finite.

    Parameters
    ----------
    problem : Problem
    library : {"torch", "jax"}
    ys : dict of str to ndarray
        Solution at the output times by entry, leading axis len(ts).
    """
    bound = Bound(problem, library)
    with ops.precision(library, "float64"):
        like = tree.map_leaves(ops.to_numpy, bound.initial(bound.params, bound.data))
        state = bound.convert(tree.rebuild(like, [np.asarray(ys[name], np.float64) for name in tree.flatten(like)]))
        value, pull = ops.vjp(lambda ys: bound.loss(ys, bound.params, bound.data), state)
        (of_ys,) = pull(value * 0 + 1)
        flat = [ops.to_numpy(leaf).reshape(len(problem.ts), -1) for leaf in tree.values(of_ys)]
    largest = float(np.max(np.sqrt(np.mean(np.concatenate(flat, axis=1) ** 2, axis=1))))
    return 1.0 / largest if 0 < largest < np.inf else None


def scaled(problem: Problem, factor: float) -> Problem:
    """Return the problem with its loss times a factor."""
    loss = problem.loss
    if isinstance(loss, Mapping):
        return problem.replace(loss={library: _times(f, factor) for library, f in loss.items()}, exact=None)
    return problem.replace(loss=_times(loss, factor), exact=None)


def _times(loss: Callable[..., Any], factor: float) -> Callable[..., Any]:
    def times(ys: Any, params: Any, data: Any) -> Any:
        return factor * loss(ys, params, data)

    if hasattr(loss, "library"):
        times.library = loss.library  # type: ignore[attr-defined]  # an adapted model runs in one library
    return times


def divided(gradient: Gradient, factor: float) -> Gradient:
    """Return the gradient of the loss from that of the scaled loss."""
    y0, params = ({name: a / factor for name, a in part.items()} for part in (gradient.y0, gradient.params))
    return Gradient(gradient.loss / factor, y0, params)
