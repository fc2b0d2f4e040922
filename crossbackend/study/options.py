"""How a run is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
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
    lenient : bool
        A problem whose functions are mistaken costs its own cells only: they become records with the mistakes. The
        run ends before any solve otherwise.
    optimise : bool
        Have XLA optimise what it compiles. Without, it compiles in less time and rounds otherwise, which matched
        stepping is made not to notice.
    jobs : int
        Worker processes a backend that count side by side from the start; one where anything is timed. A core that is
        idle later gets one more either way.
    seeds : int
        Above 0: only a quick reference (`quick_reference`), its leaves held against finite differences along so many
        random directions each. 0: the full one, by two routes.
    scheduler : str, optional
        Address of a Dask scheduler whose workers do the cells; processes of this machine do them otherwise.
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
    lenient: bool = False
    optimise: bool = True
    jobs: int = 1
    seeds: int = 0
    scheduler: str | None = None

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
        if self.scheduler is not None and find_spec("distributed") is None:
            got = f"{self.scheduler!r} without the package distributed"
            fix = "Run: pip install 'crossbackend[distributed]'"
            found.append(Mistake("--scheduler", got, "the extra `distributed`", fix))
        return found
