"""Run what a check needs: matched cells on every backend, trials in every library, quick references; then judge."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from crossbackend import registry
from crossbackend.check.findings import WHAT, Cause, Check, Finding, Verdict
from crossbackend.check.judge import Demands, judge
from crossbackend.compare import ProblemComparison, compare_problem
from crossbackend.errors import Mistake, raise_all
from crossbackend.flags import LEVELS
from crossbackend.load import load
from crossbackend.plan import Choice
from crossbackend.problem import Problem
from crossbackend.stored import compare
from crossbackend.study.options import Options
from crossbackend.study.run import conduct
from crossbackend.study.state import Study
from crossbackend.trial import Trial, compare_ports

RTOLS = (1e-4, 1e-6)
NORMS = ("seminorm",)
"""A norm with a weight of zero, so that a backend that ignores weights takes other steps."""
SEEDS = 2
TIMEOUT = 120.0
JOBS = 2
"""Worker processes a backend: one library that compiles for long would keep the others waiting."""


def check(
    problems: Problem | str | Path | Sequence[Problem | str | Path],
    *,
    backends: str | Sequence[str] | None = None,
    norms: str | Sequence[str] = NORMS,
    rtols: float | Sequence[float] = RTOLS,
    steppings: str | Sequence[str] = ("matched",),
    fail_on: str | Collection[str] = (),
    within: float | None = None,
    seeds: int = SEEDS,
    timeout: float = TIMEOUT,
    memory_gib: float = 4.0,
    progress: bool = False,
    out: str | Path | None = None,
) -> Check:
    """Cross-check the gradients of problems: backends against each other, a reference and finite differences.

    Parameters
    ----------
    problems : Problem, gallery name, path, or a sequence of these
    backends : sequence of str, optional
        The installed ones that need no program beside Python by default: Julia is asked for by name.
    norms, steppings : sequence of str
    rtols : sequence of float
        atol = 1e-2 rtol.
    fail_on : collection of str
        Flags that fail instead of warning; `all` for every warning.
    within : float, optional
        Largest difference of gradients under native stepping; by default what their own errors explain.
    seeds : int
        Random directions along which every leaf is held against finite differences.
    timeout : float
        Seconds for one solve, compilation included.
    memory_gib : float
        Of one worker.
    progress : bool
        Show a bar.
    out : path, optional
        Keep the run's records there, a folder that `crossbackend report` reads; a temporary one otherwise. What it
        holds already is run again: functions that are not tried and solves that are not made prove nothing.

    Returns
    -------
    Check

    Raises
    ------
    UserError
        For every mistake in what was asked for, before any solve.
    """
    started = time.monotonic()
    many = [problems] if isinstance(problems, (Problem, str, Path)) else list(problems)
    chosen = [item if isinstance(item, Problem) else load(item) for item in many]
    fail_on = _many(fail_on)
    _demands(fail_on, within, seeds)
    names = _many(backends or [name for name in registry.installed() if not registry.programs(name)])
    choice = Choice(names, _many(norms), _many(steppings), _many(rtols), dtype="float64")
    with tempfile.TemporaryDirectory(prefix="crossbackend-check-") as folder:
        place = Path(folder) if out is None else Path(out)
        options = Options(
            place, timing=False, explain=False, force=True, lenient=True, jobs=JOBS, seeds=seeds, timeout=timeout,
            optimise="native" in choice.steppings, memory_gib=memory_gib, progress=progress,
        )  # fmt: skip
        study = conduct(chosen, choice, options)
        comparison = compare(place)
    asked = [problem.name for problem in chosen]
    comparison.problems = [item for item in comparison.problems if item.problem in asked]
    ports = [finding for problem in chosen for finding in _ports(problem, study)]
    findings = _findings(asked, ports, comparison.problems, Demands(frozenset(fail_on), within))
    return Check(asked, findings, {}, time.monotonic() - started, comparison)


def _many(given: Any) -> tuple[Any, ...]:
    """Return one value, or a sequence of them, as a tuple."""
    return tuple(given) if isinstance(given, Collection) and not isinstance(given, str) else (given,)


def judged(whole: Check, backends: Collection[str]) -> Check:
    """Return what the check finds with some of its backends alone, flags as warnings; nothing is run again.

    Raises
    ------
    ValueError
        A check without the run behind it.
    """
    if whole.comparison is None:
        raise ValueError("this check has no run behind it")
    items = [
        compare_problem(item.problem, [r for r in item.records if r.backend in backends], item.card, item.reference)
        for item in whole.comparison.problems
    ]
    ports = [finding for finding in whole.findings if finding.what == "ports"]
    comparison = replace(whole.comparison, problems=items)
    return Check(whole.problems, _findings(whole.problems, ports, items, Demands()), {}, whole.wall_s, comparison)


def _demands(fail_on: Collection[str], within: float | None, seeds: int) -> None:
    mistakes = [
        Mistake("--fail-on", repr(name), f"a flag: {', '.join(LEVELS)}; or all")
        for name in fail_on
        if name not in LEVELS and name != "all"
    ]
    if within is not None and not within > 0:
        mistakes.append(Mistake("--within", f"{within:g}", "a positive number"))
    if seeds < 1:
        mistakes.append(Mistake("--seeds", f"{seeds}", "a whole number of 1 or more"))
    raise_all(mistakes)


def _findings(
    asked: Sequence[str], ports: Sequence[Finding], items: Sequence[ProblemComparison], demands: Demands
) -> list[Finding]:
    """Return the findings problem by problem, in the order of the questions."""
    by_problem = {name: [finding for finding in ports if finding.problem == name] for name in asked}
    mistaken = {name for name, own in by_problem.items() if any(f.verdict == Verdict.FAIL for f in own)}
    for item in items:
        if item.problem not in mistaken:
            by_problem[item.problem] += judge(item, demands)
    order = list(WHAT)
    return [f for own in by_problem.values() for f in sorted(own, key=lambda finding: order.index(finding.what))]


def _ports(problem: Problem, study: Study) -> list[Finding]:
    """Return whether the functions run, and give the same in all libraries that they were tried in."""
    mistakes = list(study.mistaken.get(problem.name, []))
    tried: list[Trial] = [
        trial for (name, _), trial in sorted(study.tried.items()) if name == problem.name and trial.samples
    ]
    for one, two in combinations(tried, 2):
        mistakes += [m for m in compare_ports(problem, one, two, everything=True) if str(m) not in map(str, mistakes)]
    if mistakes:
        return [
            Finding(
                "ports", problem.name, verdict=Verdict.FAIL, text=str(mistake), cause=Cause.MATHEMATICS,
                evidence="the functions were called at the same points and have nothing to do with a solver",
            )
            for mistake in mistakes
        ]  # fmt: skip
    libraries = ", ".join(trial.library for trial in tried)
    more = "" if len(tried) > 1 else ": nothing to compare it with"
    return [Finding("ports", problem.name, text=f"field, y(t0) and loss ran under {libraries or 'no library'}{more}")]
