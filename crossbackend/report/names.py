"""The names that a run's charts and tables are about, in one order, and safe ways into its records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from crossbackend.compare import Comparison
from crossbackend.record import Record, Status, usual_rtol
from crossbackend.report import palette
from crossbackend.report.formats import clean, number, tolerance

_FIRST = ("default", "seminorm", "mixed-seminorm")


@dataclass(frozen=True)
class Names:
    """Backends with their colours, and norms, of one run."""

    backends: list[str]
    norms: list[str]
    rtols: list[float]
    colours: dict[str, palette.Colour]


def names_of(comparison: Comparison) -> Names:
    """Return the names that a comparison's records carry, with a colour for those of its trainings too."""
    records = comparison.records
    backends = sorted({record.backend for record in records})
    norms = {record.norm for record in records}
    order = [name for name in _FIRST if name in norms] + sorted(norms - set(_FIRST))
    rtols = sorted({record.rtol for record in records}, reverse=True)
    coloured = {*backends, *(training.backend for training in comparison.training)}
    return Names(backends, order, rtols, palette.backends(sorted(coloured)))


def training_names(comparison: Comparison, names: Names) -> Names:
    """Return the names of a comparison's records, then those that its trainings alone carry.

    A name has the same number in both, by which the page's switches know it.
    """
    backends = sorted({training.backend for training in comparison.training} - set(names.backends))
    norms = {training.norm for training in comparison.training} - set(names.norms)
    order = [name for name in _FIRST if name in norms] + sorted(norms - set(_FIRST))
    rtols = sorted({training.rtol for training in comparison.training}, reverse=True)
    return Names([*names.backends, *backends], [*names.norms, *order], rtols, names.colours)


def at(record: Record, *path: str) -> float | None:
    """Return a number inside a record (`at(r, "backward", "nfe")`), None where it is not there."""
    value: Any = getattr(record, path[0], None)
    for key in path[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    return number(value)


def total_nfe(record: Record) -> float | None:
    """Return evaluations of both passes."""
    forward, backward = at(record, "forward", "nfe"), at(record, "backward", "nfe")
    return None if forward is None or backward is None else forward + backward


def failed(record: Record) -> bool:
    """Whether a plan was tried and did not finish."""
    return record.status not in (Status.OK, Status.UNSUPPORTED)


def cell(record: Record) -> str:
    """Name a record within its problem: `diffrax, seminorm, native, rtol 10⁻⁶`."""
    parts = (record.backend, record.norm, record.stepping, f"rtol {tolerance(record.rtol)}")
    return clean(", ".join(parts))


def sweeps(records: Iterable[Record], names: Names) -> dict[tuple[str, str, str], list[Record]]:
    """Return records by (backend, norm, stepping), each from the loosest tolerance to the tightest."""
    found: dict[tuple[str, str, str], list[Record]] = {}
    rank = {name: index for index, name in enumerate(names.norms)}
    for record in sorted(records, key=lambda r: (r.backend, rank[r.norm], r.stepping != "native", -r.rtol, r.digest)):
        found.setdefault((record.backend, record.norm, record.stepping), []).append(record)
    return found


def usual(records: Iterable[Record]) -> float | None:
    """Return the tolerance that stands for a problem: 1e-6, or the one nearest to it."""
    return usual_rtol(record.rtol for record in records)
