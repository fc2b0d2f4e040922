"""The command line with stub backends, as processes: output, Ctrl-C, kill -9, orphans."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from crossbackend.store import load_run


class Command:
    """`crossbackend run ...` on stubs, as a process."""

    def __init__(self, lab, *args):
        command = [sys.executable, "-m", "crossbackend", *map(str, args)]
        # A shell has what it starts in the background ignore Ctrl-C, the tests too, and their children
        # inherit it. A handler is set here, not after a fork, which JAX's threads forbid.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lab = lab

    def until_calls(self, count, kind="record"):
        """Wait until so many calls of a kind were made."""
        end = time.monotonic() + 30
        while len(self.lab.calls(kind)) < count:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)

    def workers(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, signum=None):
        """Return (exit code, stdout, stderr), after a signal."""
        if signum is not None:
            self.process.send_signal(signum)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def arguments(lab, *paths, **options):
    given = {"--out": lab.out, "--norm": "default", "--stepping": "native"} | options
    flags = [word for name, value in given.items() for word in ((name,) if value is True else (name, value))]
    backends = ["--backend", "a", "--backend", "b"]
    return ("run", *paths, *backends, *flags, "--no-report", "--no-timing")


def gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=10)
    return alive == []


def test_json_is_one_object_and_nothing_else(lab):
    path = lab.problem()
    path.write_text(path.read_text().replace("import numpy", "print('loading')\nimport numpy", 1))
    lab.reference(path)
    lab.order("b", "record:print")
    code, out, err = Command(lab, *arguments(lab, path, **{"--json": True})).end()
    assert (code, err) == (0, "loading\n")
    found = json.loads(out)
    assert [p["problem"] for p in found["problems"]] == ["p"]
    assert len(found["problems"][0]["records"]) == 4


def test_a_problem_that_prints_keeps_its_words(lab):
    path = lab.problem()
    path.write_text(path.read_text().replace("import numpy", "print('loading')\nimport numpy", 1))
    lab.reference(path)
    code, out, err = Command(lab, *arguments(lab, path)).end()
    assert code == 0
    assert out.startswith("loading\n\np  (reference: ok, floor 1.0e-12)")
    assert "4/4" in err


@pytest.mark.parametrize("order", ["hang", "slow"])
def test_ctrl_c_leaves_a_usable_run_that_the_same_command_completes(lab, order):
    path = lab.problem()
    lab.reference(path)
    lab.order("b", f"record:{order}")
    command = Command(lab, *arguments(lab, path, **{"--rtol": "1e-4"}))
    command.until_calls(2)
    workers = command.workers()
    code, out, err = command.end(signal.SIGINT)
    if order == "hang":
        assert (code, out) == (130, "")
        assert err.endswith("interrupted: what is stored is a usable run, and the same command goes on from there\n")
        assert "Traceback" not in err
        assert json.loads((lab.out / "run.json").read_text())["interrupted"] is True
        assert [(r.backend, r.status) for r in load_run(lab.out).records] == [("a", "ok")]
    assert gone(workers)
    lab.order("b")
    code, out, err = Command(lab, *arguments(lab, path, **{"--rtol": "1e-4"})).end()
    assert code == 0
    assert [(r.backend, r.status) for r in load_run(lab.out).records] == [("a", "ok"), ("b", "ok")]
    assert len([call for call in lab.calls("record") if call[1] == "a"]) == 1
    assert "interrupted" not in json.loads((lab.out / "run.json").read_text())


def test_killed_it_leaves_whole_records_and_no_workers(lab):
    path = lab.problem()
    lab.reference(path)
    lab.order("a", "record:slow")
    lab.order("b", "record:hang")
    rtols = [word for k in range(1, 40) for word in ("--rtol", f"{10 ** (-k / 5):.3g}")]
    command = Command(lab, *arguments(lab, path), *rtols)
    command.until_calls(6)
    workers = command.workers()
    assert len(workers) == 2
    command.end(signal.SIGKILL)
    assert gone(workers), "a worker that hangs ends with the study"
    found = load_run(lab.out)
    assert found.damaged == []
    assert 3 <= len(found.records) <= 6
    assert {r.status for r in found.records} == {"ok"}


def test_killed_anywhere_no_record_is_half_there(lab):
    """Many quick cells, killed at several moments: what is there can be read, and the run is completed."""
    path = lab.problem()
    lab.reference(path)
    rtols = [word for k in range(1, 60) for word in ("--rtol", f"{10 ** (-k / 8):.4g}")]
    for count in (3, 20, 41):
        command = Command(lab, *arguments(lab, path), *rtols)
        command.until_calls(count)
        command.end(signal.SIGKILL)
        assert load_run(lab.out).damaged == []
    code, _, err = Command(lab, *arguments(lab, path), *rtols).end()
    assert code == 0, err
    assert len(load_run(lab.out).records) == 2 * 59
    assert list((lab.out / "records").glob(".*")) == []


def test_a_workers_children_end_with_it(lab):
    path = lab.problem()
    lab.reference(path)
    marker = lab.folder / "child"
    code = f"subprocess.Popen(['sh', '-c', 'echo $$ > {marker}; exec sleep 1000'])"
    path.write_text(path.read_text().replace("    return -data", f"    import subprocess; {code}\n    return -data"))
    lab.reference(path)
    lab.order("a", "record:hang")
    Command(lab, *arguments(lab, path, **{"--timeout": "2", "--rtol": "1e-4"})).end()
    child = int(marker.read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_full_disk_is_no_loss_of_what_is_there(lab):
    """An error of this program's own ends with its traceback, the workers end, and the records stay."""
    path = lab.problem()
    lab.reference(path)
    command = Command(lab, *arguments(lab, path, **{"--rtol": "1e-4"}))
    assert command.end()[0] == 0
    (lab.out / "records").rename(lab.out / "gone")
    (lab.out / "records").write_text("")
    code, _, err = Command(lab, *arguments(lab, path, **{"--rtol": "1e-4"})).end()
    assert code == 2
    assert "expected a folder that can be written" in err
    assert os.listdir(lab.out / "gone")


def test_plan_shows_what_is_declined(lab):
    args = ["plan", lab.problem(), "--backend", "a", "--rtol", "1e-4"]
    code, out, err = Command(lab, *args).end()
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == [
        "p              a            matched  seminorm         rtol 0.0001  declined: it does not do matched seminorms",
        "4 cells, 1 declined",
    ]
    code, out, _ = Command(lab, *args, "--json").end()
    assert [row["declined"] for row in json.loads(out)["plans"]] == [None] * 3 + ["it does not do matched seminorms"]
    assert not lab.out.exists()
