"""What a check found: one finding a question that was asked, and the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from crossbackend.compare import Comparison


class Verdict(StrEnum):
    """What a question came out as, the mildest first."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


class Cause(StrEnum):
    """Where the evidence of a failure points.

    `mathematics`: another vector field, loss, parameters or derivative; no tolerance mends it. `settings`: the same
    mathematics, solved with other options (a norm, a first step). `tolerance`: the errors that the tolerance allows
    explain it. `machine`: a solve that did not end for a reason of the machine's (time, memory, a crash).
    """

    MATHEMATICS = "mathematics"
    SETTINGS = "settings"
    TOLERANCE = "tolerance"
    MACHINE = "machine"


WHAT = {
    "ports": "functions given twice agree at random points",
    "solved": "every solve ends",
    "agreement": "backends that take the same steps agree",
    "convergence": "the gradient's error falls with the tolerance",
    "derivative": "every leaf agrees with finite differences",
    "flag": "nothing is flagged",
    "baseline": "evaluations and errors are those of the baseline",
}
"""The questions, in the order in which they are asked and shown."""


@dataclass(frozen=True)
class Finding:
    """The answer to one question about one problem.

    Attributes
    ----------
    what : str
        One of `WHAT`.
    problem : str
    backend : str
        Several are joined by a comma; empty where it is about none.
    norm, stepping : str
        Empty where it is about none.
    rtol : float or None
        None where it is about a whole sweep, or none.
    verdict : Verdict
    text : str
        One sentence: what was seen.
    value, limit : float or None
        The figure that decided, and what it was held against.
    leaf : str
        The worst leaf, as a record names it (`params/w`), or empty.
    values : tuple of float
        What the two sides of a disagreement have for it: `sides` in order. Empty where there are none.
    sides : tuple of str
    cause : Cause or None
        Of a failure; None for a pass, or where the evidence points nowhere.
    evidence : str
        One sentence that says why that cause.
    """

    what: str
    problem: str
    backend: str = ""
    norm: str = ""
    stepping: str = ""
    rtol: float | None = None
    verdict: Verdict = Verdict.PASS
    text: str = ""
    value: float | None = None
    limit: float | None = None
    leaf: str = ""
    values: tuple[float, ...] = ()
    sides: tuple[str, ...] = ()
    cause: Cause | None = None
    evidence: str = ""


@dataclass
class Check:
    """All that a check found.

    Attributes
    ----------
    problems : list of str
        Those that were checked, in the order asked for.
    findings : list of Finding
        Problem by problem, in the order of `WHAT`.
    seconds : dict of str to float
        By problem: the time that its own solves, trials and finite differences took, all workers together.
    wall_s : float
    comparison : Comparison or None
        The run behind it; None where nothing ran.
    """

    problems: list[str]
    findings: list[Finding]
    seconds: dict[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    comparison: Comparison | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures()

    def failures(self) -> list[Finding]:
        """Return the findings that failed."""
        return [finding for finding in self.findings if finding.verdict == Verdict.FAIL]

    def of(self, problem: str) -> list[Finding]:
        """Return a problem's findings."""
        return [finding for finding in self.findings if finding.problem == problem]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `crossbackend check --json` prints."""
        return {
            "format": 1,
            "ok": self.ok,
            "problems": self.problems,
            "wall_s": round(self.wall_s, 3),
            "seconds": self.seconds,
            "findings": [asdict(finding) for finding in self.findings],
        }


def worst(findings: Sequence[Finding]) -> Verdict:
    """Return the gravest verdict; `pass` for none."""
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.PASS)
