"""Charts as files of their own; charts drawn by several processes."""

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from crossbackend.report import artists, figures, write
from crossbackend.report.groups import problem_charts
from crossbackend.report.names import names_of
from tests.report import synthetic

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def written():
    return dict(figures.figures(synthetic.shown("full")))


def test_every_chart_is_a_file(written):
    view = synthetic.shown("full")
    charts = sum(len(group.charts) for group in view.groups.values())
    pictures = sum(problem.picture is not None for problem in view.problems)
    assert len(written) == charts + pictures > 30
    assert {"nfe-neural_ode.svg", "steps-neural_ode.svg", "picture-neural_ode.svg"} <= set(written)


def test_a_figure_stands_alone(written):
    """It says what it shows, has the key of its colours, a white ground, and loads nothing."""
    for name, content in written.items():
        root = ET.fromstring(content)
        assert root.get("aria-label"), name
        assert root[0].tag == f"{SVG}rect"
        texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
        assert texts[0].startswith(name.partition("-")[2].removesuffix(".svg"))
        if not name.startswith("picture-"):
            assert {"diffrax", "scipy", "torchdiffeq", "default"} <= set(texts), name
        text = content.decode()
        assert "var(" not in text
        assert not re.search(r"#0[1-8]0[0-9a-f]{3}\b", text), name  # a sentinel colour
        assert set(re.findall(r'https?://[^"]*', text)) == {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }


def test_what_is_drawn_lies_inside(written):
    for content in written.values():
        root = ET.fromstring(content)
        width, height = (float(root.get(key).removesuffix("pt")) for key in ("width", "height"))
        for part in root.findall(f"{SVG}svg"):
            x, y, w, h = (float(part.get(key)) for key in ("x", "y", "width", "height"))
            assert x >= 0
            assert x + w <= width + 0.01
            assert y + h <= height + 0.01


def test_they_are_written_where_they_are_asked_for(tmp_path):
    paths = write(synthetic.single(), tmp_path, pdf=False, figures=True)
    assert paths[0] == tmp_path / "index.html"
    assert sorted(paths[1:]) == sorted((tmp_path / "figures").iterdir())
    assert len(paths) > 3
    assert write(synthetic.single(), tmp_path, pdf=False) == paths[:1]


def test_hostile_names_make_no_folders_and_no_elements():
    for name, content in figures.figures(synthetic.shown("names")):
        assert re.fullmatch(r"[\w%.~-]+\.svg", name)
        assert not list(ET.fromstring(content).iter(f"{SVG}b"))


@pytest.fixture
def two():
    found = synthetic.large(144)
    return found.problems[:2], names_of(found)


def test_two_processes_draw_what_one_draws(two, monkeypatch):
    problems, names = two
    alone = [problem_charts(item, names, index) for index, item in enumerate(problems)]
    monkeypatch.setattr(artists, "EACH", 1)
    monkeypatch.setattr(artists, "cores", lambda: 2)
    started, start = [], artists._start
    monkeypatch.setattr(artists, "_start", lambda: started.append(1) or start())
    assert artists.drawn(problems, names) == alone
    assert len(started) == 1


def test_few_problems_are_drawn_by_one(two, monkeypatch):
    monkeypatch.setattr(artists, "cores", lambda: 64)
    monkeypatch.setattr(artists, "_start", lambda: pytest.fail("a process was started"))
    assert len(artists.drawn(*two)) == 2


def test_a_process_that_fails_says_why(two, monkeypatch):
    problems, names = two
    monkeypatch.setattr(artists, "EACH", 1)
    monkeypatch.setattr(artists, "cores", lambda: 2)
    good = problem_charts
    monkeypatch.setattr(artists, "problem_charts", lambda item, _, index: good(item, names, index))
    words = r"a process that draws charts failed: (.|\n)*ValueError: 'seminorm' is not in list"
    with pytest.raises(RuntimeError, match=words):
        artists.drawn(problems, replace(names, series=[]))
