"""Out of memory, out of time, a clock that goes backwards: a status, and the rest of the run goes on."""

import ast
import json
import re
from pathlib import Path

import pytest

import crossbackend
from crossbackend import registry
from crossbackend.store import load_run
from tests.faults.runs import command, content, finished, rtols
from tests.study.test_processes import Command


def test_out_of_memory_in_one_worker(lab):
    """A limit on its address space, as a container or `ulimit -v` sets one."""
    path = lab.problem()
    lab.reference(path)
    lab.order("b", "record:limited memory")
    finished(lab, *command(lab, path, *rtols(4)))
    found = {(record.backend, record.status) for record in load_run(lab.out).records}
    assert found == {("a", "ok"), ("b", "out_of_memory")}
    assert all("allocate 256. MiB" in r.message for r in load_run(lab.out).records if r.backend == "b")
    lab.order("b")
    finished(lab, *command(lab, path, *rtols(4)))
    assert {said["status"] for said in content(lab.out).values()} == {"ok"}
    assert len([call for call in lab.calls("record") if call[1] == "a"]) == 4, "what was there is not run again"


HANGS = """
import numpy as np
from crossbackend import Problem

def vector_field(t, y, params, data):
    while True:
        pass

def loss(ys, params, data):
    return (ys[-1, ...] ** 2).sum()

problem = Problem("hangs", vector_field, loss, {"a": np.ones(1)}, np.ones(2), [0.0, 1.0], tolerances=[1e-4, 1e-6])
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(registry.missing("scipy")), reason="scipy's libraries are not installed")
def test_a_field_that_never_returns(lab):
    """A real problem on a real backend: it ends by the clock, and a good one beside it is not lost."""
    path = lab.folder / "hangs.py"
    path.write_text(HANGS)
    words = ["run", path, lab.problem("p"), "--backend", "scipy", "--backend", "a", "--norm", "default"]
    words += ["--stepping", "native", "--timeout", "3", "--no-timing", "--no-report", "--no-explain"]
    lab.reference(lab.folder / "p.py")
    finished(lab, *words, "--rtol", "1e-4", "--out", lab.out)
    run = load_run(lab.out)
    found = {(record.problem, record.backend): record for record in run.records}
    hung = found["hangs", "scipy"]
    assert (hung.status, hung.message) == ("timeout", "no answer in 3 s")
    assert found["hangs", "a"].status in ("timeout", "ok")
    assert found["p", "a"].status == "ok"
    assert run.references["hangs"]["status"] == "failed"


BACKWARDS = """
import time
_start, _real, _since = time.time(), time.monotonic, time.monotonic()
time.time = lambda: _start - 1000.0 * (_real() - _since)
"""


def test_a_clock_that_goes_backwards(lab):
    """In the run and in all its workers `time.time` loses 1 000 s every second; no duration is measured by it."""
    (lab.stub / "sitecustomize.py").write_text(BACKWARDS)
    path = lab.problem()
    path.write_text(path.read_text() + "\nimport time, pathlib\npathlib.Path(__file__).with_name('clock').write_text("
                    "repr([time.time(), sum(range(300000)) and time.time()]))\n")  # fmt: skip
    lab.reference(path)
    for backend in "ab":
        lab.order(backend, "record:brief", "solve:brief")
    err = finished(lab, *command(lab, path, *rtols(3), timed=True))
    first, second = json.loads((lab.folder / "clock").read_text())
    assert second < first, "the clock went backwards"
    assert "Traceback" not in err
    for record in load_run(lab.out).records:
        assert record.status == "ok"
        assert 0.02 <= record.time["min_s"] < 30
        assert min(record.time[name] for name in ("first_s", "compile_s", "q1_s", "median_s", "q3_s")) >= 0
    assert 0 < json.loads((lab.out / "run.json").read_text())["seconds"] < 60


def _calls(source):
    """The names that a module calls, written out: `time.time`, `datetime.datetime.now`."""
    return [ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


DATED = {"study/run.py", "train/run.py", "imports.py", "lock.py"}
"""Where a date is written down for people to read, and nothing else is done with it."""


def test_no_duration_is_measured_by_the_calendar():
    folder = Path(crossbackend.__file__).parent
    wall = re.compile(r"(^|\.)(time\.time(_ns)?|now|utcnow|today|ctime|localtime|gmtime)$")
    found = {
        (path.relative_to(folder).as_posix(), name)
        for path in folder.rglob("*.py")
        for name in _calls(path.read_text(encoding="utf-8"))
        if wall.search(name)
    }
    assert found == {(name, "datetime.datetime.now") for name in DATED}
    assert _calls("import time\nx = time.time()") == ["time.time"]


def test_ctrl_c_and_a_limit_of_time_leave_no_process(lab):
    path = lab.problem()
    lab.reference(path)
    lab.order("b", "record:hang")
    run = Command(lab, *command(lab, path, "--rtol", "1e-4", "--timeout", "1.5"))
    run.until_calls(2)
    children = run.workers()
    code, _, err = run.end()
    assert code == 0, err
    assert not any(child.is_running() for child in children)
    assert {(r.backend, r.status) for r in load_run(lab.out).records} == {("a", "ok"), ("b", "timeout")}
