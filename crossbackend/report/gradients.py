"""The gradient methods beside backsolve: what each costs at equal gradient error, what it reaches, what it holds."""

from __future__ import annotations

from crossbackend.compare import AT_FLOOR, Comparison, ProblemComparison
from crossbackend.gradient_costs import BASELINES, GradientCost
from crossbackend.report.costs import factor
from crossbackend.report.draw import Chart, drawing
from crossbackend.report.explain_charts import Row, factors
from crossbackend.report.formats import clean, number, sci, short, size
from crossbackend.report.names import Names
from crossbackend.report.table import Cell, Table, grouped, num
from crossbackend.series import BACKSOLVE

SHOWN = ("backward_nfe", "time")
"""Costs that the table and the chart show; those of both passes together are in the JSON."""


def table(comparison: Comparison) -> Table:
    """Return a row for each gradient of a problem that has more than backsolve, the baselines first by backend."""
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    norms = [norm for norm in BASELINES if any(r.norm == norm for i in comparison.problems for r in i.gradients)]
    for item in comparison.problems:
        for row in _ordered(item):
            keys.append((item.problem, row.backend, row.name))
            costs = [_against(item, row, norm, cost) for norm in norms for cost in SHOWN]
            bodies.append([*costs, _reached(item, row), _memory(row)])
    caption = (
        "Gradient methods, native stepping: how many times cheaper than backsolve each is at equal gradient error, "
        "after the slash the norm of backsolve: the mean over the errors that both reach, the extremes in brackets; "
        "unstable where backsolve is, so that there is no equal error. Then the smallest error of all tolerances, "
        "and the memory that a call adds to the process, of the process's peak, the median over the tolerances."
    )
    columns = [
        "problem", "backend", "gradient",
        *(f"{words} / {norm}" for norm in norms for words in ("backward evaluations", "time")),
        "smallest error", "memory",
    ]  # fmt: skip
    return Table(
        "gradients", caption, columns, grouped(keys, bodies), "Gradient methods", tuple(range(3, len(columns)))
    )


def _ordered(item: ProblemComparison) -> list[GradientCost]:
    shown = [row for row in item.gradients if row.baseline or row.gradient != BACKSOLVE]
    return sorted(shown, key=lambda row: row.backend)


def _against(item: ProblemComparison, row: GradientCost, norm: str, cost: str) -> Cell:
    found = row.found(norm, cost)
    base = next((r for r in item.gradients if r.baseline and (r.backend, r.norm) == (row.backend, norm)), None)
    if found is not None and base is not None and base.unstable:
        return num("unstable", kind="unstable")
    return factor(found)


def _reached(item: ProblemComparison, row: GradientCost) -> Cell:
    floor = number(item.reference.get("floor"))
    if row.unstable:
        return num(sci(row.error), "unstable", kind="unstable")
    at_floor = row.error is not None and floor is not None and row.error < AT_FLOOR * floor
    return num(sci(row.error), "at the floor" if at_floor else "")


def _memory(row: GradientCost) -> Cell:
    """Return the memory of a call: on a device the device's, else what it adds to the process."""
    if row.device_memory_bytes is not None:
        return num(size(row.device_memory_bytes), "on the device")
    peak = "" if row.peak_memory_bytes is None else f"of {size(row.peak_memory_bytes)}"
    return num(size(row.memory_rise_bytes), peak)


@drawing
def chart(item: ProblemComparison, names: Names, name: str) -> Chart | None:
    """Draw cost of backsolve over cost of each other gradient at equal error; None where there is no factor."""
    lines = [
        (row, norm, found)
        for row in _ordered(item)
        for norm in BASELINES
        if row.gradient != BACKSOLVE
        and (found := [a for a in row.against if a.norm == norm and a.cost in SHOWN and a.factor is not None])
    ]
    if not lines:
        return None
    rows: list[Row] = [
        (index, row.backend, row.series, one) for index, (row, _, found) in enumerate(lines) for one in found
    ]
    labels = [short(f"{row.backend}, {row.series} / {norm}", 44) for row, norm, _ in lines]
    sheet = factors(name, names, rows, labels, "times cheaper than backsolve")
    words = "how many times cheaper than backsolve each other gradient is at equal gradient error"
    return sheet.finish(item.problem, clean(f"{item.problem}: {words}"))


def lacking(item: ProblemComparison) -> str:
    """Say why a problem has no chart of factors: what backsolve reaches there, and what the others do."""
    base = [row for row in item.gradients if row.baseline]
    others = [row for row in item.gradients if row.gradient != BACKSOLVE]
    if not others:
        return "no gradient but backsolve."
    if base and all(row.unstable for row in base):
        least = min((row.error for row in base if row.error is not None), default=None)
        reached = [f"{row.series} in {row.backend} {sci(row.error)}" for row in others if row.error is not None]
        wrong = "" if least is None else f" and wrong by {sci(least)} or more"
        said = f"; reached are {', '.join(reached)}" if reached else ""
        return f"backsolve is unstable{wrong}, so no error is reached by both{said}."
    reasons = dict.fromkeys(found.reason for row in others for found in row.against if found.reason)
    return f"{'; '.join(list(reasons)[:2])}." if reasons else "no plan of backsolve to compare with."
