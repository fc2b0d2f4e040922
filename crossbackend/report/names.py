"""The names that a run's charts and tables are about, in one order, and safe ways into its records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from crossbackend.compare import Comparison
from crossbackend.record import Record, Status, usual_rtol
from crossbackend.report import palette
from crossbackend.report.formats import clean, number, tolerance
from crossbackend.series import BACKSOLVE, gradient_of, series_of

_FIRST = ("default", "seminorm", "mixed-seminorm")


@dataclass(frozen=True)
class Names:
    """Backends with their colours, and series, of one run.

    Attributes
    ----------
    backends : list of str
    series : list of str
        Norms of backsolve, then the other gradients that some backend did not decline: see `crossbackend.series`.
    rtols : list of float
    colours : dict of str to Colour
    mixed : bool
        Whether a gradient other than backsolve is among them.
    """

    backends: list[str]
    series: list[str]
    rtols: list[float]
    colours: dict[str, palette.Colour]
    mixed: bool = False

    @property
    def column(self) -> str:
        """What a series is called, above a column of them."""
        return "norm or gradient" if self.mixed else "norm"

    @property
    def columns(self) -> str:
        """What several are called."""
        return "norms and gradients" if self.mixed else "norms"


def names_of(comparison: Comparison) -> Names:
    """Return the names that a comparison's records carry, with a colour for those of its trainings too."""
    records = comparison.records
    backends = sorted({record.backend for record in records})
    norms = {str(record.norm) for record in records if gradient_of(record.plan) == BACKSOLVE}
    tried = [record for record in records if record.status != Status.UNSUPPORTED]
    others = {series_of(record.plan) for record in tried} - norms
    rtols = sorted({record.rtol for record in records}, reverse=True)
    coloured = {*backends, *(training.backend for training in comparison.training)}
    return Names(backends, [*_ordered(norms), *sorted(others)], rtols, palette.backends(sorted(coloured)), bool(others))


def _ordered(norms: set[str]) -> list[str]:
    return [name for name in _FIRST if name in norms] + sorted(norms - set(_FIRST))


def training_names(comparison: Comparison, names: Names) -> Names:
    """Return the names of a comparison's records, then those that its trainings alone carry.

    A name has the same number in both, by which the page's switches know it.
    """
    backends = sorted({training.backend for training in comparison.training} - set(names.backends))
    norms = {training.norm for training in comparison.training} - set(names.series)
    rtols = sorted({training.rtol for training in comparison.training}, reverse=True)
    return Names([*names.backends, *backends], [*names.series, *_ordered(norms)], rtols, names.colours, names.mixed)


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
    parts = (record.backend, series_of(record.plan), record.stepping, f"rtol {tolerance(record.rtol)}")
    return clean(", ".join(parts))


def sweeps(records: Iterable[Record], names: Names) -> dict[tuple[str, str, str], list[Record]]:
    """Return records by (backend, series, stepping), each from the loosest tolerance to the tightest.

    A gradient that every backend declined is no series.
    """
    found: dict[tuple[str, str, str], list[Record]] = {}
    rank = {name: index for index, name in enumerate(names.series)}

    def order(record: Record) -> tuple[Any, ...]:
        return record.backend, rank[series_of(record.plan)], record.stepping != "native", -record.rtol, record.digest

    for record in sorted((r for r in records if series_of(r.plan) in rank), key=order):
        found.setdefault((record.backend, series_of(record.plan), record.stepping), []).append(record)
    return found


def usual(records: Iterable[Record]) -> float | None:
    """Return the tolerance that stands for a problem: 1e-6, or the one nearest to it."""
    return usual_rtol(record.rtol for record in records)
