"""The stub backends of the study's tests, what a fault needs of the system, and the figures at the end."""

import pytest

from tests.report.conftest import poppler
from tests.study.conftest import lab

__all__ = ["lab", "poppler"]

FIGURES = "faults"


@pytest.fixture
def figures(record_property):
    """Say a figure at the end of the tests: faults tried, records lost, corrupt files believed."""
    return lambda words: record_property(FIGURES, words)


def pytest_terminal_summary(terminalreporter):
    words = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == FIGURES and report.when == "call"
    ]
    if words:
        terminalreporter.section("faults")
        for line in words:
            terminalreporter.write_line(line)
