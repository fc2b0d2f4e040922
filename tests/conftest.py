"""Settings of all tests: what must be installed, and one seed."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from crossbackend import julia_program, registry

pytest_plugins = ["pytester"]

settings.register_profile("crossbackend", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("crossbackend")

NO_JULIA = julia_program.program().reason
"""Why there is no Julia; empty where there is one."""

SOLVES = "from tests.backends import solves"
"""Says that a file's tests share the caches of that module."""
ROOT = Path(__file__).resolve().parent.parent

# JAX looks for a GPU when it starts; the tests are about the CPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_sessionstart(session):
    """Fail, instead of skipping, where a backend that must be there is missing (REQUIRE_BACKENDS)."""
    required = [name for name in os.environ.get("REQUIRE_BACKENDS", "").split(",") if name]
    lacking = {name: registry.missing(name) for name in required if registry.missing(name)}
    if lacking:
        pytest.exit(f"REQUIRE_BACKENDS: not installed: {lacking}", returncode=3)
    if os.environ.get("REQUIRE_JULIA", "") not in ("", "0") and NO_JULIA:
        pytest.exit(f"REQUIRE_JULIA: {NO_JULIA}", returncode=3)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Have all tests that are skipped for want of Julia stand in one line of the summary."""
    report = yield
    if NO_JULIA and report.skipped and "julia not installed" in str(report.longrepr):
        report.longrepr = (str(Path(__file__).parent), None, f"Skipped: these need Julia: {NO_JULIA}")
    return report


def pytest_collection_modifyitems(items):
    """Skip what needs Julia where there is none."""
    for item in items if NO_JULIA else ():
        if item.get_closest_marker("julia"):
            item.add_marker(pytest.mark.skip(reason="julia not installed"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep together what is made once and shared, where several processes share the tests (`make test`).

    The tests on the solvers share their compiled plans, those of any other file its fixtures. (`--dist loadgroup` of
    pytest-xdist 3.8 sets a name that pytest 9.2 does not read, and groups nothing.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group(nodeid.partition("::")[0])

    return Together(config, log)


@cache
def _group(path):
    return SOLVES if SOLVES in (ROOT / path).read_text() else path


def pytest_generate_tests(metafunc):
    """Run a test with an argument `backend` for every registered backend; a missing one is skipped."""
    if "backend" in metafunc.fixturenames:
        marks = [
            pytest.param(name, marks=pytest.mark.skipif(bool(registry.missing(name)), reason=f"{name} not installed"))
            for name in registry.names()
        ]
        metafunc.parametrize("backend", marks, ids=list(registry.names()), scope="session")


@pytest.fixture
def rng():
    return np.random.default_rng(20211121)
