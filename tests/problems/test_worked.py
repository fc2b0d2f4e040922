"""The worked problems of the documentation run on every backend that can."""

import re
from pathlib import Path

import pytest

from crossbackend import registry
from crossbackend.load import load
from crossbackend.trial import trial
from tests.problems.cells import compiled, outcome, worst_difference

pytest.importorskip("torch")
pytest.importorskip("equinox")

DOCS = Path(__file__).parents[2] / "docs"
FILES = sorted((DOCS / "worked").glob("*.py"))
RUNS_ON = {
    "torch_module": ("torchdiffeq", "scipy"),
    "equinox_model": ("diffrax", "scipy"),
    "latent_ode": ("torchdiffeq", "diffrax", "scipy"),
    "neural_cde": ("torchdiffeq", "diffrax", "scipy"),
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_worked_problem_is_short_and_linked(path):
    assert len(path.read_text().splitlines()) < 40
    assert f"(worked/{path.name})" in (DOCS / "problems.md").read_text()


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_worked_problem_passes_its_trial(path, library):
    problem = load(path)
    assert problem.name == path.stem
    assert trial(problem, library).mistakes == []


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_worked_problem_runs_wherever_it_can(path):
    problem = load(path)
    sweeps = {name: compiled(problem, name) for name in registry.installed()}
    assert {name for name, sweep in sweeps.items() if sweep} >= set(RUNS_ON[path.stem])
    found = [sweep.record(1e-4, 1e-6) for sweep in sweeps.values() if sweep]
    assert [str(item.status) for item in found] == ["ok"] * len(found)
    assert worst_difference(found) < 1e-2


@pytest.mark.slow
def test_a_worked_problem_agrees_to_rounding_where_the_steps_are_the_same():
    problem = load(DOCS / "worked" / "neural_cde.py")
    found = [outcome(problem, backend, 1e-3, "seminorm", "matched") for backend in RUNS_ON["neural_cde"]]
    assert worst_difference(found) < 1e-9


def test_the_first_example_of_the_guide_runs(tmp_path):
    text = (DOCS / "problems.md").read_text()
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    path = tmp_path / "small.py"
    path.write_text(example)
    problem = load(path)
    assert trial(problem, "torch").mistakes == []
    assert outcome(problem, "torchdiffeq", 1e-3).status == "ok"
