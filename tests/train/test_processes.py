"""A run of trainings: its processes, and what becomes of them when one fails or Ctrl-C comes."""

import json
import os
import time

import numpy as np
import psutil
import pytest

from crossbackend.errors import UserError
from crossbackend.store import load_run
from crossbackend.train import Options, run_training
from crossbackend.train import run as running
from crossbackend.train.job import Job

WORKER = """#!/bin/sh
# In the place of Python: reads its job, then does as the test says.
job=$(cat)
echo $$ >> {folder}/started
{does}
"""
JOBS = [Job("neural_cde", "reduced", name, "default", width=2, steps=1) for name in ("torchdiffeq", "diffrax")]


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Put a shell script in the place of the workers; return a function that tells their process ids."""

    def of(does):
        script = tmp_path / "worker"
        script.write_text(WORKER.format(folder=tmp_path, does=does))
        script.chmod(0o755)
        monkeypatch.setattr(running.sys, "executable", str(script))
        started = tmp_path / "started"
        return lambda: [int(line) for line in started.read_text().split()] if started.exists() else []

    return of


def options(folder, **changes):
    return Options(folder / "run", progress=False, **changes)


def gone(numbers):
    end = time.monotonic() + 10
    while any(psutil.pid_exists(number) for number in numbers):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_the_last_words_of_a_process_that_ends_badly(stub, tmp_path):
    stub("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i >&2; done; echo the end >&2; exit 3")
    words = r"(?s)^the process of neural_cde torchdiffeq default ended with 3:\nline 2\n.*line 12\nthe end$"
    with pytest.raises(RuntimeError, match=words):
        run_training(JOBS[:1], options(tmp_path))


def test_one_that_ends_badly_ends_the_others(stub, tmp_path):
    both = f"until [ $(wc -l < {tmp_path}/started) = 2 ]; do sleep 0.05; done"
    started = stub(f'case "$job" in *torchdiffeq*) {both}; exit 1;; *) sleep 60; echo > {tmp_path}/over;; esac')
    with pytest.raises(RuntimeError, match="the process of neural_cde torchdiffeq default ended with 1:"):
        run_training(JOBS, options(tmp_path, jobs=2))
    assert len(started()) == 2
    assert gone(started())
    assert not (tmp_path / "over").exists()


def test_mistakes_that_a_process_finds_are_told(stub, tmp_path):
    mistake = {"where": "--data", "got": "no folder", "expected": "a folder", "fix": "Write one."}
    line = json.dumps({"do": "mistakes", "mistakes": [mistake, mistake | {"where": "elsewhere"}]})
    started = stub(f"echo '{line}'; exit 2")
    with pytest.raises(UserError, match="--data: got no folder, expected a folder") as caught:
        run_training(JOBS, options(tmp_path))
    assert [one.where for one in caught.value.mistakes] == ["--data", "elsewhere"]
    assert len(started()) == 1, "the second one is not begun"


def test_ctrl_c_ends_the_processes_and_theirs(stub, tmp_path, monkeypatch):
    started = stub(f"sh -c 'echo $$ >> {tmp_path}/started; exec sleep 60' & sleep 60")
    real, asked = running.wait, []

    def interrupted(*args, **named):
        asked.append(1)
        if len(started()) == 4:
            raise KeyboardInterrupt
        return real(*args, **named)

    monkeypatch.setattr(running, "wait", interrupted)
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        run_training(JOBS, options(tmp_path, jobs=2))
    assert time.monotonic() - before < 30
    assert gone(started())
    assert asked


def test_what_a_process_is_given(stub, tmp_path, monkeypatch):
    stub(f'echo "$job" > {tmp_path}/asked; env > {tmp_path}/env; echo \'{{"do": "done", "name": "x"}}\'')
    monkeypatch.setattr(running.machine, "cores", lambda: 6)
    monkeypatch.setenv("KEPT", "yes")
    assert run_training(JOBS[:1], options(tmp_path, jobs=2, data=tmp_path)) == []
    asked = json.loads((tmp_path / "asked").read_text())
    assert Job(**{**asked["job"], "seeds": tuple(asked["job"]["seeds"])}) == JOBS[0]
    assert asked["data"] == str(tmp_path)
    assert asked["cache"] == str(tmp_path / "run" / "cache")
    env = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert (env["KEPT"], env["OMP_NUM_THREADS"], env["JAX_PLATFORMS"]) == ("yes", "6", "cpu")


@pytest.mark.parametrize(("jobs", "threads"), [(1, "6"), (2, "3"), (4, "3"), (9, "3")])
def test_processes_share_the_cores(monkeypatch, tmp_path, jobs, threads):
    monkeypatch.setattr(running.machine, "cores", lambda: 6)
    run = running.Run(JOBS, options(tmp_path, jobs=jobs))
    found = run._environment("cpu")
    assert {found[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")} == {threads}
    assert os.environ.items() >= {(k, v) for k, v in found.items() if k == "PATH"}
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in found
    assert run._environment("cuda")["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


@pytest.mark.slow
def test_real_processes_train_and_are_not_asked_twice(tmp_path, monkeypatch):
    pytest.importorskip("aeon")
    pytest.importorskip("torch")
    pytest.importorskip("optax")
    records = run_training(JOBS, options(tmp_path))
    assert [(record.backend, record.status, record.steps) for record in records] == [
        ("torchdiffeq", "ok", 1), ("diffrax", "ok", 1),
    ]  # fmt: skip
    losses = [record.arrays["curve/loss"] for record in records]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    for record in records:
        assert min(record.forward_nfe_total, record.backward_nfe_total) > 0
        assert record.settings["model"]["width"] == 2
        assert record.time["compile_s"] >= 0
        assert record.threads == running.machine.cores()
    assert records[1].time["compile_s"] > 0
    found = load_run(tmp_path / "run")
    assert (found.damaged, len(found.training)) == ([], 2)
    monkeypatch.setattr(running.Run, "_environment", lambda *_: {**os.environ, "PYTHONPATH": ""})
    again = run_training(JOBS[:1], options(tmp_path))
    np.testing.assert_array_equal(again[0].arrays["curve/step_s"], records[0].arrays["curve/step_s"])
