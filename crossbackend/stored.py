"""Stored runs from Python: the same verbs as the command line, and none of them needs torch or jax."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from crossbackend.advice import BY, Advice
from crossbackend.advice import advise as advise_run
from crossbackend.compare import Comparison
from crossbackend.compare import compare as compare_run
from crossbackend.diff import Difference
from crossbackend.diff import diff as diff_runs
from crossbackend.errors import Mistake, UserError, raise_all
from crossbackend.explain import Explanation
from crossbackend.store import load_run, write_bytes


def compare(folder: str | Path) -> Comparison:
    """Return the comparison of a stored run; needs neither torch nor jax.

    Raises
    ------
    UserError
        Where there is no run.
    """
    return compare_run(load_run(Path(folder)))


def explain(run: str | Path | Comparison, problem: str | None = None, *, rtol: float | None = None) -> Explanation:
    """Return why results differ for one problem of a run; needs neither torch nor jax.

    Parameters
    ----------
    run : path or Comparison
        The folder of a stored run, or what `run` or `compare` returned.
    problem : str, optional
        Its name in the run; it may be left out where the run holds one problem.
    rtol : float, optional
        The tolerance that the text is about: 1e-6 by default, or the one nearest to it.

    Returns
    -------
    Explanation
        Its `str` is the text for a terminal, `as_dict()` the JSON object.

    Raises
    ------
    UserError
        Where there is no run, or no such problem or tolerance in it.
    """
    comparison = run if isinstance(run, Comparison) else compare(run)
    names = [item.problem for item in comparison.problems]
    if problem is None and len(names) == 1:
        (problem,) = names
    if problem not in names:
        expected = f"one of {', '.join(names)}" if names else "a run that holds records"
        got = "none" if problem is None else f"{problem!r}, which the run does not hold"
        raise UserError(Mistake("problem", got, expected))
    item = comparison.problems[names.index(problem)]
    rtols = sorted({record.rtol for record in item.records}, reverse=True)
    if rtol is not None and rtol not in rtols:
        raise UserError(Mistake("--rtol", f"{rtol:g}", f"one of {', '.join(f'{r:g}' for r in rtols)}"))
    return Explanation(item, rtol)


def advise(run: str | Path | Comparison, error: float, *, by: str = "time") -> list[Advice]:
    """Return the cheapest plan of every problem of a run that reaches a relative gradient error.

    Parameters
    ----------
    run : path or Comparison
        The folder of a stored run, or what `run` or `compare` returned.
    error : float
        Relative gradient error to reach.
    by : {"time", "nfe"}
        What is to be cheap: the median time of loss and gradient, or evaluations of both passes.

    Raises
    ------
    UserError
        Where there is no run, for an error that is not positive, or another `by`.
    """
    mistakes = []
    if isinstance(error, bool) or not isinstance(error, (int, float)) or not 0 < error < math.inf:
        mistakes.append(Mistake("--error", f"{error!r}", "a positive number", "Write for example --error 1e-4."))
    if by not in BY:
        mistakes.append(Mistake("--by", repr(by), f"one of {', '.join(BY)}"))
    raise_all(mistakes)
    return advise_run(run if isinstance(run, Comparison) else compare(run), error, by)


def diff(a: str | Path | Comparison, b: str | Path | Comparison) -> Difference:
    """Return what changed from run A to run B: results, times, flags, and what may explain it.

    Parameters
    ----------
    a, b : path or Comparison
        The folder of a stored run, or what `run` or `compare` returned.

    Returns
    -------
    Difference
        Its `str` is the text for a terminal, `as_dict()` the JSON object, `summary()` the main sentences.

    Raises
    ------
    UserError
        For every run that is not there.
    """
    runs: list[Comparison] = []
    mistakes: list[Mistake] = []
    for where, given in (("RUN_A", a), ("RUN_B", b)):
        try:
            runs.append(given if isinstance(given, Comparison) else compare(given))
        except UserError as error:
            mistakes += [replace(mistake, where=where) for mistake in error.mistakes]
    raise_all(mistakes)
    names = [
        str(run.about.get("name") or "run") if isinstance(given, Comparison) else str(given)
        for given, run in zip((a, b), runs, strict=True)
    ]
    return diff_runs(runs[0], runs[1], (names[0], names[1]))


def write_diff(difference: Difference, path: str | Path) -> Path:
    """Write the HTML page of a difference, whole or not at all, and return its path.

    Raises
    ------
    UserError
        Where no file can be written there.
    """
    from crossbackend.report.diff_page import render

    path = Path(path)
    content = render(difference)
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "a folder")
        write_bytes(path, content)
    except OSError as error:
        expected = "a file that can be written"
        raise UserError(Mistake("--page", f"{path} ({error.strerror})", expected, "Write another file.")) from error
    return path


def report(folder: str | Path, *, pdf: bool = True, figures: bool = False) -> list[Path]:
    """Write the report of a stored run into its folder; return the paths.

    Parameters
    ----------
    folder : path
        Of the run.
    pdf : bool
        False writes `index.html` alone, without `report.pdf`.
    figures : bool
        True writes every chart as `figures/KIND-PROBLEM.svg` too.

    Raises
    ------
    UserError
        Where there is no run.
    """
    return write_report(compare(folder), folder, pdf=pdf, figures=figures)


def write_report(comparison: Comparison, folder: str | Path, *, pdf: bool = True, figures: bool = False) -> list[Path]:
    """Write the report of a comparison into a folder; return the paths."""
    from crossbackend.report import write

    return write(comparison, Path(folder), pdf=pdf, figures=figures)


def report_all(folder: str | Path, *, pdf: bool = True, figures: bool = False) -> list[Path]:
    """Write the report of every run in a folder, and the `index.html` that lists them; return the paths.

    Raises
    ------
    UserError
        No such folder, one that is a run itself, or one whose `index.html` is not crossbackend's.
    """
    from crossbackend.report.index import write_all

    return write_all(Path(folder), pdf=pdf, figures=figures)
