"""The PDF: the same twice, short enough, tagged, nothing clipped, its fonts inside, from hostile records too."""

import re
from dataclasses import replace

import numpy as np
import pytest

from crossbackend.report import pdf, view
from crossbackend.report.names import names_of
from tests.report import synthetic

MARGIN = 18 / 25.4 * 72
"""Left and right margin in points."""


def pages(content):
    return int(re.findall(rb"/Type/Pages/Count (\d+)", content)[0])


@pytest.fixture(scope="module")
def full(written):
    return written("full", ".pdf").read_bytes()


def test_same_comparison_same_bytes(full):
    assert pdf.render(view.build(synthetic.full())) == full


def test_a_gallery_run_stays_under_twenty_pages_and_a_megabyte(full):
    assert full.startswith(b"%PDF-")
    assert 8 <= pages(full) < 20
    assert len(full) < 1_000_000


def test_the_document_says_what_and_when_it_is(full):
    assert "Are the gradients the same? latest" in re.findall(r"<dc:title>.*?</dc:title>", full.decode("latin-1"))[0]
    assert b"<xmp:CreateDate>2026-03-04T15:06" in full
    assert b"/CreationDate(D:202603041506" in full
    assert b"/Lang(en)" in full


def test_it_is_tagged_by_pdf_ua(full):
    """typst refuses to write PDF/UA-1 where a figure has no alternative text or a heading leaves a level out."""
    assert b"<pdfuaid:part>1</pdfuaid:part>" in full
    assert b"/MarkInfo<</Marked true" in full
    assert full.count(b"/S/Figure") > 30
    assert full.count(b"/S/TH/") > 80
    assert b"/Outlines" in full


def test_without_an_alternative_text_there_is_no_document(monkeypatch):
    source = pdf.template("report.typ")
    assert source.count(", alt: c.label") == 1
    monkeypatch.setattr(pdf, "template", lambda _: source.replace(", alt: c.label", ""))
    with pytest.raises(Exception, match="PDF/UA-1"):
        pdf.render(synthetic.shown("single"))


@pytest.mark.parametrize("name", [name for name in synthetic.MADE if name != "full"])
def test_any_run_gives_a_document_without_a_warning(written, name):
    assert pages(written(name, ".pdf").read_bytes()) >= 1


def test_five_thousand_records():
    """Tables and records of a run of 84 problems; its charts would take half a minute to draw."""
    many = synthetic.large(5000)
    names = names_of(many)
    shown = replace(synthetic.shown("single"), tables=view.tables(many, names), names=names)
    content = pdf.render(shown)
    assert 40 < pages(content) < 200
    assert len(content) < 12_000_000


def test_a_warning_of_typst_is_an_error(monkeypatch):
    words = '#set document(title: "t")\n#set text(font: "Nothing")\n#show heading: set text(lang: "en")\nwords'
    monkeypatch.setattr(pdf, "template", lambda _: words)
    with pytest.raises(RuntimeError, match="unknown font family"):
        pdf.render(view.build(synthetic.empty()))


def test_a_letter_that_no_font_has_is_named():
    assert pdf.printable("Größe Ω ≤ 10⁻⁶ ✓ 漢\U0001fae8") == "Größe Ω ≤ 10⁻⁶ ✓ [U+6F22][U+1FAE8]"


@pytest.fixture
def boxes(written, poppler, tmp_path):
    """Yield width, height and the boxes of the words (x0, y0, x1, y1) of every page, in points."""
    size, word = (
        r'<page width="([\d.]+)" height="([\d.]+)">',
        r'<word xMin="(\S+)" yMin="(\S+)" xMax="(\S+)" yMax="(\S+)">',
    )

    def read(name):
        poppler("pdftotext", "-bbox", written(name, ".pdf"), tmp_path / "boxes.html")
        text = (tmp_path / "boxes.html").read_text(encoding="utf-8", errors="replace")
        for page in re.split("(?=<page )", text)[1:]:
            width, height = map(float, re.findall(size, page)[0])
            yield width, height, np.array(re.findall(word, page), dtype=float).reshape(-1, 4)

    return read


class TestOnPaper:
    @pytest.mark.parametrize("name", sorted(synthetic.MADE))
    def test_every_word_lies_inside_the_margins(self, boxes, name):
        slack = 15 if name == "names" else 6  # a chart's label may stand a little into the margin
        found = 0
        for width, height, words in boxes(name):
            found += len(words)
            assert np.all(words[:, 0] >= MARGIN - slack)
            assert np.all(words[:, 2] <= width - MARGIN + slack)
            assert np.all((words[:, 1] >= 20) & (words[:, 3] <= height - 20))
        assert found > 30

    @pytest.mark.parametrize("name", ["full", "names"])
    def test_no_two_words_of_a_table_lie_on_each_other(self, boxes, name):
        worst = 0.0
        for _, _, words in boxes(name):
            small = words[words[:, 3] - words[:, 1] < 11]  # tables are set in 7.5 points and less
            low, high = small[:, None, :], small[None, :, :]
            across = np.minimum(low[..., 2], high[..., 2]) - np.maximum(low[..., 0], high[..., 0])
            down = np.minimum(low[..., 3], high[..., 3]) - np.maximum(low[..., 1], high[..., 1])
            size = np.minimum(low[..., 3] - low[..., 1], high[..., 3] - high[..., 1])
            overlap = np.where((across > 2) & (down > 0.6 * size), across, 0)
            np.fill_diagonal(overlap, 0)
            worst = max(worst, float(overlap.max(initial=0)))
        assert worst == 0

    def test_every_font_is_inside(self, written, poppler):
        lines = poppler("pdffonts", written("hostile", ".pdf")).splitlines()[2:]
        assert len(lines) >= 3
        for line in lines:
            embedded, subset, unicode_map = line.split()[-5:-2]
            assert (embedded, subset, unicode_map) == ("yes", "yes", "yes"), line

    def test_figures_and_tables_are_numbered_without_a_gap(self, written, poppler):
        text = poppler("pdftotext", "-layout", written("full", ".pdf"), "-")
        for kind, least in (("Figure", 7), ("Table", 10)):
            numbers = [int(n) for n in re.findall(rf"{kind} (\d+)\. ", text)]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) >= least

    def test_every_page_has_its_number_and_its_edge_is_white(self, written, poppler, tmp_path):
        from PIL import Image

        count = pages(written("full", ".pdf").read_bytes())
        poppler("pdftoppm", "-r", "40", "-gray", "-png", written("full", ".pdf"), tmp_path / "page")
        drawn = sorted(tmp_path.glob("page-*.png"))
        assert len(drawn) == count
        for path in drawn:
            with Image.open(path) as image:
                pixels = np.asarray(image)
            edge = 12
            inner = pixels[edge:-edge, edge:-edge]
            assert inner.min() < 100, path.name  # something is on it
            outside = np.concatenate([pixels[:edge].ravel(), pixels[-edge:].ravel(), pixels[:, :edge].ravel(),
                                      pixels[:, -edge:].ravel()])  # fmt: skip
            assert outside.min() > 240, path.name
        text = poppler("pdftotext", written("full", ".pdf"), "-").split("\f")
        assert all(f"{number} / {count}" in page for number, page in enumerate(text[:-1], 1))
