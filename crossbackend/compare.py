"""What follows from a run's records: agreement, errors, cost, savings, flags. A pure function of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from crossbackend.agreement import MATCHED_TOLERANCE, Agreement, agreements
from crossbackend.record import Record, Status
from crossbackend.store import Run
from crossbackend.summary import sentences

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AT_FLOOR", "MATCHED_TOLERANCE", "UNCERTAIN_FLOOR", "UNSTABLE_FACTOR", "WANTED",
    "Agreement", "Comparison", "Flag", "ProblemComparison", "Saving", "compare",
]  # fmt: skip

UNSTABLE_FACTOR = 100.0
"""A reconstruction error above this multiple of rtol says that the reverse solve amplifies errors."""
UNCERTAIN_FLOOR = 1e-5
"""A reference whose two routes differ by more than this is no reference."""
AT_FLOOR = 10.0
"""An error under this multiple of the reference's own uncertainty is shown as `at the floor`."""
WANTED = (1e-2, 1e-4, 1e-6, 1e-8)
"""Gradient errors for which the cheapest plan is named."""


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

    def to_pandas(self) -> pd.DataFrame:
        """Return a row a record; a nested field `error: {"all": ...}` is the column `error.all`.

        Columns are those of the record: the plan (`problem`, `backend`, `norm`, `stepping`, `rtol`, `atol`, ...),
        `status`, `loss`, `forward.nfe`, `backward.nfe`, `backward.rejected`, `error.all`, `time.median_s` (seconds)
        and so on. Settings, machine and versions are left out; what was not measured is missing.
        """
        import pandas as pd

        rows = [record.flat() for record in self.records]
        for row in rows:
            for name in ("settings", "machine", "versions"):
                del row[name]
        return pd.json_normalize(rows)

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
    flags = {record.digest: flag for record in records if (flag := _unstable(record))}
    result.flags = list(flags.values())
    ts = result.card.get("ts")
    span = float(ts[-1] - ts[0]) if ts else None
    result.matched = agreements(records, "matched", span, set(flags))
    result.native = agreements(records, "native", span, set(flags))
    result.savings = _savings(records)
    result.settings_differ = _settings_differ(records)
    result.cheapest = _cheapest(records)
    return result


def _unstable(record: Record) -> Flag | None:
    """Flag a record whose reverse solve does not come back to the forward solution, or does not end."""
    error = record.reconstruction_error
    if record.status == Status.OK:
        if error is None or error <= UNSTABLE_FACTOR * record.rtol:
            return None
        evidence = (
            f"integrating back, y misses the stored solution by {error:.2g} of its size, "
            f"{error / record.rtol:.2g} times rtol"
        )
    elif record.backward and record.status in _SOLVER_FAILURES:
        evidence = f"it did not come to an end: {record.message}"
    else:
        return None
    advice = (
        "The reverse solve is unstable, so the backsolve gradient is not to be trusted at any tolerance, in any "
        "library. Use an adjoint that stores the forward solution or differentiates through the steps "
        "(torchdiffeq's odeint, diffrax's RecursiveCheckpointAdjoint), or shorten the interval."
    )
    return Flag("backsolve_unstable", record.backend, record.norm, record.stepping, record.rtol, evidence, advice)


_SOLVER_FAILURES = (Status.NAN_IN_FIELD, Status.DIVERGED, Status.STEP_UNDERFLOW, Status.MAX_STEPS)


def _savings(records: Sequence[Record]) -> list[Saving]:
    """Return the savings of every norm against `default`, the rest of the plan alike."""
    whole = [r for r in records if r.status == Status.OK and (r.backward or {}).get("nfe")]
    default = {_but_norm(r): r for r in whole if r.norm == "default"}
    found = []
    for record in whole:
        base = default.get(_but_norm(record))
        if record.norm == "default" or base is None:
            continue
        nfe, nfe_default = int((record.backward or {})["nfe"]), int((base.backward or {})["nfe"])
        errors = record.error.get("all"), base.error.get("all")
        found.append(
            Saving(record.backend, record.stepping, record.norm, record.rtol, nfe, nfe_default,
                   1.0 - nfe / nfe_default, *errors)
        )  # fmt: skip
    return found


def _but_norm(record: Record) -> tuple[Any, ...]:
    return tuple(value for name, value in record.plan.items() if name != "norm")


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
        if record.stepping == "native"
        and record.status == Status.OK
        and record.time
        and record.error.get("all") is not None
    ]
    found = []
    for wanted in WANTED:
        good = [(seconds, record) for seconds, record in timed if record.error["all"] <= wanted]
        if good:
            seconds, best = min(good, key=lambda pair: pair[0])
            row = {"wanted": wanted, "backend": best.backend, "norm": best.norm, "rtol": best.rtol}
            found.append({**row, "error": best.error["all"], "median_s": seconds})
    return found
