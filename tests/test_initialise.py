"""Initial parameters: the shapes, and the distribution of torch's own layers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crossbackend import initialise

WIDTH = st.integers(1, 30)


def bounded(layer, fan_in):
    """All entries are within 1 / sqrt(fan_in)."""
    for leaf in layer.values():
        assert leaf.dtype == np.float64
        assert (np.abs(leaf) <= 1 / np.sqrt(fan_in)).all()


@given(st.integers(0, 9), st.lists(WIDTH, min_size=2, max_size=5))
def test_dense_layers_between_sizes(seed, sizes):
    layers = initialise.mlp(np.random.default_rng(seed), sizes)
    assert [layer["w"].shape for layer in layers] == list(zip(sizes[:-1], sizes[1:], strict=True))
    for layer in layers:
        assert layer["b"].shape == layer["w"].shape[1:]
        bounded(layer, len(layer["w"]))


@given(st.integers(0, 9), WIDTH, WIDTH, st.sampled_from([1, 3, 5]))
def test_convolutions(seed, channels, out_channels, kernel):
    layer = initialise.conv2d(np.random.default_rng(seed), channels, out_channels, kernel)
    assert (layer["w"].shape, layer["b"].shape) == ((out_channels, channels, kernel, kernel), (out_channels,))
    bounded(layer, channels * kernel**2)


def test_layers_are_drawn_one_after_the_other():
    rng = np.random.default_rng(3)
    wanted = [initialise.linear(rng, 4, 5), initialise.linear(rng, 5, 2)]
    for found, layer in zip(initialise.mlp(np.random.default_rng(3), (4, 5, 2)), wanted, strict=True):
        for name, leaf in layer.items():
            np.testing.assert_array_equal(found[name], leaf)


@pytest.mark.parametrize("kind", ["linear", "conv2d"])
def test_the_distribution_is_torchs(kind):
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    rng, sizes = np.random.default_rng(1), (40, 500)
    mine = getattr(initialise, kind)(rng, *sizes)
    theirs = torch.nn.Linear(*sizes) if kind == "linear" else torch.nn.Conv2d(*sizes, 3)
    for name, other in (("w", theirs.weight), ("b", theirs.bias)):
        both = mine[name].ravel(), other.detach().numpy().ravel()
        assert stats.ks_2samp(*both).pvalue > 1e-3
        bound = 1 / np.sqrt(40 if kind == "linear" else 360)
        for drawn in both:
            assert stats.kstest(drawn, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
