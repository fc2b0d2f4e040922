"""Within a Dask worker: the worker processes that it keeps, and the tasks that they do.

Everything here runs in the Dask worker's process, which never imports torch or jax, nor runs a problem's file.
"""

from __future__ import annotations

import platform
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from crossbackend import machine, registry
from crossbackend.errors import Mistake, UserError
from crossbackend.study.bench import Place, worker
from crossbackend.study.parcel import Parcel, opened
from crossbackend.study.pool import Failed, Stopped, WorkerHandle
from crossbackend.study.tasks import Task, Terms

RENEWED_AFTER = 24
"""Problems after which a worker process is ended: it keeps what it compiled for every one of them."""


@dataclass(frozen=True)
class Answer:
    """What a task gave: its value, the user's mistakes, (status, words) of a failure, or nothing where it was ended."""

    kind: Literal["ok", "user", "failed", "stopped"]
    value: Any = None


class Crew:
    """The worker processes of this machine, kept between tasks; one task at a time has one of them.

    Parameters
    ----------
    room : int
        Processes that may be alive while they have nothing to do: beyond, the longest idle one is ended.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.lock = threading.Lock()
        self.idle: list[tuple[str, WorkerHandle]] = []
        self.busy: list[tuple[str, WorkerHandle]] = []
        self.ended: set[str] = set()
        self.folder = tempfile.TemporaryDirectory(prefix="crossbackend-")

    @contextmanager
    def lent(self, terms: Terms, names: Sequence[str]) -> Iterator[dict[str, WorkerHandle]]:
        """Lend worker processes of a run by their backends' names, and take them back.

        Raises
        ------
        Stopped
            Where the run has ended.
        """
        taken = {name: self._take(terms, name) for name in names}
        try:
            yield taken
        finally:
            for handle in taken.values():
                self._give(terms.run, handle)

    def _take(self, terms: Terms, name: str) -> WorkerHandle:
        with self.lock:
            if terms.run in self.ended:
                raise Stopped
            known = next((pair for pair in self.idle if pair[0] == terms.run and pair[1].name == name), None)
            if known is not None:
                self.idle.remove(known)
            else:
                known = terms.run, worker(name, terms.options, terms.device)
            self.busy.append(known)
            spare = max(0, len(self.idle) + len(self.busy) - self.room)
            gone, self.idle = self.idle[:spare], self.idle[spare:]
        _kill(gone)
        return known[1]

    def _give(self, run: str, handle: WorkerHandle) -> None:
        with self.lock:
            self.busy.remove((run, handle))
            keep = run not in self.ended and len(handle.sent) < RENEWED_AFTER
            if keep:
                self.idle.append((run, handle))
        if not keep:
            handle.kill()

    def opened(self, parcel: Parcel) -> Parcel:
        """Return a problem as this machine's processes can load it."""
        with self.lock:
            return opened(parcel, Path(self.folder.name))

    def end(self, run: str) -> None:
        """End a run's processes at once, whatever they do; its tasks that are still to come are refused."""
        with self.lock:
            self.ended.add(run)
            gone = [pair for pair in (*self.idle, *self.busy) if pair[0] == run]
            self.idle = [pair for pair in self.idle if pair[0] != run]
        _kill(gone)


def _kill(pairs: Sequence[tuple[str, WorkerHandle]]) -> None:
    for _, handle in pairs:
        handle.kill()


@cache
def crew() -> Crew:
    """Return the processes of this Dask worker."""
    return Crew(max(2, machine.cores()))


def perform(terms: Terms, task: Task) -> Answer:
    """Do a task and return what it gave: the function that Dask calls."""
    own = crew()
    original = task.parcel.path
    parcel = own.opened(task.parcel)
    try:
        _refuse_other_versions(terms)
        with own.lent(terms, task.backends) as workers:
            place = Place(workers, terms.options, {})
            return Answer("ok", task.arrived(parcel).do(place, lambda: terms.run in own.ended))
    except UserError as error:
        return Answer("user", [_of_origin(mistake, parcel.path, original) for mistake in error.mistakes])
    except Failed as error:
        return Answer("failed", (error.status, error.message))
    except Stopped:
        return Answer("stopped")


def _of_origin(mistake: Mistake, path: str | None, original: str | None) -> Mistake:
    """Return a mistake in a problem's file by the path that its user knows."""
    if path is None or original is None:
        return mistake
    said = (text.replace(path, original) for text in (mistake.where, mistake.got, mistake.expected, mistake.fix))
    return Mistake(*said)


def end(run: str) -> None:
    """End a run on this Dask worker."""
    crew().end(run)


def _refuse_other_versions(terms: Terms) -> None:
    for name, wanted in terms.versions.items():
        own = registry.versions(name)
        if own != wanted:
            raise UserError(other_versions(f"the worker on {_host()}", name, own, wanted))


def _host() -> str:
    return platform.node() or "a machine without a name"


def other_versions(who: str, backend: str, got: Any, wanted: Any) -> Mistake:
    """Return the mistake of a worker that has not the versions which a run's digests are made of."""
    names = sorted(name for name in {*got, *wanted} if got.get(name) != wanted.get(name))
    has = ", ".join(f"{name} {got.get(name, 'not installed')}" for name in names)
    needs = ", ".join(f"{name} {wanted.get(name, 'not installed')}" for name in names)
    fix = f"Install the same packages for {backend} on all machines: a record's digest holds their versions."
    return Mistake("--scheduler", f"{has} on {who}", f"{needs}, as here", fix)


def facts(backends: Sequence[str], dask_worker: Any = None) -> dict[str, Any]:
    """Return what a Dask worker is: its cores as a resource, its machine, and its versions by backend."""
    found: dict[str, dict[str, str]] = {}
    for name in backends:
        found[name] = registry.versions(name) if registry.known(name) else {}
    cores = dask_worker.state.total_resources.get("cores", 0) if dask_worker is not None else 0
    return {"cores": cores, "host": _host(), "machine": machine.facts(), "versions": found}
