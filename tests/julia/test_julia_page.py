"""docs/julia.md is true: its programs run as they stand and end in a report, its commands and engines exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from crossbackend import export, julia_program
from crossbackend.backends.julia import ENGINES
from crossbackend.cli import parser
from crossbackend.load import load
from crossbackend.plan import Choice
from crossbackend.record import relative_error
from crossbackend.store import load_run
from crossbackend.study import Options, run_study
from tests.command import call

PAGE = (Path(__file__).parents[2] / "docs" / "julia.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```julia\n(.*?)```", PAGE, re.DOTALL)


def test_every_command_parses():
    blocks = PAGE.split("```")[1::2]
    shown = [line for block in blocks for line in re.findall(r"^crossbackend (.*)$", block, re.MULTILINE)]
    assert len(shown) >= 8
    for line in shown:
        parser().parse_args(shlex.split(line))


def test_the_own_program_is_short():
    assert len(PROGRAMS[0].splitlines()) <= 32


def test_engines():
    rows = re.findall(r"^\| `(\w+)`.*\| (.+) \|$", PAGE.split("## Engines")[1].split("## What")[0], re.MULTILINE)
    assert [name for name, _ in rows] == list(ENGINES)
    for _, choices in ENGINES.values():
        assert all(f":{choice}`" in PAGE for choice in choices)


@pytest.mark.julia
@pytest.mark.slow
def test_the_programs_end_beside_torchdiffeq_and_diffrax(tmp_path, capsys):
    problem, run = load("van_der_pol"), tmp_path / "run"
    export(problem, julia=tmp_path / "van_der_pol_jl")
    for number, program in enumerate(PROGRAMS):
        (tmp_path / f"{number}.jl").write_text(program, encoding="utf-8")
        command = [julia_program.program().path, "--startup-file=no", f"{number}.jl"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    choice = Choice(("torchdiffeq", "diffrax"), ("seminorm",), ("native",), (1e-6,))
    run_study([problem], choice, Options(run, timing=False, progress=False, explain=False))
    assert call(capsys, "import", tmp_path / "results", run)[0] == 0
    records = {(r.backend, r.rtol): r for r in load_run(run).records}
    mine = records["julia:mine", 1e-6]
    assert mine.error["all"] == pytest.approx(records["diffrax", 1e-6].error["all"], rel=5)
    assert 1e-3 > mine.error["all"] > 10 * records["julia:mine", 1e-8].error["all"]
    assert relative_error(mine.gradient(), records["torchdiffeq", 1e-6].gradient()) < 1e-3
    assert mine.time["repeats"] == 5
    assert mine.steps("backward") is not None
    assert ("julia:byhand", 1e-6) in records
    assert call(capsys, "report", run, "--no-pdf")[0] == 0
    assert "julia:mine" in (run / "index.html").read_text(encoding="utf-8")


@pytest.mark.julia
@pytest.mark.slow
def test_the_numbers_handed_in_by_hand_are_right(tmp_path):
    """The page's figures are the problem's own, to the digits shown."""
    from crossbackend import gradient

    found = gradient("van_der_pol", "scipy", rtol=1e-9)
    program = PROGRAMS[1]
    loss, mu = (float(re.search(pattern, program)[1]) for pattern in (r"loss = ([\d.-]+)", r'"mu" => ([\d.-]+)'))
    y0 = [float(x) for x in re.search(r"y0_gradient = \[(.*?)\]", program)[1].split(",")]
    assert loss == pytest.approx(found.loss, rel=1e-2)
    assert mu == pytest.approx(float(found.params["mu"]), rel=1e-2)
    assert y0 == pytest.approx(list(found.y0[""]), rel=1e-2)
