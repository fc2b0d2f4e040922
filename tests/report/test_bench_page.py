"""The page of the benchmarks: all of it stands there, in words too, and nothing that a name holds gets out."""

import subprocess
import sys

from crossbackend.report.bench_page import BenchView, Line, digits, render

from .test_html import Page

POINTS = [
    {"axis": "batch", "backend": backend, "size": size, "seconds": 1e-3 * size * factor, "quartiles": [0, 1], "nfe": 50}
    for backend, factor in (("scipy", 1.0), ("diffrax", 0.2))
    for size in (1, 16, 256)
]
LINES = [
    Line("overhead.diffrax", "linear", "≤ 1.03", 0.984, (0.95, 1.01), True),
    Line("overhead.diffrax", "spiral", "≤ 1.03", 1.02, (0.99, 1.05), True, inside=True),
    Line("orchestration", "the gallery", "≥ 0.75", 0.6, (0.6, 0.6), False, miss=0.2),
    Line("startup", "a worker of <b>scipy</b>, MiB", "", 226.7, (226.0, 227.0)),
    Line("scaling.time.scipy", "time ~ batch^x", "", 1.0, (0.9, 1.1)),
]
VIEW = BenchView(
    LINES, POINTS, {("batch", "scipy"): ((1.0, 0.02), (-0.01, 0.1))},
    {"created": "2026-03-04T15:06:07+00:00", "machine": {"processor": "Example CPU", "cores": 2},
     "versions": {"jax": "0.8.0"}},
    {"overhead.diffrax": "ours over `diffeqsolve`"}, ("make bench",),
)  # fmt: skip


def test_everything_is_said():
    text = render(VIEW).decode()
    Page(text)
    for words in ("holds", "misses by 20\u202f%", "goal within quartiles", "≥ 0.75", "0.984", "0.95 … 1.01",
                  "Example CPU, 2 cores", "jax 0.8.0", "2026-03-04 15:06", "make bench", "<code>diffeqsolve</code>",
                  "time against batch", "evaluations against batch", "1.00", "± 0.02", "−0.01"):  # fmt: skip
        assert words in text, words
    assert "<b>scipy</b>" not in text
    assert text.count('<svg class="chart"') == 2
    assert "scaling.time.scipy" not in text  # the exponents have a table of their own


def test_equal_views_give_equal_bytes():
    assert render(VIEW) == render(VIEW)


def test_nothing_measured_is_said():
    text = render(BenchView([])).decode()
    Page(text)
    for words in ("No figure with a goal was measured.", "None was measured.", "Scaling was not measured."):
        assert words in text


def test_digits():
    assert [digits(x) for x in (0.032783, 1.0249, 308.63, 1500.0, -0.5)] == ["0.0328", "1.02", "309", "1500", "−0.5"]


def test_the_page_needs_neither_torch_nor_jax():
    code = """
import sys
from crossbackend.report.bench_page import BenchView, render
render(BenchView([]))
print([name for name in ("torch", "jax", "matplotlib.pyplot", "benchmarks") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
