"""Symplectic ODE-Net: its windows, the mechanics of the learned Hamiltonian, the norm as released, three libraries."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crossbackend import norms, ops, tree
from crossbackend.bound import Bound
from crossbackend.datasets import acrobot
from crossbackend.load import load
from crossbackend.trial import trial
from tests.problems.cells import outcome, worst_difference

pytest.importorskip("torch")
pytest.importorskip("jax")

SYMODEN: Any = load("symoden")
PARTS = SYMODEN.vector_field.__globals__
FACTOR = arrays(float, (5, 3), elements=st.floats(-3, 3))


def states(rng, batch=6, torque=0.0):
    """Return states on the circles, shape (batch, 8)."""
    q, velocity = rng.uniform(-4, 4, (2, batch, 2))
    return np.concatenate([np.cos(q), np.sin(q), velocity, torque * rng.normal(size=(batch, 2))], axis=1)


def test_the_windows_are_those_of_the_simulated_pendulum():
    made = acrobot(trajectories=10, seed=0)
    np.testing.assert_allclose(np.moveaxis(SYMODEN.data["seen"], 1, 0), made.train[::197][:8], atol=1e-8)
    np.testing.assert_allclose(SYMODEN.ts, made.times, atol=1e-12)


def entries(m):
    return np.stack([np.stack([m[:, 0], m[:, 1]], -1), np.stack([m[:, 1], m[:, 2]], -1)], -2)


@given(FACTOR)
def test_the_inverse_mass_is_positive_definite_and_of_its_factor(factor):
    found = entries(PARTS["inverse_mass"](factor))
    lower = np.zeros((5, 2, 2))
    lower[:, 0, 0], lower[:, 1, 0], lower[:, 1, 1] = factor.T
    np.testing.assert_allclose(found, lower @ lower.transpose(0, 2, 1) + 0.1 * np.eye(2), atol=1e-12)
    assert (np.linalg.eigvalsh(found) >= 0.1 - 1e-12).all()


@given(arrays(float, (5, 3), elements=st.floats(-3, 3)), arrays(float, (5, 2), elements=st.floats(-3, 3)))
def test_times_is_the_matrix_product(m, v):
    np.testing.assert_allclose(PARTS["times"](m, v), np.einsum("bij,bj->bi", entries(m), v), atol=1e-12)


def test_slopes_are_jaxs_derivatives(rng):
    import jax

    factor, d = rng.normal(size=(2, 5, 3))
    x, dx = rng.normal(size=(2, 5, 4))
    with ops.precision("jax", "float64"):
        _, wanted = jax.jvp(PARTS["inverse_mass"], (factor,), (d,))
        np.testing.assert_allclose(PARTS["slope_of"](factor, d), wanted, rtol=1e-12)
        for layers in SYMODEN.params.values():
            network = lambda x, layers=layers: PARTS["network"](layers, x)  # noqa: E731
            _, wanted = jax.jvp(network, (x,), (dx,))
            np.testing.assert_allclose(PARTS["along"](layers, x, dx), wanted, rtol=1e-12)


def power(y):
    """Return dH/dt of every window along the field, g u . q', and the field itself."""
    import jax

    with ops.precision("jax", "float64"):
        bound = Bound(SYMODEN, "jax")
        params, y = bound.params, bound.convert(y)

        def hamiltonian(y):
            inverse = PARTS["inverse_mass"](PARTS["network"](params["M"], y[:, :4]))
            det = inverse[:, 0] * inverse[:, 2] - inverse[:, 1] ** 2
            mass = jax.numpy.stack([inverse[:, 2], -inverse[:, 1], inverse[:, 0]], axis=1) / det[:, None]
            kinetic = 0.5 * (y[:, 4:6] * PARTS["times"](mass, y[:, 4:6])).sum(1)
            return kinetic + PARTS["network"](params["V"], y[:, :4])[:, 0]

        @jax.jit
        def both(y):
            dy = bound.field(bound.time(0.1), y, params, bound.data)
            push = PARTS["network"](params["g"], y[:, :4]).reshape(-1, 2, 2)
            given = jax.numpy.einsum("bi,bij,bj->b", y[:, 4:6], push, y[:, 6:])
            return jax.jvp(hamiltonian, (y,), (dy,))[1], given, dy

        return [np.array(found) for found in both(y)]


def test_without_torque_the_learned_energy_is_kept(rng):
    y = states(rng)
    changed, _, dy = power(y)
    np.testing.assert_allclose(changed, 0, atol=1e-12)
    assert np.abs(dy[:, 4:6]).min() > 1e-4, "but it moves"


def test_the_learned_energy_changes_by_the_torques_power(rng):
    changed, given_, _ = power(states(rng, torque=2.0))
    np.testing.assert_allclose(changed, given_, rtol=1e-10, atol=1e-12)
    assert np.abs(given_).max() > 0.1


def test_angles_stay_on_the_circle_and_torques_as_they_are(rng):
    y = states(rng, torque=1.0)
    _, _, dy = power(y)
    x, dx, v = y[:, :4], dy[:, :4], y[:, 4:6]
    np.testing.assert_allclose(x[:, :2] * dx[:, :2] + x[:, 2:] * dx[:, 2:], 0, atol=1e-14)
    np.testing.assert_allclose(dx[:, 2:] * x[:, :2] - dx[:, :2] * x[:, 2:], v, rtol=1e-12)
    np.testing.assert_array_equal(dy[:, 6:], 0)


@pytest.mark.slow
def test_torch_and_jax_pass_the_trial_and_agree():
    torch, jax = trial(SYMODEN, "torch"), trial(SYMODEN, "jax")
    assert torch.mistakes == jax.mistakes == []
    for key, values in torch.samples.items():
        np.testing.assert_allclose(values, jax.samples[key], rtol=1e-11, atol=1e-11)


def oracle(y, a_y, params, outputs=8):
    """The norm of the published code, which took outputs times the state's size for the state's."""
    parts = [y.ravel(), a_y.ravel()]
    for network in ("M", "V", "g"):  # as torch lists a module's parameters: layer by layer, weight, then bias
        for layer in params[network]:
            parts += [layer[leaf].ravel() for leaf in ("w", "b") if leaf in layer]
    flat = np.concatenate(parts)
    size = outputs * y.size
    first, second = flat[:size], flat[size : 2 * size]
    return max(np.sqrt(np.mean(part**2)) for part in (first, second) if len(part))


@pytest.mark.parametrize("batch", [1, 3, 20, 40])
@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_the_norm_as_released(library, batch, rng):
    """With 1 and 3 windows both slices are full, with 20 the second is cut short, with 40 it is empty."""
    y, a_y = rng.normal(size=(2, batch, 8))
    params = tree.map_leaves(lambda leaf: 10 ** rng.uniform(-3, 3) * rng.normal(size=leaf.shape), SYMODEN.params)
    blocks = norms.named({"y": {"": y}, "a_y": {"": a_y}, "a_params": tree.flatten(params)})
    total = 2 * y.size + sum(leaf.size for leaf in tree.values(params))
    assert {1: 128 < total, 3: 384 < total, 20: 1280 < total < 2560, 40: total < 2560}[batch]
    with ops.precision("jax" if library == "jax" else "torch", "float64"):
        put = {name: ops.asarray(leaf, library) for name, leaf in reversed(blocks.items())}
        found = ops.to_numpy(SYMODEN.norms["as-released"](put))
    assert found == pytest.approx(oracle(y, a_y, params), rel=1e-12)


def test_a_forward_pass_under_the_norm_as_released_sees_y_alone(rng):
    y = rng.normal(size=(4, 8))
    forward = norms.resolve("as-released", "native", SYMODEN.norms).forward()
    assert norms.evaluate(forward, {"y": y}, np) == pytest.approx(np.sqrt(np.mean(y**2)), rel=1e-14)


@pytest.mark.slow
def test_matched_gradients_under_the_norm_as_released_agree_to_rounding():
    problem = SYMODEN.replace(data={"seen": SYMODEN.data["seen"][:, :3]})
    found = [outcome(problem, name, 1e-5, "as-released", "matched") for name in ("torchdiffeq", "diffrax", "scipy")]
    assert [item.status for item in found] == ["ok"] * 3
    for other in found[1:]:
        for side in ("forward", "backward"):
            np.testing.assert_array_equal(getattr(found[0], side).accepted, getattr(other, side).accepted)
    assert worst_difference(found) < 1e-9
