"""The Problem: an ODE learning problem written once, over the array API."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from crossbackend import norms, tree
from crossbackend.errors import Mistake, raise_all

LIBRARIES = ("torch", "jax")
"""Array libraries a function of a problem may be given for."""

ROLES = ("vector_field", "initial", "loss")
_ARGUMENTS = {"vector_field": "(t, y, params, data)", "initial": "(params, data)", "loss": "(ys, params, data)"}


@dataclass(frozen=True, eq=False)
class Problem:
    """An ODE learning problem: dy/dt = f(t, y, params, data), y(t0) = initial, a loss of y at the output times.

    Construction checks values and runs none of the functions; `trial` runs them once before any solve.

    Parameters
    ----------
    name : str
        Letters, digits, `_` and `-`; it names files.
    vector_field : callable or {"torch": callable, "jax": callable}
        `vector_field(t, y, params, data) -> dy`, of y's structure and shapes; t is a 0-d array of y's library.
        Array-API calls and `crossbackend.ops` only, unless given per library.
    loss : callable or dict as above
        `loss(ys, params, data) -> scalar`; ys is y with a leading axis of len(ts).
    params : nested dict or list of floating arrays
    initial : array, dict of arrays, or callable (or dict as above)
        y(t0), or `initial(params, data) -> y0`, so that an encoder is part of the gradient.
    ts : sequence of float, length >= 2
        Output times, increasing; ts[0] is the initial time.
    data : nested dict or list of arrays, optional
        Constants of the three functions. Integer and boolean arrays are kept as they are.
    tolerances : sequence of float
        Values of rtol for a run.
    breakpoints : sequence of float
        Times where f jumps. Those outside [ts[0], ts[-1]] have no effect.
    integrals : sequence of str
        Entries of a dict state that feed back into nothing; norms ending in `-integrals` leave them out.
    norms : dict
        Norms of one's own: name to weights by block (`{"y": 1, "a_y": 1, "a_params": 0.1, "across": "max"}`), or
        name to `callable(blocks) -> scalar`.
    exact : callable, optional
        `exact(params, data) -> {"loss": float, "y0": array or dict, "params": tree}`: loss and gradient in closed
        form, by NumPy.
    field_params : sequence of str, optional
        Names of the parameter leaves that the vector field uses. Found out by tracing where it is not given.
    source : str
        Where the problem comes from, printed in the report.
    dtype : {"float64", "float32"}
        Precision of a plan that names none.
    description : str
        What the problem shows; the loader takes the first paragraph of the file's docstring where it is empty.

    Raises
    ------
    UserError
        With every mistake found, each with its place and what to write instead.
    """

    name: str
    vector_field: Any
    loss: Any
    params: Any
    initial: Any
    ts: Any
    data: Any = None
    tolerances: Sequence[float] = (1e-4, 1e-6, 1e-8, 1e-10)
    breakpoints: Sequence[float] = ()
    integrals: Sequence[str] = ()
    norms: Mapping[str, Any] = field(default_factory=dict)
    exact: Callable[..., Any] | None = None
    field_params: Sequence[str] | None = None
    source: str = ""
    dtype: str = "float64"
    description: str = ""

    def __post_init__(self) -> None:
        """Turn what was given into NumPy arrays and tuples, and report all mistakes at once."""
        mistakes: list[Mistake] = []
        put = object.__setattr__
        put(self, "params", self._arrays("params", self.params, mistakes))
        put(self, "data", self._arrays("data", self.data, mistakes))
        if not is_function(self.initial):
            put(self, "initial", self._arrays("initial", self.initial, mistakes))
            if not tree.values(self.initial):
                mistakes.append(Mistake(self._at("initial"), "an empty state", "an array or a dict of arrays"))
        for name in ("ts", "breakpoints", "tolerances"):
            put(self, name, self._floats(name, mistakes))
        put(self, "integrals", tuple(self.integrals))
        for role in ROLES:
            mistakes += self._role_mistakes(role)
        mistakes += [*self._name_mistakes(), *self._time_mistakes(), *self._choice_mistakes()]
        raise_all(mistakes)

    def _at(self, what: str) -> str:
        return f"Problem({self.name!r}).{what}"

    def _arrays(self, what: str, given: Any, mistakes: list[Mistake]) -> Any:
        """Return the tree as NumPy arrays; parameters and a state must be floating and finite."""
        fresh = []
        for name, leaf in tree.leaves(given):
            where = self._at(what) + (f"[{name!r}]" if name else "")
            try:
                array = np.array(leaf)
            except (ValueError, TypeError) as problem:
                mistakes.append(Mistake(where, f"{type(leaf).__name__} ({problem})", "an array of numbers"))
                fresh.append(np.zeros(()))
                continue
            mistakes += _array_mistakes(where, array, must_float=what != "data")
            fresh.append(array)
        return tree.rebuild(given, fresh)

    def _floats(self, what: str, mistakes: list[Mistake]) -> tuple[float, ...]:
        try:
            array = np.asarray(getattr(self, what), dtype=np.float64)
        except (ValueError, TypeError):
            mistakes.append(Mistake(self._at(what), repr(getattr(self, what)), "a sequence of numbers"))
            return ()
        if array.ndim != 1:
            mistakes.append(Mistake(self._at(what), f"shape {array.shape}", "a one-dimensional sequence of numbers"))
        return tuple(float(x) for x in array.reshape(-1))

    def _role_mistakes(self, role: str) -> list[Mistake]:
        given = getattr(self, role)
        if role == "initial" and not is_function(given):
            return []
        if isinstance(given, Mapping):
            return [
                Mistake(
                    self._at(f"{role}[{key!r}]"),
                    f"{type(function).__name__} for {key!r}",
                    f"a callable {_ARGUMENTS[role]} for 'torch' or 'jax'",
                    f'Write {role}={{"torch": f, "jax": g}}.',
                )
                for key, function in given.items()
                if key not in LIBRARIES or not callable(function)
            ]
        if not callable(given):
            expected = f"a callable {_ARGUMENTS[role]}"
            return [Mistake(self._at(role), type(given).__name__, expected)]
        return _arity_mistakes(self._at(role), role, given)

    def _name_mistakes(self) -> list[Mistake]:
        if isinstance(self.name, str) and self.name and all(c.isalnum() or c in "_-" for c in self.name):
            return []
        return [Mistake("Problem.name", repr(self.name), "letters, digits, '_' and '-' (it names files)")]

    def _time_mistakes(self) -> list[Mistake]:
        ts = self.ts
        if len(ts) < 2:
            fix = "Write ts=[t0, ..., t1]."
            return [Mistake(self._at("ts"), f"{len(ts)} times", "at least the initial and the final time", fix)]
        found = []
        if not all(np.isfinite(ts)):
            found.append(Mistake(self._at("ts"), "a time that is NaN or infinite", "finite times"))
        bad = [i for i in range(len(ts) - 1) if not ts[i] < ts[i + 1]]
        if bad:
            i = bad[0]
            got = f"ts[{i}] = {ts[i]:g}, ts[{i + 1}] = {ts[i + 1]:g}"
            fix = "Sort them and drop repeats; to integrate backwards, substitute t -> -t in the field."
            found.append(Mistake(self._at("ts"), got, "strictly increasing times", fix))
        return found

    def _choice_mistakes(self) -> list[Mistake]:
        found = []
        for rtol in self.tolerances:
            if not 0 < rtol < 1:
                found.append(Mistake(self._at("tolerances"), f"{rtol:g}", "values of rtol between 0 and 1"))
        if self.dtype not in ("float64", "float32"):
            found.append(Mistake(self._at("dtype"), repr(self.dtype), "'float64' or 'float32'"))
        entries = None if is_function(self.initial) else set(tree.flatten(self.initial))
        for name in self.integrals:
            if entries is not None and name not in entries:
                found.append(Mistake(self._at("integrals"), repr(name), f"an entry of the state {sorted(entries)}"))
        leaves = set(tree.flatten(self.params))
        for name in self.field_params or ():
            if name not in leaves:
                found.append(Mistake(self._at("field_params"), repr(name), f"a leaf of params {sorted(leaves)}"))
        for name, definition in self.norms.items():
            found += _norm_mistakes(self._at(f"norms[{name!r}]"), name, definition)
        if self.exact is not None and not callable(self.exact):
            found.append(Mistake(self._at("exact"), type(self.exact).__name__, "a callable (params, data)"))
        return found

    def function(self, role: str, library: str) -> Any:
        """Return the callable of a role for `torch` or `jax`; None where it is given for the other one alone.

        An `initial` that is a state comes back as the state itself.
        """
        given = getattr(self, role)
        if role == "initial" and not is_function(given):
            return given
        if isinstance(given, Mapping):
            return given.get(library)
        only = getattr(given, "library", None)
        return given if only in (None, library) else None

    def lacks(self, library: str) -> tuple[str, ...]:
        """Return the roles that cannot be run by a library."""
        return tuple(role for role in ROLES if self.function(role, library) is None)

    @property
    def ported(self) -> tuple[str, ...]:
        """Roles given twice, once per library, whose values must be compared before any solve."""
        return tuple(role for role in ROLES if all(self._given_alone(role, library) for library in LIBRARIES))

    def _given_alone(self, role: str, library: str) -> bool:
        given = getattr(self, role)
        return is_function(given) and isinstance(given, Mapping) and library in given

    def inner_breakpoints(self) -> tuple[float, ...]:
        """Return the sorted breakpoints in [ts[0], ts[-1]], each once."""
        return tuple(sorted({b for b in self.breakpoints if self.ts[0] <= b <= self.ts[-1]}))

    def replace(self, **changes: Any) -> Problem:
        """Return a copy with some fields changed, checked anew."""
        return Problem(**{item.name: getattr(self, item.name) for item in fields(self)} | changes)


def is_function(initial: Any) -> bool:
    """Whether a problem's `initial` is a function, alone or per library, and not a state."""
    if isinstance(initial, Mapping):
        return bool(initial) and set(initial) <= set(LIBRARIES) and all(callable(f) for f in initial.values())
    return callable(initial)


def _array_mistakes(where: str, array: np.ndarray, *, must_float: bool) -> list[Mistake]:
    if array.dtype.kind not in "fiub":
        return [Mistake(where, f"dtype {array.dtype}", "real numbers")]
    if must_float and array.dtype.kind != "f":
        return [Mistake(where, f"dtype {array.dtype}", "a floating dtype", f"Write np.asarray(..., dtype={'float'}).")]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(np.count_nonzero(~np.isfinite(array)))
        entries = "1 entry that is" if count == 1 else f"{count} entries that are"
        return [Mistake(where, f"{entries} NaN or infinite", "finite numbers")]
    return []


def _arity_mistakes(where: str, role: str, function: Callable[..., Any]) -> list[Mistake]:
    wanted = _ARGUMENTS[role].count(",") + 1
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin without a signature: the trial will tell
        return []
    try:
        signature.bind(*range(wanted))
    except TypeError:
        return [Mistake(where, f"a function of {signature}", f"a function of {_ARGUMENTS[role]}")]
    return []


def _norm_mistakes(where: str, name: str, definition: Any) -> list[Mistake]:
    if name in norms.names():
        return [Mistake(where, f"the name {name!r}", "a name that is not taken by a built-in norm")]
    if callable(definition):
        return []
    if not isinstance(definition, Mapping):
        expected = "weights by block or a callable(blocks) -> scalar"
        return [Mistake(where, type(definition).__name__, expected, 'Write {"y": 1, "a_y": 1, "a_params": 0.1}.')]
    found = []
    for block, weight in definition.items():
        if block == "across":
            if weight not in ("max", "pooled"):
                found.append(Mistake(f"{where}['across']", repr(weight), "'max' or 'pooled'"))
        elif str(block).split("/", 1)[0] not in norms.GROUPS:
            found.append(Mistake(where, f"the block {block!r}", f"one of {norms.GROUPS}, or one leaf, 'a_params/NAME'"))
        elif not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
            found.append(Mistake(f"{where}[{block!r}]", repr(weight), "a weight >= 0"))
    if not any(weight for block, weight in definition.items() if block != "across"):
        found.append(Mistake(where, "no weight above 0", "at least one block that the norm sees"))
    return found
