"""Records and cards that would like to be markup: a report of them has the elements of one that would not.

The same run is shown twice, with hostile words and with harmless ones of the same length; the pages must have the same
elements with the same attributes in the same order, so that none can have come from the words.
"""

import copy
import itertools
import re
import string
from html.parser import HTMLParser
from pathlib import Path

import pytest

from crossbackend.compare import compare
from crossbackend.record import Status
from crossbackend.report import html, pdf, view
from crossbackend.store import Run
from crossbackend.wording import clean
from tests.report import synthetic

PAYLOADS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'><svg/onload=alert(1)>", "javascript:alert(1)",
    "</script><script>alert(1)//", "]]><!--", "--><style>*{display:none}", "</title></text></svg><a href=//x>",
    "{{ 7*7 }}{% raw %}", "${alert(1)}", "&lt;b&gt;&#x3c;", "https://evil.example/\" onclick=\"x",
    '#import "/x.typ": *', '#read("/etc/passwd")', "#eval(\"1\")", "$x^2$ `raw` *b* _i_ <l> @l", "\\\\ \\u{41} \\",
    "] #panic() [", "= Heading\n- item", "a\u202egnp.exe\u2066\u200f", "\x00\x1b[2J\x07\x7f\x9b", "=cmd|'/c calc'!A1",
)  # fmt: skip


LINK = "https://evil.example/"


def harmless(words):
    """Words of the same length that no language takes for its own. A web address stays: a source's is a link."""
    if words.startswith(LINK):
        return LINK + harmless(words.removeprefix(LINK))
    return "".join(c if c in "\n " or c in string.ascii_lowercase else "x" for c in words)


def hostile_run(payloads, said):
    """A run whose every text holds a payload, as `said` says it, each another; a first word keeps their order."""
    number = itertools.count()

    def words(before):
        n = next(number)
        return f"{before}{n:03d} {said(payloads[n % len(payloads)])} end"

    found = Run(Path("."), synthetic.about())
    problem = words("problem")
    found.about |= {"name": words("name"), "command": words("command"), "problems": [problem],
                    "machine": {"processor": words("cpu"), words("machine"): words("machine")},
                    "versions": {"crossbackend": words("version"), words("package"): words("version")},
                    "declined": [dict(problem=problem, backend=words("b"), norm=words("n"), stepping="native",
                                      reason=words("reason"))], "created": words("created")}  # fmt: skip
    leaf = words("leaf")
    for backend in ("my-solver", words("zsolver")):
        for norm in ("default", words("norm")):
            for rtol in (1e-4, 1e-6):
                one = copy.deepcopy(synthetic.record("x", "scipy", "native", "default", rtol))
                one.plan |= {"problem": problem, "backend": backend, "norm": norm}
                one.digest = words("digest")
                effective = {"solver": words("solver"), words("key"): words("value")}
                one.settings = {"forward": effective, "backward": effective}
                one.machine, one.versions = {words("m"): words("m")}, {words("v"): words("v")}
                one.arrays = {
                    (f"gradient/params/{leaf}" if name.startswith("gradient/params") else name): array
                    for name, array in one.arrays.items()
                }
                one.message = words("message")
                found.records.append(one)
    synthetic.fail(found.records[-1], Status.CRASHED, words("message"))
    card = synthetic.card(problem)
    card |= {name: words(name) for name in ("description", "source", "equations")}
    card |= {"state": {words("state"): [2]}, "parameters": {leaf: [2, 2]}, "integrals": [words("integral")]}
    for series in card["picture"]["series"]:
        series["label"] = words("series")
    found.cards[problem] = card
    about = synthetic.reference("x")
    found.references[problem] = about | {
        "status": words("status"), "message": words("message"),
        "routes": [{"name": words("route"), "seconds": 1.0, "message": words("message")}],
    }  # fmt: skip
    found.damaged = [words("records/")]
    return found


class Structure(HTMLParser):
    """Elements with the names of their attributes, in order, and where links lead."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.links, self.text = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "formaction", "data")]

    def handle_comment(self, data):
        self.elements.append(("comment",))

    def handle_decl(self, decl):
        self.elements.append(("decl", decl))

    def handle_pi(self, data):
        self.elements.append(("pi", data))

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("shift", range(0, 20, 4))
def test_no_element_or_attribute_comes_from_a_record(shift):
    payloads = PAYLOADS[shift:] + PAYLOADS[:shift]
    pages = [html.render(view.build(compare(hostile_run(payloads, said)))).decode() for said in (str, harmless)]
    hostile, tame = (Structure(page) for page in pages)
    assert hostile.elements == tame.elements
    assert len(hostile.links) == len(tame.links)
    allowed = re.compile(rf"#|data:,$|data:image/|https://arxiv\.org/|{re.escape(LINK)}$|$")
    assert all(allowed.match(link) for link in hostile.links), hostile.links
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]", pages[0])
    shown = "".join(hostile.text)
    seen = [payload for payload in PAYLOADS if clean(payload) in shown]
    assert len(seen) > 15, "they are shown, as text"


def test_a_page_that_takes_words_for_markup_is_found():
    """The test above sees a hole: one word that is not escaped."""
    bad = html.render(view.build(compare(hostile_run(PAYLOADS[1:2], str)))).decode()
    escaped = "&#34;&gt;&lt;img src=x onerror=alert(1)&gt;"
    assert escaped in bad
    tame = html.render(view.build(compare(hostile_run(PAYLOADS[1:2], harmless)))).decode()
    broken = bad.replace(escaped, PAYLOADS[1], 1)
    assert Structure(broken).elements != Structure(tame).elements


@pytest.mark.slow
def test_typst_takes_no_word_for_its_own(poppler, tmp_path):
    """All payloads in one run: the document is made without a warning, and shows them as they are."""
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf.render(view.build(compare(hostile_run(PAYLOADS, str)))))
    text = re.sub(r"\s+", "", poppler("pdftotext", "-layout", path, "-"))
    assert "root:" not in text
    assert '#read("/etc/passwd")' in text
    assert len([payload for payload in PAYLOADS if re.sub(r"\s+", "", clean(payload)) in text]) > 8
    content = path.read_bytes()
    assert b"/JavaScript" not in content
    assert b"javascript:" not in content
    assert b"/Launch" not in content
