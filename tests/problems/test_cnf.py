"""The continuous normalising flows: the trace, the density, the images, and steps that the three libraries share."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.linalg import expm
from scipy.stats import multivariate_normal

from crossbackend import initialise, ops, tree
from crossbackend.augmented import Augmented
from crossbackend.bound import Bound
from crossbackend.load import gallery_folder, load
from crossbackend.trial import trial
from tests.problems.cells import gallery_outcome, outcome, worst_difference

pytest.importorskip("torch")
pytest.importorskip("jax")

CNF: Any = load("cnf")
DENSITY: Any = load("cnf_density")
PARTS = CNF.vector_field.__globals__
BACKENDS = ("torchdiffeq", "diffrax", "scipy")


compiled = cache(ops.jit)
"""Once a field: JAX would compile each operation of an eager call."""


def field(problem, library, t, z, v, params=None):
    """Return the field's dict at (t, z) as NumPy arrays, v in the place of the problem's."""
    function = compiled(problem.vector_field) if library == "jax" else problem.vector_field
    with ops.precision(library, "float64"):
        put = lambda arrays: tree.map_leaves(lambda leaf: ops.asarray(leaf, library), arrays)  # noqa: E731
        state = {"z": z, "logp": np.zeros(len(z))}
        params = problem.params if params is None else params
        found = function(put(np.array(t)), put(state), put(params), put({"v": v}))
        return tree.map_leaves(ops.to_numpy, found)


def jacobian(problem, t, z, params=None):
    """Return df/dz of one sample, shape (n, n), by central differences."""
    h, columns = 1e-5, []
    for unit in np.eye(z.size).reshape(-1, *z.shape):
        two_sided = [field(problem, "torch", t, z + s * h * unit, unit, params)["z"] for s in (1, -1)]
        columns.append((two_sided[0] - two_sided[1]).ravel() / (2 * h))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize(("problem", "shape", "t"), [(DENSITY, (1, 2), 0.3), (CNF, (1, 1, 4, 4), 0.3),
                                                     (CNF, (1, 1, 4, 4), 1.6)])  # fmt: skip
def test_the_estimates_of_all_unit_vectors_sum_to_the_trace(problem, shape, t, library, rng):
    z = rng.normal(size=shape)
    units = np.eye(z.size).reshape(-1, *shape[1:])
    of_each = field(problem, library, t, np.repeat(z, len(units), axis=0), units)["logp"]
    wanted = jacobian(problem, t, z)
    np.testing.assert_allclose(-of_each, np.diag(wanted), atol=1e-8)
    assert -of_each.sum() == pytest.approx(np.trace(wanted), abs=1e-7)
    v = rng.choice([-1.0, 1.0], size=shape)
    assert -field(problem, library, t, z, v)["logp"][0] == pytest.approx(v.ravel() @ wanted @ v.ravel(), abs=1e-7)


def turning(rng, n, trace):
    """Return a matrix A with v'Av = tr A for every v of entries +-1: antisymmetric but for its diagonal."""
    part = 0.4 * rng.normal(size=(n, n))
    return part - part.T + np.diag(rng.uniform(0.5, 1.5, n) * trace / n)


def test_a_linear_field_in_the_plane_gives_the_normal_density(rng):
    A, b = turning(rng, 2, 0.8), np.array([0.3, -0.2])
    layer = {"w": np.concatenate([A, np.zeros((1, 2))]), "b": b}
    data = {"x": rng.normal(size=(5, 2)), "v": rng.choice([-1.0, 1.0], size=(5, 2))}
    problem = DENSITY.replace(params={"field": [layer]}, data=data)
    flow = expm(A)  # z(1) = x flow + shift, so x is normal with these moments
    shift = b @ np.linalg.solve(A, flow - np.eye(2))
    back = np.linalg.inv(flow)
    density = multivariate_normal(-shift @ back, back.T @ back)
    found = outcome(problem, "torchdiffeq", 1e-9).gradient.loss
    assert found == pytest.approx(-np.mean(density.logpdf(data["x"])) / (2 * np.log(2)), rel=1e-8)


@pytest.mark.parametrize("count", [1, 2])
def test_linear_blocks_give_the_normal_density_of_an_image(count, rng):
    a, of_time, bias = 0.4, 0.7, -0.3  # a kernel of one pixel: dz/dt = a z + of_time t + bias
    A = turning(rng, 4, -1.1)
    blocks = [
        [{"w": np.array([a, of_time]).reshape(1, 2, 1, 1), "b": np.array([bias])}],
        [{"w": np.concatenate([A, np.full((4, 1), of_time)], axis=1).reshape(4, 5, 1, 1), "b": np.full(4, bias)}],
    ]
    x = rng.normal(size=(3, 1, 4, 6))
    data = {"x": x, "v": rng.choice([-1.0, 1.0], size=x.shape)}
    problem = CNF.replace(
        params={"blocks": blocks[:count]}, data=data, ts=[0.0, float(count)], breakpoints=range(1, count)
    )

    def pushed(s, k):  # what time and bias add to an entry by the end of a block
        return quad(lambda s: (expm(A * (1 - s)) @ np.full(4, of_time * s + bias))[k], 0, s)[0]

    z = np.exp(a) * x + quad(lambda s: np.exp(a * (1 - s)) * (of_time * s + bias), 0, 1)[0]
    log_volume = 24 * a
    if count == 2:
        squares = np.stack([z[:, 0, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=-1)
        z = squares @ expm(A).T + [pushed(1.0, k) for k in range(4)]
        log_volume += 6 * np.trace(A)
    log_normal = -0.5 * (z**2).reshape(3, -1).sum(axis=1) - 12 * np.log(2 * np.pi)
    found = outcome(problem, "torchdiffeq", 1e-9).gradient.loss
    assert found == pytest.approx(-np.mean(log_normal + log_volume) / (24 * np.log(2)), rel=1e-8)


@given(batch=st.integers(1, 3), channels=st.integers(1, 3), rows=st.integers(1, 4), columns=st.integers(1, 4))
def test_squeeze_is_space_to_depth_and_has_its_inverse(batch, channels, rows, columns):
    import torch

    x = np.arange(batch * channels * rows * columns * 4.0).reshape(batch, channels, 2 * rows, 2 * columns)
    small = PARTS["squeeze"](x)
    np.testing.assert_array_equal(small, torch.nn.functional.pixel_unshuffle(torch.tensor(x), 2).numpy())
    np.testing.assert_array_equal(PARTS["unsqueeze"](small), x)


@pytest.mark.parametrize(("t", "block"), [(-0.5, 0), (0.0, 0), (np.nextafter(1, 0), 0), (1.0, 1), (2.0, 1), (2.5, 1)])
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_block_k_acts_from_k_on_and_a_block_alone_gives_the_same(t, block, library, rng):
    z, v = rng.normal(size=(2, 1, 4, 4)), rng.normal(size=(2, 1, 4, 4))
    alone = {"blocks": [CNF.params["blocks"][block]]}
    found, wanted = field(CNF, library, t, z, v), field(CNF, library, t - block, z, v, alone)
    for name, leaf in wanted.items():
        np.testing.assert_allclose(found[name], leaf, rtol=1e-12, atol=1e-12)


def other_images(rng, shape):
    """Return the flow with other images, other stacks and another precision; 28 pixels are halved twice, to 7."""
    channels, width, blocks = shape[1], 5, []
    for c in (channels, 4 * channels, 16 * channels, channels):
        layers = [initialise.conv2d(rng, a + 1, b) for a, b in ((c, width), (width, c))]
        blocks.append(tree.map_leaves(lambda leaf: leaf.astype(np.float32), layers))
    x = rng.normal(size=shape).astype(np.float32)
    data = {"x": x, "v": np.sign(x), "offset": np.float32(0.5)}
    times = {"ts": [0.0, 4.0], "breakpoints": [1.0, 2.0, 3.0]}
    return CNF.replace(params={"blocks": blocks}, data=data, dtype="float32", **times)


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (3, 3, 32, 32)])
def test_sizes_and_precision_come_from_the_arrays(shape, rng):
    import jax

    problem = other_images(rng, shape)
    found = trial(problem, "torch")
    assert found.mistakes == []
    samples = {name: found.samples[f"vector_field/0/{name}"] for name in ("z", "logp")}
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in samples.items()} == {
        "z": (shape, np.float32), "logp": (shape[:1], np.float32),
    }  # fmt: skip
    bound = Bound(problem, "jax", "float32")
    state = bound.initial(bound.params, bound.data)
    traced = jax.eval_shape(bound.field, bound.time(2.5), state, bound.params, bound.data)
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in traced.items()} == {
        name: (leaf.shape, leaf.dtype) for name, leaf in samples.items()
    }


def test_the_offset_is_the_slope_of_the_transform(rng):
    pixels, noise, h = rng.integers(0, 17, (3, 1, 4, 4)), rng.uniform(0.1, 0.9, (3, 1, 4, 4)), 1e-6
    x, offset = PARTS["to_real_line"](pixels, noise, 17, 0.05)
    up, down = (PARTS["to_real_line"](pixels, noise + s * h, 17, 0.05)[0] for s in (1, -1))
    np.testing.assert_allclose(offset, -np.log2((up - down) / (2 * h)).mean(axis=(1, 2, 3)), atol=1e-8)
    np.testing.assert_allclose(0.05 + 0.9 * (pixels + noise) / 17, 1 / (1 + np.exp(-x)))


def test_the_problem_carries_the_offset_of_its_images():
    x, offset = CNF.data["x"], CNF.data["offset"]
    of_pixel = (1 + np.exp(-x)) * (1 + np.exp(x)) * 0.9 / 17  # dx/dpixel, written in x
    np.testing.assert_allclose(offset, -np.log2(of_pixel).mean(axis=(1, 2, 3)), atol=1e-8)
    ys = {"z": x[None], "logp": np.zeros((1, len(x)))}
    bare = {name: leaf for name, leaf in CNF.data.items() if name != "offset"}
    given_, without = CNF.loss(ys, CNF.params, CNF.data), CNF.loss(ys, CNF.params, bare)
    assert given_ - without == pytest.approx(offset.mean())


def test_the_digits_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    digits: Any = datasets.load_digits()
    table = np.loadtxt(gallery_folder() / "digits.csv", delimiter=",")
    np.testing.assert_array_equal(table[:, 0], digits.target[: len(table)])
    np.testing.assert_array_equal(table[:, 1:], digits.data[: len(table)])
    np.testing.assert_array_equal(np.floor(17 * (1 / (1 + np.exp(-CNF.data["x"][:, 0])) - 0.05) / 0.9),
                                  digits.images[: len(table)])  # fmt: skip


def test_the_digits_name_their_source_and_licence():
    text = (Path(__file__).parents[2] / "problems" / "digits.csv").read_text(encoding="utf-8")
    for words in ("Alpaydin", "Kaynak", "UCI Machine Learning Repository", "CC BY 4.0"):
        assert words in text


@pytest.mark.slow
@pytest.mark.parametrize("problem", [CNF, DENSITY], ids=lambda problem: problem.name)
def test_torch_and_jax_pass_the_trial_and_agree(problem):
    torch, jax = trial(problem, "torch"), trial(problem, "jax")
    assert torch.mistakes == jax.mistakes == []
    for key, values in torch.samples.items():
        np.testing.assert_allclose(values, jax.samples[key], rtol=1e-12, atol=1e-12)


def test_norms_without_integrals_do_not_see_the_log_density():
    louder = DENSITY.replace(data={**DENSITY.data, "v": 100 * DENSITY.data["v"]})  # logp alone changes, by 1e4
    steps = {
        norm: [outcome(problem, "torchdiffeq", 1e-6, norm).forward for problem in (DENSITY, louder)]
        for norm in ("mixed-seminorm", "mixed-seminorm-integrals")
    }
    first, second = steps["mixed-seminorm-integrals"]
    np.testing.assert_array_equal(first.t1, second.t1)
    first, second = steps["mixed-seminorm"]
    assert second.nfe > first.nfe


@pytest.mark.slow
def test_the_lowered_field_and_its_adjoint_are_torchs(rng):
    numpy, torch = (Augmented(CNF, engine, with_time=True) for engine in ("numpy", "torch"))
    state = 0.5 * rng.normal(size=numpy.size)
    for t in (0.4, 1.0, 1.7):
        for which, y in (("field", state[: numpy.layout.size]), ("adjoint", state)):
            np.testing.assert_allclose(numpy.function(which)(t, y), torch.function(which)(t, y), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm"),
    [("cnf", "mixed-seminorm-integrals"), ("cnf_density", "mixed"), ("cnf_density", "mixed-seminorm-integrals")],
)
def test_matched_gradients_agree_to_rounding(name, norm):
    found = [gallery_outcome(name, backend, 1e-4, norm, "matched") for backend in BACKENDS]
    assert [item.status for item in found] == ["ok"] * 3
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].forward.accepted, other.forward.accepted)
        np.testing.assert_array_equal(found[0].backward.accepted, other.backward.accepted)
    assert worst_difference(found) < 1e-9
