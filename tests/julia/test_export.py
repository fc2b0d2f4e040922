"""`crossbackend export`: what is written, what is refused, and that half of it never stays."""

import json
import re
import sys

import numpy as np
import pytest

from crossbackend import UserError, export, lowering, storable
from crossbackend.julia_text import text
from crossbackend.load import gallery, load
from tests import cases
from tests.command import call

FILES = {"field.jl", "problem.jl", "run.jl", "README.md", "card.json", "arrays", "CrossBackend"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "exported"


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", gallery())
def test_every_gallery_problem_is_written(name, folder):
    problem = load(name)
    assert export(problem, julia=folder) == {}
    assert names(folder) == FILES
    card = json.loads((folder / "card.json").read_text())
    assert storable.wrong_card(card) == ""
    for leaf, shape in card["parameters"].items():
        array = np.load(folder / "arrays" / "params" / f"{leaf or '_'}.npy")
        assert (list(array.shape), array.dtype.str) == (shape, "<f8")
    assert {path.name for path in (folder / "CrossBackend").iterdir()} >= {"CrossBackend.jl", "worker.jl", "engines"}


def test_the_command_says_how_to_run_it(folder, capsys):
    code, out, err = call(capsys, "export", "linear", "--julia", folder)
    assert (code, out, err) == (0, f"wrote {folder}; run it by `julia {folder}/run.jl`\n", "")
    readme = (folder / "README.md").read_text()
    assert "\n    julia run.jl\n" in readme
    assert re.search(r"^\| parameter `.+` \| .+ \|$", readme, re.MULTILINE)
    assert len((folder / "run.jl").read_text().splitlines()) <= 5


def test_a_second_export_keeps_the_results(folder):
    problem = cases.decay()
    export(problem, julia=folder)
    (folder / "results").mkdir()
    (folder / "results" / "mine").write_text("kept")
    (folder / "field.jl").write_text("stale")
    export(problem.replace(tolerances=[1e-3]), julia=folder)
    assert "function field" in (folder / "field.jl").read_text()
    assert "tolerances = [0.001]" in (folder / "problem.jl").read_text()
    assert (folder / "results" / "mine").read_text() == "kept"
    assert names(folder.parent) == {"exported"}


def test_an_empty_folder_will_do(folder):
    folder.mkdir()
    export(cases.decay(), julia=folder)
    assert names(folder) == FILES


class TestRefused:
    def refused(self, folder, words, problem=None):
        before = sorted(str(path) for path in folder.rglob("*"))
        with pytest.raises(UserError, match=words):
            export(problem or cases.decay(), julia=folder)
        assert sorted(str(path) for path in folder.rglob("*")) == before

    def test_a_folder_of_something_else(self, folder):
        folder.mkdir()
        (folder / "thesis.tex").write_text("")
        words = r"--julia: got .*exported, which holds thesis\.tex, expected an empty folder, or an earlier export of"
        self.refused(folder, words + r" 'decay'\. Write another folder\.")

    def test_an_export_with_files_of_ones_own(self, folder):
        export(cases.decay(), julia=folder)
        (folder / "mine.jl").write_text("")
        self.refused(folder, r"which holds mine\.jl, expected an empty folder")

    def test_the_export_of_another_problem(self, folder):
        export(cases.decay(), julia=folder)
        self.refused(folder, r"an export of 'decay', expected an empty folder, or .* of 'latent'", cases.latent())

    def test_a_file(self, folder):
        folder.write_text("")
        with pytest.raises(UserError, match=r"--julia: got .*exported, a file, expected an empty folder"):
            export(cases.decay(), julia=folder)

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"exported \(.+\), expected a folder that can be written\. Write another"):
            export(cases.decay(), julia=tmp_path / "file" / "exported")

    def test_a_problem_for_torch_alone(self, folder):
        problem = cases.decay().replace(loss={"torch": lambda ys, params, data: ys.sum()})
        with pytest.raises(
            UserError, match=r"Problem\('decay'\): got loss given for torch alone, expected jax functions"
        ):
            export(problem, julia=folder)

    def test_a_mistake_in_a_function_is_told_before_anything_is_written(self, folder):
        problem = cases.decay().replace(vector_field=lambda t, y, params, data: y[:0])
        with pytest.raises(UserError, match=r"vector_field under jax: got \(0,\), expected y's own structure \(1,\)"):
            export(problem, julia=folder)
        assert not folder.exists()

    def test_without_a_folder(self, capsys):
        assert call(capsys, "export", "linear")[0] == 2

    def test_a_failure_leaves_nothing(self, folder, monkeypatch):
        """Not even a temporary folder; what was there before is there still."""
        export(cases.decay(), julia=folder)
        kept = (folder / "field.jl").read_text()

        def fail(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(sys.modules["crossbackend.export"], "_copy_sources", fail)
        with pytest.raises(OSError, match="No space left"):
            export(cases.decay().replace(ts=[0.0, 1.0]), julia=folder)
        assert names(folder.parent) == {"exported"}
        assert (folder / "field.jl").read_text() == kept
        with pytest.raises(OSError, match="No space left"):
            export(cases.decay(), julia=folder.parent / "new")
        assert names(folder.parent) == {"exported"}


def test_leaves_in_folders_whole_numbers_and_scalars(folder):
    problem = cases.decay().replace(
        params={"net": [{"w": np.asfortranarray(np.arange(6.0).reshape(2, 3))}, np.array(0.5)]},
        vector_field=lambda t, y, p, d: -p["net"][1] * y * p["net"][0]["w"].sum() * d["n"],
        data={"n": np.array(2, np.int32)},
    )  # fmt: skip
    export(problem, julia=folder)
    arrays = folder / "arrays"
    matrix = np.load(arrays / "params/net/0/w.npy")
    np.testing.assert_array_equal(matrix, np.arange(6.0).reshape(2, 3))
    assert matrix.flags.c_contiguous
    assert np.load(arrays / "params/net/1.npy").shape == ()
    assert np.load(arrays / "data/n.npy").dtype == np.int64


def test_a_bare_array_is_a_leaf_without_a_name(folder):
    problem = cases.decay().replace(params=np.array([0.6]), vector_field=lambda t, y, params, data: -params * y)
    export(problem, julia=folder)
    assert np.load(folder / "arrays/params/_.npy") == [0.6]
    assert 'params = [("", [1])]' in (folder / "problem.jl").read_text()


def test_a_callable_norm_that_cannot_be_printed_is_named(folder, tmp_path, capsys):
    path = tmp_path / "own.py"
    path.write_text(
        "import numpy as np\nfrom crossbackend import Problem\n"
        "norms = {'bare': lambda blocks: float(blocks['y'][0]), 'fine': lambda blocks: abs(blocks['y']).max()}\n"
        "problem = Problem('own', lambda t, y, p, d: -p * y, lambda ys, p, d: ys.sum(), np.array([1.0]), np.ones(1),\n"
        "                  [0.0, 1.0], norms=norms)\n"
    )
    code, out, _ = call(capsys, "export", path, "--julia", folder)
    assert code == 0
    assert re.match(r"left out: the norm 'bare': its function cannot be printed in Julia: Concretization\w+: ", out)
    facts = (folder / "problem.jl").read_text()
    assert 'name = "fine"' in facts
    assert 'name = "bare"' not in facts
    assert "function norm_1(e)" in (folder / "field.jl").read_text()


def test_a_primitive_without_a_rule_is_told(folder):
    def field(t, y, params, data):
        import jax

        return -params["rate"] * y + 0 * jax.lax.top_k(y, 1)[0]

    with pytest.raises(lowering.UnsupportedPrimitive, match="top_k"):
        export(cases.decay().replace(vector_field={"jax": field}), julia=folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("value", "written"),
    [("plain", '"plain"'), ('a"b', r'"a\"b"'), ("a\\b", r'"a\\b"'), ("$(exit())", r'"\$(exit())"'),
     ("a\nb", r'"a\u000ab"'), ("λ", '"λ"')],
)  # fmt: skip
def test_a_text_in_julia(value, written):
    assert text(value) == written


def test_the_function_stands_beside_the_module():
    """`crossbackend.export` is the function, also after its module was imported."""
    import crossbackend.export

    assert callable(crossbackend.export)
