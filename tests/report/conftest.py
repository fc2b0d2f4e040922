"""Programs that tests of the report look with: skipped where they are missing, unless REQUIRE_PROGRAMS is set."""

import os
import shutil

import pytest

from crossbackend.report import html, pdf
from tests.report import synthetic

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def program(*names):
    """Return the path of the first program that is installed."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        words = f"{names[0]} is not installed (apt-get install chromium poppler-utils)"
        if os.environ.get("REQUIRE_PROGRAMS"):
            pytest.fail(words)
        pytest.skip(words)
    return found


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Path of a made-up run's `index.html` or `report.pdf`, each made once."""
    folder = tmp_path_factory.mktemp("reports")
    makers = {".html": html.render, ".pdf": pdf.render}

    def path(name, suffix):
        found = folder / f"{name}{suffix}"
        if not found.exists():
            found.write_bytes(makers[suffix](synthetic.shown(name)))
        return found

    return path


@pytest.fixture(scope="session")
def poppler():
    """Run one of poppler's programs and return what it printed."""
    import subprocess

    def run(name, *arguments):
        command = [program(name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    return run


@pytest.fixture(scope="module")
def chromium():
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-component-update", "--disable-sync"]
    path = program(*CHROMIUM)
    with sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()
