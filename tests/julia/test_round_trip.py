"""Export, run in Julia, import, compare, report: the whole way, and what a run.jl says of bad options."""

import json
import shutil
import subprocess

import pytest

from crossbackend import julia_program
from crossbackend.load import load
from crossbackend.plan import Choice
from crossbackend.record import gradient_difference
from crossbackend.store import load_run
from crossbackend.study import Options, run_study
from tests.command import call
from tests.problems.cells import gallery_outcome

pytestmark = [pytest.mark.julia, pytest.mark.slow]


def run_jl(folder, *args):
    """Run an exported program in its folder."""
    command = [julia_program.program().path, "--startup-file=no", "run.jl", *map(str, args)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """hudson_bay, exported and run at one tolerance."""
    folder = tmp_path_factory.mktemp("julia") / "hudson_bay"
    from crossbackend import export

    export("hudson_bay", julia=folder)
    done = run_jl(folder, "--rtol", "1e-6", "--repeats", "2")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def scipys(tmp_path_factory):
    """A run of SciPy alone at the same tolerance, with its reference."""
    out = tmp_path_factory.mktemp("runs") / "run"
    choice = Choice(("scipy",), rtols=(1e-6,))
    run_study([load("hudson_bay")], choice, Options(out, timing=False, progress=False, explain=False))
    return out


def test_the_records_stand_beside_scipys(exported, scipys, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(scipys, run)
    code, out, err = call(capsys, "import", exported / "results", run)
    assert (code, err) == (0, "")
    assert out.startswith("hudson_bay  julia: 4 records\n")
    stored = load_run(run)
    assert stored.damaged == []
    mine = {(r.norm, r.stepping): r for r in stored.records if r.backend == "julia"}
    its = {(r.norm, r.stepping): r for r in stored.records if r.backend == "scipy"}
    assert set(mine) == set(its) == {(n, s) for n in ("default", "seminorm") for s in ("native", "matched")}
    for cell, record in mine.items():
        assert record.error["all"] == pytest.approx(its[cell].error["all"], rel=1e-6)
        assert record.forward["nfe"] == its[cell].forward["nfe"]
        assert record.backward == pytest.approx(its[cell].backward, rel=1e-9)
        assert gradient_difference(record.gradient(), its[cell].gradient()) <= 1e-9
        assert (record.time is not None) == (record.stepping == "native")
        assert set(record.arrays) == set(its[cell].arrays)
    code, out, _ = call(capsys, "compare", run)
    assert out.count("pass") == 2
    code, out, _ = call(capsys, "report", run, "--no-pdf")
    assert out == f"wrote {run / 'index.html'}\n"
    page = (run / "index.html").read_text()
    assert "julia" in page


def test_the_same_results_are_a_run_of_their_own(exported, tmp_path, capsys):
    run = tmp_path / "run"
    assert call(capsys, "import", exported, run)[0] == 0
    assert load_run(run).cards["hudson_bay"]["state"] == {"": [2]}
    assert call(capsys, "report", run, "--no-pdf")[0] == 0


def test_running_again_replaces_the_results(exported, tmp_path, capsys):
    folder = tmp_path / "again"
    shutil.copytree(exported, folder)
    done = run_jl(folder, "--rtol", "1e-6", "--norm", "default", "--stepping", "matched")
    assert done.returncode == 0, done.stderr
    assert call(capsys, "import", folder, tmp_path / "run")[0] == 0


def test_run_jl_and_the_backend_are_one_program(exported):
    """Bit by bit: the same source, solved in another process."""
    import numpy as np

    (path,) = (exported / "results" / "records").glob("*_default_matched_*.json")
    arrays = path.with_suffix("")
    found = gallery_outcome("hudson_bay", "julia", 1e-6, "default", "matched").gradient
    assert json.loads(path.read_text())["loss"] == found.loss
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(np.load(arrays / "gradient" / f"{name}.npy"), array)


@pytest.mark.parametrize(
    ("args", "words"),
    [(["--engine", "fortran"], "fortran"), (["--norm", "best"], "--norm best: expected one of default, seminorm"),
     (["--rtol", "tight"], "tight"), (["--engine", "ordinarydiffeq"], "OrdinaryDiffEq"), (["--tol"], "--tol")],
)  # fmt: skip
def test_a_bad_option_is_one_message(exported, args, words):
    done = run_jl(exported, *args, "--out", "elsewhere")
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (exported / "elsewhere").exists()


def test_a_folder_that_was_spoilt_is_one_message(exported, tmp_path):
    for number, (name, spoil, words) in enumerate(
        [("problem.jl", "(format = 2,)", "format 2, this version reads format 1"),
         ("arrays/params/growth.npy", "", "growth.npy: not a .npy file")]
    ):  # fmt: skip
        folder = tmp_path / str(number)
        shutil.copytree(exported, folder)
        (folder / name).write_text(spoil)
        done = run_jl(folder, "--rtol", "1e-4")
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
