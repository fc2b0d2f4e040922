"""Each backend's norm, as its library calls it, is the oracle's to 1e-12 on random augmented errors."""

import numpy as np
import pytest

from crossbackend import norms, ops, tree
from tests.backends import solves
from tests.test_norms import oracle, random_blocks

NAMES = [
    "mixed",
    "mixed-seminorm",
    "pooled",
    "pooled-seminorm",
    "mixed-integrals",
    "pooled-seminorm-integrals",
    "mine",
    "called",
]
OWN = {
    "mine": {"y": 1.0, "a_y": 0.5, "a_params": 0.1, "a_params/v": 0.0},
    "called": lambda blocks: abs(blocks["a_y/z"]).max() + 3 * abs(blocks["a_params/w"]).max(),
}


def case(backend, name):
    from crossbackend import registry
    from crossbackend.plan import Plan

    problem = solves.problem("flow").replace(norms=OWN)
    return registry.get(backend).compile(problem, Plan("flow", backend, name, "native", 1.0, 1.0))


def shapes():
    return {
        "y/logp": (5,),
        "y/z": (5, 2),
        "a_y/logp": (5,),
        "a_y/z": (5, 2),
        "a_params/v": (6, 2),
        "a_params/w": (2, 6),
    }


def measure(compiled, backend, blocks, rng):
    """Call the backend's own callable with blocks packed as its library packs them."""
    arrays = list(blocks.values())
    if backend == "scipy":
        vector = np.concatenate([np.ravel(a) for a in arrays])
        return compiled.norm_functions["backward"](
            np.concatenate([vector, rng.standard_normal(1)])[: compiled.system.size]
        )
    if backend == "torchdiffeq":
        packed = [ops.asarray(a, "torch") for a in arrays]
        return float(compiled.backward_norm()((ops.asarray(rng.standard_normal(()), "torch"), *packed)))
    with ops.precision("jax", "float64"):
        logp, z, a_logp, a_z, v, w = (ops.asarray(a, "jax") for a in arrays)
        used = [{"v": v, "w": w}[name] for name in compiled.used_names]
        state = ({"logp": logp, "z": z}, {"logp": a_logp, "z": a_z}, (used,), None)
        return float(compiled.backward_norm()(state))


@pytest.mark.parametrize("name", NAMES)
def test_backward_norm_is_the_oracle(backend, name, rng):
    if backend == "julia":
        pytest.skip("its norms are Julia's: tests/julia/test_backend.py holds the ratios of its steps to SciPy's")
    compiled = case(backend, name)
    norm = norms.resolve(name, "native", OWN)
    for _ in range(20):
        blocks = random_blocks(rng, shapes())
        expected = OWN[name](blocks) if name == "called" else oracle(norm, blocks, ("logp",))
        assert measure(compiled, backend, blocks, rng) == pytest.approx(expected, rel=1e-12)


def test_norms_that_see_time():
    """Of the three, torchdiffeq and SciPy have a_t."""
    rng = np.random.default_rng(5)
    for name in ("mixed-t", "mixed-seminorm-t"):
        blocks = random_blocks(rng, {**shapes(), "a_t": ()})
        blocks["a_t"] = np.array(1e7)
        expected = oracle(norms.NAMED[name], blocks)
        torch_state = tuple(ops.asarray(a, "torch") for a in [blocks["a_t"], *list(blocks.values())[:-1]])
        assert float(case("torchdiffeq", name).backward_norm()(torch_state)) == pytest.approx(expected, rel=1e-12)
        vector = np.concatenate([np.ravel(a) for a in blocks.values()])
        assert case("scipy", name).norm_functions["backward"](vector) == pytest.approx(expected, rel=1e-12)


def test_matched_norms_are_snapped_alike(rng):
    """The three callables give one number, bit for bit, so that no rounding can move a step."""
    shape = {"y": (4, 2), "a_y": (4, 2), "a_params/b1": (8,), "a_params/w1": (3, 8), "a_params/w2": (8, 2)}
    made = {
        name: solves.compiled("forced:2", name, "default", "matched") for name in ("torchdiffeq", "diffrax", "scipy")
    }
    for _ in range(20):
        blocks = {name: 0.7 * rng.standard_normal(s) for name, s in shape.items()}
        vector = np.concatenate([np.ravel(a) for a in blocks.values()])
        packed = tuple(ops.asarray(a, "torch") for a in [np.zeros(()), *blocks.values()])
        with ops.precision("jax", "float64"):
            arrays = [ops.asarray(a, "jax") for a in blocks.values()]
            in_jax = float(made["diffrax"].backward_norm()((arrays[0], arrays[1], (arrays[2:],), None)))
        in_torch = float(made["torchdiffeq"].backward_norm()(packed))
        assert in_jax == in_torch == made["scipy"].norm_functions["backward"](vector)


@pytest.mark.parametrize("norm", ["default", "seminorm"])
def test_scipy_untouched_is_scipy(norm):
    """SciPy's own norm handed to it as a callable changes no step: RMS over the concatenation."""
    named = {"default": "pooled", "seminorm": "pooled-seminorm"}[norm]
    a = solves.record("forced:8", "scipy", norm, "native", 1e-6)
    b = solves.record("forced:8", "scipy", named, "native", 1e-6)
    np.testing.assert_allclose(a.backward.t1, b.backward.t1, rtol=1e-8)  # rounding, amplified by the controller
    assert a.forward.counts == b.forward.counts
    assert a.backward.counts == b.backward.counts


@pytest.mark.parametrize(("norm", "named"), [("default", "mixed-t"), ("seminorm", "mixed-seminorm-t")])
def test_torchdiffeqs_own_norms_are_ours_with_time(norm, named):
    a = solves.record("forced:8", "torchdiffeq", norm, "native", 1e-6)
    b = solves.record("forced:8", "torchdiffeq", named, "native", 1e-6)
    np.testing.assert_array_equal(a.backward.t1, b.backward.t1)
    assert tree.flatten(a.gradient.params).keys() == b.gradient.params.keys()
    for name, array in a.gradient.params.items():
        np.testing.assert_array_equal(array, b.gradient.params[name])


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "named"), [("default", "pooled"), ("seminorm", "pooled-seminorm")])
def test_diffraxs_own_norms_are_ours_pooled(norm, named):
    a = solves.record("forced:8", "diffrax", norm, "native", 1e-6)
    b = solves.record("forced:8", "diffrax", named, "native", 1e-6)
    np.testing.assert_allclose(a.backward.t1, b.backward.t1, rtol=1e-11, atol=1e-13)
    assert a.backward.counts == b.backward.counts
