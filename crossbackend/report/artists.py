"""The charts of all problems, drawn by several processes where there are enough of them for that to pay.

A process of its own, started as a command, and not one of `multiprocessing`: that one would run a user's script
again, which may have no `if __name__ == "__main__"`, or fork a process in which a library has threads.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
from collections.abc import Sequence

from crossbackend.compare import ProblemComparison
from crossbackend.machine import cores
from crossbackend.report.draw import Chart
from crossbackend.report.groups import problem_charts
from crossbackend.report.names import Names

EACH = 8
"""Problems that a process must have to do: drawing them takes a few seconds, starting it takes one."""

Drawn = dict[str, Chart | None]
_START = "import sys; sys.path[:] = {path!r}; from crossbackend.report.artists import main; main()"


def drawn(problems: Sequence[ProblemComparison], names: Names) -> list[Drawn]:
    """Return the charts of every problem, in order; the same whoever drew them.

    Raises
    ------
    RuntimeError
        A process that draws failed; the text has its words.
    """
    tasks = [(item, names, index) for index, item in enumerate(problems)]
    hands = min(cores(), len(tasks) // EACH)
    if hands < 2:
        return [problem_charts(*task) for task in tasks]
    others = [_start() for _ in range(1, hands)]
    try:
        for k, other in enumerate(others, 1):
            _send(other, tasks[k::hands])
        parts = [[problem_charts(*task) for task in tasks[::hands]], *(_finish(other) for other in others)]
    finally:
        for other in others:
            other.kill()
            other.communicate()
    return [parts[index % hands][index // hands] for index in range(len(tasks))]


def _start() -> subprocess.Popen[bytes]:
    command, pipe = [sys.executable, "-c", _START.format(path=sys.path)], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)


def _send(process: subprocess.Popen[bytes], tasks: list[tuple[ProblemComparison, Names, int]]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died, and `_finish` says of what
        process.stdin.write(pickle.dumps(tasks))
        process.stdin.close()
    process.stdin = None  # or `communicate` would write to it


def _finish(process: subprocess.Popen[bytes]) -> list[Drawn]:
    out, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a process that draws charts failed: {err.decode(errors='replace').strip()[-2000:]}")
    return pickle.loads(out)


def main() -> None:
    """Draw what standard input holds, and write it to standard output: what a started process does."""
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # nothing else may get into the answer
    tasks = pickle.loads(sys.stdin.buffer.read())
    out.write(pickle.dumps([problem_charts(*task) for task in tasks]))
    out.flush()
