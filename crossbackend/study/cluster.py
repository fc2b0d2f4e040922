"""A Dask scheduler seen from the study: checked before any solve, handed tasks, asked what came of them."""

from __future__ import annotations

import contextlib
import itertools
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crossbackend import registry
from crossbackend.errors import Mistake, UserError, raise_all
from crossbackend.problem import Problem
from crossbackend.record import Status
from crossbackend.study import crew
from crossbackend.study.crew import Answer
from crossbackend.study.options import Options
from crossbackend.study.parcel import Parcel, sealed
from crossbackend.study.pool import Failed, Stopped
from crossbackend.study.tasks import Request, Task, Terms

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 5
"""Seconds to wait for the scheduler."""
WORKERS_S = 30
"""Seconds to wait, before any solve, for the first worker."""
POLL_S = 0.2
"""Seconds between looks at whether the run was interrupted, while nothing comes."""
LOOK_S = 2.0
"""Seconds between looks at which workers there are."""
AHEAD = 2
"""Tasks handed to the scheduler for every core: few, so that a lost worker is blamed for what it ran and no more."""
AGAIN = 3
"""Times a task is handed in again that the scheduler dropped."""
START = "Start every worker by: dask worker ADDRESS --nworkers 1 --nthreads N --resources 'cores=N' (N: its cores)."


@dataclass
class _UnderWay:
    """A task that the scheduler has; `cores` is what it asks for."""

    task: Task
    future: Future
    cores: float
    tries: int = 1


class Cluster:
    """A Dask scheduler and its workers, for one run.

    Parameters
    ----------
    client : distributed.Client
    terms : Terms
    """

    def __init__(self, client: Client, terms: Terms) -> None:
        self.client, self.terms = client, terms
        self.machines: dict[str, dict[str, Any]] = {}
        self.largest = 1.0
        """The cores of the largest machine: those are the ones that time."""
        self.stopped = threading.Event()
        self.under_way: dict[str, _UnderWay] = {}
        self.numbers = itertools.count()
        self.lock = threading.Lock()
        self.looked = self.seen = time.monotonic()
        self.parcels: dict[int, Parcel] = {}

    @property
    def cores(self) -> int:
        """The cores of all machines."""
        return int(sum(about["cores"] for about in self.machines.values()))

    def parcel(self, problem: Problem) -> Parcel:
        """Return a problem as it travels; made once."""
        if id(problem) not in self.parcels:
            self.parcels[id(problem)] = sealed(problem)
        return self.parcels[id(problem)]

    def handle(self, name: str) -> AnyWorker:
        """Return what asks any of the workers."""
        return AnyWorker(self, name)

    def look(self, addresses: Iterable[str] | None = None) -> None:
        """Learn about workers: those given, or all.

        Raises
        ------
        UserError
            Workers without the resource `cores`, without crossbackend, or with other versions.
        """
        given = None if addresses is None else list(addresses)
        with self._there():
            found: Any = self.client.run(crew.facts, list(self.terms.versions), workers=given, on_error="return")
        mistakes = [mistake for address, about in found.items() for mistake in self._mistakes(address, about)]
        raise_all(list({str(mistake): mistake for mistake in mistakes}.values()))
        self._keep(self.machines | {address: about for address, about in found.items() if isinstance(about, dict)})

    def _keep(self, machines: dict[str, dict[str, Any]]) -> None:
        self.machines = machines
        self.largest = max((about["cores"] for about in machines.values()), default=self.largest)

    def _mistakes(self, address: str, about: Any) -> list[Mistake]:
        if isinstance(about, OSError):  # it went away between two looks
            return []
        if isinstance(about, Exception):
            got = f"a worker ({address}) that cannot load crossbackend ({type(about).__name__}: {about})"
            fix = "Install crossbackend and its backends there, and one Python for all machines."
            return [Mistake("--scheduler", got, "workers with this crossbackend", fix)]
        who = f"the worker on {about['host']}"
        wrong = [(name, about["versions"][name], own) for name, own in self.terms.versions.items()]
        found = [crew.other_versions(who, name, got, own) for name, got, own in wrong if got != own]
        theirs, python = about["machine"]["python"], sys.version_info
        if theirs.split(".")[:2] != [str(python.major), str(python.minor)]:
            expected = f"Python {python.major}.{python.minor}, as here"
            fix = "A problem's digest holds Python's version."
            found.append(Mistake("--scheduler", f"Python {theirs} on {who}", expected, fix))
        if about["cores"] < 1:
            got = f"a worker ({address}) without the resource `cores`"
            found.append(Mistake("--scheduler", got, "one that says how many cores its machine has", START))
        return found

    def ask(self, task: Task) -> Any:
        """Have one task done and return its value.

        Raises
        ------
        Failed, UserError, Stopped
        """
        got: list[Answer] = []
        self.spread([task], lambda _, answer: got.append(answer))
        answer = got[0]
        if answer.kind == "failed":
            raise Failed(*answer.value)
        return answer.value

    def spread(self, tasks: Iterable[Task], done: Callable[[Any, Answer], None], *, alone: bool = False) -> None:
        """Have tasks done, and call `done` in this thread with each and its answer, which is `ok` or `failed`.

        Parameters
        ----------
        alone : bool
            Every task has a machine of its own.

        Raises
        ------
        UserError
            A mistake of the user's in a task; a scheduler, or all workers, that went away.
        Stopped
            After `stop`.
        """
        waiting, mine = iter(tasks), set[str]()
        answers: queue.SimpleQueue[str] = queue.SimpleQueue()

        def submit(task: Task, tries: int = 1) -> None:
            mine.add(self._submit(task, answers, self.largest if alone else 1, tries))

        while True:
            while len(mine) < self._window(alone) and (task := next(waiting, None)) is not None:
                submit(task)
            if not mine:
                return
            with contextlib.suppress(queue.Empty):
                key = answers.get(timeout=POLL_S)
                if key in mine:
                    entry = self._pop(key, mine)
                    if self._settle(entry, done):
                        submit(entry.task, entry.tries + 1)
            self._watch()
            for key in [key for key in mine if self.under_way[key].cores > self.largest]:  # its machine is gone
                entry = self._pop(key, mine)
                entry.future.cancel()
                submit(entry.task, entry.tries)

    def _pop(self, key: str, mine: set[str]) -> _UnderWay:
        mine.remove(key)
        with self.lock:
            return self.under_way.pop(key)

    def _window(self, alone: bool) -> int:
        if alone:
            return AHEAD * max(1, sum(about["cores"] == self.largest for about in self.machines.values()))
        return AHEAD * max(1, self.cores)

    def _submit(self, task: Task, answers: queue.SimpleQueue[str], cores: float, tries: int) -> str:
        if self.stopped.is_set():
            raise Stopped
        key = f"crossbackend-{self.terms.run}-{next(self.numbers)}"
        with self._there():
            future = self.client.submit(
                crew.perform, self.terms, task, key=key, pure=False, retries=AGAIN, resources={"cores": cores}
            )
        with self.lock:
            self.under_way[key] = _UnderWay(task, future, cores, tries)
        future.add_done_callback(lambda _: answers.put(key))
        return key

    def _settle(self, entry: _UnderWay, done: Callable[[Any, Answer], None]) -> bool:
        """Hand on what came of a task; return whether it is to be handed in again."""
        future = entry.future
        try:
            answer = future.result()
        except Exception as error:
            answer = self._without_answer(entry, error)
            if answer is None:
                return True
        finally:
            future.release()
        if answer.kind == "user":
            raise UserError(*answer.value)
        if answer.kind == "stopped":
            raise Stopped
        done(entry.task, answer)
        return False

    def _without_answer(self, entry: _UnderWay, error: Exception) -> Answer | None:
        """Return what is said of a task that has no answer; None where it is to be handed in again."""
        from distributed import KilledWorker

        if self.stopped.is_set():
            raise Stopped from error
        if isinstance(error, KilledWorker):
            times = error.allowed_failures + 1
            words = f"the Dask worker that ran it was lost {times} times, the last on {error.last_worker.address}"
            return Answer("failed", (Status.CRASHED, words))
        if isinstance(error, CancelledError):
            self._watch(now=True)
            if entry.tries <= AGAIN:
                return None
            return Answer("failed", (Status.CRASHED, f"the scheduler dropped it {entry.tries} times"))
        return Answer("failed", (Status.CRASHED, f"on the cluster: {type(error).__name__}: {error}"))

    def _watch(self, *, now: bool = False) -> None:
        """Look, every now and then, at the scheduler and at which workers came and went."""
        if self.stopped.is_set():
            raise Stopped
        with self.lock:
            if not now and time.monotonic() - self.looked < LOOK_S:
                return
            self.looked = time.monotonic()
        there = self._addresses()
        if there is None:
            return
        if there:
            self.seen = time.monotonic()
        elif time.monotonic() - self.seen > self.terms.options.timeout:
            got = f"a scheduler whose workers have all gone for {self.terms.options.timeout:g} s"
            raise UserError(Mistake("--scheduler", got, "at least one worker", f"{START} {RESUME}"))
        self._keep({address: about for address, about in self.machines.items() if address in there})
        new = there - set(self.machines)
        if new:
            self.look(new)

    def _addresses(self) -> set[str] | None:
        """Return the addresses of the workers; None where that is not known just now."""
        with self._there():
            try:
                found: Any = self.client.nthreads()
            except (OSError, TimeoutError):
                if self.client.status == "closed":
                    raise
                return None  # the client is trying to reach it again
        return set(found)

    @contextlib.contextmanager
    def _there(self) -> Iterator[None]:
        """Say so where something fails because the scheduler has gone."""
        try:
            yield
        except Exception as error:
            if self.client.status == "running" or self.stopped.is_set():
                raise
            got = f"{self.terms.options.scheduler}, which went away"
            expected = "a scheduler that lives as long as the run"
            raise UserError(Mistake("--scheduler", got, expected, RESUME)) from error

    def stop(self) -> None:
        """End everything: tasks that wait, processes under way, the connection; nothing raises."""
        if self.stopped.is_set():
            return
        self.stopped.set()
        with self.lock:
            futures = [entry.future for entry in self.under_way.values()]
        ending = threading.Thread(target=self._end, args=(futures,), daemon=True)
        ending.start()
        ending.join(CONNECT_S)  # a scheduler that is gone would keep it for longer

    def _end(self, futures: list[Future]) -> None:
        with contextlib.suppress(Exception):
            self.client.cancel(futures, force=True)
        with contextlib.suppress(Exception):
            self.client.run(crew.end, self.terms.run, on_error="ignore")
        with contextlib.suppress(Exception):
            self.client.close(timeout=CONNECT_S)


RESUME = "What is stored is a usable run, and the same command goes on from there."


class AnyWorker:
    """A handle (see `pool.Handle`) whose requests are tasks: any worker of the cluster may answer."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def ask(self, problem: Problem | Parcel, do: str, **arguments: Any) -> Any:
        """Send a request about a problem and return its value; raises as `WorkerHandle.ask` does."""
        parcel = problem if isinstance(problem, Parcel) else self.cluster.parcel(problem)
        return self.cluster.ask(Request(parcel, self.name, do, arguments))

    def kill(self) -> None:
        """Do nothing: the cluster keeps no process for this handle alone, and `Cluster.stop` ends all."""


def connect(options: Options, backends: Iterable[str], device: str) -> Cluster:
    """Return a cluster whose workers can do the run.

    Raises
    ------
    UserError
        No scheduler at the address, no worker, or workers that cannot do the run: all that is wrong, before any solve.
    """
    from distributed import Client
    from distributed.comm import normalize_address, resolve_address

    address = str(options.scheduler)
    versions: Mapping[str, Mapping[str, str]] = {name: registry.versions(name) for name in backends}
    try:
        resolve_address(normalize_address(address))  # a client takes long to give up what is no address
        client = Client(address, timeout=CONNECT_S, set_as_default=False, name="crossbackend")
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        got = f"{address}, where no scheduler answers ({str(error).splitlines()[0] if str(error) else 'no answer'})"
        fix = "Start one by `dask scheduler`, and write the address that it prints."
        raise UserError(Mistake("--scheduler", got, "the address of a Dask scheduler", fix)) from error
    cluster = Cluster(client, Terms(uuid.uuid4().hex[:12], options, device, versions))
    try:
        _await_a_worker(cluster, address)
        cluster.look()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _await_a_worker(cluster: Cluster, address: str) -> None:
    try:
        cluster.client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError as error:
        got = f"{address}, a scheduler without workers for {WORKERS_S} s"
        raise UserError(Mistake("--scheduler", got, "at least one worker", START)) from error
