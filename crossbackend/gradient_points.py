"""The gradient methods in words: what each takes of backsolve's cost, and what it reaches where backsolve is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from crossbackend.series import BACKSOLVE
from crossbackend.summary import Point
from crossbackend.wording import listed

if TYPE_CHECKING:
    from crossbackend.compare import ProblemComparison
    from crossbackend.gradient_costs import GradientCost

TOPIC = "Gradient methods"
_WORDS = {"time": "time", "backward_nfe": "backward evaluations"}


def points(problems: Sequence[ProblemComparison]) -> list[Point]:
    """Say which error each gradient reaches where backsolve is wrong, and what it takes at equal error elsewhere."""
    return [Point(TOPIC, text) for text in (*_unstable(problems), *_costs(problems))]


def _costs(problems: Sequence[ProblemComparison]) -> Iterator[str]:
    """Yield a sentence for each series and backend: what it takes of backsolve's time and evaluations."""
    factors: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
    for row in (row for item in problems for row in item.gradients if _other(row)):
        for found in row.against:
            if found.factor is not None and found.cost in _WORDS:
                own = factors.setdefault((row.series, row.backend), {}).setdefault(found.cost, {})
                own.setdefault(found.norm, []).append(1 / found.factor)
    for (series, backend), by_cost in sorted(factors.items()):
        first, *rest = (cost for cost in _WORDS if cost in by_cost)
        said = f"At equal gradient error {series} in {backend} takes {_first(first, by_cost[first])}"
        for cost in rest:
            shares = listed(f"{median(found):.2f}" for found in by_cost[cost].values())
            named = "" if list(by_cost[cost]) == list(by_cost[first]) else f" under {listed(by_cost[cost])}"
            said += f", {shares} times its {_WORDS[cost]}{named}"
        yield f"{said}{_over(by_cost)}."


def _first(cost: str, by_norm: Mapping[str, Sequence[float]]) -> str:
    """Return `0.80 times the time of backsolve under default (0.50 to 1.40) and 1.10 times under seminorm (..)`."""
    parts = []
    for norm, found in by_norm.items():
        spread = f" ({min(found):.2f} to {max(found):.2f})" if len(found) > 1 else ""
        of = "" if parts else f" the {_WORDS[cost]} of backsolve"
        parts.append(f"{median(found):.2f} times{of} under {norm}{spread}")
    return listed(parts)


def _over(by_cost: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    many = sorted({len(found) for by_norm in by_cost.values() for found in by_norm.values()})
    if many[-1] == 1:
        return ""
    return f" (medians over {' to '.join(map(str, dict.fromkeys((many[0], many[-1]))))} problems)"


def _unstable(problems: Sequence[ProblemComparison]) -> Iterator[str]:
    for item in problems:
        base = [row for row in item.gradients if row.baseline]
        wrong = [row.error for row in base if row.error is not None]
        if not wrong or not all(row.unstable for row in base):
            continue
        others = [row for row in item.gradients if _other(row) and row.error is not None]
        others.sort(key=lambda row: (row.series, row.backend))
        reached = [f"{row.series} in {row.backend} reaches an error of {row.error:.1e}" for row in others[:1]]
        reached += [f"{row.series} in {row.backend} {row.error:.1e}" for row in others[1:]]
        if reached:
            yield f"On {item.problem}, where backsolve is wrong by {min(wrong):.1g} or more, {listed(reached)}."


def _other(row: GradientCost) -> bool:
    return row.gradient != BACKSOLVE
