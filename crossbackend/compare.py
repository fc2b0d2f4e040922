"""What follows from a run's records: agreement, errors, cost, whose error it was, flags. A pure function of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from crossbackend import gradient_points, training_points, training_summary
from crossbackend.advice import WANTED, cheapest
from crossbackend.agreement import MATCHED_TOLERANCE, Agreement, agreements
from crossbackend.flags import UNSTABLE_FACTOR, Flag, flags, is_unstable
from crossbackend.frame import frame
from crossbackend.gradient_costs import GradientCost, gradient_costs
from crossbackend.notebook import as_html
from crossbackend.record import Record
from crossbackend.rejections import Rejections, rejections
from crossbackend.series import gradient_of
from crossbackend.speedup import AT_FLOOR, Saving, SpeedUp, savings, speedups
from crossbackend.store import Run
from crossbackend.summary import Point, points
from crossbackend.training_record import TrainingRecord
from crossbackend.wording import count

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AT_FLOOR", "MATCHED_TOLERANCE", "UNCERTAIN_FLOOR", "UNSTABLE_FACTOR", "WANTED",
    "Agreement", "Comparison", "Flag", "GradientCost", "Point", "ProblemComparison", "Rejections", "Saving", "SpeedUp",
    "compare", "compare_problem",
]  # fmt: skip

UNCERTAIN_FLOOR = 1e-5
"""A reference whose two routes differ by more than this is no reference."""
LEFT_OUT = ("solver", "rtol", "atol", "across", "engine")
"""Settings that are not compared: they are the plan's, said by another one, or no matter of the solver's."""


@dataclass(repr=False)
class ProblemComparison:
    """All that follows for one problem.

    Attributes
    ----------
    reference : dict
        `status` (`exact`, `ok`, `uncertain`, `failed`, `missing`), `floor`, `check`, `routes`.
    matched, native : list of Agreement
    flags : list of Flag
        The gravest first.
    savings : list of Saving
        Backward evaluations saved at equal tolerance.
    speedups : list of SpeedUp
        Cost at equal gradient error.
    gradients : list of GradientCost
        What each way to take the gradient costs and reaches; empty where all plans are backsolve's.
    rejections : list of Rejections
        Whose error rejected the backward steps.
    splits : list of dict
        `{backend, gradient, norm, stepping, rtol, whole, parts, share, residual, replay}`: where the gradient's error
        comes from.
    settings_differ : list of dict
        `{stepping, gradient, norm, pass, setting, values: {backend: value}}` where backends differ.
    cheapest : list of dict
        `{wanted, backend, gradient, norm, rtol, error, median_s}`: the cheapest native plan that reaches an error.
    """

    problem: str
    card: dict[str, Any]
    reference: dict[str, Any]
    matched: list[Agreement] = field(default_factory=list)
    native: list[Agreement] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    savings: list[Saving] = field(default_factory=list)
    speedups: list[SpeedUp] = field(default_factory=list)
    gradients: list[GradientCost] = field(default_factory=list)
    rejections: list[Rejections] = field(default_factory=list)
    splits: list[dict[str, Any]] = field(default_factory=list)
    settings_differ: list[dict[str, Any]] = field(default_factory=list)
    cheapest: list[dict[str, Any]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<ProblemComparison {self.problem!r}: {count(len(self.records), 'record')}; {_verdicts([self])}>"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object, the cards left out."""
        return {
            "problem": self.problem,
            "reference": {key: self.reference.get(key) for key in ("status", "floor", "check", "leaves", "routes")},
            "matched": [asdict(item) for item in self.matched],
            "native": [asdict(item) for item in self.native],
            "flags": [asdict(item) for item in self.flags],
            "savings": [asdict(item) for item in self.savings],
            "speedups": [asdict(item) for item in self.speedups],
            "gradients": [asdict(item) for item in self.gradients],
            "rejections": [asdict(item) for item in self.rejections],
            "splits": self.splits,
            "settings_differ": self.settings_differ,
            "cheapest": self.cheapest,
            "records": [record.flat() for record in self.records],
        }


@dataclass(repr=False)
class Comparison:
    """What a run's records say, problem by problem; a notebook shows it with its charts.

    Attributes
    ----------
    about : dict
        The run's own `run.json`.
    problems : list of ProblemComparison
    damaged : list of str
        Files that were skipped, each with the reason.
    training : list of TrainingRecord
        What trainings gave, by experiment, setting, backend, norm and seed.
    """

    about: dict[str, Any]
    problems: list[ProblemComparison]
    damaged: list[str]
    training: list[TrainingRecord] = field(default_factory=list)

    def __repr__(self) -> str:
        parts = [count(len(self.problems), "problem"), count(len(self.records), "record")]
        parts += [count(len(self.training), "training")] if self.training else []
        return f"<Comparison {str(self.about.get('name', 'run'))!r}: {', '.join(parts)}; {_verdicts(self.problems)}>"

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows of the comparison."""
        return as_html(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `crossbackend compare --json` prints."""
        return {
            "format": 1,
            "about": self.about,
            "problems": [item.as_dict() for item in self.problems],
            "training": training_summary.as_dict(self.training),
            "damaged": self.damaged,
        }

    @property
    def records(self) -> list[Record]:
        """Every record, problem by problem."""
        return [record for item in self.problems for record in item.records]

    def to_pandas(self) -> pd.DataFrame:
        """Return a row for each record; a nested field `error: {"all": ...}` is the column `error.all`.

        The columns are `frame.COLUMNS`, the same for every comparison, an empty one too: the plan (`problem`,
        `backend`, `norm`, `stepping`, `rtol`, ...), `status`, `loss`, `error.all`, `forward.nfe`, `backward.nfe`,
        `time.median_s` (seconds) and so on; docs/records.md says what each one holds. Words are strings, counts
        nullable integers, all else floats; what was not measured is missing. Arrays, settings, machine and versions
        are left out: they are in `records`.

        Returns
        -------
        DataFrame
            In the order of `records`.
        """
        return frame(self.records)

    def points(self) -> list[Point]:
        """Say the main results in a few sentences made from the numbers, each with what it is about."""
        found = points(self.problems, self.damaged)
        end = next((at for at, point in enumerate(found) if point.topic == "Missing"), len(found))
        between = [*gradient_points.points(self.problems), *training_points.points(self.training)]
        return [*found[:end], *between, *found[end:]]

    def summary(self) -> list[str]:
        """Return the sentences of `points` alone."""
        return [point.text for point in self.points()]


def _verdicts(problems: Sequence[ProblemComparison]) -> str:
    """Return `matched cells: 70 pass, 2 unstable`."""
    found = Counter(cell.verdict for item in problems for cell in item.matched)
    order = [name for name in ("pass", "unstable", "fail", "missing") if found[name]]
    said = ", ".join(f"{found[name]} {name}" for name in order)
    return f"matched cells: {said}" if said else "no matched cells"


def compare(run: Run) -> Comparison:
    """Compare the records of a run."""
    by_problem: dict[str, list[Record]] = defaultdict(list)
    for record in run.records:
        by_problem[record.problem].append(record)
    order = [name for name in run.about.get("problems", []) if name in by_problem]
    order += sorted(set(by_problem) - set(order))
    missing = {"status": "missing", "floor": None, "check": None}
    found = [
        compare_problem(name, by_problem[name], run.cards.get(name, {}), run.references.get(name, missing))
        for name in order
    ]
    return Comparison(run.about, found, run.damaged, run.training)


def compare_problem(
    name: str, records: list[Record], card: dict[str, Any], reference: dict[str, Any]
) -> ProblemComparison:
    """Compare the records of one problem."""
    result = ProblemComparison(name, card, reference, records=records)
    unstable = {record.digest for record in records if is_unstable(record)}
    ts = result.card.get("ts")
    span = float(ts[-1] - ts[0]) if ts else None
    result.matched = agreements(records, "matched", span, unstable)
    result.native = agreements(records, "native", span, unstable)
    result.settings_differ = _settings_differ(records)
    result.flags = flags(records, result.card, reference, result.settings_differ)
    result.savings = savings(records)
    result.speedups = speedups(records, reference.get("floor"), unstable)
    result.gradients = gradient_costs(records, reference.get("floor"), unstable)
    result.rejections = rejections(records)
    result.splits = [
        {"backend": r.backend, "gradient": gradient_of(r.plan), "norm": r.norm, "stepping": r.stepping, "rtol": r.rtol}
        | r.error_split
        for r in records
        if r.error_split
    ]
    result.cheapest = cheapest(records)
    return result


def _settings_differ(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the settings that differ between backends under one stepping, gradient and norm, tolerances left out."""
    cells: dict[tuple[str, str, str], dict[str, Record]] = defaultdict(dict)
    for record in records:
        if record.settings.get("forward"):
            cells[record.stepping, gradient_of(record.plan), record.norm].setdefault(record.backend, record)
    found = []
    for cell, by_backend in cells.items():
        where = dict(zip(("stepping", "gradient", "norm"), cell, strict=True))
        for which in ("forward", "backward"):
            keys = dict.fromkeys(key for r in by_backend.values() for key in r.settings[which])
            for key in keys:
                values = {name: r.settings[which].get(key, "not applicable") for name, r in by_backend.items()}
                if len({repr(value) for value in values.values()}) > 1 and key not in LEFT_OUT:
                    found.append({**where, "pass": which, "setting": key, "values": values})
    return found
