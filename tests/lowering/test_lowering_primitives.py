"""One case per family of primitives against JAX: the value, and the vector-Jacobian product where there is one.

Every case runs on a small array, which is printed as Python floats, and on a big one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_jax import assert_same
from jax import lax

RNG = np.random.default_rng(7)
SMALL = RNG.normal(size=(2, 3))
BIG = RNG.normal(size=(7, 5))
UNIT = np.linspace(-0.9, 0.9, 5)
UNIT_BIG = np.linspace(-0.9, 0.9, 40)
POSITIVE = np.linspace(0.1, 3.0, 5)
POSITIVE_BIG = np.linspace(0.1, 3.0, 40)


def weighted(out):
    """Return a cotangent for every float of a result."""
    return jax.tree_util.tree_map(lambda o: jnp.cos(jnp.arange(o.size, dtype=float)).reshape(o.shape), out)


def both(function, *arrays, rtol=1e-12, gradient=True):
    """Compare a function of arrays with JAX, and its vector-Jacobian product."""
    each(function, [arrays], rtol, gradient=gradient)


def each(function, cases, rtol=1e-12, *, gradient=True):
    """Compare a function of each tuple of arrays, and its vector-Jacobian products, in one program."""
    args = {f"x{i}_{j}": array for i, arrays in enumerate(cases) for j, array in enumerate(arrays)}

    def run(**kw):
        values, out = iter(kw.values()), []
        for arrays in cases:
            mine = [next(values) for _ in arrays]
            if not gradient:
                out.append(function(*mine))
                continue
            result, pull = jax.vjp(function, *mine)
            out.append((result, pull(weighted(result))))
        return out

    assert_same(run, args, rtol=rtol)


UNARY = {
    **{n: getattr(jnp, n) for n in "exp expm1 sin cos tan tanh sinh cosh arctan arcsinh cbrt square sign abs".split()},
    **{n: getattr(jnp, n) for n in "arcsin arccos arctanh floor ceil round trunc negative exp2".split()},
    "logistic": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "erf": lax.erf,
    "erfc": lax.erfc,
    "erf_inv": lax.erf_inv,
    "round_away": lambda x: lax.round(3 * x, lax.RoundingMethod.AWAY_FROM_ZERO),
    "cube": lambda x: x**3,
    "seventh": lambda x: x**7,
    "reciprocal": lambda x: 1 / x,
    "inverse_square": lambda x: x**-2,
    "inverse_cube": lambda x: (x + 2) ** -3,
    "zeroth": lambda x: x**0 * x,
    "stop_gradient": lambda x: x * lax.stop_gradient(x),
    "clip": lambda x: jnp.clip(x, -0.3, 0.4),
    "clamp": lambda x: lax.clamp(-0.3, x, 0.4),
    "where": lambda x: jnp.where(x > 0.1, jnp.sin(x), x * 2),
    "nan_to_num": jnp.nan_to_num,
    "nextafter_free": lambda x: jnp.where(jnp.isfinite(x), x, 0.0),
    "remainder": lambda x: jnp.remainder(x, 0.31),
    "fmod": lambda x: jnp.fmod(x, 0.31),
    "floor_divide": lambda x: x // 0.31,
    "reduce_precision": lambda x: lax.reduce_precision(x, 11, 52) * 2,
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(jnp.exp(x))),
    "logsumexp": lambda x: jax.nn.logsumexp(x),
    "softmax": lambda x: jax.nn.softmax(x),
    "log_softmax": lambda x: jax.nn.log_softmax(x),
    "norm": lambda x: jnp.linalg.norm(x),
    "var": lambda x: jnp.var(x) + jnp.std(x),
    "sinc": jnp.sinc,
}


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    each(UNARY[name], [(UNIT,), (UNIT_BIG,)], 1e-11)


UNARY_POSITIVE = {
    "log": jnp.log,
    "log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "acosh": lambda x: jnp.arccosh(x + 1.5),
    "lgamma": lax.lgamma,
    "digamma": lambda x: lax.lgamma(x) * 2,
    "power": lambda x: x**1.7,
    "power_both": lambda x: x**x,
    "log2": jnp.log2,
    "log10": jnp.log10,
}


@pytest.mark.parametrize("name", UNARY_POSITIVE)
def test_unary_of_positive(name):
    each(UNARY_POSITIVE[name], [(POSITIVE,), (POSITIVE_BIG,)], 1e-11)


BINARY = {
    "add": jnp.add,
    "subtract": jnp.subtract,
    "multiply": jnp.multiply,
    "divide": jnp.divide,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "arctan2": jnp.arctan2,
    "logaddexp": jnp.logaddexp,
    "hypot": jnp.hypot,
    "copysign": lambda a, b: jnp.abs(a) * jnp.sign(b),
    "where": lambda a, b: jnp.where(a < b, a, b * b),
    "heaviside": lambda a, b: jnp.where((a > 0) & ~(b > 0) | (a == b), a, b),
    "xor": lambda a, b: jnp.where((a > 0) ^ (b > 0), a, b),
    "power": lambda a, b: jnp.abs(a) ** b,
    "outer": lambda a, b: jnp.outer(a, b),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    each(BINARY[name], [tuple(np.random.default_rng(n).normal(size=(2, n))) for n in (4, 23)], 1e-11)


SHAPES = {
    "reshape": lambda x: x.reshape(-1)[::2] * 2,
    "transpose": lambda x: x.T * jnp.arange(x.shape[0]),
    "broadcast": lambda x: jnp.broadcast_to(x[:, None, :], (x.shape[0], 4, x.shape[1])) * 1.5,
    "broadcast_lead": lambda x: jnp.broadcast_to(x, (3, *x.shape)).sum((0, 2)),
    "row_plus_column": lambda x: x[0][:, None] + x[:, 0][None, :],
    "add_bias": lambda x: x + x[0] + x[:, :1],
    "concatenate": lambda x: jnp.concatenate([x, 2 * x, jnp.ones((1, x.shape[1]))], 0),
    "concatenate_1": lambda x: jnp.concatenate([x, jnp.zeros((x.shape[0], 2))], 1),
    "stack": lambda x: jnp.stack([x, x**2], 1),
    "stack_scalars": lambda x: jnp.stack([x[0, 0], x[1, 1] * 2, jnp.float64(3.0)]),
    "unstack": lambda x: sum(i * row for i, row in enumerate(jnp.unstack(x, axis=1))),
    "unpack": lambda x: [row * 2 for row in x],
    "split": lambda x: [p * 3 for p in jnp.split(x, [1], axis=1)],
    "pad": lambda x: jnp.pad(x, ((1, 2), (0, 1)), constant_values=3.0) ** 2,
    "pad_interior": lambda x: lax.pad(x, 0.5, ((1, 0, 2), (0, 2, 1))),
    "pad_negative": lambda x: lax.pad(x, 0.5, ((-1, 0, 2), (2, -2, 0))),
    "pad_negative_more": lambda x: lax.pad(x, 0.5, ((-2, -1, 1), (-1, -1, 3))),
    "slice": lambda x: x[1:, ::2] * 2,
    "slice_negative": lambda x: x[::-1, -2:] * jnp.ones(2),
    "rev": lambda x: jnp.flip(x) * jnp.arange(x.shape[1]),
    "roll": lambda x: jnp.roll(x, 2, axis=1),
    "tile": lambda x: jnp.tile(x, (2, 2)),
    "repeat": lambda x: jnp.repeat(x, 2, axis=0),
    "tril": lambda x: jnp.tril(x) + jnp.eye(*x.shape),
    "diag": lambda x: jnp.diag(x[:, 0]) @ x,
    "diagonal": lambda x: jnp.trace(x @ x.T) * jnp.diagonal(x[:2, :2]),
    "iota": lambda x: x * lax.broadcasted_iota(float, x.shape, 0),
    "linspace": lambda x: x * jnp.linspace(0.0, 1.0, x.shape[1]),
    "expand": lambda x: jnp.expand_dims(x, (0, 2)) * 2,
    "squeeze": lambda x: jnp.squeeze(x[:1, :1]) * x,
    "moveaxis": lambda x: jnp.moveaxis(x[None] * jnp.ones((4, 1, 1)), 0, 1),
    "meshgrid": lambda x: jnp.meshgrid(x[0], x[:, 0]),
    "diff": lambda x: jnp.diff(x, axis=1),
    "gradient": lambda x: jnp.cumsum(jnp.diff(x, axis=1), 1),
    "swap": lambda x: jnp.swapaxes(x.reshape(x.shape[0], 1, x.shape[1]), 0, 2),
    "empty": lambda x: jnp.concatenate([x[:0], x]) * 1.0,
    "same": lambda x: [x, x.T, x.reshape(-1), x],
    "constants": lambda x: [jnp.zeros(3), jnp.arange(4), jnp.float64(2.0), x[0, 0], jnp.eye(3)],
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    each(SHAPES[name], [(SMALL,), (BIG,)], gradient=name not in ("constants", "same"))


REDUCTIONS = {
    "sum": lambda x: jnp.sum(x),
    "sum_0": lambda x: jnp.sum(x, 0),
    "sum_keep": lambda x: x / jnp.sum(x**2, 1, keepdims=True),
    "mean": lambda x: jnp.mean(x, 1),
    "prod": lambda x: jnp.prod(x, 0),
    "max": lambda x: jnp.max(x, 1),
    "min": lambda x: jnp.min(x),
    "all": lambda x: jnp.where(jnp.all(x > -5) & jnp.any(x > 0, 0), x, 0.0),
    "argmax": lambda x: x * jnp.argmax(x, 1)[:, None],
    "argmin": lambda x: x[:, jnp.argmin(x[0])],
    "cumsum": lambda x: jnp.cumsum(x, 1),
    "cumsum_reverse": lambda x: lax.cumsum(x, 0, reverse=True),
    "cumprod": lambda x: lax.cumprod(x, 1),
    "cumprod_reverse": lambda x: lax.cumprod(x, 1, reverse=True),
    "cummax": lambda x: lax.cummax(x, 1),
    "cummin": lambda x: lax.cummin(x, 1, reverse=True),
    "cumlogsumexp": lambda x: lax.cumlogsumexp(x, 1),
    "cumlogsumexp_reverse": lambda x: lax.cumlogsumexp(x, 0, reverse=True),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name):
    each(REDUCTIONS[name], [(SMALL,), (BIG,)], 1e-11)


EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 2)),
    ("ij,j->i", (2, 2), (2,)),
    ("i,i->", (3,), (3,)),
    ("i,j->ij", (3,), (2,)),
    ("ij,ij->", (4, 5), (4, 5)),
    ("bij,bjk->bik", (3, 4, 5), (3, 5, 2)),
    ("bij,bj->bi", (6, 4, 5), (6, 5)),
    ("bij,bkj->bik", (3, 4, 5), (3, 6, 5)),
    ("bi,bj->bij", (6, 4), (6, 5)),
    ("bi,bi->b", (6, 4), (6, 4)),
    ("bi,b->bi", (6, 4), (6,)),
    ("bij,jk->bik", (3, 4, 5), (5, 2)),
    ("jk,bij->bik", (5, 2), (3, 4, 5)),
    ("abij,bajk->abik", (2, 3, 4, 5), (3, 2, 5, 2)),
    ("ijk,jkl->il", (4, 3, 5), (3, 5, 6)),
    ("ijk,kjl->li", (4, 3, 5), (5, 3, 6)),
    ("ij,kl->ikjl", (4, 3), (2, 5)),
    ("bij,cj->bci", (3, 4, 5), (6, 5)),
    ("ib,jb->bij", (3, 4), (5, 4)),
    ("ijb,jb->bi", (3, 2, 4), (2, 4)),
    ("ij,jk->ik", (32, 20), (20, 30)),
]


@pytest.mark.parametrize(("spec", "left", "right"), EINSUMS)
def test_einsum(spec, left, right):
    rng = np.random.default_rng(3)
    both(lambda a, b: jnp.einsum(spec, a, b), rng.normal(size=left), rng.normal(size=right))


INDEXING = {
    "element": lambda x, i: x[1] * x[0, 0],
    "dynamic": lambda x, i: x[i[0]] * 2,
    "dynamic_column": lambda x, i: x[:, i[0]] * 2,
    "dynamic_both": lambda x, i: x[i[0], i[1]] * x,
    "take": lambda x, i: x[i],
    "take_columns": lambda x, i: x[:, i],
    "take_clip": lambda x, i: jnp.take(x, i * 3, axis=0, mode="clip"),
    "take_fill": lambda x, i: jnp.nan_to_num(jnp.take(x, i * 3, axis=0, mode="fill")),
    "take_fill_value": lambda x, i: jnp.take(x, i * 3 - 4, axis=1, mode="fill", fill_value=7.0),
    "take_wrap": lambda x, i: jnp.take(x, i * 3, axis=0, mode="wrap"),
    "get_fill": lambda x, i: x.at[i[0] * 30].get(mode="fill", fill_value=0.0),
    "get_promise": lambda x, i: x.at[i].get(mode="promise_in_bounds"),
    "get_two": lambda x, i: x[i, i] * x[i[::-1], i],
    "take_flat": lambda x, i: jnp.take(x, i),
    "take_2d": lambda x, i: x[i[:, None] * jnp.array([[1, 0]])],
    "along": lambda x, i: jnp.take_along_axis(x, jnp.stack([i % 2] * x.shape[0]), 1),
    "along_0": lambda x, i: jnp.take_along_axis(x, jnp.stack([i % 2] * 2)[:, :1] * jnp.ones((1, x.shape[1]), int), 0),
    "fixed": lambda x, i: x[jnp.array([1, 0, 1])] * 2,
    "fixed_columns": lambda x, i: x[:, np.array([2, 0])],
    "mask": lambda x, i: x[:, np.array([True, False] + [True] * (x.shape[1] - 2))],
    "set": lambda x, i: x.at[i[0]].set(3.0),
    "set_fixed": lambda x, i: x.at[1, 2].set(x[0, 0] * 2),
    "add": lambda x, i: x.at[i].add(x[i] * 2),
    "add_fixed": lambda x, i: x.at[:, 1].add(2.0),
    "add_outside": lambda x, i: x.at[i * 3].add(1.5),
    "add_clip": lambda x, i: x.at[i * 3].add(1.5, mode="clip"),
    "multiply": lambda x, i: x.at[i[0]].multiply(2.0),
    "max": lambda x, i: x.at[i].max(0.1),
    "min": lambda x, i: x.at[:, i].min(0.1),
    "dynamic_slice": lambda x, i: lax.dynamic_slice(x, (i[0], i[1]), (1, 2)),
    "dynamic_slice_clamps": lambda x, i: lax.dynamic_slice_in_dim(x, i[0] + 20, 2, 1),
    "dynamic_update": lambda x, i: lax.dynamic_update_slice(x, x[:1, :2] * 3, (i[0], i[1] + 9)),
    "interp": lambda x, i: jnp.interp(x[0], jnp.arange(3.0), jnp.array([1.0, 3.0, 2.0])),
    "one_hot": lambda x, i: jax.nn.one_hot(i, 4) @ jnp.ones((4, 1)) * x[0, 0],
    "vmapped": lambda x, i: jax.vmap(lambda row, j: row[j])(x[:2], i[:2]),
    "vmapped_slice": lambda x, i: jax.vmap(lambda row, j: lax.dynamic_slice(row, (j,), (2,)))(x[:2], i[:2]),
    "vmapped_add": lambda x, i: jax.vmap(lambda row, j: row.at[j].add(2.0))(x[:2], i[:2]),
    "segment_sum": lambda x, i: jnp.zeros((3, x.shape[1])).at[i % 3].add(x[:1] * i[:, None]),
}


@pytest.mark.parametrize("name", INDEXING)
def test_indexing(name):
    index = np.array([1, 0, 1])

    def pulled(x, i):
        out, pull = jax.vjp(lambda v: INDEXING[name](v, i), x)
        return out, pull(weighted(out))

    assert_same(lambda x, y, i: (pulled(x, i), pulled(y, i)), {"x": SMALL, "y": BIG, "i": index})


@pytest.mark.parametrize("method", ["scan", "scan_unrolled", "compare_all"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(method, side):
    knots = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.5])
    queries = [0.3, 1.0, -4.0, 9.0, np.nan, np.inf, -0.0, 3.5]

    def search(knots, many, **each):
        return [jnp.searchsorted(knots, q, side=side, method=method) for q in (many, *each.values())]

    args = {"knots": knots, "many": np.array(queries), **{f"q{i}": np.float64(q) for i, q in enumerate(queries)}}
    assert_same(search, args, static=("knots",))


@pytest.mark.parametrize("method", ["scan", "compare_all"])
def test_piecewise_linear_control(method):
    knots = np.linspace(0.0, 1.0, 9)
    fixed = tuple(knots)
    path = np.random.default_rng(1).normal(size=(30, 9, 3))

    def control(t, knots, path):
        i = jnp.clip(jnp.searchsorted(knots, t, side="right", method=method) - 1, 0, 7)
        weight = (t - knots[i]) / (knots[i + 1] - knots[i])
        return (1 - weight) * path[:, i] + weight * path[:, i + 1]

    both(lambda t, p: control(t, jnp.array(fixed), p), np.float64(0.33), path)
    assert_same(control, {"t": np.float64(0.77), "knots": knots, "path": path}, static=("knots", "path"))


CONVS = {
    "plain": {},
    "same": {"padding": "SAME"},
    "strided": {"window_strides": (2, 2), "padding": ((1, 2), (0, 1))},
    "dilated": {"rhs_dilation": (2, 1), "padding": "SAME"},
    "transposed": {"lhs_dilation": (2, 2), "padding": ((2, 1), (1, 2))},
    "permuted": {"dimension_numbers": ("NHWC", "HWIO", "NHWC")},
    "odd": {"dimension_numbers": ("HNWC", "IHOW", "CHNW"), "window_strides": (1, 2)},
    "groups": {"feature_group_count": 2},
    "depthwise": {"feature_group_count": 4, "padding": "SAME"},
}


@pytest.mark.parametrize("name", CONVS)
def test_conv(name):
    rng = np.random.default_rng(2)
    options = {"window_strides": (1, 1), "padding": "VALID", **CONVS[name]}
    numbers = options.get("dimension_numbers", ("NCHW", "OIHW", "NCHW"))
    groups = options.get("feature_group_count", 1)
    sizes = {"N": 2, "C": 4, "H": 7, "W": 6}
    window = {"O": 8, "I": 4 // groups, "H": 3, "W": 2}
    x = rng.normal(size=[sizes[c] for c in numbers[0]])
    kernel = rng.normal(size=[window[c] for c in numbers[1]])
    both(lambda x, k: lax.conv_general_dilated(x, k, **options), x, kernel, rtol=1e-11)


def test_conv_one_and_three_axes():
    rng = np.random.default_rng(2)
    both(lambda x, k: lax.conv(x, k, (2,), "SAME"), rng.normal(size=(2, 3, 9)), rng.normal(size=(4, 3, 3)))
    x, k = rng.normal(size=(1, 2, 5, 4, 3)), rng.normal(size=(3, 2, 2, 2, 2))
    both(lambda x, k: lax.conv(x, k, (1, 1, 1), "VALID"), x, k)


def scanned(x, length=4, reverse=False):
    def step(carry, row):
        h, n = carry
        h = jnp.tanh(h * 0.5 + row)
        return (h, n + 1), (h * n, h.sum())

    return lax.scan(step, (jnp.zeros(x.shape[1]), 0), x, reverse=reverse)


def recurrence(n):
    w = np.random.default_rng(n).normal(size=(n, n)) / n

    def run(x):
        out, rows = lax.scan(lambda h, r: (jnp.tanh(h @ w + r), h), x[0], x)
        return out, rows

    return run


CONTROL = {
    "scan": lambda x: scanned(x)[0][0],
    "scan_all": lambda x: [o * 1.0 for o in jax.tree_util.tree_leaves(scanned(x))],
    "scan_reverse": lambda x: scanned(x, reverse=True)[1],
    "scan_weights": lambda x: recurrence(x.shape[1])(x),
    "scan_without_input": lambda x: lax.scan(lambda c, _: (c * 1.5, c.sum()), x, None, length=3)[1],
    "scan_unrolled": lambda x: lax.scan(lambda c, r: (c + r, c), x[0], x, unroll=2)[1],
    "scan_of_scan": lambda x: lax.scan(lambda c, r: (scanned(x * c)[0][0].sum(), c), jnp.float64(1.0), x)[0],
    "scan_swap": lambda x: lax.scan(lambda c, r: ((c[1], c[0] + r), c[0]), (x[0], x[1]), x)[0],
    "scan_scalars": lambda x: lax.scan(lambda c, r: (c * 0.5 + r, c / (1 + r * r)), 0.0, x[:, 0])[1],
    "scan_hoists": lambda x: lax.scan(lambda c, r: (c + jnp.sin(x[0]) * r, None), x[1], x[:, 0])[0],
    "fori": lambda x: lax.fori_loop(0, 5, lambda i, c: c * 0.5 + i, x),
    "cond": lambda x: lax.cond(x[0, 0] > 0, jnp.sin, lambda v: v * 2, x),
    "cond_scalar": lambda x: lax.cond(x[0, 0] > 0, lambda v: v**2, lambda v: v * 3, x[0, 1]),
    "switch": lambda x: lax.switch(jnp.int32(x[0, 0] * 5), [jnp.sin, jnp.cos, lambda v: v + 1], x),
    "switch_scalar": lambda x: lax.switch(1, [jnp.sin, jnp.cos, lambda v: v + 1], x[1, 0]),
    "cond_two": lambda x: lax.cond(x[0, 0] < x[1, 0], lambda: (x[0], 1.0), lambda: (x[1] * 2, 0.5)),
    "cond_passes": lambda x: lax.cond(x[0, 0] < x[1, 0], lambda: x, lambda: x * 2),
    "cond_in_scan": lambda x: lax.scan(lambda c, r: (lax.cond(c > 0, jnp.sin, jnp.cos, c + r), c), 0.1, x[:, 0])[1],
    "map": lambda x: lax.map(lambda r: jnp.outer(r, r).sum(0), x),
    "associative": lambda x: lax.associative_scan(jnp.multiply, x, axis=1),
}


@pytest.mark.parametrize("name", CONTROL)
def test_control(name):
    each(CONTROL[name], [(SMALL,), (BIG,)], 1e-11, gradient=name != "scan_all")


def test_while():
    def grow(x):
        return lax.while_loop(lambda c: (c[0] < 6) & (jnp.abs(c[1]).max() < 90), lambda c: (c[0] + 1, c[1] * 2), (0, x))

    def scalar(x):
        return lax.while_loop(lambda c: c < 50.0, lambda c: c * 1.7 + 1, x[0, 0])

    def never(x):
        return lax.while_loop(lambda c: c.sum() > 1e9, lambda c: c * 2, x)

    each(lambda x: (grow(x), scalar(x), never(x)), [(SMALL,), (BIG,)], gradient=False)


INTEGERS = {
    "truncate": lambda x, i: (x * 3.7).astype(int) + i,
    "truncate_32": lambda x, i: (x * 3.7).astype(jnp.int32),
    "divide": lambda x, i: lax.div(i - 3, jnp.array([2, -2, 3, 1])[: i.shape[0]]),
    "floor_divide": lambda x, i: (i - 3) // 2,
    "rem": lambda x, i: lax.rem(i - 5, jnp.full_like(i, 3)),
    "mod": lambda x, i: (i - 5) % 3,
    "sign": lambda x, i: jnp.sign(i - 1),
    "abs": lambda x, i: jnp.abs(i - 2),
    "bits": lambda x, i: (i & 3) | (i ^ 5) | ~i,
    "float": lambda x, i: i.astype(float) / 3,
    "bool": lambda x, i: (i.astype(bool), x.astype(bool), (x > 0).astype(int), (x > 0).astype(float)),
    "sum": lambda x, i: (jnp.sum(i), jnp.sum(x > 0), jnp.prod(i + 1), jnp.max(i)),
    "power": lambda x, i: i**3,
    "argmax": lambda x, i: (jnp.argmax(x), jnp.argmin(x)),
    "clip": lambda x, i: jnp.clip(i, 1, 2),
    "nan_to_int": lambda x, i: (x / 0.0 * 0.0).astype(int) + (x / 0).astype(jnp.int32),
    "power_float": lambda x, i: jnp.abs(x) ** i,
    "select": lambda x, i: lax.select_n(i % 3, x, x * 2, x * 3),
    "count": lambda x, i: jnp.cumsum(i),
    "shift": lambda x, i: (i << 2, i >> 1),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name):
    rng = np.random.default_rng(5)
    sizes = (4,) if name == "divide" else (4, 30)
    each(INTEGERS[name], [(rng.normal(size=n), rng.integers(0, 6, size=n)) for n in sizes], gradient=False)


def hamiltonian(z):
    return jnp.tanh(z @ jnp.array([[0.3, 0.7], [-0.2, 0.5]])).sum() + z[0] ** 2 / (1 + z[1] ** 2)


NESTED = {
    "grad": jax.grad(hamiltonian),
    "hessian": jax.hessian(hamiltonian),
    "jvp_of_grad": lambda z: jax.jvp(jax.grad(hamiltonian), (z,), (z * 2,))[1],
    "jacfwd": jax.jacfwd(jax.grad(hamiltonian)),
    "symplectic": lambda z: jax.grad(hamiltonian)(z) @ jnp.array([[0.0, 1.0], [-1.0, 0.0]]),
}


@pytest.mark.parametrize("name", NESTED)
def test_nested_derivatives(name):
    both(NESTED[name], np.array([0.4, -1.3]))
