"""What Julia throws for and NumPy does not: nan, inf, signed zeros, division by zero, poles, wrong domains."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from in_julia import Case, Run
from jax import lax
from test_lowering_primitives import UNARY, UNARY_POSITIVE
from test_lowering_program import AWKWARD, STATE, VALUES

pytestmark = pytest.mark.julia

# No subnormal numbers: XLA takes them for zero.
ENDS = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e300, -1e300, -2.5, 0.5, 2.5, 1e-280, 1e17, -3.0, 8.0]
FEW = np.array(ENDS)
MANY = np.tile(FEW, 3)
PAIRS = [np.ravel(side) for side in np.meshgrid(FEW, FEW)]

OF_ARRAYS = {"logsumexp", "softmax", "log_softmax", "norm", "var"}
ONE = {
    **{name: function for name, function in {**UNARY, **UNARY_POSITIVE}.items() if name not in OF_ARRAYS},
    "isfinite": jnp.isfinite,
    "to_int": lambda x: x.astype(int),
    "to_int32": lambda x: x.astype(jnp.int32),
    "to_uint8": lambda x: x.astype(jnp.uint8),
    "to_bool": lambda x: x.astype(bool),
    "digamma": lax.digamma,
    "round_even": jnp.rint,
}
TWO = {
    "add": jnp.add,
    "subtract": jnp.subtract,
    "multiply": jnp.multiply,
    "divide": jnp.divide,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "power": lax.pow,
    "fmod": lax.rem,
    "remainder": jnp.remainder,
    "arctan2": jnp.arctan2,
    "nextafter": lax.nextafter,
    "logaddexp": jnp.logaddexp,
    "less": lax.lt,
    "at_least": lax.ge,
    "equal": lax.eq,
}
INTEGERS = np.array([0, 1, -1, 7, -7, 2**62, -(2**63), 2**63 - 1])
WHOLE = [np.ravel(side) for side in np.meshgrid(INTEGERS, INTEGERS)]
CUMULATED = np.array([[1.0, np.nan, 2.0], [-np.inf, np.inf, -0.0], [3.0, 3.0, -np.inf]])

CASES = {
    **{f"few-{name}": Case(lambda x, f=f: f(x), {"x": FEW}, exact=True) for name, f in ONE.items()},
    **{f"many-{name}": Case(lambda x, f=f: f(x), {"x": MANY}, exact=True) for name, f in ONE.items()},
    **{
        f"pairs-{name}": Case(lambda x, z, f=f: f(x, z), dict(zip("xz", PAIRS, strict=True)), exact=True)
        for name, f in TWO.items()
    },
    **{
        f"numbers-{name}": Case(
            lambda x, z, f=f: f(x, z),
            {"x": np.float64(1.5), "z": np.float64(0.5)},
            more=tuple({"x": x, "z": z} for x, z in zip(*PAIRS, strict=True)),
            exact=True,
        )
        for name, f in TWO.items()
    },
    **{
        name: Case(lambda y, f=f: f(y), {"y": STATE}, more=tuple({"y": np.array(v)} for v in VALUES), exact=True)
        for name, f in AWKWARD.items()
    },
    "divide_integers": Case(lambda x, z: (lax.div(x, z), lax.rem(x, z)), dict(zip("xz", WHOLE, strict=True))),
    "divide_numbers": Case(
        lambda x, z: (lax.div(x, z), lax.rem(x, z)),
        {"x": np.int64(7), "z": np.int64(3)},
        more=tuple({"x": x, "z": z} for x, z in zip(*WHOLE, strict=True)),
    ),
    "shift": Case(lambda i: (i << 3, i >> 5, -9 >> i[1:3]), {"i": INTEGERS}),
    "extremes": Case(
        lambda x: (x.max(), x.min(), x.max(0), x.min(1), jnp.argmax(x, 0), jnp.argmin(x, 1), jnp.argmax(x)),
        {"x": CUMULATED},
        more=({"x": CUMULATED.T}, {"x": np.zeros((3, 3))}),
    ),
    "running": Case(lambda x: (lax.cummax(x, 0), lax.cummin(x, 1), jnp.cumsum(x, 1)), {"x": np.tile(CUMULATED, 3)}),
    "product_of_infinities": Case(lambda x: x @ x.T, {"x": np.tile(CUMULATED, 8)}),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(CASES, tmp_path_factory.mktemp("julia"))


@pytest.mark.parametrize("label", CASES)
def test_edges(run, label):
    run.check(label)
