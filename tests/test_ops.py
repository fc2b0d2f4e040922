"""`crossbackend.ops`: one meaning in NumPy, torch and JAX, with derivatives that are right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline, PPoly

from crossbackend import ops, tree
from crossbackend.errors import UserError

LIBRARIES = ["numpy", "torch", "jax"]
DIFFERENTIABLE = ["torch", "jax"]


@pytest.fixture(params=LIBRARIES)
def library(request):
    with ops.precision(request.param, "float64"):
        yield request.param


@pytest.fixture(params=DIFFERENTIABLE)
def differentiable(request):
    with ops.precision(request.param, "float64"):
        yield request.param


def test_library_and_namespace_look_into_trees(library):
    nested = {"a": [ops.asarray(np.ones(2), library)]}
    assert ops.library(nested) == library
    assert library in ops.namespace(nested).__name__


def test_elementwise(library, rng):
    x = np.concatenate([10 * rng.standard_normal(20), [0.0, 800.0, -800.0]])
    y = ops.asarray(x, library)
    np.testing.assert_allclose(ops.to_numpy(ops.relu(y)), np.maximum(x, 0))
    np.testing.assert_allclose(ops.to_numpy(ops.softplus(y)), np.logaddexp(x, 0), rtol=1e-14)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(ops.to_numpy(ops.sigmoid(y)), 1 / (1 + np.exp(-x)), rtol=1e-12, atol=1e-15)
    z = ops.to_numpy(ops.log_softmax(ops.asarray(x[:20].reshape(4, 5), library)))
    np.testing.assert_allclose(np.exp(z).sum(axis=-1), 1.0)


def test_softplus_has_the_sigmoid_for_derivative_at_0_too(differentiable):
    x = np.array([-800.0, -3.0, -1e-9, 0.0, 1e-9, 2.0, 800.0])
    in_library = ops.asarray(x, differentiable)

    def total(x):
        return ops.namespace(x).sum(ops.softplus(x))

    def slopes(x):
        return ops.namespace(x).sum(ops.grad(total)(x) ** 2)

    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(ops.to_numpy(ops.grad(total)(in_library)), sigmoid, rtol=1e-12, atol=1e-15)
    second = ops.to_numpy(ops.grad(slopes)(in_library))
    np.testing.assert_allclose(second, 2 * sigmoid**2 * (1 - sigmoid), rtol=1e-10, atol=1e-15)


def test_softplus_of_a_single_number():
    jax = pytest.importorskip("jax")
    assert float(jax.grad(ops.softplus)(0.0)) == 0.5


def test_grad_vjp_and_jvp(differentiable, rng):
    a, x, v = rng.standard_normal((3, 3)), rng.standard_normal(3), rng.standard_normal(3)
    in_library = [ops.asarray(part, differentiable) for part in (a, x, v)]

    def quadratic(x, a):
        xp = ops.namespace(x)
        return xp.sum(x * xp.matmul(a, x))

    def cubes(x):
        return x**3

    np.testing.assert_allclose(ops.to_numpy(ops.grad(quadratic)(in_library[1], in_library[0])), (a + a.T) @ x)
    value, pull = ops.vjp(cubes, in_library[1])
    np.testing.assert_allclose(ops.to_numpy(value), x**3)
    np.testing.assert_allclose(ops.to_numpy(pull(in_library[2])[0]), 3 * x**2 * v)
    value, tangent = ops.jvp(cubes, (in_library[1],), (in_library[2],))
    np.testing.assert_allclose(ops.to_numpy(tangent), 3 * x**2 * v)


def test_grad_of_grad_and_of_a_dict(differentiable):
    def energy(state):
        return ops.namespace(state["q"]).sum(state["q"] ** 2 * state["p"])

    state = {
        name: ops.asarray(np.array(value), differentiable) for name, value in (("q", [2.0, 3.0]), ("p", [5.0, 7.0]))
    }
    found = tree.map_leaves(ops.to_numpy, ops.grad(energy)(state))
    np.testing.assert_allclose(found["q"], [20.0, 42.0])
    np.testing.assert_allclose(found["p"], [4.0, 9.0])

    def slope(x):
        return ops.grad(lambda x: ops.namespace(x).sum(x**4))(x).sum()

    np.testing.assert_allclose(ops.to_numpy(ops.grad(slope)(state["q"])), [48.0, 108.0])


@pytest.mark.parametrize("call", [lambda x: ops.grad(lambda x: x.sum())(x), lambda x: ops.vjp(lambda x: x, x),
                                  lambda x: ops.jvp(lambda x: x, (x,), (x,))])  # fmt: skip
def test_numpy_has_no_derivatives(call):
    with pytest.raises(UserError, match=r"got NumPy arrays, expected torch or jax arrays"):
        call(np.ones(2))


def test_scan_is_the_loop(library, rng):
    xs = rng.standard_normal((6, 2))

    def step(carry, x):
        xp = ops.namespace(x)
        carry = {"h": xp.tanh(carry["h"] + x["x"])}
        return carry, carry["h"] * 2

    start = {"h": ops.asarray(np.zeros(2), library)}
    carry, outs = ops.scan(step, start, {"x": ops.asarray(xs, library)})
    h, expected = np.zeros(2), []
    for x in xs:
        h = np.tanh(h + x)
        expected.append(2 * h)
    np.testing.assert_allclose(ops.to_numpy(carry["h"]), h)
    np.testing.assert_allclose(ops.to_numpy(outs), np.stack(expected))


def test_scan_without_outputs(library):
    carry, outs = ops.scan(
        lambda c, x: (c + x, None), ops.asarray(np.zeros(()), library), ops.asarray(np.arange(5.0), library)
    )
    assert float(ops.to_numpy(carry)) == 10.0
    assert outs is None


def test_hermite_is_the_spline_of_backward_differences(library, rng):
    knots = np.sort(rng.uniform(0, 5, 7))
    values = rng.standard_normal((7, 3))
    slopes = np.diff(values, axis=0) / np.diff(knots)[:, None]
    spline = CubicHermiteSpline(knots, values, np.concatenate([slopes[:1], slopes]))
    coefficients = ops.asarray(ops.hermite_coefficients(knots, values), library)
    for t in [*rng.uniform(knots[0], knots[-1], 10), knots[0]]:
        now = ops.asarray(np.array(t), library)
        for derivative in (0, 1):
            found = ops.interpolate(now, ops.asarray(knots, library), coefficients, derivative)
            np.testing.assert_allclose(ops.to_numpy(found), spline(t, derivative), atol=1e-11)


@given(t=st.floats(-0.5, 4.5))
def test_linear_interpolation_and_its_right_sided_derivative(t):
    knots, values = np.array([0.0, 1.0, 2.0, 4.0]), np.array([[1.0], [3.0], [-1.0], [0.0]])
    coefficients = ops.linear_coefficients(knots, values)
    pieces = PPoly(np.moveaxis(coefficients, 1, 0)[::-1], knots)  # right-continuous and extrapolating, as ours
    for derivative in (0, 1):
        found = ops.interpolate(np.array(t), knots, coefficients, derivative)
        np.testing.assert_allclose(found, pieces(t, derivative), atol=1e-12)


def test_interpolate_takes_the_piece_on_the_right_of_a_knot(library):
    knots, values = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 5.0])
    arrays = [ops.asarray(a, library) for a in (knots, ops.linear_coefficients(knots, values))]
    slope = [
        float(ops.to_numpy(ops.interpolate(ops.asarray(np.array(t), library), *arrays, 1))) for t in (0.0, 1.0, 2.0)
    ]
    assert slope == [1.0, 4.0, 4.0]


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 0), (2, 1), (3, 2)])
def test_conv2d_is_torchs(library, rng, stride, padding):
    import torch

    x, w = rng.standard_normal((2, 3, 8, 7)), rng.standard_normal((4, 3, 3, 3))
    expected = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), stride=stride, padding=padding).numpy()
    found = ops.conv2d(ops.asarray(x, library), ops.asarray(w, library), stride, padding)
    np.testing.assert_allclose(ops.to_numpy(found), expected, atol=1e-12)


def test_dependence_is_by_structure_and_not_by_value(differentiable):
    params = {name: ops.asarray(np.zeros(2), differentiable) for name in ("used", "unused", "zero_slope")}

    def function(p):
        return {"a": p["used"] * 2, "b": p["zero_slope"] * p["zero_slope"]}

    assert dict(zip(tree.flatten(params), ops.dependence(function, params), strict=True)) == {
        "unused": False, "used": True, "zero_slope": True,
    }  # fmt: skip


def test_asarray_casts_floats_alone(library):
    assert ops.to_numpy(ops.asarray(np.ones(2), library, "float32")).dtype == np.float32
    assert ops.to_numpy(ops.asarray(np.array([1, 2], dtype=np.int32), library, "float32")).dtype == np.int32
    assert ops.to_numpy(ops.asarray(np.ones(2), library, "float64")).dtype == np.float64


BRANCHES = [lambda x, c: x + c, lambda x, c: x * c, lambda x, c: c - x * x]


@pytest.mark.parametrize("name", LIBRARIES)
@given(index=st.integers(-3, 6))
def test_switch_runs_the_branch_of_the_clamped_index(name, index):
    x, c = np.array([1.0, -2.0]), np.array([3.0, 5.0])
    expected = BRANCHES[min(max(index, 0), 2)](x, c)
    with ops.precision(name, "float64"):
        for given_as in (index, ops.asarray(np.array(index), name), ops.asarray(np.array(index, np.int32), name)):
            found = ops.switch(given_as, BRANCHES, ops.asarray(x, name), ops.asarray(c, name))
            np.testing.assert_array_equal(ops.to_numpy(found), expected)


def test_switch_gives_trees_and_closes_over_what_is_no_operand(library):
    offset = ops.asarray(np.array(10.0), library)
    branches = [lambda s, k=k: {"a": s["a"] * k, "b": [s["b"] + offset]} for k in range(3)]
    state = {"a": ops.asarray(np.ones(2), library), "b": ops.asarray(np.zeros(()), library)}
    found = ops.switch(ops.asarray(np.array(2), library), branches, state)
    np.testing.assert_array_equal(ops.to_numpy(found["a"]), [2.0, 2.0])
    assert float(ops.to_numpy(found["b"][0])) == 10.0


@pytest.mark.parametrize("chosen", ["numpy", "torch"])
def test_switch_computes_the_chosen_branch_alone(chosen):
    def never(x):
        raise AssertionError("not chosen")

    x = ops.asarray(np.ones(2), chosen)
    assert ops.switch(ops.asarray(np.array(1), chosen), [never, lambda x: x, never], x) is x


def test_switch_has_the_derivative_of_the_chosen_branch(differentiable):
    def value(x, c):  # the index depends on what is differentiated, as that of a field depends on t
        xp = ops.namespace(x)
        index = xp.astype(xp.floor(xp.sum(x)), xp.int32)
        return xp.sum(ops.switch(index, BRANCHES, x, c))

    c = np.array([3.0, 5.0])
    for x, expected in (([0.2, 0.3], [1.0, 1.0]), ([0.9, 0.8], c), ([1.5, 1.0], [-3.0, -2.0])):
        found = ops.grad(value)(ops.asarray(np.array(x), differentiable), ops.asarray(c, differentiable))
        np.testing.assert_allclose(ops.to_numpy(found), expected)


def test_dependence_counts_every_branch_of_a_switch(differentiable):
    params = {name: ops.asarray(np.ones(2), differentiable) for name in ("first", "second", "t", "unused")}

    def function(p):
        xp = ops.namespace(p)
        index = xp.astype(xp.floor(p["t"][0] - 1.0), xp.int32)
        return ops.switch(index, [lambda p: p["first"] * 2, lambda p: p["second"] * p["second"]], p)

    found = dict(zip(tree.flatten(params), ops.dependence(function, params), strict=True))
    assert (found["first"], found["second"], found["unused"]) == (True, True, False)


@pytest.mark.parametrize("index", [np.array(1.0), np.array([1, 0]), np.array(True), 1.0])
def test_switch_wants_an_integer(library, index):
    given_as = ops.asarray(index, library) if isinstance(index, np.ndarray) else index
    with pytest.raises(UserError, match=r"ops\.switch: got an index of dtype .*expected an integer, shape \(\)"):
        ops.switch(given_as, BRANCHES, np.ones(2), np.ones(2))


def test_switch_wants_branches():
    with pytest.raises(UserError, match=r"ops\.switch: got no branches"):
        ops.switch(0, [])
