"""Numbers and words, tables and colours."""

import math

import pytest

from crossbackend.report import formats, palette
from crossbackend.report.draw import log_ticks
from crossbackend.report.table import Cell, grouped

SPACE = "\u202f"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.00541, "5.4×10⁻³"), (-0.00541, "−5.4×10⁻³"), (0.54, "0.54"), (0, "0"), (123.4, "123"), (12345, "1.2×10⁴"),
     (None, "–"), (math.nan, "–"), (math.inf, "–"), ("3", "–"), (True, "–"), (9.99e-4, "1.0×10⁻³")],
)  # fmt: skip
def test_sci(value, shown):
    assert formats.sci(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(1e-6, "10⁻⁶"), (3e-5, "3×10⁻⁵"), (2.5e-5, "2.5×10⁻⁵"), (1.0, "10⁰"), (0, "–")]
)
def test_tolerance(value, shown):
    assert formats.tolerance(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (4.1e-4, "410 µs"),
        (3.2e-3, "3.2 ms"),
        (1.24, "1.2 s"),
        (812.5, "14 min"),
        (0, "0 s"),
        (2e-8, "0.02 µs"),
        (None, "–"),
    ],
)
def test_seconds(value, shown):
    assert formats.seconds(value) == shown


def test_whole_percent_ratio_and_size():
    assert formats.whole(12345) == f"12{SPACE}345"
    assert formats.percent(-0.314) == f"−31{SPACE}%"
    assert formats.ratio(23.4) == "23.4×"
    assert formats.size(16e9) == "16 GB"


def test_numbers_inside_sentences_are_typeset_and_names_are_not():
    assert formats.typographic("to 6.0e-13 relative") == "to 6.0×10⁻¹³ relative"
    assert formats.typographic("case1e-5 and x.2e3") == "case1e-5 and x.2e3"


def test_clean_takes_out_what_breaks_xml_and_what_turns_lines_around():
    assert formats.clean("a\x00b\ud800c\u202ed\ne") == "a\ufffdb\ufffdc\ufffdd\ne"
    assert formats.clean_all({"a\x00": ["\x01", 1]}) == {"a\ufffd": ["\ufffd", 1]}


def test_grouped_rows_name_their_first_key_once():
    rows = grouped([("a", "x"), ("a", "y"), ("b", "x")], [[Cell("1")], [Cell("2")], [Cell("3")]])
    assert [row[0].span for row in rows] == [2, 0, 1]
    assert [row[1].text for row in rows] == ["x", "y", "x"]


def test_ticks_are_round_and_few():
    assert log_ticks(0.8e-10, 1.2e-3) == [1e-10, 1e-8, 1e-6, 1e-4]
    assert log_ticks(150, 3000) == [200, 500, 1000, 2000]
    assert 2 <= len(log_ticks(0.38, 1.6)) <= 6


def _luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a, b):
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_backend_keeps_its_colour_whoever_stands_beside_it():
    alone = palette.backends(["scipy"])["scipy"]
    among = palette.backends(["a", "scipy", "torchdiffeq", "zebra"])["scipy"]
    assert (alone.light, alone.dark) == (among.light, among.dark)


def test_two_backends_never_share_a_colour_while_there_are_free_ones():
    found = palette.backends([f"solver-{i}" for i in range(8)] + ["diffrax", "scipy", "torchdiffeq"])
    assert len({colour.light for colour in found.values()}) == len(found)
    assert len({colour.sentinel for colour in found.values()}) == len(found)


def test_lines_stand_out_from_the_page_in_both_themes():
    found = palette.backends([f"solver-{i}" for i in range(8)] + ["diffrax", "scipy", "torchdiffeq", "julia"])
    found |= palette.blocks()
    assert min(_contrast(colour.light, "#ffffff") for colour in found.values()) >= 3
    assert min(_contrast(colour.dark, "#181c20") for colour in found.values()) >= 3


def test_words_are_readable_on_their_tints_in_both_themes():
    import re

    from crossbackend.report.page import template

    css = template("page.css")
    light, dark = css.partition("@media")[0], css.partition("@media")[2].partition("* {")[0]
    for theme in (light, dark):
        colours = {
            name: value if len(value) == 7 else value + value[1:]
            for name, value in re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", theme)
        }
        for kind in ("pass", "unstable", "fail", "missing"):
            assert _contrast(colours[kind], colours[f"{kind}-ink"]) >= 4.5
        for back in ("paper", "page"):
            for text in ("ink", "soft", "link"):
                assert _contrast(colours[back], colours[text]) >= 4.5
