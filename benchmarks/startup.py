"""What a command costs before it does anything, and what a worker holds.

CPU seconds, not wall time: what else the machine does then matters less. `python -m benchmarks.startup BACKEND PROBLEM`
is such a worker.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from benchmarks.figure import Figure, Options, figure
from benchmarks.turns import asked
from crossbackend import registry
from crossbackend.load import load
from crossbackend.plan import Plan
from crossbackend.record import Record, Status
from crossbackend.store import load_run, prepare, write_json, write_record

HELP, COMPARE = 0.3, 3.0
RECORDS = 1000
BACKENDS = ("scipy", "torchdiffeq", "diffrax")
PROBLEM = "linear"
EXAMPLE = Path(__file__).resolve().parent.parent / "reports" / "example"


def startup(options: Options) -> Iterator[Figure]:
    """Yield CPU seconds of two commands, and the resident memory of a process of every backend."""
    if options.device != "cpu":
        return
    yield figure("startup", "crossbackend --help, CPU s", HELP, cpu_seconds(["--help"], options.repeats))
    with tempfile.TemporaryDirectory(prefix="startup-") as name:
        count = stored(Path(name), RECORDS)
        found = cpu_seconds(["compare", name], options.repeats)
    yield figure("startup", f"crossbackend compare, {count} records, CPU s", COMPARE, found)
    for backend in BACKENDS:
        for problem in options.chosen((PROBLEM,)):
            found = [asked("benchmarks.startup", backend, problem) for _ in range(3)]
            yield figure("startup", f"a worker of {backend} after one gradient, MiB", None, found)


def cpu_seconds(arguments: Sequence[str], repeats: int) -> list[float]:
    """Return the CPU seconds of a command, all its threads and children, time after time."""
    found = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "crossbackend", *arguments], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return found


def stored(folder: Path, count: int) -> int:
    """Store so many records, real ones under tolerances of their own, and return their number.

    They are those of the committed example that finished, again and again: a problem, backend, norm and stepping keep
    their arrays, and each time round has other tolerances and other digests.
    """
    example = load_run(EXAMPLE)
    good = [record for record in example.records if record.status == Status.OK]
    prepare(folder)
    write_json(folder / "run.json", {"format": 1, "name": "thousand"})
    for place in ("problems", "reference"):
        (folder / place).mkdir(exist_ok=True)
        for path in (EXAMPLE / place).iterdir():
            (folder / place / path.name).write_bytes(path.read_bytes())
    for number in range(count):
        write_record(folder, _again(good[number % len(good)], number // len(good), number))
    return count


def _again(record: Record, turn: int, number: int) -> Record:
    """Return a record of another tolerance, that of no other turn, and of a digest of its own."""
    plan = {**record.plan, "rtol": record.rtol * 0.9**turn, "atol": record.plan["atol"] * 0.9**turn}
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return Record(**{**fields, "digest": f"{record.digest[:-4]}{number:04x}", "plan": plan})


def memory(backend: str, name: str) -> float:
    """Return the resident MiB of this process after one gradient."""
    plan = Plan(name, backend, "default", "native", 1e-6, 1e-8)
    registry.get(backend).compile(load(name), plan).solve(1e-6, 1e-8)
    return psutil.Process().memory_info().rss / 2**20


if __name__ == "__main__":
    print(json.dumps(memory(sys.argv[1], sys.argv[2])))
