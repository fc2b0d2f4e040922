"""The cells of a run: problem x backend x gradient x norm x stepping x tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any

from crossbackend import norms
from crossbackend.errors import Mistake, raise_all
from crossbackend.problem import Problem

STEPPINGS = ("native", "matched")
DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Plan:
    """One cell.

    Attributes
    ----------
    problem : str
        The problem's name.
    backend : str
        `torchdiffeq`, `diffrax`, `scipy` or a plug-in's; `scipy:jax` and `scipy:torch` name another engine.
    norm : str
    stepping : {"native", "matched"}
    rtol, atol : float
    gradient : {"backsolve"}
    dtype : {"float64", "float32"}
    device : {"cpu", "cuda"}
    first_step : float or None
        Given first step of every solve; the library's or Hairer's choice where it is None.
    """

    problem: str
    backend: str
    norm: str
    stepping: str
    rtol: float
    atol: float
    gradient: str = "backsolve"
    dtype: str = "float64"
    device: str = "cpu"
    first_step: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as the record's fields."""
        return asdict(self)

    @property
    def sweep(self) -> Plan:
        """The plan without its tolerance: plans of one sweep share a Compiled."""
        return replace(self, rtol=math.nan, atol=math.nan)

    @property
    def sweep_key(self) -> tuple[str, ...]:
        """What plans of one sweep have in common."""
        parts = (self.problem, self.backend, self.norm, self.stepping, self.gradient, self.dtype, self.device)
        return (*parts, repr(self.first_step))

    def describe(self) -> str:
        """Name the cell in one line."""
        return f"{self.problem} {self.backend} {self.norm} {self.stepping} rtol={self.rtol:g}"


@dataclass(frozen=True)
class Choice:
    """What a run covers. None means the default: every installed backend, the problem's tolerances, its dtype."""

    backends: Sequence[str]
    norms: Sequence[str] = norms.NATIVE
    steppings: Sequence[str] = STEPPINGS
    rtols: Sequence[float] | None = None
    atol_factor: float = 1e-2
    dtype: str | None = None
    device: str = "cpu"
    first_step: float | None = None


def split_norm(name: str) -> tuple[str, str | None]:
    """Return the norm and the one stepping a norm was asked for: `native:mixed-seminorm` keeps out of matched."""
    stepping, _, rest = name.partition(":")
    return (rest, stepping) if rest and stepping in STEPPINGS else (name, None)


def check_choice(choice: Choice, problems: Sequence[Problem], known_backends: Sequence[str]) -> None:
    """Raise one `UserError` with every mistake of a choice.

    Raises
    ------
    UserError
        Unknown backend, norm, stepping, dtype or device; a tolerance that is not a positive number.
    """
    found: list[Mistake] = []
    own = sorted({name for problem in problems for name in problem.norms})
    known_norms = [*norms.names(), *own]
    found += _unknown("--backend", [name.partition(":")[0] for name in choice.backends], known_backends)
    found += _unknown("--norm", [split_norm(name)[0] for name in choice.norms], known_norms)
    found += _unknown("--stepping", choice.steppings, STEPPINGS)
    found += _unknown("--dtype", [choice.dtype] if choice.dtype else [], DTYPES)
    found += _unknown("--device", [choice.device], ("cpu", "cuda"))
    for rtol in choice.rtols or ():
        if not 0 < rtol < 1:
            found.append(Mistake("--rtol", f"{rtol:g}", "a number between 0 and 1", "Write for example --rtol 1e-6."))
    if not 0 < choice.atol_factor < math.inf:
        found.append(Mistake("--atol-factor", f"{choice.atol_factor:g}", "a positive number (atol = factor x rtol)"))
    if choice.first_step is not None and not 0 < choice.first_step < math.inf:
        found.append(Mistake("--first-step", f"{choice.first_step:g}", "a positive number"))
    raise_all(found)


def _unknown(where: str, got: Sequence[str], known: Sequence[str]) -> list[Mistake]:
    found = []
    for name in got:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            fix = f"Did you mean {close[0]!r}?" if close else ""
            found.append(Mistake(where, repr(name), f"one of {', '.join(known)}", fix))
    return found


def plans(problem: Problem, choice: Choice) -> Iterator[Plan]:
    """Yield the cells of one problem: sweeps of rtol inside, backends outside.

    A norm that only another problem defines is left out.
    """
    rtols = choice.rtols or problem.tolerances
    dtype = choice.dtype or problem.dtype
    for backend in choice.backends:
        for asked in choice.norms:
            norm, only = split_norm(asked)
            if norm not in norms.names() and norm not in problem.norms:
                continue
            for stepping in choice.steppings:
                if only not in (None, stepping):
                    continue
                for rtol in rtols:
                    atol = float(f"{rtol * choice.atol_factor:.12g}")
                    yield Plan(
                        problem.name, backend, norm, stepping, float(rtol), atol,
                        dtype=dtype, device=choice.device, first_step=choice.first_step,
                    )  # fmt: skip


def unique(items: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """Return the values of a key in order of first appearance."""
    return list(dict.fromkeys(item[key] for item in items))
