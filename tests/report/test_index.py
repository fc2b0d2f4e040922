"""The page that lists the runs of a folder: all of them, newest first, whatever they are called and hold."""

import gc
import json
import re
import shutil
import weakref
from urllib.parse import unquote

import pytest

from crossbackend import store
from crossbackend.compare import compare
from crossbackend.errors import UserError
from crossbackend.record import Status
from crossbackend.report import index, verdict
from tests.report import synthetic
from tests.report.test_html import Page

NAMES = ("plain", 'a "b" & c', "100% #1?x=y", "é ß 語", "<b onmouseover=alert(1)>", "javascript:alert(1)", "..hidden")
HOSTILE = "<script>alert(1)</script> & \u202e\x07"


def records(backends=("diffrax", "scipy"), steppings=("native", "matched"), rtols=(1e-4, 1e-6)):
    return [
        synthetic.record("lotka_volterra", backend, stepping, "default", rtol)
        for backend in backends
        for stepping in steppings
        for rtol in rtols
    ]


def make(folder, found=None, **about):
    """Store a small run."""
    store.prepare(folder)
    known = {"format": 1, "name": folder.name, "problems": ["lotka_volterra"], **about}
    store.write_json(folder / "run.json", {key: value for key, value in known.items() if value is not None})
    store.write_json(folder / "problems" / "lotka_volterra.json", synthetic.card("lotka_volterra"))
    for record in records() if found is None else found:
        store.write_record(folder, record)
    return folder


def cut(folder, content):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(content, encoding="utf-8")


def read(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


def listed(folder):
    """Return what the page says of each run, by the name that it shows, in order."""
    found = {}
    for part in re.findall(r"<article .*?</article>", read(folder), re.DOTALL):
        Page(part)
        (name,) = re.findall(r"<h2[^>]*>(?:<a [^>]*>)?(.*?)(?:</a>)?</h2>", part)
        found[name] = part
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    machine = {"processor": "Example CPU", "cores": 1, "python": "3.11.7", "memory_bytes": 10**9}
    versions = {"crossbackend": "0.3.0", "torch": "2.9.0", "jaxlib": "0.8.0", "scipy": "1.17.1"}
    make(folder / "old", created="2024-03-04T15:06:07+00:00", machine=machine, versions=versions)
    wrong = records()
    wrong[-1].arrays["gradient/y0"] = wrong[-1].arrays["gradient/y0"] * 1.01
    wrong[0] = synthetic.fail(wrong[0], Status.DIVERGED, "words")
    make(folder / "new", wrong, created="2026-03-04T15:06:07", planned=12, name="of another name")
    make(folder / "middle", created="2025-12-31T23:00:00-09:00", timing=False)
    make(folder / "middle earlier", created="2026-01-01T07:59:00Z")
    make(folder / "native", records(steppings=["native"]), created="yesterday")
    make(folder / "none", [])
    spoiled = make(folder / "spoiled")
    for name in ("x", "y", "z"):
        (spoiled / "records" / f"{name}.json").write_text("{}")
    cut(folder / "cut", '{"format": 1, "na')
    cut(folder / "other format", '{"format": 7}')
    (folder / "other format" / "index.html").write_text("its own report, of an older version")
    cut(folder / "no list", '{"format": 1, "problems": 5}')
    cut(folder / "no names", '{"format": 1, "problems": [{}]}')
    cut(folder / "not declined", '{"format": 1, "declined": 5}')
    (folder / "no run").mkdir()
    (folder / "a file").write_text("run.json")
    cut(folder / "no run" / "too deep", '{"format": 1}')
    (folder / "gone").symlink_to(folder / "nowhere")
    index.write_all(folder, pdf=False)
    return folder


@pytest.fixture(scope="module")
def runs(folder):
    return listed(folder)


class TestRuns:
    def test_all_are_there_newest_first(self, runs):
        assert list(runs) == [
            "new", "middle", "middle earlier", "old", "cut", "native", "no list", "no names", "none", "not declined",
            "other format", "spoiled",
        ]  # fmt: skip

    def test_the_page_is_whole_and_loads_nothing(self, folder):
        page = Page(read(folder))
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        assert len(page.all("h1")) == 1
        assert not page.all("script")
        assert not [tag for tag, attrs in page.tags if "src" in attrs]
        policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
        assert "default-src 'none'" in policy
        assert "script-src" not in policy

    def test_what_was_run_with_what_and_where(self, runs):
        facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", runs["old"]))
        assert facts == {
            "problems": "lotka_volterra", "backends": "diffrax and scipy", "records": "8",
            "machine": "Example CPU, 1 core, Python 3.11.7",
            "versions": "crossbackend 0.3.0, scipy 1.17.1, torch 2.9.0",
        }  # fmt: skip
        assert '<time datetime="2024-03-04T15:06:07+00:00">2024-03-04 15:06</time>' in runs["old"]
        assert "<dt>called</dt><dd>of another name</dd>" in runs["new"]
        assert "no date" in runs["native"]

    def test_verdicts_in_words_and_colours(self, folder, runs):
        comparison = compare(store.load_run(folder / "new"))
        assert verdict.counts(comparison) == {"pass": 1, "unstable": 0, "fail": 1, "missing": 0}
        tiles = re.findall(r'<li class="tile is-(\w+)"><b>(.*?)</b> <span>(.*?)</span>', runs["new"])
        assert tiles == [
            ("pass", "1", verdict.WORDS["pass"]), ("fail", "1", verdict.WORDS["fail"]),
            ("fail", "1", "of 8 plans did not finish"),
        ]  # fmt: skip
        assert re.findall(r'<li class="tile is-(\w+)"><b>(.*?)</b> <span>(.*?)</span>', runs["native"]) == [
            ("missing", "–", "no matched plans")
        ]

    def test_the_first_sentences_of_the_summary(self, runs):
        assert runs["old"].count("<p>") == index.SENTENCES
        assert "On 1 of 1 problems diffrax and scipy give the same gradient" in runs["old"]
        assert "<p>This run has no records yet.</p>" in runs["none"]

    def test_notices(self, runs):
        assert "This run is not complete: 8 of 12 planned records are there." in runs["new"]
        assert "This run measured no times" in runs["middle"]
        assert re.search(r"Damaged and skipped: records/x\.json: format .*, and 2 more files\.", runs["spoiled"])
        assert "notice" not in runs["old"]

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("cut", "run.json: cannot be read (Unterminated string starting at: line 1 column 15 (char 14))"),
            ("other format", "run.json: format 7, this version reads format 1"),
            ("no list", "run.json: its problems are no list of names"),
            ("no names", "run.json: its problems are no list of names"),
            ("not declined", "run.json: its declined plans are no list"),
        ],
    )
    def test_one_that_cannot_be_read_is_listed_with_the_reason(self, folder, runs, name, reason):
        assert f"This run could not be read: {reason}." in runs[name]
        assert str(folder) not in read(folder)

    def test_links_lead_to_what_is_there(self, folder):
        links = [attrs["href"] for attrs in Page(read(folder)).all("a")][1:]  # the first skips to the contents
        assert "old/index.html" in links
        assert "other%20format/index.html" in links
        assert not [link for link in links if "cut" in link or link.endswith(".pdf")]
        assert all((folder / unquote(link)).is_file() for link in links)

    def test_again_gives_the_same_bytes(self, folder):
        first = {path: path.read_bytes() for path in folder.rglob("index.html")}
        again = index.write_all(folder, pdf=False)
        assert again[-1] == folder / "index.html"
        assert {path: path.read_bytes() for path in folder.rglob("index.html")} == first
        names = ["middle", "middle earlier", "native", "new", "none", "old", "spoiled"]
        assert again[:-1] == [folder / name / "index.html" for name in names]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    made = make(folder / "first", records(rtols=[1e-4]))
    for name in NAMES:
        shutil.copytree(made, folder / name)
    shutil.rmtree(made)
    index.write_all(folder, pdf=False)
    return folder


def test_folders_of_any_name_are_linked_and_shown(names):
    page = Page(read(names))
    links = [attrs["href"] for attrs in page.all("a")][1:]
    assert {unquote(link).removesuffix("/index.html") for link in links} == set(NAMES)
    assert not [link for link in links if re.search(r'["<>#?: &]|[^\x00-\x7f]', link)]
    assert set(NAMES) <= set(page.words)
    assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]


def test_a_name_that_is_no_text_is_linked_by_its_bytes(tmp_path):
    name = b"run-\xff".decode("utf-8", "surrogateescape")
    try:
        cut(tmp_path / name, "{}")
    except OSError:
        pytest.skip("this file system takes no such name")
    (tmp_path / name / "report.pdf").write_text("pdf")
    index.write_all(tmp_path, pdf=False)
    assert 'href="run-%FF/report.pdf"' in read(tmp_path)
    assert "run-\ufffd</h2>" in read(tmp_path)


def test_hostile_words_are_shown_and_nothing_more(tmp_path):
    make(
        tmp_path / "run", records(rtols=[1e-4]), name=HOSTILE, created=HOSTILE, machine={"processor": HOSTILE},
        versions={"crossbackend": HOSTILE, HOSTILE: HOSTILE}, planned=HOSTILE,
    )  # fmt: skip
    cut(tmp_path / "bad", json.dumps({"format": HOSTILE}))
    index.write_all(tmp_path, pdf=False)
    page = Page(read(tmp_path))
    assert not page.all("script")
    assert not re.search("[\u202e\x07]", read(tmp_path))
    shown = "".join(page.words)
    assert shown.count("<script>alert(1)</script>") >= 4


@pytest.mark.slow
def test_the_pdf_is_written_and_linked(tmp_path):
    make(tmp_path / "a run", records(rtols=[1e-4]))
    paths = index.write_all(tmp_path)
    run = tmp_path / "a run"
    assert paths == [run / "index.html", run / "report.pdf", tmp_path / "index.html"]
    assert (run / "report.pdf").read_bytes().startswith(b"%PDF")
    assert 'href="a%20run/report.pdf"' in read(tmp_path)


def test_a_report_that_cannot_be_written_stops_no_other(tmp_path, monkeypatch):
    make(tmp_path / "a", records(rtols=[1e-4]))
    make(tmp_path / "b", records(rtols=[1e-4]))
    write = index.write

    def refused(comparison, folder, **options):
        if folder.name == "a":
            raise PermissionError(13, "Permission denied", str(folder / "index.html"))
        return write(comparison, folder, **options)

    monkeypatch.setattr(index, "write", refused)
    assert index.write_all(tmp_path, pdf=False) == [tmp_path / "b" / "index.html", tmp_path / "index.html"]
    runs = listed(tmp_path)
    assert "Its report could not be written: Permission denied." in runs["a"]
    assert "<a " not in runs["a"]
    assert "<dt>records</dt><dd>4</dd>" in runs["a"]
    assert "notice" not in runs["b"]


def test_a_folder_that_may_not_be_read_is_listed(tmp_path, monkeypatch):
    make(tmp_path / "a", [])

    def refused(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(index, "load_run", refused)
    index.write_all(tmp_path, pdf=False)
    assert "This run could not be read: Permission denied." in listed(tmp_path)["a"]


def test_one_comparison_is_held_at_a_time(tmp_path, monkeypatch):
    for name in "abcd":
        make(tmp_path / name, records(rtols=[1e-4]))
    seen, alive = [], []
    compared = index.compare

    def watched(run):
        gc.collect()
        alive.append(sum(reference() is not None for reference in seen))
        found = compared(run)
        seen.append(weakref.ref(found))
        return found

    monkeypatch.setattr(index, "compare", watched)
    index.write_all(tmp_path, pdf=False)
    assert alive == [0, 0, 0, 0]


def test_no_runs_and_how_to_make_one(tmp_path):
    assert index.write_all(tmp_path) == [tmp_path / "index.html"]
    words = "".join(Page(read(tmp_path)).words)
    assert "No runs yet" in words
    assert "crossbackend run van_der_pol --out FOLDER/van_der_pol" in words
    assert index.write_all(tmp_path) == [tmp_path / "index.html"]  # its own page may be written again


@pytest.mark.parametrize(
    ("make_it", "words"),
    [
        (lambda path: None, r"folder: got .*x, which is not there, expected a folder of runs\. Write the folder that"),
        (lambda path: path.write_text(""), r"folder: got .*x, a file, expected a folder of runs\."),
        (lambda path: make(path, []), r"x, which is a run itself, expected a folder of runs\. Write .* for all"),
        (
            lambda path: (path.mkdir(), (path / "index.html").write_text("<title>My site</title>")),
            r"x, whose index\.html is not crossbackend's, expected a folder of runs\. Move that file away",
        ),
    ],
)  # fmt: skip
def test_mistakes(tmp_path, make_it, words):
    path = tmp_path / "x"
    make_it(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words):
        index.write_all(path)
    assert sorted(tmp_path.rglob("*")) == before
    if (path / "index.html").exists():
        assert (path / "index.html").read_text() == "<title>My site</title>"
