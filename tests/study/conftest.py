"""Three stub backends `a`, `b` and `c`, registered by a distribution of their own, here and in the workers."""

import os
import shutil
from pathlib import Path

import pytest

from crossbackend import registry
from crossbackend.digest import problem_digest
from crossbackend.load import load
from crossbackend.plan import Choice
from crossbackend.problem import Problem
from crossbackend.store import load_run, prepare, write_json, write_reference
from crossbackend.study import Options, run_study
from crossbackend.study.references import MADE_BY

PROBLEM = """
import numpy as np
from crossbackend import Problem

def vector_field(t, y, params, data):
    return -data["rate"] * y

def loss(ys, params, data):
    return (ys[-1, ...] ** 2).sum()

problem = Problem("{name}", vector_field, loss, {{}}, np.ones(2), [0.0, 1.0],
                  {{"rate": np.array({rate}), "gradient": np.array([1.0, 2.0])}}, tolerances=[1e-4, 1e-6])
"""


class Lab:
    """A folder with problem files, the stubs' orders, and the run `out`."""

    def __init__(self, folder):
        self.folder, self.out, self.stub = folder, folder / "out", folder / "stub"

    def problem(self, name="p", rate=1.0):
        """Write a problem's file and return its path."""
        path = self.folder / f"{name}.py"
        path.write_text(PROBLEM.format(name=name, rate=rate))
        return path

    def order(self, backend, *lines):
        """Say what a backend is to do."""
        (self.stub / backend).write_text("\n".join(lines))

    def version(self, number):
        """Install the stubs in another version."""
        about = self.stub / "crossbackend_stub-0.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: crossbackend-stub\nVersion: {number}\n")
        points = "\n".join(f"{name} = stub_backend:stub_{name}" for name in "abc")
        (about / "entry_points.txt").write_text(f"[crossbackend.backends]\n{points}\n")
        os.utime(self.stub, (int(number), int(number)))  # importlib looks at the folder's time

    def reference(self, *problems):
        """Store a reference for problems, so that no worker computes one."""
        prepare(self.out)
        if not (self.out / "run.json").exists():
            write_json(self.out / "run.json", {"format": 1})
        for problem in (p if isinstance(p, Problem) else load(p) for p in problems):
            card = {"format": 1, "name": problem.name, "ts": list(problem.ts)}
            write_json(self.out / "problems" / f"{problem.name}.json", card)
            about = {"status": "ok", "floor": 1e-12, "digest": problem_digest(problem), "made_by": MADE_BY}
            write_reference(self.out, problem.name, about, {"gradient/y0": problem.data["gradient"] * 1.001})

    def run(self, *paths, backends="abc", steppings=("native",), norms=("default",), rtols=None, **options):
        """Run problems on stubs and return the calls that were made, a list of words each."""
        before = len(self.calls())
        self.reference(*paths)
        choice = Choice(tuple(backends), tuple(norms), tuple(steppings), rtols)
        given = {"timing": False, "progress": False, "timeout": 30.0} | options
        run_study([p if isinstance(p, Problem) else load(p) for p in paths], choice, Options(self.out, **given))
        return self.calls()[before:]

    def calls(self, *kinds):
        """The log, of some kinds of call."""
        path = self.stub / "calls"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [row for row in rows if not kinds or row[0] in kinds]

    def stored(self):
        return load_run(self.out)

    def statuses(self):
        """Status by (problem, backend), which is the same for all cells of it."""
        found = {}
        for record in self.stored().records:
            found.setdefault((record.problem, record.backend), set()).add(str(record.status))
        return {key: one.pop() if len(one) == 1 else one for key, one in found.items()}


def of(calls, kind):
    return [call[1:] for call in calls if call[0] == kind]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    made = Lab(tmp_path)
    made.stub.mkdir()
    shutil.copy(Path(__file__).parent / "stub_backend.py", made.stub)
    made.version("1")
    monkeypatch.setenv("STUB", str(made.stub))
    monkeypatch.setenv("PYTHONPATH", str(made.stub))
    monkeypatch.syspath_prepend(str(made.stub))
    registry.get.cache_clear()
    yield made
    registry.get.cache_clear()
