"""The charts of a run, kind by kind, with a sentence on what to look for in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crossbackend.compare import UNSTABLE_FACTOR, ProblemComparison
from crossbackend.record import Record, Status
from crossbackend.report import charts, explain_charts, gradients, step_charts
from crossbackend.report.draw import Chart
from crossbackend.report.formats import typographic
from crossbackend.report.names import Names, at
from crossbackend.series import BACKSOLVE, gradient_of

PICTURE = "picture"
"""The chart of a problem's solution, which belongs to the problem's own section."""


@dataclass(frozen=True)
class Group:
    """Charts of one kind, one a problem, with a sentence on what to look for and one for each chart that is missing.

    `wide` charts stand alone in their row.
    """

    name: str
    title: str
    look: str
    charts: list[Chart]
    absent: list[str]
    wide: bool = False


_LOOK = {
    "nfe": (
        "Gradient error against evaluations",
        "Look for the curve furthest to the lower left: it reaches an error with the fewest evaluations. A curve that "
        "does not fall as the tolerance tightens has an error that no tolerance removes. Dashed line and band: where "
        "the reference's own error begins to count.",
    ),
    "time": (
        "Gradient error against time",
        "Lower left is better. Distances between curves are ratios within this run; absolute times from a shared "
        "machine mean little.",
    ),
    "speedups": (
        "Speed-up at equal gradient error",
        "How many times cheaper a norm is than default where both reach the same error. The marker is the mean over "
        "the errors that both reach, the line spans its extremes; filled for backward evaluations, hollow for time. "
        "Right of 1 the norm pays.",
    ),
    "gradients": (
        "Gradient methods at equal gradient error",
        "How many times cheaper than backsolve another way to take the gradient is where both reach the same error; "
        "after the slash, the norm of backsolve. The marker is the mean over the errors that both reach, the line "
        "spans its extremes; filled for backward evaluations, hollow for time. Right of 1 the other way pays. An "
        "evaluation is not the same work for every gradient, so it is the time that counts.",
    ),
    "savings": (
        "Evaluations saved by the norm at equal tolerance",
        "Above zero the norm saves evaluations of the backward pass. Read it with the charts of error: evaluations "
        "saved at equal tolerance count only where the error does not grow.",
    ),
    "steps": (
        "Where the backward solve stepped",
        "Bars up are accepted steps, bars down rejected ones, along the problem's time, in the colour of the block "
        "whose error rejected them. A cross marks a spurious rejection, of a step that y and a_y alone would have "
        "accepted; a ring a masked step, accepted though they would not have.",
    ),
    "splits": (
        "Where the gradient's error comes from",
        "Each part alone against an exact solve, on SciPy. The forward solve's part is the same under every norm of "
        "the backward solve: where it is the largest, no such norm makes the gradient much better or worse. The "
        "integral's part is the one that the seminorm leaves uncontrolled.",
    ),
    "reconstruction": (
        "Does the reverse solve come back?",
        f"How far y, integrated back, misses the stored solution. Above the dashed line ({UNSTABLE_FACTOR:.0f} times "
        "rtol) the reverse solve amplifies errors and the gradient is not to be trusted.",
    ),
}


def problem_charts(item: ProblemComparison, names: Names, index: int) -> dict[str, Chart | None]:
    """Draw every chart of one problem, by its group's name; None where there is nothing to draw.

    `index` is the problem's place in the run; it makes the charts' names unique.
    """
    draw = {
        "nfe": lambda item, names, name: charts.work(item, names, "nfe", name),
        "time": lambda item, names, name: charts.work(item, names, "time", name),
        "savings": charts.savings, "steps": step_charts.steps, "reconstruction": charts.reconstruction,
        "speedups": explain_charts.speedups, "splits": explain_charts.splits, "gradients": gradients.chart,
    }  # fmt: skip
    found = {kind: draw[kind](item, names, f"{kind}-{index}") for kind in _LOOK}
    return {**found, PICTURE: charts.picture(item, f"solution-{index}")}


def groups(problems: Sequence[ProblemComparison], drawn: Sequence[Mapping[str, Chart | None]]) -> list[Group]:
    """Return the charts kind by kind; `drawn` holds what `problem_charts` gave for each problem."""
    found = []
    for kind, (title, look) in _LOOK.items():
        pairs = [(item, own[kind]) for item, own in zip(problems, drawn, strict=True)]
        absent = [f"{item.problem}: {_lacking(kind, item)}" for item, chart in pairs if chart is None]
        own = [chart for _, chart in pairs if chart is not None]
        found.append(Group(kind, title, look, own, absent, wide=kind == "steps"))
    return found


def _lacking(kind: str, item: ProblemComparison) -> str:
    """Say why there is no chart."""
    good = [record for record in item.records if record.status == Status.OK]
    if not good:
        return "no plan finished."
    if kind in ("nfe", "time"):
        return _no_curve(kind, good)
    if kind == "gradients":
        return typographic(gradients.lacking(item))
    if kind in ("speedups", "savings"):
        reasons = list(dict.fromkeys(row.reason for row in item.speedups if row.stepping == "native" and row.reason))
        if kind == "speedups" and reasons:
            return typographic("; ".join(reasons[:2])) + "."
        norms = {record.norm for record in good if gradient_of(record.plan) == BACKSOLVE}
        lacks = "second norm to compare with the default" if "default" in norms else "plan under the norm default"
        return f"no {lacks}."
    if kind == "splits":
        words = [str(row["message"]) for row in item.splits if row.get("message")]
        return f"{words[0]}." if words else "no native SciPy plan was taken apart."
    return {"steps": "no native backward steps are stored."}.get(kind, "not measured, or 0 throughout.")


def _no_curve(kind: str, good: Sequence[Record]) -> str:
    errors = [error for record in good if (error := at(record, "error", "all")) is not None]
    if not errors:
        return "no reference gradient, so errors cannot be drawn."
    if not any(errors):
        return "every gradient error is 0, which has no place on a logarithmic axis."
    return "no plan with an error was timed." if kind == "time" else "not measured."
