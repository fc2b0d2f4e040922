"""Settings of all tests: what must be installed, and one seed."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from crossbackend import julia_program, registry

settings.register_profile("crossbackend", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("crossbackend")

NO_JULIA = julia_program.program().reason
"""Why there is no Julia; empty where there is one."""

SOLVES = "tests.backends.solves"
"""The module whose caches tests share."""

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


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config, items):
    """Skip what needs Julia where there is none; keep together what is made once and shared.

    Where several processes share the tests (`make test`), the tests on the solvers share their compiled plans, and
    those of any other file its fixtures.
    """
    for item in items if NO_JULIA else ():
        if item.get_closest_marker("julia"):
            item.add_marker(pytest.mark.skip(reason="julia not installed"))
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        shared = any(getattr(value, "__module__", None) == SOLVES or getattr(value, "__name__", None) == SOLVES
                     for value in vars(item.module).values())  # fmt: skip
        item.add_marker(pytest.mark.xdist_group(SOLVES if shared else item.module.__name__))


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
