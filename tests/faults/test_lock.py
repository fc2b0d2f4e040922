"""Two runs into one folder: the second one is told who writes, and a dead holder's lock is nobody's."""

import errno
import json
import os
import platform
import re
import signal
import subprocess
import sys

import filelock
import psutil
import pytest

from crossbackend import imports, lock
from crossbackend.errors import UserError
from crossbackend.lock import hold
from crossbackend.store import load_run
from crossbackend.train import Options, run_training
from crossbackend.train.job import Job
from tests.faults.runs import command, content, finished, rtols, until
from tests.study.test_processes import Command

HELD = (
    r"--out: got {folder}, into which another run is writing \(process {pid} on {host} since "
    r"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00: `.*`\), expected a folder that no other run writes into\. "
    r"Wait for its end, end it \(`kill -INT {pid}`: what it stored stays\), or write another folder\."
)


def held(folder, pid):
    return HELD.format(folder=folder, pid=pid, host=platform.node())


def test_the_second_is_told_who_writes(tmp_path):
    with hold(tmp_path / "run"):
        with pytest.raises(UserError, match=held(tmp_path / "run", os.getpid())), hold(tmp_path / "run"):
            pass
        with hold(tmp_path / "other"):
            pass
    with hold(tmp_path / "run"):
        pass


def test_a_run_that_ends_leaves_no_trace_of_its_lock(tmp_path):
    with hold(tmp_path):
        assert {".lock", ".lock.json"} < {path.name for path in tmp_path.iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["problems", "records", "reference"]
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        _ = 1 / 0
    assert list(tmp_path.glob(".*")) == []


def test_a_folder_of_other_files_gets_no_lock(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="which holds other files"), hold(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_commands_into_one_folder(lab):
    """The second one ends at once and changes nothing; the first one does not notice."""
    path = lab.problem()
    lab.reference(path)
    lab.order("a", "record:wait")
    first = Command(lab, *command(lab, path, *rtols(10)))
    first.until_calls(11)
    code, out, err = Command(lab, *command(lab, path, "--force", *rtols(10))).end()
    assert (code, out) == (2, "")
    assert f"process {first.process.pid} on {platform.node()}" in err
    assert f"`crossbackend run {path} --backend a" in err
    assert "Traceback" not in err
    assert load_run(lab.out).damaged == [], "reading needs no lock"
    (lab.stub / "go").touch()
    code, _, err = first.end()
    assert code == 0, err
    assert len(content(lab.out)) == len(lab.calls("record")) == 20
    assert list(lab.out.glob(".*")) == []


def test_import_is_refused_too(tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "read_results", lambda folder: ([], []))
    monkeypatch.setattr(imports, "results_folder", lambda folder: folder)
    with (
        hold(tmp_path),
        pytest.raises(UserError, match=r"^RUN: got .*, into which another run is writing"),
        imports._hold(tmp_path),
    ):
        pass


def test_training_is_refused_too(tmp_path):
    pytest.importorskip("torchdiffeq")
    jobs = [Job("neural_cde", "reduced", "torchdiffeq", "default", width=2, steps=1)]
    with hold(tmp_path), pytest.raises(UserError, match=held(tmp_path, os.getpid())):
        run_training(jobs, Options(tmp_path, progress=False))


HOLDER = """
import sys, time
from pathlib import Path
from crossbackend.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    process = holder(tmp_path)
    with pytest.raises(UserError, match=held(tmp_path, process.pid)), hold(tmp_path):
        pass
    process.kill()
    process.communicate()
    assert (tmp_path / ".lock").exists()
    assert json.loads((tmp_path / ".lock.json").read_text())["pid"] == process.pid
    with hold(tmp_path):
        assert json.loads((tmp_path / ".lock.json").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(
    "said",
    [
        {"boot": "another boot"},
        {"host": "another host"},
        {"pid": 2**22 + 1},
        {"pid": 1},
        None,
        "[",
        '{"pid": "x"}',
    ],
    ids=["boot", "host", "no process", "another process", "nothing", "cut", "odd"],
)
def test_what_a_dead_holder_said_keeps_nobody_out(tmp_path, said):
    (tmp_path / ".lock").write_text("")
    if said is not None:
        words = said if isinstance(said, str) else json.dumps(lock._own() | said)
        (tmp_path / ".lock.json").write_text(words)
    with hold(tmp_path):
        assert json.loads((tmp_path / ".lock.json").read_text()) | {"since": ""} == lock._own() | {"since": ""}


def test_a_child_of_a_dead_holder_is_named_as_one(tmp_path):
    """A process that was forked with the lock open holds it on."""
    with hold(tmp_path):
        (tmp_path / ".lock.json").write_text(json.dumps(lock._own() | {"pid": 2**22 + 1}))
        words = r"held by process 4194305 on .* It has ended, but a process that it started holds .*\.lock open: end"
        with pytest.raises(UserError, match=words), hold(tmp_path):
            pass
        (tmp_path / ".lock.json").unlink()
        with pytest.raises(UserError, match=r"got .*, into which another run is writing, expected .*Wait for its end"):
            with hold(tmp_path):
                pass


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSYS, "Function not implemented|has no locks"), (errno.ENOLCK, "No locks available")]
)
def test_without_locks_it_goes_on_and_says_so(tmp_path, monkeypatch, caplog, number, words):
    fcntl = pytest.importorskip("fcntl")

    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with hold(tmp_path / "run"):
        assert (tmp_path / "run" / "records").is_dir()
    (row,) = caplog.records
    assert (row.name, row.levelname) == ("crossbackend", "WARNING")
    assert "going on without a lock; do not run into it twice at a time" in caplog.text
    assert re.search(words, caplog.text)


def test_the_warning_stands_on_standard_error(tmp_path):
    code = (
        "import fcntl, sys; from pathlib import Path; from crossbackend.lock import hold\n"
        "def none(*_): raise OSError(38, 'Function not implemented')\n"
        "fcntl.flock = none\nwith hold(Path(sys.argv[1])): pass"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "run")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(f"{tmp_path / 'run'} cannot be locked (")
    assert done.stderr.count("\n") == 1


def test_a_lock_does_not_outlive_the_workers(lab):
    """The lock is the run's own: no worker process inherits it, so that one that hangs keeps nobody out."""
    path = lab.problem()
    lab.reference(path)
    lab.order("a", "record:hang")
    first = Command(lab, *command(lab, path, "--rtol", "1e-4"))
    first.until_calls(1)
    children = psutil.Process(first.process.pid).children(recursive=True)
    assert children
    for child in children:
        child.suspend()  # it cannot even notice that the run is gone
    try:
        first.end(signal.SIGKILL)
        with hold(lab.out):
            pass
    finally:
        for child in children:
            child.kill()
    lab.order("a")
    finished(lab, *command(lab, path, "--rtol", "1e-4"))
    assert len(content(lab.out)) == 2
    until(lambda: not any(child.is_running() for child in children))


def test_the_kind_of_lock_is_the_systems(tmp_path):
    assert isinstance(lock._lock(tmp_path / ".lock"), filelock.FileLock)
    assert not issubclass(filelock.FileLock, filelock.SoftFileLock)
