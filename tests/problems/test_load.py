"""Loading a problem: by name, by path, and what is said where that fails."""

import pickle
import re
import sys

import cloudpickle
import pytest

from crossbackend.errors import UserError
from crossbackend.load import gallery_folder, load, path_of, source_path

FILE = '''"""What it shows,
in one paragraph.

More.
"""

import numpy as np

from crossbackend import Problem

{before}

def field(t, y, params, data):
    return -y * params["k"]


def loss(ys, params, data):
    return (ys**2).sum()


{name} = Problem("mine", field, loss, {{"k": np.ones(2)}}, np.ones(2), [0.0, 1.0]{options})
'''


@pytest.fixture
def write(tmp_path):
    def put(text=None, name="problem", before="", options="", file="mine.py"):
        path = tmp_path / file
        path.write_text(FILE.format(name=name, before=before, options=options) if text is None else text)
        return path

    return put


def test_a_file_is_loaded_with_its_description_and_path(write):
    path = write()
    problem = load(path)
    assert problem.name == "mine"
    assert problem.description == "What it shows, in one paragraph."
    assert path_of(problem) == path
    assert source_path(problem) == source_path(str(path)) == path
    assert list(path.parent.iterdir()) == [path]


def test_a_description_that_is_given_stays(write):
    assert load(str(write(options=', description="Given."'))).description == "Given."


def test_the_only_problem_of_a_file_need_not_be_called_problem(write):
    assert load(write(name="decay")).name == "mine"


def test_an_edited_file_is_loaded_anew(write):
    load(write())
    assert load(write(options=', source="edited"')).source == "edited"


def test_a_file_may_import_the_module_beside_it_and_read_the_data_beside_it(write, tmp_path):
    (tmp_path / "beside_the_problem.py").write_text("RATE = 2.0\n")
    (tmp_path / "rate.txt").write_text("3.0")
    before = (
        "from pathlib import Path\nfrom beside_the_problem import RATE\n"
        'assert float((Path(__file__).parent / "rate.txt").read_text()) == 3.0\n'
    )
    path_before = list(sys.path)
    load(write(before=before))
    assert sys.path == path_before


def test_two_files_of_one_name_do_not_meet(write, tmp_path):
    (tmp_path / "other").mkdir()
    first = load(write())
    second = load(write(file="other/mine.py", options=', source="other"'))
    assert first.vector_field.__module__ != second.vector_field.__module__
    assert "mine" not in sys.modules


def test_a_loaded_function_travels_to_another_process(write):
    problem = load(write())
    sent = cloudpickle.dumps(problem)
    del sys.modules[problem.vector_field.__module__]
    assert pickle.loads(sent).vector_field(0.0, 2.0, {"k": 3.0}, None) == -6.0


def test_a_problem_made_elsewhere_has_no_path(write):
    assert path_of(load(write()).replace(source="changed")) is None
    assert source_path("linear") == gallery_folder() / "linear.py"


def _fails(given, *parts):
    with pytest.raises(UserError, match=re.escape(parts[0])) as caught:
        load(given)
    for part in parts:
        assert part in str(caught.value)
    assert len(caught.value.mistakes) == 1


def test_an_unknown_name_is_told_its_neighbour():
    names = "linear, hudson_bay, van_der_pol, spiral, forced_mlp, dissipative"
    _fails("hudson-bay", "problem: got 'hudson-bay', expected one of " + names, "Did you mean 'hudson_bay'?")
    _fails("zzz", "problem: got 'zzz', expected one of " + names)


def test_a_name_of_a_file_here_is_told_its_ending(write, monkeypatch):
    monkeypatch.chdir(write().parent)
    _fails("mine", "To load the file, write 'mine.py'.")


def test_a_file_that_is_not_there_is_told_its_neighbour(write, tmp_path):
    path = write()
    wanted = path.with_name("mime.py")
    _fails(wanted, f"problem: got {str(wanted)!r}, which does not exist", f"Did you mean {str(path)!r}?")
    _fails(tmp_path / "zzz.py", "`crossbackend new zzz` writes a file to start from.")
    _fails(tmp_path / "spiral.py", "For the gallery's problem, write 'spiral'.")
    _fails("no/such.py", "There is no folder 'no'.")


def test_a_folder_is_no_problem(write):
    path = write()
    _fails(path.parent, f"got the folder {str(path.parent)!r}", f"Write for example {str(path)!r}.")


def test_a_file_of_another_kind_is_no_problem(write):
    _fails(write(file="notes.txt"), "notes.txt', expected a gallery name or a .py file.")


def test_a_file_without_a_problem(write):
    _fails(
        write("x = 1\n"), "mine.py: got no Problem, expected one Problem, called `problem`.", "problem = Problem(...)"
    )
    _fails(write("def problem(): ...\n"), "got `problem` of type function, expected one Problem")


def test_a_file_with_several_problems(write):
    text = FILE.format(name="a", before="", options="") + "b = a.replace(name='other')\n"
    _fails(write(text), "got 2 Problems (a, b), expected one Problem, called `problem`.", "Call one of them `problem`.")
    assert load(write(text + "problem = b\n")).name == "other"


def test_a_file_that_raises_is_told_its_line(write):
    path = write("import math\n\nmath.sqrt(-1)\n")
    _fails(path, f"{path}:3: got ValueError: ", "expected a file that runs and defines a Problem.")
    _fails(write("problem = (\n"), f"{path}:1: got SyntaxError: '(' was never closed")
    _fails(write("import no_such_module_xyz\n"), "mine.py:1: got ModuleNotFoundError", "Install 'no_such_module_xyz'")
    _fails(write("raise SystemExit(3)\n"), f"{path}:1: got SystemExit: 3")


def test_a_failed_file_leaves_no_module_behind(write):
    before = set(sys.modules)
    _fails(write("raise ValueError\n"), "mine.py:1: got ValueError, expected a file that runs")
    assert set(sys.modules) == before


def test_a_mistake_of_the_problem_names_the_file(write):
    path = write(options=", tolerances=[2.0], dtype='int8'")
    with pytest.raises(UserError, match=re.escape(f"{path}: Problem('mine').tolerances: got 2")) as caught:
        load(path)
    assert [m.where for m in caught.value.mistakes] == [f"{path}: Problem('mine').{w}" for w in ("tolerances", "dtype")]
