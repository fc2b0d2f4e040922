"""How the plans of one curve take a gradient, in short: what tells a backend's series apart in tables and charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BACKSOLVE = "backsolve"
"""The gradient that every library takes: what the others are compared with, and what goes without saying."""
DIRECT = "direct"
"""The gradient through the solver's own steps, which has no backward solve and so no steps of its own."""


def gradient_of(plan: Mapping[str, Any]) -> str:
    """Return how a plan takes its gradient; records of other programs may leave it out."""
    return str(plan.get("gradient") or BACKSOLVE)


def series(norm: str, gradient: str = BACKSOLVE) -> str:
    """Name a series: by its norm under backsolve, else by the gradient.

    Returns
    -------
    str
        `seminorm`, `quadrature`, or `quadrature mixed-integrals` where the norm is not `default`.
    """
    if gradient in ("", BACKSOLVE):
        return norm
    return gradient if norm == "default" else f"{gradient} {norm}"


def series_of(plan: Mapping[str, Any]) -> str:
    """Name the series of a plan."""
    return series(str(plan["norm"]), gradient_of(plan))


class InSeries:
    """Something about the plans of one norm and gradient."""

    norm: str
    gradient: str

    @property
    def series(self) -> str:
        """Norm and gradient in short: see `series`."""
        return series(self.norm, self.gradient)
