"""The cells of a run: problem x backend x gradient x norm x stepping x tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from numbers import Real
from typing import Any

from crossbackend import norms
from crossbackend.errors import Mistake, raise_all
from crossbackend.problem import Problem

STEPPINGS = ("native", "matched")
GRADIENTS = {
    "backsolve": "the continuous adjoint, y integrated backwards with it: the paper's",
    "interpolating": "the continuous adjoint along the forward solve's dense output; only a_y is an ODE (SciPy)",
    "quadrature": "the same, and the parameters' integral by Gauss-Legendre quadrature afterwards (SciPy)",
    "direct": "differentiation through the solver's own steps (torchdiffeq, diffrax)",
}
"""How a gradient can be taken: docs/gradients.md."""
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
    gradient : {"backsolve", "interpolating", "quadrature", "direct"}
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
    def sweep_key(self) -> tuple[str, ...]:
        """What plans of one sweep have in common."""
        parts = (self.problem, self.backend, self.norm, self.stepping, self.gradient, self.dtype, self.device)
        return (*parts, repr(self.first_step))

    def describe(self) -> str:
        """Name the cell in one line."""
        gradient = "" if self.gradient == "backsolve" else f" {self.gradient}"
        return f"{self.problem} {self.backend}{gradient} {self.norm} {self.stepping} rtol={self.rtol:g}"


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
    gradients: Sequence[str] = ("backsolve",)


def split_norm(name: str) -> tuple[str, str | None]:
    """Return the norm and the one stepping a norm was asked for: `native:mixed-seminorm` keeps out of matched."""
    stepping, _, rest = name.partition(":")
    return (rest, stepping) if rest and stepping in STEPPINGS else (name, None)


def check_choice(choice: Choice, problems: Sequence[Problem], known_backends: Sequence[str]) -> None:
    """Raise one `UserError` with every mistake of a choice.

    Raises
    ------
    UserError
        Unknown backend, norm, stepping, gradient, dtype or device; a tolerance that is not a positive number.
    """
    found: list[Mistake] = []
    own = sorted({name for problem in problems for name in problem.norms})
    known_norms = [*norms.names(), *own]
    found += _unknown("--backend", [name.partition(":")[0] for name in choice.backends], known_backends)
    found += _unknown("--norm", [split_norm(name)[0] for name in choice.norms], known_norms)
    found += _unknown("--stepping", choice.steppings, STEPPINGS)
    found += _unknown("--gradient", choice.gradients, tuple(GRADIENTS))
    found += _unknown("--dtype", [choice.dtype] if choice.dtype else [], DTYPES)
    found += _unknown("--device", [choice.device], ("cpu", "cuda"))
    for rtol in choice.rtols or ():
        if not _number(rtol, 1.0):
            found.append(Mistake("--rtol", _shown(rtol), "a number between 0 and 1", "Write for example --rtol 1e-6."))
    if not _number(choice.atol_factor):
        found.append(Mistake("--atol-factor", _shown(choice.atol_factor), "a positive number (atol = factor x rtol)"))
    if choice.first_step is not None and not _number(choice.first_step):
        found.append(Mistake("--first-step", _shown(choice.first_step), "a positive number"))
    raise_all(found)


def _number(value: Any, below: float = math.inf) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < value < below  # type: ignore[operator]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else repr(value)


def _unknown(where: str, got: Sequence[str], known: Sequence[str]) -> list[Mistake]:
    found = []
    for name in got:
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            fix = f"Did you mean {close[0]!r}?" if close else ""
            found.append(Mistake(where, repr(name), f"one of {', '.join(known)}", fix))
    return found


def plans(problem: Problem, choice: Choice) -> list[Plan]:
    """Return the cells of one problem, each once: sweeps of rtol inside, backends outside.

    A norm that only another problem defines is left out. So is one that another gradient than backsolve could not tell
    from `default`, where `default` is there too.
    """
    rtols = choice.rtols or problem.tolerances
    pairs = [
        (gradient, *split_norm(norm))
        for gradient in choice.gradients
        for norm in choice.norms
        if not (gradient != "backsolve" and "default" in choice.norms and _default_again(norm, problem))
    ]
    found = [
        Plan(
            problem.name, backend, norm, stepping, float(rtol), atol_of(rtol, choice.atol_factor),
            gradient, choice.dtype or problem.dtype, choice.device, choice.first_step,
        )
        for backend in choice.backends
        for gradient, norm, only in pairs
        for stepping in choice.steppings
        if only in (None, stepping) and (norm in norms.names() or norm in problem.norms)
        for rtol in rtols
    ]  # fmt: skip
    return list(dict.fromkeys(found))


def _default_again(norm: str, problem: Problem) -> bool:
    name, _ = split_norm(norm)
    return name in norms.OF_BACKSOLVE and name not in problem.norms


def atol_of(rtol: float, factor: float) -> float:
    """Return the absolute tolerance, without the digits that only rounding made."""
    return float(f"{rtol * factor:.12g}")
