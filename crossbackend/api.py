"""crossbackend from Python: the same verbs as the command line."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossbackend import norms, registry
from crossbackend.compare import Comparison
from crossbackend.errors import Mistake, UserError, raise_all
from crossbackend.load import load
from crossbackend.plan import STEPPINGS, Choice, Plan, atol_of, check_choice
from crossbackend.problem import Problem
from crossbackend.record import Gradient
from crossbackend.stored import compare
from crossbackend.trial import trial

if TYPE_CHECKING:
    from crossbackend.imports import Imported

Problems = Problem | str | Path | Sequence[Problem | str | Path]


def _problems(given: Problems) -> list[Problem]:
    many = [given] if isinstance(given, (Problem, str, Path)) else list(given)
    return [item if isinstance(item, Problem) else load(item) for item in many]


def _many(given: Any) -> tuple[Any, ...]:
    """Return one value, or a sequence of them, as a tuple."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)


def run(
    problems: Problems,
    *,
    backends: str | Sequence[str] | None = None,
    norms: str | Sequence[str] = norms.NATIVE,
    steppings: str | Sequence[str] = STEPPINGS,
    gradients: str | Sequence[str] = ("backsolve",),
    rtols: float | Sequence[float] | None = None,
    atol_factor: float = 1e-2,
    dtype: str | None = None,
    device: str = "cpu",
    first_step: float | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Comparison:
    """Run problems on backends, each in a process of its own, and compare what came of it.

    Parameters
    ----------
    problems : Problem, gallery name, path, or a sequence of these
        A problem made in memory travels to the workers by cloudpickle.
    backends : sequence of str, optional
        All installed ones by default.
    norms : sequence of str
        `native:NAME` or `matched:NAME` keeps a norm to one stepping.
    steppings : sequence of {"native", "matched"}
    gradients : sequence of {"backsolve", "interpolating", "quadrature", "direct"}
        How the gradient is taken (docs/gradients.md); backends decline those that they do not have.
    rtols : sequence of float, optional
        The problem's own tolerances by default; atol = atol_factor x rtol.
    dtype, device : str
    first_step : float, optional
        First step of every solve; the library's own choice by default.
    out : path, optional
        Folder of the run, kept and resumed; a temporary one otherwise.
    **options
        `repeats`, `seconds`, `timing`, `force`, `timeout`, `memory_gib`, `progress`, `explain`, `scheduler` (a
        Dask scheduler's address, whose workers then run the cells): see `study.Options`.

    Raises
    ------
    UserError
        For every mistake in what was given, before any solve.
    """
    from crossbackend.study import Options, run_study

    choice = Choice(
        _many(backends or registry.installed()), _many(norms), _many(steppings),
        None if rtols is None else _many(rtols), atol_factor, dtype, device, first_step,
        _many(gradients),
    )  # fmt: skip
    chosen = _problems(problems)
    if out is not None:
        return compare(run_study(chosen, choice, Options(Path(out), **options)))
    with tempfile.TemporaryDirectory(prefix="crossbackend-") as folder:
        return compare(run_study(chosen, choice, Options(Path(folder), **options)))


def gradient(
    problem: Problem | str | Path,
    backend: str = "scipy",
    *,
    norm: str = "default",
    stepping: str = "native",
    gradient: str = "backsolve",
    rtol: float = 1e-6,
    atol: float | None = None,
    dtype: str | None = None,
    device: str = "cpu",
) -> Gradient:
    """Return a problem's loss and gradient by one backend, in this process.

    Parameters
    ----------
    problem : Problem, gallery name or path
    backend, norm, stepping : str
    gradient : {"backsolve", "interpolating", "quadrature", "direct"}
        How it is taken: docs/gradients.md.
    rtol, atol : float
        atol is 1e-2 rtol by default.
    dtype, device : str
        The problem's dtype by default.

    Returns
    -------
    Gradient
        `loss`, `y0` and `params`, NumPy arrays by leaf name.

    Raises
    ------
    UserError
        For a mistake of the caller's, or a plan that the backend declines, with its reason.
    """
    (chosen,) = _problems(problem)
    choice = Choice((backend,), (norm,), (stepping,), (rtol,), dtype=dtype, device=device, gradients=(gradient,))
    check_choice(choice, [chosen], registry.names())
    atol = atol_of(rtol, choice.atol_factor) if atol is None else atol
    where = f"gradient({chosen.name!r}, {backend!r})"
    if not 0 < atol < math.inf:
        raise UserError(Mistake(where, f"atol = {atol:g}", "a positive number"))
    lacking = registry.missing(backend)
    if lacking:
        got = f"a backend without {', '.join(lacking)}"
        raise UserError(Mistake(where, got, "its libraries installed", registry.advice(backend)))
    plan = Plan(chosen.name, backend, norm, stepping, rtol, atol, gradient, dtype or chosen.dtype, device)
    solver = registry.get(backend)
    reason = solver.declines(chosen, plan)
    if reason is not None:
        raise UserError(Mistake(where, "a plan that it declines", "another plan", f"{reason}."))
    raise_all(trial(chosen, solver.library).mistakes)
    return solver.compile(chosen, plan).solve(rtol, atol)


def lower(problem: Problem | str | Path) -> str:
    """Return the source of the NumPy program that SciPy runs for a problem.

    Raises
    ------
    UserError
        For a mistake of the caller's, a problem that JAX cannot trace, or where JAX is not installed.
    """
    from crossbackend.augmented import Augmented

    (chosen,) = _problems(problem)
    _need_tracer("lower")
    raise_all(trial(chosen, "jax").mistakes)
    program = Augmented(chosen, "numpy").program
    assert program is not None
    return program.source


def _need_tracer(where: str) -> None:
    lacking = registry.missing("scipy")
    if lacking:
        fix = "Install crossbackend[scipy]."
        raise UserError(Mistake(where, f"no {', '.join(lacking)}", "the libraries that trace a problem", fix))


def export(problem: Problem | str | Path, *, julia: str | Path) -> dict[str, str]:
    """Write a problem as a Julia program that runs on Julia alone: see docs/julia.md.

    Parameters
    ----------
    problem : Problem, gallery name or path
    julia : path
        The folder to write, whole or not at all. It may hold an earlier export of the same problem, whose results
        stay; any other is refused.

    Returns
    -------
    dict of str to str
        Norms that the program lacks, each with the reason; empty but for callable norms that JAX cannot trace.

    Raises
    ------
    UserError
        For a mistake of the caller's, a problem that JAX cannot trace or that has no rule in Julia, or where JAX is
        not installed.
    """
    from crossbackend.export import export as write

    (chosen,) = _problems(problem)
    _need_tracer("export")
    raise_all(trial(chosen, "jax").mistakes)
    return write(chosen, Path(julia)).left_out


def import_results(folder: str | Path, run: str | Path, *, card: str | Path | None = None) -> Imported:
    """Put the results of a Julia program into a run, all of them or none; return what was imported.

    Parameters
    ----------
    folder : path
        The program's results, or the exported folder with `results` in it.
    run : path
        The run's folder; made where there is none.
    card : path, optional
        The problem's `card.json`; it is found where the results lie in the exported folder.

    Raises
    ------
    UserError
        With everything that is wrong with the results, or for a folder that is no run.
    """
    from crossbackend.imports import import_results as read

    return read(folder, run, card=card)


def recipe(problem: Problem | str | Path, library: str | None = None) -> str:
    """Return the paper's seminorm for a problem as code to paste, with the problem's own shapes.

    Parameters
    ----------
    problem : Problem, gallery name or path
    library : {"torchdiffeq", "diffrax", "scipy"}, optional
        All three by default.

    Raises
    ------
    UserError
        For a mistake of the caller's, or an unknown library.
    """
    from crossbackend.recipe import recipe as written

    (chosen,) = _problems(problem)
    return written(chosen, library)
