"""What a cluster's worker is asked: one request, one sweep, or the timing of one problem's cells."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from crossbackend.errors import UserError
from crossbackend.record import Record
from crossbackend.study.bench import Bench, Place
from crossbackend.study.cells import Cell
from crossbackend.study.options import Options
from crossbackend.study.parcel import Parcel
from crossbackend.study.pool import Failed, Stopped
from crossbackend.study.sweep import count_sweep, sweeps, warm
from crossbackend.study.timing import Timed, groups, time_in_turns

POLL_S = 0.2
"""Seconds between looks at whether the run was interrupted, where a task waits for the machine."""


@dataclass(frozen=True)
class Terms:
    """What all tasks of a run have in common.

    Attributes
    ----------
    run : str
        A name that no other run has.
    options : Options
    device : str
    versions : dict of str to dict
        What the run's records are made with, by backend: a worker that has others must not make them.
    """

    run: str
    options: Options
    device: str
    versions: Mapping[str, Mapping[str, str]]


class Task(Protocol):
    """One piece of a run's work, done by the processes of one machine."""

    @property
    def parcel(self) -> Parcel:
        """The problem that it is about."""
        ...

    @property
    def backends(self) -> tuple[str, ...]:
        """Whose worker processes it needs."""
        ...

    def arrived(self, parcel: Parcel) -> Task:
        """Return the task with its problem as this machine has it."""
        ...

    def do(self, bench: Place, stopped: Callable[[], bool]) -> Any:
        """Do it; raise Failed or UserError as the worker processes do."""
        ...


@dataclass(frozen=True)
class Request:
    """One request to one worker process: a trial, or a reference."""

    parcel: Parcel
    backend: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def backends(self) -> tuple[str, ...]:
        """The one that is asked."""
        return (self.backend,)

    def arrived(self, parcel: Parcel) -> Request:
        """Return the request with its problem as this machine has it."""
        return replace(self, parcel=parcel)

    def do(self, bench: Place, stopped: Callable[[], bool]) -> Any:
        """Return the answer."""
        del stopped
        return bench.workers[self.backend].ask(self.parcel, self.name, **self.arguments)


@dataclass(frozen=True)
class _OfCells:
    """Work on cells of one problem, all of which name the same parcel."""

    cells: tuple[Cell, ...]
    usual: Mapping[tuple[str, ...], float] = field(default_factory=dict)

    @property
    def parcel(self) -> Parcel:
        problem = self.cells[0].problem
        assert isinstance(problem, Parcel)
        return problem

    @property
    def backends(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.plan.backend for cell in self.cells))

    def arrived(self, parcel: Parcel) -> Any:
        return replace(self, cells=tuple(replace(cell, problem=parcel) for cell in self.cells))


class Counting(_OfCells):
    """The counting runs of one sweep."""

    def do(self, bench: Place, stopped: Callable[[], bool]) -> list[Record]:
        """Return a record a cell."""
        del stopped
        return list(count_sweep(replace(bench, usual=self.usual), self.cells))


class Timing(_OfCells):
    """The timing of one problem's cells under one norm, alone on the machine."""

    def do(self, bench: Place, stopped: Callable[[], bool]) -> dict[str, Timed]:
        """Return what timing gave, by digest."""
        with machine_alone(stopped):
            return time_all(bench, self.cells)


def time_all(bench: Bench, cells: tuple[Cell, ...]) -> dict[str, Timed]:
    """Compile every sweep's bare plan, then time the cells in turns between the backends."""
    warmed: dict[tuple[str, ...], Any] = {}
    found: dict[str, Timed] = {}
    for sweep in sweeps(cells):
        try:
            warmed[sweep[0].plan.sweep_key] = warm(bench, sweep[0])
        except (Failed, UserError) as error:
            found |= {cell.digest: Timed.not_timed(error) for cell in sweep}
    for group in groups(cell for cell in cells if cell.digest not in found):
        found |= time_in_turns(bench, group, warmed)
    return found


@contextmanager
def machine_alone(stopped: Callable[[], bool]) -> Iterator[None]:
    """Keep other timing off this machine, also that of a second Dask worker which knows nothing of this one.

    Raises
    ------
    Stopped
        Where the run is interrupted meanwhile.
    """
    lock = FileLock(lock_file())
    while True:
        try:
            lock.acquire(timeout=POLL_S)
            break
        except Timeout:
            if stopped():
                raise Stopped from None
    try:
        yield
    finally:
        lock.release()


def lock_file() -> Path:
    """Return the file that a timing task of this user's locks on this machine."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    return Path(tempfile.gettempdir()) / f"crossbackend-timing-{user}.lock"
