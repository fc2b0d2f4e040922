"""The PDF: the same twice, short enough, with its facts, from hostile records too."""

import re

import pytest

from crossbackend.report import pdf, view
from tests.report import synthetic


def pages(content):
    return int(re.findall(rb"/Type/Pages/Count (\d+)", content)[0])


@pytest.fixture(scope="module")
def full():
    return pdf.render(synthetic.shown("full"))


def test_same_comparison_same_bytes(full):
    assert pdf.render(view.build(synthetic.full())) == full


def test_a_gallery_run_stays_under_twenty_pages_and_a_megabyte(full):
    assert full.startswith(b"%PDF-")
    assert 8 <= pages(full) < 20
    assert len(full) < 1_500_000


def test_the_document_says_what_and_when_it_is(full):
    assert "Are the gradients the same? latest" in re.findall(r"<dc:title>.*?</dc:title>", full.decode("latin-1"))[0]
    assert b"<xmp:CreateDate>2026-03-04T15:06" in full
    assert b"/CreationDate(D:202603041506" in full
    assert b"/Lang(en)" in full


@pytest.mark.parametrize("name", [name for name in synthetic.MADE if name != "full"])
def test_any_run_gives_a_document_without_a_warning(name):
    assert pages(pdf.render(synthetic.shown(name))) >= 1


def test_a_warning_of_typst_is_an_error(monkeypatch):
    monkeypatch.setattr(pdf, "template", lambda _: '#set text(font: "Nothing")\nwords')
    with pytest.raises(RuntimeError, match="unknown font family"):
        pdf.render(view.build(synthetic.empty()))
