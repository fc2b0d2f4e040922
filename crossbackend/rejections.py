"""Whose error rejected the steps of the backward solve, counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crossbackend.norms import GROUPS
from crossbackend.record import Record
from crossbackend.series import BACKSOLVE, DIRECT, InSeries, gradient_of


@dataclass(frozen=True)
class Rejections(InSeries):
    """The backward steps of one record, by the block that decided them.

    Attributes
    ----------
    backend, norm, stepping : str
    rtol : float
    accepted, rejected : int
    by_block : dict of str to int
        Rejected steps by the group of blocks that decided their error ratio (`y`, `a_y`, `a_params`, `a_t`).
    spurious : int
        Rejected though the norm over (y, a_y) alone was at most 1 (Kidger, Chen, Lyons, ICML 2021, section 2.2).
    masked : int
        Accepted though it was above 1: diluted by the rest.
    gradient : str
        One that has a backward solve.
    """

    backend: str
    norm: str
    stepping: str
    rtol: float
    accepted: int
    rejected: int
    by_block: dict[str, int]
    spurious: int
    masked: int
    gradient: str = BACKSOLVE


def rejections(records: Iterable[Record]) -> list[Rejections]:
    """Return the rejections of every record with a backward solve whose error ratios are stored."""
    found = []
    for record in records:
        steps, gradient = record.steps("backward"), gradient_of(record.plan)
        if gradient == DIRECT or steps is None or steps.spurious is None or steps.masked is None:
            continue
        decided = steps.decided[~steps.accepted]
        by_block = {
            group: int(np.count_nonzero(decided == index))
            for index, group in enumerate(GROUPS)
            if f"share_{group}" in steps.seen
        }
        accepted = int(np.count_nonzero(steps.accepted))
        found.append(
            Rejections(
                record.backend, record.norm, record.stepping, record.rtol, accepted, len(steps.accepted) - accepted,
                by_block, int(np.count_nonzero(steps.spurious)), int(np.count_nonzero(steps.masked)), gradient,
            )
        )  # fmt: skip
    return found
