"""Timing: native plans one at a time on the machine, backends in turns (A B C A B C)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossbackend import machine
from crossbackend.errors import UserError
from crossbackend.study.bench import Bench
from crossbackend.study.cells import Cell
from crossbackend.study.pool import Failed

UNCOUNTED_S = 1.0
"""The first call of a cell measures its memory, which takes a little time itself: it counts where it took longer."""

Warmed = Mapping[tuple[str, ...], Mapping[str, float]]
"""Seconds of compiling and of the first call, by sweep."""


@dataclass(frozen=True)
class Timed:
    """What timing a cell gave, for its record.

    Attributes
    ----------
    time : dict or None
        The record's `time`, seconds; None where it could not be timed.
    memory : dict
        `peak_memory_bytes`, `memory_rise_bytes`, `device_memory_bytes`: see `Record`; None where not known.
    message : str
        Why it was not timed.
    machine : dict
        Where.
    """

    time: dict[str, Any] | None = None
    memory: dict[str, int | None] = field(default_factory=dict)
    message: str = ""
    machine: dict[str, Any] = field(default_factory=machine.facts)

    @classmethod
    def not_timed(cls, error: Failed | UserError) -> Timed:
        """Return what is told of a cell that could be counted but not timed."""
        status = f"{error.status}: " if isinstance(error, Failed) else ""
        return cls(message=f"not timed: {status}{error}")


def groups(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Return the cells that are timed in turns: those that differ in nothing but the backend."""
    found: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.plan.problem, cell.plan.norm, cell.plan.rtol), []).append(cell)
    return list(found.values())


def time_in_turns(bench: Bench, group: Sequence[Cell], warmed: Warmed) -> dict[str, Timed]:
    """Time the backends of one cell in turns, each until its repeats or its seconds are spent.

    Returns
    -------
    dict of str to Timed
        By digest, one for every cell of the group.
    """
    options = bench.options
    spent: dict[str, list[float]] = {cell.digest: [] for cell in group}
    memory: dict[str, dict[str, int | None]] = {cell.digest: {} for cell in group}
    lost: dict[str, Timed] = {}
    waiting = list(group)
    first = True
    while waiting:
        for cell in list(waiting):
            try:
                found = bench.workers[cell.plan.backend].ask(cell.problem, "time", plan=cell.plan, memory=first)
            except (Failed, UserError) as error:
                waiting.remove(cell)
                lost[cell.digest] = Timed.not_timed(error)
                continue
            seconds = found.pop("seconds")
            memory[cell.digest] = _larger(memory[cell.digest], found)
            if first and seconds < UNCOUNTED_S:
                continue
            times = spent[cell.digest]
            times.append(seconds)
            if len(times) >= options.repeats or sum(times) >= options.seconds:
                waiting.remove(cell)
        first = False
    done = {
        cell.digest: Timed(statistics(spent[cell.digest], warmed[cell.plan.sweep_key]), memory[cell.digest])
        for cell in group
        if cell.digest not in lost
    }
    return done | lost


def _larger(known: Mapping[str, int | None], found: Mapping[str, int | None]) -> dict[str, int | None]:
    """Return the largest of every kind of memory that was measured at all."""
    names = dict.fromkeys([*known, *found])
    return {name: max((m[name] for m in (known, found) if m.get(name) is not None), default=None) for name in names}  # type: ignore[type-var]


def statistics(times: list[float], warmed: Mapping[str, float]) -> dict[str, Any]:
    """Return a record's `time`: seconds, as minimum, median and quartiles."""
    q1, median, q3 = (float(q) for q in np.percentile(times, [25, 50, 75]))
    return {
        "compile_s": warmed["compile_s"], "first_s": warmed["first_s"], "min_s": min(times), "median_s": median,
        "q1_s": q1, "q3_s": q3, "repeats": len(times),
    }  # fmt: skip
