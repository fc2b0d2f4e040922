"""What the README shows runs as it stands."""

import re
import shlex
from pathlib import Path

import pytest

import crossbackend
from crossbackend import cli
from crossbackend.load import load

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def problem_file(tmp_path):
    path = tmp_path / "oscillator.py"
    path.write_text(BLOCKS[0], encoding="utf-8")
    return path


@pytest.mark.slow
def test_the_problem_and_what_is_done_with_it(problem_file, tmp_path, monkeypatch):
    problem = load(problem_file)
    gradient = crossbackend.gradient(problem, "torchdiffeq", norm="seminorm", rtol=1e-6)
    assert gradient.params["mu"].shape == ()
    monkeypatch.chdir(tmp_path)
    lines = BLOCKS[1].replace(
        'norms=["default", "seminorm"]', 'norms=["default"], backends=["scipy"], rtols=[1e-4], progress=False'
    )
    exec(compile(lines, "README", "exec"), {"problem": problem})
    assert {path.name for path in (tmp_path / "reports/oscillator").iterdir()} >= {
        "index.html",
        "report.pdf",
        "records",
    }


def test_every_command_shown_parses():
    shown = re.findall(r"^\.venv/bin/crossbackend (.*?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert len(shown) >= 3
    for line in shown:
        cli.parser().parse_args(shlex.split(line))


def test_every_command_of_the_table_exists():
    rows = re.findall(r"^\| `crossbackend (\w+)", README, re.MULTILINE)
    parser = cli.parser()
    (commands,) = (action.choices for action in parser._actions if action.dest == "command")
    assert sorted(rows) == sorted(commands)


def test_every_make_target_of_the_table_exists():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    for name in re.findall(r"`make ([\w-]+)`", README):
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), name


def test_every_link_to_a_file_leads_somewhere():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target


def test_a_run_of_one_problem_has_a_folder_of_its_own(problem_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["run", str(problem_file), "--backend", "scipy", "--norm", "default", "--rtol", "1e-3", "--no-timing",
              "--no-report", "--quiet"])  # fmt: skip
    assert len(list((tmp_path / "reports/oscillator/records").glob("*.json"))) == 2
    assert not (tmp_path / "reports/latest").exists()
