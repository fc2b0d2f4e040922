"""Contestants timed in turns, A B A B, so that what the machine does meanwhile falls on all of them alike."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.figure import REPEATS

SECONDS = 4.0
"""A pair that is quick takes more turns, until this is spent or there are ten times as many."""
AGREE = 1e-3
"""Two gradients that differ by more, relative to their size, are not one task: their times say nothing."""


def asked(module: str, *words: str, environment: dict[str, str] | None = None) -> Any:
    """Return what a module of this package prints, as JSON, in a process of its own.

    Raises
    ------
    RuntimeError
        With its last words, where it fails.
    """
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command[1:])} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Child:
    """A contestant in a process of its own."""

    def __init__(self, side: str, problem: str, rtol: float, device: str = "cpu") -> None:
        command = [sys.executable, "-m", "benchmarks.child", side, problem, repr(rtol), device]
        self.side = side
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, word: str) -> Any:
        """Return the answer to a word."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.side} ended with exit code {self.process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        """End the process."""
        self.process.communicate()


def ratios(
    sides: Sequence[str], problem: str, rtol: float, repeats: int = REPEATS, device: str = "cpu"
) -> tuple[np.ndarray, list[float]]:
    """Return the first side's time over the second's, turn by turn, and the median seconds of both.

    Raises
    ------
    RuntimeError
        Where the two do not take the same gradient.
    """
    children = [Child(side, problem, rtol, device) for side in sides]
    try:
        _agree(sides, [child.ask("check") for child in children])
        times = in_turns(children, repeats, 10 * repeats)
    finally:
        for child in children:
            child.end()
    return times[:, 0] / times[:, 1], [float(x) for x in np.median(times, axis=0)]


def in_turns(children: Sequence[Child], fewest: int, most: int) -> np.ndarray:
    """Return the seconds of every child, turn by turn, shape (turns, children), after one call that warms them."""
    once = sum(child.ask("time") for child in children)
    turns = int(np.clip(SECONDS / once, fewest, most))
    return np.array([[child.ask("time") for child in children] for _ in range(turns)])


def _agree(sides: Sequence[str], found: Sequence[dict[str, Any]]) -> None:
    a, b = (np.concatenate([np.asarray(part, dtype=float) for part in one["gradient"]]) for one in found)
    apart = float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300))
    if not apart <= AGREE:
        raise RuntimeError(f"{sides[0]} and {sides[1]} differ by {apart:.1e}: they do not take the same gradient")
