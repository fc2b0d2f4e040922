"""Every function of every gallery problem, compiled by Julia, at random points against JAX."""

from __future__ import annotations

import numpy as np
import pytest
from in_julia import Case, Run

from crossbackend.julia_functions import Functions
from crossbackend.load import gallery, load

pytestmark = [pytest.mark.julia, pytest.mark.slow]

POINTS = 3


def cases_of(name):
    """Return the functions that a Julia program of a problem has, each with points near its initial state."""
    found = Functions(load(name))
    constants, ts = found.constants, found.problem.ts
    rng = np.random.default_rng(3)
    y0 = np.asarray(found.flat.initial(constants["params"], constants["data"]))

    def point(example):
        drawn = {}
        for argument, value in example.items():
            if argument == "t":
                drawn[argument] = np.float64(rng.uniform(ts[0], ts[-1]))
            elif argument == "ys":  # hudson_bay's loss takes logarithms
                drawn[argument] = np.abs(y0 + 0.1 * rng.normal(size=np.shape(value)))
            else:
                drawn[argument] = rng.normal(size=np.shape(value)) + (y0 if argument == "y" else 0.0)
        return drawn

    return {
        f"{name}-{label}": Case(
            function,
            {**point(example), **constants},
            ("params", "data"),
            more=tuple(point(example) for _ in range(POINTS - 1)),
        )
        for label, (function, example) in found._examples().items()
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    cases = {label: case for name in gallery() for label, case in cases_of(name).items()}
    return Run(cases, tmp_path_factory.mktemp("julia"), compiled=True)


@pytest.mark.parametrize("function", ["initial", "field", "vjp", "vjp_t", "loss", "initial_pull"])
@pytest.mark.parametrize("name", gallery())
def test_gallery(run, name, function):
    run.check(f"{name}-{function}")
