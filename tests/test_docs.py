"""The page on explanations is true: its flags, thresholds, arrays and commands are the code's."""

import re
from pathlib import Path

import pytest

from crossbackend import flags, ratios
from crossbackend.cli import parser
from crossbackend.compare import UNCERTAIN_FLOOR
from crossbackend.record import ERROR_PARTS
from crossbackend.speedup import AT_FLOOR

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "explain.md").read_text(encoding="utf-8")


def test_every_flag_is_listed_with_its_level_in_order():
    rows = re.findall(r"^\| `(\w+)` \| (warning|note) \|", PAGE, re.MULTILINE)
    assert rows == list(flags.LEVELS.items())


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("more than 100 rtol", flags.UNSTABLE_FACTOR == 100),
        ("above 1e-4 of the largest leaf's", flags.LOST_LEAF == 1e-4),
        ("to 1e-9 of the interval", flags.NEAR == 1e-9), ("on more than half", flags.BELOW_ATOL_SHARE == 0.5),
        ("above 1000 on an accepted step", flags.UNCONTROLLED == 1000), ("more than 1e-5", UNCERTAIN_FLOOR == 1e-5),
        ("under ten times the reference's own", AT_FLOOR == 10),
    ],
)  # fmt: skip
def test_thresholds(words, value):
    assert words in " ".join(PAGE.split())
    assert value


def test_arrays_and_parts():
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {"t0", "t1", "accepted", *ratios.RATIOS} <= named
    assert set(ERROR_PARTS) <= named


def test_commands_and_options_exist():
    commands = next(a for a in parser()._actions if a.dest == "command").choices
    for name in re.findall(r"crossbackend (explain|advise|run)", PAGE):
        assert name in commands
    for option in re.findall(r"`(?:crossbackend run )?(--[\w-]+)`", PAGE):
        assert any(option in action.option_strings for c in commands.values() for action in c._actions), option


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_link_to_a_file_leads_somewhere(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http|#)([^)#]+)(?:#[^)]*)?\)", text):
        assert (DOCS / target).exists(), target
