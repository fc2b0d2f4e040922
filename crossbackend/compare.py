"""What follows from a run's records: agreement, errors, cost, savings, flags. A pure function of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from crossbackend.record import Record, Status, Steps, gradient_difference
from crossbackend.store import Run
from crossbackend.summary import sentences

MATCHED_TOLERANCE = 1e-9
"""Largest relative difference of gradients that took the same steps."""
STEP_TOLERANCE = 1e-9
"""Largest difference of step ends, relative to the interval's length, of the same steps."""
UNSTABLE_FACTOR = 100.0
"""A reconstruction error above this multiple of rtol says that the reverse solve amplifies errors."""
UNCERTAIN_FLOOR = 1e-5
"""A reference whose two routes differ by more than this is no reference."""
AT_FLOOR = 10.0
"""An error under this multiple of the reference's own uncertainty is shown as `at the floor`."""
WANTED = (1e-2, 1e-4, 1e-6, 1e-8)
"""Gradient errors for which the cheapest plan is named."""


@dataclass(frozen=True)
class Agreement:
    """Whether the backends of one cell agree.

    Attributes
    ----------
    norm : str
    rtol : float
    backends : list of str
        Those with a gradient.
    max_relative_difference : float or None
        Largest `gradient_difference` over pairs; None with fewer than two gradients.
    worst_pair : list of str
    same_steps : bool
        The same sequence of accepted and rejected steps in both passes, every end within 1e-9 of the interval.
    rounding_floor : float or None
        What moving the stored solution by one ulp does to the gradient (matched stepping).
    unstable : bool
        Some backend's cell carries `backsolve_unstable`.
    verdict : {"pass", "unstable", "fail", "missing"}
    """

    norm: str
    rtol: float
    backends: list[str]
    max_relative_difference: float | None
    worst_pair: list[str]
    same_steps: bool
    rounding_floor: float | None
    unstable: bool
    verdict: str


@dataclass(frozen=True)
class Flag:
    """Something a user should know about a cell, with its evidence and what to do."""

    name: str
    backend: str
    norm: str
    stepping: str
    rtol: float
    evidence: str
    advice: str


@dataclass(frozen=True)
class Saving:
    """Backward evaluations that a norm saves against `default` at equal tolerance: the paper's figure of merit."""

    backend: str
    stepping: str
    norm: str
    rtol: float
    nfe: int
    nfe_default: int
    saved: float
    error: float | None
    error_default: float | None


@dataclass
class ProblemComparison:
    """All that follows for one problem.

    Attributes
    ----------
    reference : dict
        `status` (`exact`, `ok`, `uncertain`, `failed`, `missing`), `floor`, `check`, `routes`.
    matched, native : list of Agreement
    settings_differ : list of dict
        `{stepping, norm, pass, setting, values: {backend: value}}` where backends differ.
    cheapest : list of dict
        `{wanted, backend, norm, rtol, error, median_s}`: the cheapest native plan that reaches an error.
    """

    problem: str
    card: dict[str, Any]
    reference: dict[str, Any]
    matched: list[Agreement] = field(default_factory=list)
    native: list[Agreement] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    savings: list[Saving] = field(default_factory=list)
    settings_differ: list[dict[str, Any]] = field(default_factory=list)
    cheapest: list[dict[str, Any]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object, the cards left out."""
        return {
            "problem": self.problem,
            "reference": {key: self.reference.get(key) for key in ("status", "floor", "check", "routes")},
            "matched": [asdict(item) for item in self.matched],
            "native": [asdict(item) for item in self.native],
            "flags": [asdict(item) for item in self.flags],
            "savings": [asdict(item) for item in self.savings],
            "settings_differ": self.settings_differ,
            "cheapest": self.cheapest,
            "records": [record.flat() for record in self.records],
        }


@dataclass
class Comparison:
    """What a run's records say, problem by problem.

    Attributes
    ----------
    about : dict
        The run's own `run.json`.
    problems : list of ProblemComparison
    damaged : list of str
        Files that were skipped, each with the reason.
    """

    about: dict[str, Any]
    problems: list[ProblemComparison]
    damaged: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `crossbackend compare --json` prints."""
        return {
            "format": 1,
            "about": self.about,
            "problems": [item.as_dict() for item in self.problems],
            "damaged": self.damaged,
        }

    @property
    def records(self) -> list[Record]:
        """Every record, problem by problem."""
        return [record for item in self.problems for record in item.records]

    def summary(self) -> list[str]:
        """Say the main results in a few sentences made from the numbers."""
        return sentences(self.problems, self.damaged)


def compare(run: Run) -> Comparison:
    """Compare the records of a run."""
    by_problem: dict[str, list[Record]] = defaultdict(list)
    for record in run.records:
        by_problem[record.problem].append(record)
    order = [name for name in run.about.get("problems", []) if name in by_problem]
    order += sorted(set(by_problem) - set(order))
    found = [_problem(name, by_problem[name], run) for name in order]
    return Comparison(run.about, found, run.damaged)


def _problem(name: str, records: list[Record], run: Run) -> ProblemComparison:
    reference = run.references.get(name, {"status": "missing", "floor": None, "check": None})
    result = ProblemComparison(name, run.cards.get(name, {}), reference, records=records)
    result.flags = [flag for record in records if (flag := _unstable(record))]
    flagged = {(flag.backend, flag.norm, flag.stepping, flag.rtol) for flag in result.flags}
    for stepping, into in (("matched", result.matched), ("native", result.native)):
        for (norm, rtol), cell in _cells(records, stepping).items():
            unstable = any((r.backend, norm, stepping, rtol) in flagged for r in cell)
            into.append(_agreement(norm, rtol, cell, unstable, result.card))
    result.savings = _savings(records)
    result.settings_differ = _settings_differ(records)
    result.cheapest = _cheapest(records)
    return result


def _cells(records: Iterable[Record], stepping: str) -> dict[tuple[str, float], list[Record]]:
    """Return the records of every (norm, rtol) of one stepping; declined plans have no place in it."""
    cells: dict[tuple[str, float], list[Record]] = defaultdict(list)
    for record in records:
        if record.stepping == stepping and record.status != Status.UNSUPPORTED:
            cells[record.norm, record.rtol].append(record)
    return dict(cells)


def _agreement(norm: str, rtol: float, cell: list[Record], unstable: bool, card: dict[str, Any]) -> Agreement:
    whole = [record for record in cell if record.status == Status.OK]
    worst, pair = None, []
    for a, b in combinations(whole, 2):
        difference = gradient_difference(a.gradient(), b.gradient())
        if worst is None or difference > worst:
            worst, pair = difference, [a.backend, b.backend]
    span = _span(card, whole)
    same = len(whole) >= 2 and all(same_steps(a, b, span) for a, b in combinations(whole, 2))
    floor = next((r.rounding_floor for r in whole if r.rounding_floor is not None), None)
    if len(whole) < 2:
        verdict = "unstable" if unstable else "missing"
    elif same and worst is not None and worst <= MATCHED_TOLERANCE and len(whole) == len(cell):
        verdict = "pass"
    else:
        verdict = "unstable" if unstable else "fail"
    finite = worst if worst is None or math.isfinite(worst) else None
    return Agreement(norm, rtol, [r.backend for r in whole], finite, pair, same, floor, unstable, verdict)


def _span(card: dict[str, Any], records: list[Record]) -> float:
    ts = card.get("ts")
    if ts:
        return float(ts[-1] - ts[0])
    ends = [float(np.ptp(s.t1)) for r in records if (s := r.steps("forward")) is not None and len(s.t1)]
    return max(ends, default=1.0)


def same_steps(a: Record, b: Record, span: float) -> bool:
    """Whether two records took the same steps in both passes: see `Agreement.same_steps`."""
    return all(_same_pass(a.steps(which), b.steps(which), span) for which in ("forward", "backward"))


def _same_pass(a: Steps | None, b: Steps | None, span: float) -> bool:
    if a is None or b is None or not np.array_equal(a.accepted, b.accepted):
        return False
    ends_a, ends_b = a.t1[a.accepted], b.t1[b.accepted]
    return bool(np.all(np.abs(ends_a - ends_b) <= STEP_TOLERANCE * span))


def _unstable(record: Record) -> Flag | None:
    """Flag a record whose reverse solve does not come back to the forward solution."""
    error, limit = record.reconstruction_error, UNSTABLE_FACTOR * record.rtol
    if record.status == Status.OK and (error is None or error <= limit):
        return None
    if record.status != Status.OK and not (record.backward and record.status in _SOLVER_FAILURES):
        return None
    if error is None:
        evidence = f"the backward solve failed: {record.message}"
    else:
        evidence = (
            f"integrating back, y misses the stored solution by {error:.2g} of its size, "
            f"{error / record.rtol:.2g} times rtol"
        )
    advice = (
        "The reverse solve is unstable, so the backsolve gradient is not to be trusted at any tolerance, in any "
        "library. Use an adjoint that stores the forward solution or differentiates through the steps "
        "(torchdiffeq's odeint, diffrax's RecursiveCheckpointAdjoint), or shorten the interval."
    )
    return Flag("backsolve_unstable", record.backend, record.norm, record.stepping, record.rtol, evidence, advice)


_SOLVER_FAILURES = (Status.NAN_IN_FIELD, Status.DIVERGED, Status.STEP_UNDERFLOW, Status.MAX_STEPS)


def _savings(records: Sequence[Record]) -> list[Saving]:
    found = []
    default = {(r.backend, r.stepping, r.rtol): r for r in records if r.norm == "default" and r.status == Status.OK}
    for record in records:
        base = default.get((record.backend, record.stepping, record.rtol))
        if record.norm == "default" or record.status != Status.OK or base is None:
            continue
        nfe, nfe_default = int((record.backward or {})["nfe"]), int((base.backward or {})["nfe"])
        errors = record.error.get("all"), base.error.get("all")
        found.append(
            Saving(record.backend, record.stepping, record.norm, record.rtol, nfe, nfe_default,
                   1.0 - nfe / nfe_default, *errors)
        )  # fmt: skip
    return found


def _settings_differ(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the settings that differ between backends, once per (stepping, norm), tolerances left out."""
    cells: dict[tuple[str, str], dict[str, Record]] = defaultdict(dict)
    for record in records:
        if record.settings.get("forward"):
            cells[record.stepping, record.norm].setdefault(record.backend, record)
    found = []
    for (stepping, norm), by_backend in cells.items():
        for which in ("forward", "backward"):
            keys = dict.fromkeys(key for r in by_backend.values() for key in r.settings[which])
            for key in keys:
                values = {name: r.settings[which].get(key, "not applicable") for name, r in by_backend.items()}
                if len({repr(value) for value in values.values()}) > 1 and key not in ("solver", "rtol", "atol"):
                    found.append({"stepping": stepping, "norm": norm, "pass": which, "setting": key, "values": values})
    return found


def _cheapest(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the cheapest native plan for every wanted error that some plan reaches."""
    timed = [
        (record.time["median_s"], record)
        for record in records
        if record.stepping == "native" and record.status == Status.OK and record.time and record.error.get("all")
    ]
    found = []
    for wanted in WANTED:
        good = [(seconds, record) for seconds, record in timed if record.error["all"] <= wanted]
        if good:
            seconds, best = min(good, key=lambda pair: pair[0])
            row = {"wanted": wanted, "backend": best.backend, "norm": best.norm, "rtol": best.rtol}
            found.append({**row, "error": best.error["all"], "median_s": seconds})
    return found
