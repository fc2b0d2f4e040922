"""Which plan to take: the cheapest that reaches a wanted gradient error, and how far the others are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossbackend.flags import is_unstable
from crossbackend.record import Record, Status
from crossbackend.series import BACKSOLVE, InSeries, gradient_of, series, series_of
from crossbackend.speedup import AT_FLOOR, Cost, total_nfe
from crossbackend.wording import listed

if TYPE_CHECKING:
    from crossbackend.compare import Comparison, ProblemComparison

WANTED = (1e-2, 1e-4, 1e-6, 1e-8)
"""Gradient errors for which the report names the cheapest plan."""
BY = ("time", "nfe")


@dataclass(frozen=True)
class Choice(InSeries):
    """A plan that reaches the wanted error.

    Attributes
    ----------
    backend, norm : str
    rtol, atol : float
    cost : float
        Seconds (median of loss and gradient), or evaluations of both passes.
    ratio : float
        Cost over the cheapest plan's.
    error : float
        The relative gradient error it reached.
    compile_s : float or None
        Seconds of compiling that the first gradient pays and `cost` leaves out; None where it was not timed.
    gradient : str
    """

    backend: str
    norm: str
    rtol: float
    atol: float
    cost: float
    ratio: float
    error: float
    compile_s: float | None
    gradient: str = BACKSOLVE


@dataclass
class Advice:
    """What to take for one problem.

    Attributes
    ----------
    choices : list of Choice
        The cheapest plan of every backend, gradient and norm that reaches the error, the cheapest first; empty where
        none does.
    short : list of dict
        `{backend, gradient, norm, rtol, error}`: those that do not reach it, with the smallest error that they reached.
    unknown : list of str
        What was not measured, in words.
    """

    problem: str
    wanted: float
    by: str
    choices: list[Choice] = field(default_factory=list)
    short: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


COSTS: dict[str, Cost] = {
    "time": lambda record: (record.time or {}).get("median_s"),
    "nfe": total_nfe,
}


def advise(comparison: Comparison, wanted: float, by: str = "time") -> list[Advice]:
    """Return the cheapest native plan of every problem that reaches a gradient error, and the others behind it.

    Parameters
    ----------
    comparison : Comparison
    wanted : float
        Relative gradient error.
    by : {"time", "nfe"}
        Cost: the median time of loss and gradient on the run's machine, or evaluations of both passes.
    """
    return [advice_for(item, wanted, by) for item in comparison.problems]


def advice_for(item: ProblemComparison, wanted: float, by: str) -> Advice:
    """Return what to take for one problem: see `advise`."""
    found = Advice(item.problem, wanted, by)
    native = [r for r in item.records if r.stepping == "native"]
    sweeps: dict[tuple[str, str, str], list[Record]] = {}
    for record in native:
        sweeps.setdefault((record.backend, gradient_of(record.plan), record.norm), []).append(record)
    cheapest = [best for own in sweeps.values() if (best := cheapest_of(own, wanted, by))]
    cheapest.sort(key=lambda pair: pair[0])
    for cost, r in cheapest:
        ratio = cost / cheapest[0][0]
        compile_s = (r.time or {}).get("compile_s")
        reached = (r.error["all"], compile_s, gradient_of(r.plan))
        found.choices.append(Choice(r.backend, r.norm, r.rtol, r.atol, cost, ratio, *reached))
    named = {(choice.backend, choice.gradient, choice.norm) for choice in found.choices}
    for cell, own in sweeps.items():
        errors = [(r.error["all"], r.rtol) for r in own if r.error.get("all") is not None]
        if cell not in named and errors and min(errors)[0] > wanted:
            error, rtol = min(errors)
            part = dict(zip(("backend", "gradient", "norm"), cell, strict=True))
            found.short.append({**part, "rtol": rtol, "error": error})
    found.unknown = _unknown(item, native, wanted, by)
    return found


def cheapest_of(records: Sequence[Record], wanted: float, by: str) -> tuple[float, Record] | None:
    """Return (cost, record) of the cheapest finished record whose gradient error is at most the one wanted."""
    good = [
        (cost, record)
        for record in records
        if record.status == Status.OK
        and (error := record.error.get("all")) is not None
        and error <= wanted
        and (cost := COSTS[by](record)) is not None
    ]
    return min(good, key=lambda pair: pair[0], default=None)


def _unknown(item: ProblemComparison, native: Sequence[Record], wanted: float, by: str) -> list[str]:
    """Say what was not measured and might have changed the answer."""
    said = []
    if not native:
        said.append("the run has no native plan")
    declined = [record for record in native if record.status == Status.UNSUPPORTED]
    status, floor = item.reference.get("status", "missing"), item.reference.get("floor")
    if status not in ("exact", "ok"):
        said.append(f"no reference gradient ({status}), so no error is known")
    elif floor is not None and wanted < AT_FLOOR * floor:
        said.append(f"the reference is good to {floor:.1g} only, so an error of {wanted:.1g} cannot be told from 0")
    for kind, rows in (
        ("did not finish", [r for r in native if r.status not in (Status.OK, Status.UNSUPPORTED)]),
        ("was declined", [r for r in declined if gradient_of(r.plan) == BACKSOLVE]),
        ("was not timed", [r for r in native if r.status == Status.OK and by == "time" and not r.time]),
        ("has an unstable reverse solve", [r for r in native if is_unstable(r)]),
    ):
        said += [
            f"{cell} {kind} at rtol {', '.join(f'{r:g}' for r in rtols)}"
            for cell, rtols in _cells(rows).items()
        ]  # fmt: skip
    others: dict[str, set[str]] = {}
    for record in declined:
        if gradient_of(record.plan) != BACKSOLVE:
            others.setdefault(record.backend, set()).add(series_of(record.plan))
    said += [f"{backend} declined {listed(sorted(names))}" for backend, names in sorted(others.items())]
    tried = sorted({r.rtol for r in native}, reverse=True)
    if tried:
        said.append(f"tolerances other than rtol {', '.join(f'{r:g}' for r in tried)}")
    return said


def _cells(records: Sequence[Record]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(f"{record.backend}, {series_of(record.plan)}", []).append(record.rtol)
    return found


def cheapest(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the fastest native plan for every error of `WANTED` that some plan reaches."""
    native = [record for record in records if record.stepping == "native"]
    found = []
    for wanted in WANTED:
        best = cheapest_of(native, wanted, "time")
        if best is not None:
            seconds, record = best
            row = {"wanted": wanted, "backend": record.backend, "gradient": gradient_of(record.plan)}
            row |= {"norm": record.norm, "rtol": record.rtol, "error": record.error["all"], "median_s": seconds}
            found.append(row)
    return found


def text(item: Advice) -> str:
    """Return the advice for one problem in lines for a terminal."""
    shown = (lambda cost: f"{cost:.3g} s") if item.by == "time" else (lambda cost: f"{cost:.0f} evaluations")
    lines = [f"{item.problem}, gradient error at most {item.wanted:g}, by {item.by}"]
    if not item.choices:
        lines.append("  no plan of this run is known to reach it")
    for choice in item.choices:
        behind = "the cheapest" if choice is item.choices[0] else f"{choice.ratio:.2g} times that"
        cell = f"{choice.backend}, {choice.series}, rtol {choice.rtol:g}, atol {choice.atol:g}"
        once = choice.compile_s if item.by == "time" else None
        first = f"; {once:.2g} s more for the first" if once is not None and once > choice.cost else ""
        lines.append(f"  {cell}: {shown(choice.cost)}, {behind}; error {choice.error:.1e}{first}")
    lines += [
        f"  not reached by {row['backend']}, {series(row['norm'], row['gradient'])}: at best {row['error']:.1e} at "
        f"rtol {row['rtol']:g}"
        for row in item.short
    ]
    if item.unknown:
        lines.append(f"  Not known: {'; '.join(item.unknown)}.")
    return "\n".join([*lines, ""])
