"""The sweeps of one backend that wait to be run: any of its processes counts them, its own compiles what is timed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from crossbackend.study.cells import Cell

Sweep = list[Cell]


class Line:
    """Sweeps in order, handed out to several threads.

    Parameters
    ----------
    backend : str
    every : sequence of list of Cell
    """

    def __init__(self, backend: str, every: Sequence[Sweep]) -> None:
        self.backend = backend
        self._waiting, self._counted = deque(every), deque[Sweep]()
        self._under_way = self._hands = 0
        self._changed = threading.Condition()

    @property
    def share(self) -> float:
        """Sweeps that wait, for each process that counts them and one more."""
        with self._changed:
            return len(self._waiting) / (self._hands + 1)

    @contextmanager
    def hand(self) -> Iterator[None]:
        """Count as one of the processes at work meanwhile."""
        with self._changed:
            self._hands += 1
        try:
            yield
        finally:
            with self._changed:
                self._hands -= 1

    @contextmanager
    def to_count(self) -> Iterator[Sweep | None]:
        """Give out a sweep to count, None where none waits; it waits to be compiled when this is left."""
        with self._changed:
            sweep = self._waiting.popleft() if self._waiting else None
            self._under_way += sweep is not None
        try:
            yield sweep
        finally:
            if sweep is not None:
                with self._changed:
                    self._under_way -= 1
                    self._counted.append(sweep)
                    self._changed.notify_all()

    def counted(self) -> Sweep | None:
        """Return a sweep that was counted, None where there is none."""
        with self._changed:
            return self._counted.popleft() if self._counted else None

    def wait(self) -> bool:
        """Wait until another process has counted a sweep; False at once where none will."""
        with self._changed:
            while not self._counted and not self._waiting and self._under_way:
                self._changed.wait()
            return bool(self._counted or self._waiting)
