"""Settings of all tests: what must be installed, and one seed."""

import os
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, settings

from crossbackend import julia_program, machine, registry

pytest_plugins = ["pytester"]

settings.register_profile("crossbackend", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("crossbackend")

NO_JULIA = julia_program.program().reason
"""Why there is no Julia; empty where there is one."""

SOLVES = "from tests.backends import solves"
"""Says that a file's tests share the caches of that module."""
ROOT = Path(__file__).resolve().parent.parent
SLOW = 10
"""What a test marked slow counts, where another counts 1: files that take longest are begun first."""
MUCH = 2 * 2**30
"""Resident bytes of a test process at which it lets go of compiled programs when a file ends."""

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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Skip what needs Julia where there is none; in a process that shares the tests, the heaviest files come first."""
    for item in items if NO_JULIA else ():
        if item.get_closest_marker("julia"):
            item.add_marker(pytest.mark.skip(reason="julia not installed"))
    if hasattr(config, "workerinput"):
        heaviest_first(items)


def heaviest_first(items):
    """Order tests by the weight of what they are kept together with: one long file begun last would end alone."""
    weights = Counter()
    for item in items:
        weights[_of(item)] += SLOW if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: (-weights[_of(item)], _of(item)))


def _of(item):
    return _group(item.nodeid.partition("::")[0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Let go of what was compiled for a file that ends, where the process has grown."""
    yield
    if nextitem is None or _of(nextitem) == _of(item) or psutil.Process().memory_info().rss < MUCH:
        return
    solves = sys.modules.get("tests.backends.solves")
    for kept in (solves.problem, solves.compiled, solves.record) if solves else ():
        kept.cache_clear()
    for name in registry.installed() if "jax" in sys.modules else ():
        getattr(registry.get(name), "forget", lambda: None)()
    machine.give_back_memory()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep together what is made once and shared, where several processes share the tests (`make test`).

    The tests on the solvers share their compiled plans, those of any other file its fixtures. (`--dist loadgroup` of
    pytest-xdist 3.8 sets a name that pytest 9.2 does not read, and groups nothing.)
    """
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # by the number of tests: the collected order is `heaviest_first`

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
