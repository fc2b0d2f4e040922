"""How a run is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from crossbackend.errors import Mistake


@dataclass(frozen=True)
class Options:
    """How a run is done; none of it changes a gradient.

    Attributes
    ----------
    out : Path
        The run's folder.
    repeats, seconds : int, float
        A native plan is timed until it has run `repeats` times or `seconds` in all, at least once.
    timing : bool
    force : bool
        Run cells again whose records are there.
    timeout : float
        Seconds for one request to a worker.
    memory_gib : float
        Resident memory of one worker.
    progress : bool
    explain : bool
        Also measure what only explains a difference: where the gradient's error comes from (`error_split`), and what
        the loss at another scale gives where the adjoint is under atol (`scaling`).
    """

    out: Path
    repeats: int = 5
    seconds: float = 0.5
    timing: bool = True
    force: bool = False
    timeout: float = 600.0
    memory_gib: float = 4.0
    progress: bool = True
    explain: bool = True

    def mistakes(self) -> list[Mistake]:
        """Return what is wrong with the numbers."""
        found = []
        if self.repeats < 1:
            found.append(Mistake("--repeats", f"{self.repeats}", "a whole number of 1 or more"))
        numbers = {"--seconds": self.seconds, "--timeout": self.timeout, "--memory": self.memory_gib}
        found += [
            Mistake(where, f"{value:g}", "a positive number")
            for where, value in numbers.items()
            if not 0 < value < math.inf
        ]
        return found
