"""What each way to take a gradient costs against backsolve: at equal gradient error, and in memory.

Backsolve under the library's `default` norm and under its `seminorm` are the baselines. Every other native sweep of
the same backend is compared with them as `speedup` compares two norms. Where the reverse solve is unstable no tolerance
buys a smaller error, so there is nothing to be equal to; what is left to say is which error each way reaches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from crossbackend.record import Record, Status
from crossbackend.series import BACKSOLVE, InSeries, gradient_of
from crossbackend.speedup import COSTS, Cost, compared, sweep, total_nfe

BASELINES = ("default", "seminorm")
"""Norms under which backsolve is what the others are compared with."""
GRADIENT_COSTS: dict[str, Cost] = {**COSTS, "total_nfe": total_nfe}
"""Backward evaluations, the median time of loss and gradient, evaluations of both passes."""


@dataclass(frozen=True)
class Against:
    """How many times less a sweep costs than backsolve under one norm at equal gradient error.

    Attributes
    ----------
    norm : {"default", "seminorm"}
        Backsolve's.
    cost : {"backward_nfe", "total_nfe", "time"}
    factor, low, high : float or None
        Cost of backsolve over cost of the sweep, the geometric mean over the shared errors and its extremes; above 1
        the sweep is the cheaper one. None where there is none, with the reason.
    errors : tuple of float, or None
        Smallest and largest gradient error that both reach.
    reason : str
        Why there is no factor.
    """

    norm: str
    cost: str
    factor: float | None = None
    low: float | None = None
    high: float | None = None
    errors: tuple[float, float] | None = None
    reason: str = ""


@dataclass(frozen=True)
class GradientCost(InSeries):
    """What one native sweep costs and reaches.

    Attributes
    ----------
    backend, gradient, norm : str
    error : float or None
        The smallest gradient error that it reached at any tolerance; None where none is known.
    rtol : float or None
        Where.
    unstable : bool
        Its reverse solve is unstable at every tolerance.
    memory_rise_bytes : float or None
        How far a call raises the process's peak, the median over the tolerances.
    device_memory_bytes : float or None
        The device's peak, the median over the tolerances; None off a GPU.
    peak_memory_bytes : float or None
        The whole process's peak, the median over the tolerances.
    against : list of Against
        Every baseline that the backend has and every cost; empty of the baselines themselves.
    """

    backend: str
    gradient: str
    norm: str
    error: float | None
    rtol: float | None
    unstable: bool
    memory_rise_bytes: float | None
    device_memory_bytes: float | None
    peak_memory_bytes: float | None
    against: list[Against] = field(default_factory=list)

    @property
    def baseline(self) -> bool:
        """Whether the others are compared with it."""
        return self.gradient == BACKSOLVE and self.norm in BASELINES

    @property
    def name(self) -> str:
        """How a table calls it: `backsolve, seminorm`, `quadrature`."""
        return f"{BACKSOLVE}, {self.norm}" if self.gradient == BACKSOLVE else self.series

    def found(self, norm: str, cost: str) -> Against | None:
        """Return the comparison with one baseline in one cost, None where the backend has no such baseline."""
        return next((row for row in self.against if (row.norm, row.cost) == (norm, cost)), None)


def gradient_costs(records: Sequence[Record], floor: float | None, unstable: set[str]) -> list[GradientCost]:
    """Return a row for each native sweep, baselines first by backend; none where all plans are backsolve's.

    Parameters
    ----------
    records : sequence of Record
        Of one problem.
    floor : float or None
        The reference's own uncertainty: errors under `speedup.AT_FLOOR` times it are not compared.
    unstable : set of str
        Digests of records whose reverse solve is unstable.
    """
    native = [r for r in records if r.stepping == "native" and r.status != Status.UNSUPPORTED]
    if all(gradient_of(record.plan) == BACKSOLVE for record in native):
        return []
    variants: dict[tuple[Any, ...], dict[tuple[str, str], list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in native:
        variants[sweep(record, "gradient")][gradient_of(record.plan), record.norm].append(record)
    found = []
    for by_way in variants.values():
        baselines = {norm: by_way[BACKSOLVE, norm] for norm in BASELINES if (BACKSOLVE, norm) in by_way}
        rows = [_row(way, own, baselines, floor, unstable) for way, own in by_way.items()]
        found += sorted(rows, key=lambda row: not row.baseline)
    return found


def _row(
    way: tuple[str, str],
    own: Sequence[Record],
    baselines: dict[str, list[Record]],
    floor: float | None,
    unstable: set[str],
) -> GradientCost:
    gradient, norm = way
    good = [record for record in own if record.status == Status.OK]
    reached = min(((r.error["all"], r.rtol) for r in good if r.error.get("all") is not None), default=(None, None))
    unsteady = all(record.digest in unstable for record in own)
    rise, device, peak = (_median(good, f"{name}_bytes") for name in ("memory_rise", "device_memory", "peak_memory"))
    row = GradientCost(own[0].backend, gradient, norm, *reached, unsteady, rise, device, peak)
    if not row.baseline:
        for name, base in baselines.items():
            row.against.extend(_against(base, own, name, cost, floor, unstable) for cost in GRADIENT_COSTS)
    return row


def _median(records: Sequence[Record], name: str) -> float | None:
    values = [value for record in records if (value := getattr(record, name, None)) is not None]
    return float(median(values)) if values else None


def _against(
    base: Sequence[Record], own: Sequence[Record], norm: str, cost: str, floor: float | None, unstable: set[str]
) -> Against:
    names = (f"backsolve under {norm}", "this gradient")
    found = compared(base, own, GRADIENT_COSTS[cost], floor, unstable, names)
    if isinstance(found, str):
        return Against(norm, cost, reason=found)
    factor, low, high, smallest, largest = found
    return Against(norm, cost, factor, low, high, (smallest, largest))
