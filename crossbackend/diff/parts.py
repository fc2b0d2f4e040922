"""What a difference is made of. In every pair A's value comes first; every ratio is B's over A's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crossbackend.diff import sentences, text
from crossbackend.series import BACKSOLVE, InSeries

LEAST_REPEATS = 3
"""With fewer timed runs there are no quartiles to speak of."""


@dataclass(frozen=True)
class Fact:
    """Something recorded about both runs that is not alike; None where one does not say."""

    name: str
    values: tuple[Any, Any]


@dataclass(frozen=True)
class ProblemChange:
    """A problem that is not the same in both runs, so that differences are to be expected.

    Attributes
    ----------
    problem : str
    facts : list of Fact
        Entries of its card that differ.
    code : bool
        The digest of its functions and arrays differs; looked at only where both runs made it the same way.
    """

    problem: str
    facts: list[Fact]
    code: bool


@dataclass(frozen=True)
class ReferenceChange:
    """A reference gradient with another status, a floor more than `AT_FLOOR` times another, or a value that moved.

    `difference` is that of the two gradients, None where there is none, or they cannot be compared.
    """

    problem: str
    status: tuple[str, str]
    floor: tuple[float | None, float | None]
    difference: float | None


@dataclass(frozen=True)
class Alone:
    """Cells of one problem and backend that only one run holds."""

    problem: str
    backend: str
    plans: list[dict[str, Any]]


@dataclass(frozen=True)
class CellChange:
    """A cell of both runs.

    Attributes
    ----------
    plan : dict
    status : tuple of str
    counts : dict of str to tuple of int
        `forward nfe`, `backward rejected`, ... where they changed; of solves that ended alike.
    gradient : float or None
        The larger of `record.gradient_difference` taken both ways; None where there are no two gradients, or they
        cannot be compared.
    incomparable : str
        Why two gradients cannot be compared: a leaf is missing, has another shape, or is not finite.
    loss, error, reconstruction : tuple
    error_ratio : float or None
        Of the gradient errors, where both are known and at least `AT_FLOOR` times the reference's floor.
    changed : list of str
        What is more than rounding, of `status`, `counts`, `gradient`, `loss`, `error`, `reconstruction`.
    unstable : bool
        The reverse solve is unstable in one run or both, which magnifies rounding.
    expected : bool
        The problem itself changed.
    """

    plan: dict[str, Any]
    status: tuple[str, str]
    counts: dict[str, tuple[int, int]]
    gradient: float | None
    incomparable: str
    loss: tuple[float | None, float | None]
    error: tuple[float | None, float | None]
    error_ratio: float | None
    reconstruction: tuple[float | None, float | None]
    changed: list[str]
    unstable: bool
    expected: bool

    @property
    def same(self) -> bool:
        """Whether nothing differs in the last bit either."""
        alike = self.loss[0] == self.loss[1] and self.reconstruction[0] == self.reconstruction[1]
        return not self.changed and not self.gradient and alike

    @property
    def weight(self) -> tuple[Any, ...]:
        """Order of importance, the smallest first: what is unexplained, then status, then the gradient over rtol."""
        moved = max((abs(b - a) / max(a, 1) for a, b in self.counts.values()), default=0.0)
        excused = self.expected, self.unstable
        return *excused, "status" not in self.changed, not self.incomparable, -self._tolerances, -moved

    @property
    def _tolerances(self) -> float:
        return (self.gradient or 0.0) / self.plan["rtol"]


@dataclass(frozen=True)
class Cells:
    """How many cells both runs hold: bit for bit the `same`, alike up to `rounding`, `changed`; `unfinished` in both.

    `largest` is the largest difference of gradients that counts as rounding.
    """

    shared: int
    same: int
    rounding: int
    changed: int
    unfinished: int
    largest: float


@dataclass(frozen=True)
class SettingChange:
    """An effective setting of a backend that is not the same; None where one has no such setting."""

    backend: str
    solve: str
    setting: str
    values: tuple[Any, Any]
    plans: list[dict[str, Any]]


@dataclass(frozen=True)
class FlagChange:
    """A flag that cells of both runs have in one of them only; `evidence` is the first of them."""

    problem: str
    name: str
    level: str
    appeared: bool
    evidence: str
    plans: list[dict[str, Any]]


@dataclass(frozen=True)
class VerdictChange(InSeries):
    """A matched cell whose backends agree otherwise than before."""

    problem: str
    norm: str
    rtol: float
    atol: float
    dtype: str
    verdict: tuple[str, str]
    difference: tuple[float | None, float | None]
    backends: tuple[list[str], list[str]]
    gradient: str = BACKSOLVE


@dataclass(frozen=True)
class TimeChange:
    """The median time of a cell that both runs timed.

    Attributes
    ----------
    plan : dict
    seconds : tuple of float
    ratio : float
    verdict : {"slower", "faster", "within", "unknown"}
        B's, where the ranges between the quartiles do not meet; `unknown` with fewer than `LEAST_REPEATS` runs.
    """

    plan: dict[str, Any]
    seconds: tuple[float, float]
    ratio: float
    verdict: str


@dataclass(frozen=True)
class BackendTimes:
    """The times of one backend: their ratio's median and extremes over the cells, and how many have which verdict.

    `same_versions`: no version that its records name differs, so that only the machine can have moved them.
    """

    backend: str
    cells: int
    ratio: float
    low: float
    high: float
    slower: int
    faster: int
    within: int
    unknown: int
    same_versions: bool


@dataclass(frozen=True, repr=False)
class Difference:
    """What changed from run A to run B. Its `str` is the text for a terminal.

    Attributes
    ----------
    names : tuple of str
        What the runs are called.
    runs : tuple of dict
        `name`, `created`, `processor`, `cores` of both.
    versions, machine, options : list of Fact
        What differs; several versions within one run are joined.
    problems : list of ProblemChange
    references : list of ReferenceChange
    only : tuple of list of Alone
        Cells that A alone holds, and B alone.
    cells : Cells
    results : list of CellChange
        The cells that changed by more than rounding, the most important first.
    settings : list of SettingChange
    flags : list of FlagChange
        The gravest first.
    verdicts : list of VerdictChange
    times : list of TimeChange
        Of problems that did not change; the largest change first.
    backends : list of BackendTimes
    timed : tuple of int
        Cells of each run that have a time.
    damaged : tuple of list of str
        Files that were skipped, each with the reason.
    """

    names: tuple[str, str]
    runs: tuple[dict[str, Any], dict[str, Any]]
    versions: list[Fact]
    machine: list[Fact]
    options: list[Fact]
    problems: list[ProblemChange]
    references: list[ReferenceChange]
    only: tuple[list[Alone], list[Alone]]
    cells: Cells
    results: list[CellChange]
    settings: list[SettingChange]
    flags: list[FlagChange]
    verdicts: list[VerdictChange]
    times: list[TimeChange]
    backends: list[BackendTimes]
    timed: tuple[int, int]
    damaged: tuple[list[str], list[str]]

    @property
    def findings(self) -> int:
        """How many things changed, versions, machine and options left out: they explain, and are no result."""
        beyond = sum(row.verdict in ("slower", "faster") for row in self.times)
        rest = (self.problems, self.references, *self.only, self.results, self.settings, self.flags, self.verdicts)
        return beyond + sum(len(found) for found in rest)

    def summary(self) -> list[str]:
        """Say the main changes in a few sentences made from the numbers."""
        return [line for _, line in self.points()]

    def points(self) -> list[tuple[str, str]]:
        """Return the sentences of `summary`, each after what it is about."""
        return sentences.summary(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `crossbackend diff --json` prints; every number in it is finite."""
        return {"format": 1, "summary": self.summary(), "findings": self.findings, **_plain(asdict(self))}

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return text.text(self)


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: what is not finite is None, what JSON does not know is its text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)
