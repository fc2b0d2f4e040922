"""The page on CI is true: its questions, limits, causes, workflows and commands are the code's."""

import re
import shlex
from pathlib import Path

import pytest

from crossbackend import agreement, cli, pytest_plugin
from crossbackend.check import table
from crossbackend.check.evidence import GOOD, RATE
from crossbackend.check.findings import WHAT
from crossbackend.check.judge import DERIVATIVE

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
"""(language, text) of each."""
WORKFLOWS = [block for language, block in BLOCKS if language == "yaml"]


def commands():
    """The commands of the parser by name."""
    (found,) = (action.choices for action in cli.parser()._actions if action.dest == "command")
    return dict(found)


def steps():
    """Every command line of the package's that the page shows: in its blocks, and in its workflows."""
    shown = [line for _, block in BLOCKS for line in block.splitlines()]
    github, gitlab = map(yaml().safe_load, WORKFLOWS)
    shown += [step["run"] for step in github["jobs"]["check"]["steps"] if "run" in step]
    shown += [*gitlab["gradients"]["script"], *gitlab["gradients"]["after_script"]]
    return [line.partition("#")[0] for line in shown if line.startswith("crossbackend ")]


def yaml():
    return pytest.importorskip("yaml")


def test_every_question_is_listed_in_order_and_in_its_own_words():
    assert re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE) == list(WHAT.items())


def test_every_cause_is_listed_in_its_own_words():
    assert re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", PAGE, re.MULTILINE) == list(table.CAUSES.items())


def test_limits_are_the_codes():
    shown = [f"{x:g}".replace("e-0", "e-") for x in (agreement.MATCHED_TOLERANCE, RATE, GOOD, DERIVATIVE * 1e3)]
    for words in ("gradients to {} leaf by leaf", "at least as rtol^{}", "under {} rtol", "to {}e-3 of the leaf"):
        assert words.format(shown.pop(0)) in PAGE


def test_the_options_of_the_plug_in():
    said = " ".join(PAGE.split()).partition("The options are ")[2].partition(". A failure")[0]
    assert re.findall(r"`(\w+)`", said) == list(pytest_plugin.OPTIONS)
    for name in ("crossbackend_timeout", "crossbackend_baseline", pytest_plugin._UPDATE, "no:crossbackend"):
        assert name in PAGE


def test_the_table_shown_is_one_that_the_check_prints():
    shown = PAGE.partition("```\nproblem  question")[2].partition("```")[0]
    for cause, words in table.CAUSES.items():
        assert f"points to: {cause} (" not in shown or f"points to: {cause} ({words})\n" in shown
    assert f"FAIL tied: derivative ({WHAT['derivative']})" in shown


def test_both_workflows_are_yaml_with_least_rights():
    github, gitlab = map(yaml().safe_load, WORKFLOWS)
    assert github["permissions"] == {"contents": "read"}
    job = github["jobs"]["check"]
    assert job["timeout-minutes"] <= 60
    assert github["concurrency"]["cancel-in-progress"] is True
    assert gitlab["gradients"]["artifacts"]["reports"]["junit"] == "check.xml"
    assert gitlab["gradients"]["artifacts"]["when"] == "always"
    assert not re.search(r"https?://|pypi|\.org|\.com", "".join(WORKFLOWS))


def test_every_action_is_pinned_by_a_commit_with_its_release_beside():
    used = re.findall(r"uses: (.*)", WORKFLOWS[0])
    assert len(used) == 3
    for line in used:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)


def test_every_command_shown_parses():
    shown = steps()
    assert len(shown) >= 9
    for line in shown:
        cli.parser().parse_args(shlex.split(line)[1:])


def test_every_option_of_the_table_exists():
    rows = re.findall(r"^\| (`--.*?) \|", PAGE, re.MULTILINE)
    named = {option for row in rows for option in re.findall(r"--[\w-]+", row)}
    assert named == set(commands()["check"]._option_string_actions) - {"-h", "--help"}
