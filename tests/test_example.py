"""The committed runs are whole, and their reports are what this version writes."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from crossbackend.compare import Comparison, compare
from crossbackend.load import gallery
from crossbackend.record import Status
from crossbackend.store import load_run

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "reports/example"
GRADIENTS = ROOT / "reports/gradients"
DRAWN_BY = ("matplotlib", "Jinja2", "typst")
"""Whose versions decide a report's bytes."""


def drawn_by_other_versions() -> list[str]:
    """Packages that draw, of other versions than the project's."""
    pinned = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    return [name for name in DRAWN_BY if version(name) != pinned[name]]


@pytest.fixture(scope="module")
def example() -> Comparison:
    return compare(load_run(EXAMPLE))


def test_it_is_a_whole_gallery_run(example):
    assert [item.problem for item in example.problems] == list(gallery())
    assert example.damaged == []
    assert len(example.records) == example.about["planned"] == 705
    assert all(record.status == Status.OK for record in example.records)
    assert {record.backend for record in example.records} == {"diffrax", "scipy", "torchdiffeq"}
    assert all(record.time for record in example.records if record.stepping == "native")


def test_the_run_of_gradients_is_whole():
    found = compare(load_run(GRADIENTS))
    assert [item.problem for item in found.problems] == list(gallery())
    assert found.damaged == []
    assert all(record.status == Status.OK and record.time for record in found.records)
    ways = {(record.backend, record.plan["gradient"]) for record in found.records}
    assert ways == {
        ("scipy", "backsolve"), ("scipy", "interpolating"), ("scipy", "quadrature"), ("torchdiffeq", "backsolve"),
        ("torchdiffeq", "direct"), ("diffrax", "backsolve"), ("diffrax", "direct"),
    }  # fmt: skip
    assert len(found.records) == 12 * 3 * (len(ways) + 3)  # backsolve under two norms


@pytest.mark.parametrize("folder", [EXAMPLE, GRADIENTS], ids=lambda folder: folder.name)
def test_nothing_else_lies_there(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"figures", "index.html", "problems", "records", "reference", "report.pdf", "run.json"}


@pytest.mark.parametrize("folder", [EXAMPLE, GRADIENTS], ids=lambda folder: folder.name)
def test_its_report_is_what_this_version_writes(folder, tmp_path):
    from crossbackend.report import write

    if drawn_by_other_versions():
        pytest.skip(f"drawn by other versions of {', '.join(drawn_by_other_versions())} than constraints.txt has")
    written = write(compare(load_run(folder)), tmp_path, figures=True)
    stale = [path.name for path in written if path.read_bytes() != (folder / path.relative_to(tmp_path)).read_bytes()]
    assert stale == [], f"run `crossbackend report reports/{folder.name} --figures`"
    assert {path.name for path in (folder / "figures").iterdir()} == {p.name for p in written if p.suffix == ".svg"}
