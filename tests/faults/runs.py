"""Runs on stub backends as processes, and what two of them must have in common."""

import json
import time

import psutil

from crossbackend.store import load_run
from tests.study.test_processes import Command

MEASURED = ("time", "machine", "peak_memory_bytes", "memory_rise_bytes", "device_memory_bytes")
"""What no two runs share: clocks and memory."""


def rtols(count):
    """The flags of so many tolerances."""
    return [word for k in range(1, count + 1) for word in ("--rtol", f"{10 ** (-8 * k / count):.6g}")]


def command(lab, path, *flags, timed=False):
    """`crossbackend run` of one problem on the backends a and b."""
    words = ["run", path, "--backend", "a", "--backend", "b", "--norm", "default", "--stepping", "native"]
    timing = ["--repeats", "1"] if timed else ["--no-timing"]
    return [*words, "--out", lab.out, "--no-report", *timing, *flags]


def finished(lab, *args):
    """Run a command to its end and return what it said on standard error."""
    code, _, err = Command(lab, *args).end()
    assert code == 0, err
    return err


def content(folder):
    """What a run's records say, by digest, without what is `MEASURED`."""
    found = {}
    run = load_run(folder)
    assert run.damaged == []
    for record in run.records:
        said = {k: v for k, v in record.flat().items() if k not in MEASURED}
        said["timed"] = record.time is not None
        said["arrays"] = {k: (v.dtype.str, v.shape, v.tobytes()) for k, v in record.arrays.items()}
        found[record.digest] = said
    return found


def good(folder):
    """Digests of the records that are ok, with the bytes of their arrays."""
    return {d: said["arrays"] for d, said in content(folder).items() if said["status"] == "ok"}


def workers(process):
    """The worker processes of a run under way."""
    try:
        return psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return []


def until(what, seconds=30):
    """Wait for a condition, so long at most."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.005)


def resealed(path, **changes):
    """Change fields of a stored JSON file and write a checksum that holds, as another program would."""
    from crossbackend.store import checksum

    fields = json.loads(path.read_text()) | changes
    beside = path.with_suffix(".npz")
    fields["checksum"] = checksum(fields, beside.read_bytes() if beside.exists() else b"")
    path.write_text(json.dumps(fields))


def same(a, b):
    """Whether two dicts of arrays are the same to the last bit."""
    return a.keys() == b.keys() and all(_bits(a[name]) == _bits(b[name]) for name in a)


def _bits(array):
    return array.dtype, array.shape, array.tobytes()
