"""What a cell costs beside its solves: `python -m tests.study.overhead`.

A stub backend, whose solves take no time, runs many cells: by processes of this machine, and by a Dask scheduler with
two workers. What is left is the price of requests, records, the network and the files. Nothing is timed here but the
whole run: from the start to the last file, the comparison and the report left out.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from crossbackend import registry
from crossbackend.load import load
from crossbackend.plan import Choice
from crossbackend.study import Options, run_study

from .conftest import Lab
from .local_cluster import LocalCluster


def measure(lab, count, scheduler, **options):
    """Run COUNT cells, sweeps of 50, in a folder of their own; return cells, seconds, CPU seconds, bytes a cell."""
    lab.out = lab.folder / f"out-{len(list(lab.folder.glob('out-*')))}"
    paths = [lab.problem(f"p{number}") for number in range(max(1, count // 150))]
    lab.reference(*paths)
    rtols = tuple(float(f"{10 ** (-2 - 8 * k / 50):.4g}") for k in range(max(1, count // (3 * len(paths)))))
    choice = Choice(tuple("abc"), ("default",), ("native",), rtols)
    given = {"timing": False, "progress": False, "scheduler": scheduler} | options
    started, busy = time.perf_counter(), time.process_time()
    run_study([load(path) for path in paths], choice, Options(lab.out, **given))
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    files = list((lab.out / "records").iterdir())
    cells = len(files) // 2
    return cells, seconds, busy, sum(path.stat().st_size for path in files) / cells


def say(*columns):
    sys.stdout.write("{:16}{:>8}{:>9}{:>11}{:>17}{:>16}\n".format(*columns))
    sys.stdout.flush()


def made(folder):
    """Return a lab whose stubs are found by this process and those it starts."""
    lab = Lab(folder)
    lab.stub.mkdir()
    shutil.copy(Path(__file__).with_name("stub_backend.py"), lab.stub)
    lab.version("1")
    os.environ |= {"STUB": str(lab.stub), "PYTHONPATH": str(lab.stub)}
    sys.path.insert(0, str(lab.stub))
    registry.get.cache_clear()
    return lab


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        lab = made(Path(folder))
        say("where", "cells", "seconds", "ms a cell", "client's CPU, ms", "bytes a record")
        for where in ("here", "a Dask cluster"):
            cluster = LocalCluster(lab.folder) if where != "here" else None
            try:
                address = None if cluster is None else cluster.address
                measure(lab, 6, address)  # processes start, modules are imported
                few, idle = measure(lab, 6, address)[1:3]  # what does not grow with the cells
                cells, seconds, busy, size = measure(lab, args.cells, address)
            finally:
                if cluster is not None:
                    cluster.end()
            each, own = (1e3 * (long - short) / cells for long, short in ((seconds, few), (busy, idle)))
            say(where, cells, f"{seconds:.2f}", f"{each:.2f}", f"{own:.2f}", f"{size:.0f}")


if __name__ == "__main__":
    main()
