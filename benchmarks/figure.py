"""A line of the table, and what holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

REPEATS = 25
"""Turns, at least, unless said otherwise: the median of fewer than 20 is not told from chance."""


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    figure, problem : str
    goal : float or None
        What the result is held to; None where it is only told.
    result : float
        A median.
    spread : tuple of float
        Its quartiles, or an exponent's standard error either side.
    holds : bool or None
        None without a goal.
    """

    figure: str
    problem: str
    goal: float | None
    result: float
    spread: tuple[float, float]
    holds: bool | None

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `results.json` holds."""
        return asdict(self) | {"spread": list(self.spread)}


@dataclass(frozen=True)
class Options:
    """How figures are measured.

    Attributes
    ----------
    problems : sequence of str
        Of a figure's own problems, these alone; all where it is empty.
    device : {"cpu", "cuda"}
    repeats : int
    """

    problems: Sequence[str] = ()
    device: str = "cpu"
    repeats: int = REPEATS

    def chosen(self, own: Sequence[str]) -> tuple[str, ...]:
        """Return those of a figure's problems that are to be measured."""
        return tuple(name for name in own if not self.problems or name in self.problems)


Measure = Callable[[Options], Iterator[Figure]]
"""What measures one figure, line by line."""

AT_LEAST = ("orchestration",)
"""Figures whose result is to be the goal or more; every other is to be the goal or less."""


def kept(name: str, goal: float | None, result: float) -> bool | None:
    """Whether a result holds; None without a goal."""
    if goal is None:
        return None
    return result >= goal if name in AT_LEAST else result <= goal


def figure(name: str, problem: str, goal: float | None, found: Sequence[float] | np.ndarray) -> Figure:
    """Return the line of repeated measurements: their median and quartiles, to four digits."""
    low, result, high = (float(f"{x:.4g}") for x in np.quantile(np.asarray(found, dtype=float), [0.25, 0.5, 0.75]))
    return Figure(name, problem, goal, result, (low, high), kept(name, goal, result))


def sign(name: str) -> Literal["≥", "≤"]:
    """Return how a goal is read."""
    return "≥" if name in AT_LEAST else "≤"
