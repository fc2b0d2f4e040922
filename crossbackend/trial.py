"""Run a problem's functions once, before any solve, and say everything that is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossbackend import ops, tree
from crossbackend.bound import Bound
from crossbackend.errors import Mistake, UserError
from crossbackend.problem import Problem

SAMPLES = 3
"""Random points at which functions given twice, for torch and for jax, are compared."""


@dataclass
class Trial:
    """What a trial found.

    Attributes
    ----------
    library : str
    mistakes : list of Mistake
    samples : dict of str to ndarray
        Values of the field, the loss and y0 at fixed random points, to be compared between libraries.
    """

    library: str
    mistakes: list[Mistake] = field(default_factory=list)
    samples: dict[str, np.ndarray] = field(default_factory=dict)


def trial(problem: Problem, library: str) -> Trial:
    """Evaluate y0, f(t0, y0) and the loss in one library and check structure, shapes and finiteness.

    The library must be importable; call it in a worker process to keep it out of this one.
    """
    found = Trial(library)
    missing = problem.lacks(library)
    if missing:
        return found
    with ops.precision(library, problem.dtype):
        bound = Bound(problem, library, problem.dtype)
        y0 = _initial(bound, found)
        if y0 is None:
            return found
        ran = _field(bound, y0, found)
        ran = _loss(bound, y0, found, line=not found.mistakes) and ran
        if ran:
            _reach(bound, found)
        if not found.mistakes:
            _sample(bound, y0, found)
    return found


def _at(bound: Bound, what: str) -> str:
    return f"Problem({bound.problem.name!r}).{what} under {bound.library}"


def _run(bound: Bound, what: str, found: Trial, function: Any, *args: Any) -> Any:
    """Call a user's function; an exception of it is a mistake with its last line and place."""
    try:
        return function(*args)
    except UserError as error:
        found.mistakes += error.mistakes
    except Exception as error:
        expected = "a value"
        got = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{_place(error)}"
        found.mistakes.append(Mistake(_at(bound, what), got, expected))
    return None


def _place(error: BaseException) -> str:
    """Return where the user's code was when it raised: the innermost frame outside installed packages."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "site-packages" not in name and "crossbackend/" not in name.replace("\\", "/").rsplit("/problems/", 1)[0]:
            place = f" ({name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _initial(bound: Bound, found: Trial) -> Any:
    y0 = _run(bound, "initial", found, bound.initial, bound.params, bound.data)
    if y0 is None:
        return None
    before = len(found.mistakes)
    if not isinstance(y0, dict) and not hasattr(y0, "shape"):
        expected = "an array or a dict of arrays"
        found.mistakes.append(Mistake(_at(bound, "initial"), tree.structure(y0), expected))
        return None
    for name, leaf in tree.flatten(y0).items():
        where = _at(bound, "initial") + (f"[{name!r}]" if name else "")
        array = ops.to_numpy(leaf)
        if array.dtype.kind != "f":
            found.mistakes.append(Mistake(where, f"dtype {array.dtype}", "a floating dtype"))
        elif not np.isfinite(array).all():
            found.mistakes.append(Mistake(where, "entries that are NaN or infinite", "finite numbers"))
    entries = tree.flatten(y0)
    for name in bound.problem.integrals:
        if name not in entries:
            expected = f"an entry of the state {sorted(entries)}"
            found.mistakes.append(Mistake(_at(bound, "integrals"), repr(name), expected))
    return y0 if len(found.mistakes) == before else None


def _field(bound: Bound, y0: Any, found: Trial) -> bool:
    t0 = bound.time(bound.problem.ts[0])
    dy = _run(bound, "vector_field", found, bound.field, t0, y0, bound.params, bound.data)
    if dy is None:
        if not found.mistakes:
            found.mistakes.append(Mistake(_at(bound, "vector_field"), "None", "dy, of y's structure", "Return it."))
        return False
    wanted, got = tree.structure(y0), tree.structure(dy)
    if wanted != got:
        fix = "Return dy in the structure and shapes of y."
        found.mistakes.append(Mistake(_at(bound, "vector_field"), got, f"y's own structure {wanted}", fix))
        return all(hasattr(leaf, "dtype") for leaf in tree.values(dy))
    for (name, a), b in zip(tree.leaves(dy), tree.values(y0), strict=True):
        if a.dtype != b.dtype:
            where = _at(bound, "vector_field") + (f"[{name!r}]" if name else "")
            fix = "Make constants by xp.asarray(..., dtype=y.dtype)."
            found.mistakes.append(Mistake(where, f"dtype {a.dtype}", f"y's dtype {b.dtype}", fix))
    return True


def _loss(bound: Bound, y0: Any, found: Trial, *, line: bool) -> bool:
    """Evaluate the loss on y0 held constant and, where that is not finite, on a line through y0; tell if it ran."""
    before = len(found.mistakes)
    xp = ops.namespace(y0)
    count = len(bound.problem.ts)
    ys = tree.map_leaves(lambda leaf: xp.stack([leaf] * count), y0)
    value = _run(bound, "loss", found, bound.loss, ys, bound.params, bound.data)
    if value is None:
        if len(found.mistakes) == before:
            found.mistakes.append(Mistake(_at(bound, "loss"), "None", "a scalar", "Return it."))
        return False
    shape = tuple(getattr(value, "shape", ()))
    if not hasattr(value, "shape") or shape != ():
        got = f"shape {shape}" if hasattr(value, "shape") else type(value).__name__
        fix = "Reduce it, for example by xp.mean(...)."
        found.mistakes.append(Mistake(_at(bound, "loss"), got, "a scalar, shape ()", fix))
        return hasattr(value, "shape")
    if not np.isfinite(ops.to_numpy(value)) and not (line and _finite_on_a_line(bound, y0)):
        got = f"{float(value)} on y held at y0"
        found.mistakes.append(Mistake(_at(bound, "loss"), got, "a finite number", "Look for a log or a division by 0."))
    return True


def _finite_on_a_line(bound: Bound, y0: Any) -> bool:
    xp = ops.namespace(y0)
    ts = bound.problem.ts
    dy = bound.field(bound.time(ts[0]), y0, bound.params, bound.data)
    lines = [xp.stack([a + (t - ts[0]) * b for t in ts]) for a, b in zip(tree.values(y0), tree.values(dy), strict=True)]
    value = bound.loss(tree.rebuild(y0, lines), bound.params, bound.data)
    return bool(np.isfinite(ops.to_numpy(value)))


def _reach(bound: Bound, found: Trial) -> None:
    """Name the parameter leaves that reach neither field, initial state nor loss."""
    if not bound.names:
        return
    xp = ops.namespace(bound.params)
    t0, count = bound.time(bound.problem.ts[0]), len(bound.problem.ts)

    def everything(params: Any) -> Any:
        y0 = bound.initial(params, bound.data)
        ys = tree.map_leaves(lambda leaf: xp.stack([leaf] * count), y0)
        return [bound.field(t0, y0, params, bound.data), bound.loss(ys, params, bound.data)]

    for name, reached in zip(bound.names, ops.dependence(everything, bound.params), strict=True):
        if not reached:
            where = f"Problem({bound.problem.name!r}).params[{name!r}]"
            expected = "a parameter that the field, the initial state or the loss depends on"
            found.mistakes.append(Mistake(where, "one that reaches none of them", expected, "Use it or drop it."))


def _sample(bound: Bound, y0: Any, found: Trial) -> None:
    """Store values at fixed random points near y0."""
    rng = np.random.default_rng(20210719)
    ts = bound.problem.ts
    found.samples |= {f"initial/{name}": ops.to_numpy(leaf) for name, leaf in tree.leaves(y0)}
    count = len(ts)
    for k in range(SAMPLES):
        near = [_near(ops.to_numpy(leaf), rng) for leaf in tree.values(y0)]
        y = bound.convert(tree.rebuild(y0, near))
        t = bound.time(ts[0] + (ts[-1] - ts[0]) * float(rng.uniform()))
        dy = bound.field(t, y, bound.params, bound.data)
        found.samples |= {f"vector_field/{k}/{name}": ops.to_numpy(leaf) for name, leaf in tree.leaves(dy)}
        path = bound.convert(tree.rebuild(y0, [np.stack([_near(a, rng) for _ in range(count)]) for a in near]))
        found.samples[f"loss/{k}"] = ops.to_numpy(bound.loss(path, bound.params, bound.data))


def _near(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the array moved by up to 5 % of each entry's size, so that positive states stay positive."""
    return (array * (1 + 0.05 * rng.uniform(-1, 1, array.shape)) + 0.0).astype(array.dtype)


def compare_ports(problem: Problem, first: Trial, second: Trial, *, everything: bool = False) -> list[Mistake]:
    """Return the mistakes of functions whose values differ between two libraries: those given twice, or every one."""
    tolerance = 1e-9 if problem.dtype == "float64" else 1e-4
    worst: dict[str, tuple[float, str]] = {}
    for name, a in first.samples.items():
        b = second.samples.get(name)
        role = name.split("/", 1)[0]
        if b is None or not (everything or role in problem.ported):
            continue
        if a.shape != b.shape:
            worst[role] = (np.inf, f"shapes {a.shape} and {b.shape}")
            continue
        scale = max(float(np.max(np.abs(a), initial=0.0)), float(np.max(np.abs(b), initial=0.0)), 1e-300)
        difference = float(np.max(np.abs(a.astype(float) - b.astype(float)), initial=0.0)) / scale
        if not difference <= max(tolerance, worst.get(role, (0.0, ""))[0]):
            worst[role] = (difference, f"values that differ by {difference:.2g} relative to their size")
    where = f"Problem({problem.name!r})"
    libraries = f"{first.library} and {second.library}"
    return [
        Mistake(f"{where}.{role} under {libraries}", words, "the same function in both", "Mend the port.")
        for role, (_, words) in worst.items()
    ]
