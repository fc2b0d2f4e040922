"""Flags of one kind said once: in which cells, on what evidence, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossbackend.flags import LEVELS, Flag
from crossbackend.record import Record, Status, usual_rtol
from crossbackend.series import gradient_of
from crossbackend.wording import listed

if TYPE_CHECKING:
    from crossbackend.compare import ProblemComparison

MOST = 2
"""Pieces of evidence that are shown of one kind."""


@dataclass(frozen=True)
class FlagGroup:
    """The flags of one kind on one problem.

    Attributes
    ----------
    name, level : str
    cells : str
        Which cells, in words; empty for what holds for the whole problem.
    evidence : list of str
        Of at most `MOST` flags, those at the tolerance that stands for the problem first.
    more : int
        Flags whose evidence differs and is not shown.
    advice : str
    flags : list of Flag
    """

    name: str
    level: str
    cells: str
    evidence: list[str]
    more: int
    advice: str
    flags: list[Flag]


def grouped(item: ProblemComparison, shown: Callable[[float], str] = "{:g}".format) -> list[FlagGroup]:
    """Return a problem's flags by kind, the gravest first.

    Parameters
    ----------
    item : ProblemComparison
    shown : callable
        How a tolerance is written.
    """
    tried = [record for record in item.records if record.status != Status.UNSUPPORTED]
    found = []
    for name in LEVELS:
        own = [flag for flag in item.flags if flag.name == name]
        if own:
            said = list(dict.fromkeys(flag.evidence for flag in _usual_first(own)))
            advice, cells = own[0].advice, _cells(own, tried, shown)
            found.append(FlagGroup(name, LEVELS[name], cells, said[:MOST], max(0, len(said) - MOST), advice, own))
    return found


def _usual_first(flags: Sequence[Flag]) -> list[Flag]:
    usual = usual_rtol(flag.rtol for flag in flags if flag.rtol is not None)
    return sorted(flags, key=lambda flag: flag.rtol != usual)


def _cells(flags: Sequence[Flag], tried: Sequence[Record], shown: Callable[[float], str]) -> str:
    rtols = sorted({flag.rtol for flag in flags if flag.rtol is not None}, reverse=True)
    parts = [_once(getattr(flag, name) for flag in flags) for name in ("backend", "series", "stepping")]
    if not rtols:
        return "; ".join(part for part in parts if part)
    gradients = {flag.gradient for flag in flags}
    tried = [record for record in tried if gradient_of(record.plan) in gradients]
    share = "every cell" if len(flags) >= len(tried) else f"{len(flags)} of {len(tried)} cells"
    between = shown(rtols[0]) if len(rtols) == 1 else f"{shown(rtols[0])} to {shown(rtols[-1])}"
    return f"{share}: {'; '.join(parts)}; rtol {between}"


def _once(names: Iterable[str]) -> str:
    """Return names, each once; a flag about several backends holds them in one string."""
    return listed(sorted({part for name in names for part in name.split(", ") if part}))
