"""`crossbackend train`: every mistake of a user's is one message and exit code 2; what it prints is true."""

import json
import re

import pytest

from crossbackend.store import load_run
from crossbackend.train import run as running
from tests.command import call


def mistaken(capsys, tmp_path, *args, words):
    """Expect exit code 2, nothing printed, one line a mistake, and no process begun."""
    code, out, err = call(capsys, "train", *args, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert all(line.startswith("error: ") for line in lines), err
    for word in words:
        assert re.search(word, err), err
    return lines


@pytest.fixture
def no_process(monkeypatch):
    monkeypatch.setattr(running.Run, "run", lambda self: pytest.fail("a process was begun"))


@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["neural_ced"], r"experiment: got 'neural_ced', expected one of neural_cde, cnf, symoden\. Did you mean "),
        (["cnf", "--preset", "papier"], r"--preset: got 'papier', expected one of reduced, paper, paper-cifar10\. Did"),
        (["cnf", "--norm", "sminorm"], r"--norm: got 'sminorm', expected one of default, .* Did you mean 'seminorm'\?"),
        (["cnf", "--norm", "as-released"], r"--norm: got 'as-released', expected one of "),
        (["cnf", "--backend", "diffrx"], r"--backend: got 'diffrx', expected one of .* Did you mean 'diffrax'\?"),
        (["cnf", "--backend", "scipy"], r"--backend: got 'scipy', expected torchdiffeq or diffrax, which can train"),
        (["cnf", "--backend", "scipy:jax"], r"--backend: got 'scipy:jax', expected torchdiffeq or diffrax"),
        (["cnf", "--stepping", "machted"], r"--stepping: got 'machted', .* Did you mean 'matched'\?"),
        (["cnf", "--dtype", "float16"], r"--dtype: got 'float16', expected one of float64, float32"),
        (["cnf", "--device", "tpu"], r"--device: got 'tpu', expected one of cpu, cuda"),
        (["cnf", "--rtol", "0"], r"--rtol: got 0, expected a number between 0 and 1"),
        (["cnf", "--steps", "0"], r"--steps: got 0, expected a whole number above 0"),
        (["cnf", "--epochs", "-2"], r"--epochs: got -2, expected a whole number above 0"),
        (["cnf", "--width", "0"], r"--width: got 0, expected a whole number above 0"),
        (["symoden", "--width", "8"], r"--width: got 8 for symoden, expected nothing: its networks have no one width"),
        (["cnf", "--seeds", "0"], r"--seeds: got 0, expected a whole number above 0"),
        (["cnf", "--seed", "-1"], r"--seed: got -1, expected a whole number, at least 0"),
        (["cnf", "--jobs", "0"], r"--jobs: got 0, expected a whole number above 0"),
        (["cnf", "--loss-scale", "0"], r"--loss-scale: got 0, expected a positive number"),
        (["cnf", "--loss-scale", "nan"], r"--loss-scale: got nan, expected a positive number"),
        (["cnf", "--loss-scale", "inf"], r"--loss-scale: got inf, expected a positive number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_said_before_any_process(capsys, tmp_path, args, words):
    assert len(mistaken(capsys, tmp_path, *args, words=[words])) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_process")
def test_all_mistakes_at_once(capsys, tmp_path):
    args = ["--steps", "0", "--loss-scale", "-1", "--jobs", "-3", "--seed", "-1", "--backend", "scipy"]
    lines = mistaken(capsys, tmp_path, "neural_cde", *args, words=["--steps", "--loss-scale", "--jobs", "--seed"])
    assert len(lines) == 5


@pytest.mark.usefixtures("no_process")
def test_a_missing_package_of_a_backend_names_its_extra(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "find_spec", lambda name: None)
    words = r"--backend: got diffrax without optax, .* Install crossbackend\[paper\]\."
    assert len(mistaken(capsys, tmp_path, "cnf", words=[words])) == 1
    monkeypatch.setattr(running.registry, "missing", lambda name: ("torchdiffeq",) if name == "torchdiffeq" else ())
    lacking = r"--backend: got torchdiffeq without torchdiffeq, .* Install crossbackend\[torchdiffeq\]\."
    assert len(mistaken(capsys, tmp_path, "cnf", words=[words, lacking])) == 2
    assert len(mistaken(capsys, tmp_path, "cnf", "--backend", "torchdiffeq", words=[lacking])) == 1


def test_a_folder_that_holds_other_files(capsys, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    mistaken(capsys, tmp_path, "cnf", words=["--out: got .*run, which holds other files"])


def asked(capsys, tmp_path, monkeypatch, *args):
    """Return the jobs that a command line asks for."""
    found = []
    monkeypatch.setattr(running.Run, "run", lambda self: found.extend(self.jobs))
    code, _, err = call(capsys, "train", *args, "--out", tmp_path / "run", "--no-report", "--quiet")
    assert code == 0, err
    return found


def test_what_is_asked_for_by_default(capsys, tmp_path, monkeypatch):
    jobs = asked(capsys, tmp_path, monkeypatch, "symoden")
    norms = ["default", "mixed-seminorm", "seminorm", "as-released"]
    assert [(job.backend, job.norm) for job in jobs] == [(b, n) for b in ("torchdiffeq", "diffrax") for n in norms]
    assert {(job.seeds, job.preset, job.rtol, job.atol, job.loss_scale) for job in jobs} == {
        ((0,), "reduced", None, None, 1.0)
    }


def test_every_choice_once(capsys, tmp_path, monkeypatch):
    twice = ["--norm", "default"] * 2 + ["--rtol", "1e-3"] * 2 + ["--rtol", "1e-5", "--width", "4", "--width", "4"]
    jobs = asked(
        capsys, tmp_path, monkeypatch, "neural_cde", *twice, "--backend", "diffrax", "--backend", "diffrax",
        "--seed", "3", "--seed", "3", "--seed", "1",
    )  # fmt: skip
    assert [(job.rtol, job.atol, job.width, job.seeds) for job in jobs] == [
        (1e-3, 1e-6, 4, (3, 1)),
        (1e-5, 1e-8, 4, (3, 1)),
    ]
    names = {job.record(seed).name for job in jobs for seed in job.seeds}
    assert len(names) == 4


def test_seeds_are_counted_from_0(capsys, tmp_path, monkeypatch):
    assert {job.seeds for job in asked(capsys, tmp_path, monkeypatch, "cnf", "--seeds", "3")} == {(0, 1, 2)}


@pytest.mark.parametrize(("name", "preset"), [("neural_cde", "paper"), ("cnf", "paper"), ("cnf", "paper-cifar10")])
def test_a_preset_whose_data_are_not_at_hand_says_so(capsys, tmp_path, name, preset):
    args = [name, "--preset", preset, "--backend", "torchdiffeq", "--norm", "default", "--quiet"]
    source = {"neural_cde": "Speech Commands", "cnf": "CIFAR-10" if "cifar" in preset else "MNIST"}[name]
    words = rf"--data: got no folder, expected the folder of {source}\. .*docs/data\.md"
    assert len(mistaken(capsys, tmp_path, *args, words=[words])) == 1
    (tmp_path / "empty").mkdir()
    mistaken(capsys, tmp_path, *args, "--data", tmp_path / "empty", words=["got .*empty"])


def test_a_missing_package_of_the_data_names_its_extra(capsys, tmp_path, monkeypatch):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "aeon.py").write_text("raise ImportError('none here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    args = ("neural_cde", "--backend", "torchdiffeq", "--norm", "default", "--quiet")
    words = r"japanese_vowels: got no aeon \(none here\), .*pip install 'crossbackend\[paper\]'"
    mistaken(capsys, tmp_path, *args, words=[words])


@pytest.mark.slow
def test_json_and_lines(capsys, tmp_path):
    pytest.importorskip("aeon")
    pytest.importorskip("torch")
    args = (
        *(
            "train",
            "neural_cde",
            "--backend",
            "torchdiffeq",
            "--norm",
            "mixed-seminorm",
            "--width",
            "3",
            "--steps",
            "1",
        ),
        *("--loss-scale", "10", "--no-report", "--out", tmp_path / "run"),
    )
    code, out, err = call(capsys, *args, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["experiment"], found["preset"]) == ("neural_cde", "reduced")
    ((run,), (record,)) = found["runs"], load_run(tmp_path / "run").training
    assert (run["name"], run["norm"]) == (record.name, "mixed-seminorm")
    assert run["backward_nfe_per_batch"] == record.arrays["curve/backward_nfe"].mean() > 0
    assert run["forward_nfe_total"] == record.arrays["curve/forward_nfe"].sum()
    assert (run["backend"], run["status"], run["steps"], run["metric"]) == ("torchdiffeq", "ok", 1, "accuracy")
    assert run["accuracy"] is None, "it ended before its first epoch did"
    assert run["name"].endswith("-scale=10")
    code, out, err = call(capsys, *args, "--quiet")
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    assert re.match(r"torchdiffeq +mixed-seminorm +rtol 0\.001 +width 3 seed 0  1 steps  evaluations a batch: ", line)
    assert f"{run['backward_nfe_per_batch']:.1f} backward" in line
