"""Every case of the NumPy program's tests, in Julia: the same functions, on the same arrays, against JAX."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import test_lowering_primitives
from in_julia import Case, Run, cases_of
from jax import lax

from crossbackend.lowering.flat import Flat, Flattener
from crossbackend.lowering.primitives import KNOWN

pytestmark = [pytest.mark.julia, pytest.mark.slow]

BIG = np.random.default_rng(7).normal(size=(7, 5))
INDEX = np.array([1, 0, 1])
RUNNING = {"sum": lax.cumsum, "prod": lax.cumprod, "max": lax.cummax, "min": lax.cummin, "log": lax.cumlogsumexp}
CASES = {
    **cases_of(test_lowering_primitives),
    **{
        f"running-{name}-{axis}-{reverse}": Case(
            lambda x, f=function, axis=axis, reverse=reverse: f(x, axis, reverse=reverse), {"x": BIG}
        )
        for name, function in RUNNING.items()
        for axis in (0, 1)
        for reverse in (False, True)
    },
    "subtract": Case(lambda x, i: x.at[i].subtract(2 * x[i]), {"x": BIG, "i": INDEX}),
    "nextafter": Case(lambda x: lax.nextafter(x, jnp.ones_like(x)), {"x": BIG}, exact=True),
    "copy": Case(lambda x: (jnp.copy(x), x.reshape(5, 7).T), {"x": BIG}),
    "middle_axis": Case(lambda x: (x.sum(1), x.max(1), jnp.argmax(x, 1), x[:, 1]), {"x": BIG.reshape(1, 7, 5)}),
    "small_last_axes": Case(lambda x: jnp.swapaxes(x, 1, 2) @ x, {"x": np.arange(24.0).reshape(2, 3, 4)}),
}
OF_OTHER_VERSIONS = {  # names that primitives have in other versions of JAX, and `real`, of complex numbers
    *("copy_p", "pvary", "real", "empty", "expand_dims"),
    *("scatter_add", "scatter_sub", "scatter_mul", "scatter_min", "scatter_max"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(CASES, tmp_path_factory.mktemp("julia"))


@pytest.mark.parametrize("label", CASES)
def test_primitives(run, label):
    run.check(label)


def test_every_known_primitive_is_among_the_cases():
    seen = set()

    def walk(flat: Flat):
        for eqn in flat.equations:
            seen.add(eqn.name)
            for body in eqn.bodies:
                walk(body)

    for case in CASES.values():
        walk(Flattener(KNOWN).run(case.traced().jaxpr))
    assert KNOWN - seen <= OF_OTHER_VERSIONS
