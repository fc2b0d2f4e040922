"""A problem's functions over flat vectors, in the library that it is bound to; what has no derivative has no part.

`Augmented` makes the system that SciPy integrates of them, `export` a Julia program.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from crossbackend import ops, tree
from crossbackend.bound import Bound
from crossbackend.problem import Problem


class Flattened:
    """A problem's functions over flat vectors.

    Parameters
    ----------
    problem : Problem
    library : {"torch", "jax"}

    Attributes
    ----------
    bound : Bound
    layout, params_layout : tree.Layout
        Of the state, size n, and of the parameters.
    names : tuple of str
        All parameter leaves.
    flags : tuple of bool
        Whether the vector field uses each of them.
    used : tuple of str
        Those that it uses: the blocks of a_params.
    """

    def __init__(self, problem: Problem, library: str) -> None:
        self.bound = Bound(problem, library)
        with ops.precision(library, "float64"):
            self.flags = self.bound.field_leaves()
            y0 = self.bound.initial(self.bound.params, self.bound.data)
        self.layout = tree.Layout(tree.map_leaves(ops.to_numpy, y0))
        self.params_layout = tree.Layout(problem.params)
        self.names = self.bound.names
        self.used = tuple(name for name, flag in zip(self.names, self.flags, strict=True) if flag)

    def shapes(self, *, with_time: bool) -> dict[str, tuple[int, ...]]:
        """Return the blocks of z = (y, a_y, a_params[, a_t]) in order, with their shapes."""
        by_name = dict(zip(self.names, self.params_layout.shapes, strict=True))
        found = {}
        for group in ("y", "a_y"):
            for name, shape in zip(self.layout.names, self.layout.shapes, strict=True):
                found[f"{group}/{name}" if name else group] = shape
        found |= {f"a_params/{name}" if name else "a_params": by_name[name] for name in self.used}
        return found | ({"a_t": ()} if with_time else {})

    def constants(self) -> dict[str, Any]:
        """Return parameters and data as NumPy arrays, floats in float64: the last arguments of every function here."""
        convert = Bound(self.bound.problem, "numpy")
        return {"params": convert.params, "data": convert.data}

    def moved(self, params: Any) -> Flattened:
        """Return the same functions bound to other parameters, a tree of NumPy arrays."""
        other = copy.copy(self)
        other.bound = copy.copy(self.bound)
        other.bound.params = self.bound.convert(params)
        return other

    def initial(self, params: Any, data: Any) -> Any:
        """Return y(t0), shape (n,)."""
        return ravel(self.bound.initial(params, data))

    def field(self, t: Any, y: Any, params: Any, data: Any) -> Any:
        """Return f(t, y), shape (n,)."""
        return ravel(self.bound.field(t, self.layout.unravel(y), params, data))

    def pullback(
        self, t: Any, y: Any, params: Any, data: Any, *, with_time: bool = False
    ) -> tuple[Any, Callable[[Any], tuple[Any, list[Any], Any]]]:
        """Return f(t, y) and the map from a, shape (n,), to a.df/dy, a.df/dparams and a.df/dt.

        The second is a leaf of `used` each, in their shapes; the third None without `with_time`.
        """
        used = self._of_field(params)

        def field(t: Any, y: Any, leaves: Any) -> Any:
            return self.field(t, y, self._with(leaves, params), data)

        if not with_time:
            dy, pull = ops.vjp(lambda y, leaves: field(t, y, leaves), y, used)
            return dy, lambda a: (*pull(a), None)  # type: ignore[return-value]
        dy, pull_all = ops.vjp(field, t, y, used)

        def pulled(a: Any) -> tuple[Any, list[Any], Any]:
            of_t, of_y, of_params = pull_all(a)
            return of_y, of_params, of_t

        return dy, pulled

    def along(self, t: Any, y: Any, a: Any, params: Any, data: Any) -> Any:
        """Return -a.df/dy and, flat over the leaves of `used`, -a.df/dparams: the slopes of (a_y, a_params)."""
        _, pull = self.pullback(t, y, params, data)
        of_y, of_params, _ = pull(a)
        return ravel([-of_y, *[-leaf for leaf in of_params]])

    def along_y(self, t: Any, y: Any, a: Any, params: Any, data: Any) -> Any:
        """Return -a.df/dy, shape (n,), alone."""
        _, pull = ops.vjp(lambda y: self.field(t, y, params, data), y)
        return -pull(a)[0]

    def along_params(self, t: Any, y: Any, a: Any, params: Any, data: Any) -> Any:
        """Return -a.df/dparams, flat over the leaves of `used`, alone."""
        _, pull = ops.vjp(lambda leaves: self.field(t, y, self._with(leaves, params), data), self._of_field(params))
        return ravel([-leaf for leaf in pull(a)[0]], like=a)

    def _of_field(self, params: Any) -> list[Any]:
        return [leaf for leaf, flag in zip(tree.values(params), self.flags, strict=True) if flag]

    def _with(self, used: Any, params: Any) -> Any:
        """Return the parameters with the leaves that the field uses in place of its own."""
        mine = iter(used)
        merged = [next(mine) if flag else leaf for leaf, flag in zip(tree.values(params), self.flags, strict=True)]
        return tree.rebuild(params, merged)

    def loss(self, ys: Any, params: Any, data: Any) -> Any:
        """Return (loss, dloss/dys (len(ts), n), dloss/dparams (flat))."""
        value, pull = ops.vjp(lambda ys, params: self.bound.loss(self.layout.unravel(ys), params, data), ys, params)
        of_ys, of_params = pull(value * 0 + 1)
        return value, of_ys, ravel(of_params, like=ys)

    def initial_pull(self, a: Any, params: Any, data: Any) -> Any:
        """Return a.dy0/dparams, flat over all parameters."""
        _, pull = ops.vjp(lambda params: self.initial(params, data), params)
        return ravel(pull(a)[0], like=a)


def ravel(parts: Any, like: Any = None) -> Any:
    """Return the leaves of any library as one flat vector; an empty one of the library of `like` without leaves."""
    leaves = tree.values(parts)
    if not leaves:
        return like.reshape(-1)[:0]
    xp = ops.namespace(*leaves)
    return xp.concat([xp.reshape(leaf, (-1,)) for leaf in leaves])
