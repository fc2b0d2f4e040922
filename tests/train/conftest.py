"""Fixtures of the tests on training."""

import pytest

from crossbackend import registry

EXTRAS = {"torchdiffeq": (), "diffrax": ("optax",)}


def pytest_generate_tests(metafunc):
    """Run a test with an argument `trainer` for both backends that train; a missing one is skipped."""
    if "trainer" in metafunc.fixturenames:
        marks = [
            pytest.param(name, marks=pytest.mark.skipif(bool(registry.missing(name)), reason=f"{name} not installed"))
            for name in EXTRAS
        ]
        metafunc.parametrize("trainer", marks, ids=list(EXTRAS), scope="session")
