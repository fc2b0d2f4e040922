"""The file that `new` writes runs, and a bad name is refused."""

import re

import numpy as np
import pytest

from crossbackend.errors import UserError
from crossbackend.load import load
from crossbackend.new import new
from crossbackend.trial import trial
from tests.problems.cells import outcome


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_a_new_file_passes_its_trial(tmp_path, library):
    pytest.importorskip(library)
    problem = load(new("pendulum", tmp_path))
    assert problem.name == "pendulum"
    assert trial(problem, library).mistakes == []


def test_a_new_file_runs(tmp_path):
    pytest.importorskip("torchdiffeq")
    found = outcome(load(new("pendulum", tmp_path)), "torchdiffeq", 1e-4)
    assert found.status == "ok"
    assert np.linalg.norm(found.gradient.params["y0"]) > 0
    assert found.reconstruction_error < 1e-2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my model", "got 'my model', expected letters, digits and '_', not starting with a digit"),
        ("my model", "Write for example 'my_model'."),
        ("2d", "got '2d', expected letters"),
        ("lambda", "got 'lambda', expected letters"),
        ("pendulum.py", "Write 'pendulum'."),
        ("", "got '', expected letters"),
        ("../out", "Write for example 'out'."),
        ("größe", "expected letters"),
    ],
)
def test_a_bad_name_is_refused(tmp_path, name, words):
    with pytest.raises(UserError, match=re.escape(words)):
        new(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    path = new("pendulum", tmp_path)
    path.write_text("mine")
    with pytest.raises(UserError, match=r"pendulum\.py', which exists, expected a file that is not there yet"):
        new("pendulum", tmp_path)
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there_is_told_with_the_bad_name(tmp_path):
    with pytest.raises(UserError, match=r"which does not exist, expected a folder\. Make it first\.") as caught:
        new("a b", tmp_path / "none")
    assert len(caught.value.mistakes) == 2
