"""What Julia's source promises beside the right numbers: errors, names, memory order, constants, types, speed."""

from __future__ import annotations

import re
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_lowering_random
from in_julia import SOURCES, Case, Run
from jax import lax
from test_lowering_program import STATE, WEIGHTS, clipped, custom, network

from crossbackend import julia_program
from crossbackend.lowering import UnsupportedPrimitive, lower, lower_julia, trace

RNG = np.random.default_rng(11)
CUBE = RNG.normal(size=(2, 3, 4))
WIDE = RNG.normal(size=(30, 40))
ODD_NAMES = {'a "quoted" $name': STATE, "x": {"0": STATE * 2, "end": [STATE, {"y z": np.float64(2.0)}]}}


def source_of(function, args, static=()):
    return lower_julia({"f": trace(function, args, static=static)}).source


# --- errors, names, text ---


def test_unsupported_primitives_are_named_as_for_numpy():
    traced = trace(lambda y: jnp.sort(y) @ jnp.linalg.inv(jnp.outer(y, y)), {"y": STATE})
    with pytest.raises(UnsupportedPrimitive, match="`sort`") as of_julia:
        lower_julia({"f": traced})
    with pytest.raises(UnsupportedPrimitive, match="`sort`") as of_numpy:
        lower({"f": traced})
    assert of_julia.value.mistakes == of_numpy.value.mistakes


@pytest.mark.parametrize(("function", "args"), [("end", ("y",)), ("f", ("rt",)), ("f", ("max",)), ("f", ("NaN",))])
def test_names_that_the_source_uses_are_refused(function, args):
    with pytest.raises(ValueError, match="cannot name a function or an argument"):
        lower_julia({function: trace(lambda **kw: kw[args[0]] * 2, dict.fromkeys(args, STATE))})


def test_names_and_shapes_are_those_of_the_arguments():
    args = {"y": np.ones(20), "params": WEIGHTS}
    source = source_of(network, args, static=("params",))
    assert 'params_layers_0_w = rt.leaf(params, "layers/0/w", Matrix{Float64})  # (20, 20)' in source
    assert "function bind_f(params, constants)" in source
    assert "function f(y)" in source
    assert "transpose(params_layers_0_w) * y" in source
    assert "extra" not in source


def test_same_trace_same_text():
    def make():
        args = {"y": np.ones(20), "params": WEIGHTS}
        return source_of(lambda y, params: jax.grad(lambda p: network(y, p).sum())(params), args)

    assert make() == make()


def test_a_smaller_operand_is_not_computed_again_for_every_element():
    """Dotted operations fuse: an exponential per row must not become one per element."""
    source = source_of(lambda x: jnp.exp(x[:, :1]) * x, {"x": WIDE})
    assert re.search(r"(\w+) = exp\.\(\w.*\)  # \(30, 1\)\n.*\1 \.\* x", source)


def test_title_and_several_functions():
    traced = {"double": trace(lambda y: y * 2, {"y": STATE}), "over": trace(lambda t, y: y / t, {"t": 1.0, "y": STATE})}
    program = lower_julia(traced, title="A pair")
    assert program.source.startswith("# A pair: printed by crossbackend from the traces of double, over.\n")
    assert program.statics == {"double": (), "over": ()}


# --- results ---


def loops(y, p):
    total, rows = lax.scan(lambda c, r: (c * 0.5 + r, c), p[0], p)
    kept = lax.cond(p[0, 0] > 0, lambda: p * 2, lambda: p)
    return total + y[: p.shape[1]], rows * kept, lax.fori_loop(0, 3, lambda i, c: c + p[i, 0] * y[0], 0.0)


def long(y, p):
    for i in range(20):
        row = jnp.exp(-jnp.abs(y)) + p * i
        y = lax.cond(jnp.sum(y) > i, lambda y, row: (jnp.sin(y) * row, y > row), lambda y, row: (row, row > 0), y, row)
        y = jnp.where(y[1], y[0], -y[0])
    return lax.scan(lambda c, r: (c + jnp.tanh(r * c) / 3, jnp.cos(c) * r), y[0], y)


def nested(y, d):
    return {"b": (y * 2, [d["x"], d["k"][0] + 1]), "a": y.sum(), "none": None}


RANDOM_KINDS = {"unary": test_lowering_random.UNARY, "move": test_lowering_random.MOVES, "dot": (0, 1)}
RANDOM_KINDS["binary"] = test_lowering_random.BINARY


def at_random(seed):
    """A random program of `test_lowering_random` with its derivatives in both modes."""
    rng = np.random.default_rng(seed)
    kinds = [str(kind) for kind in rng.choice(list(RANDOM_KINDS), size=rng.integers(1, 8))]
    steps = [(kind, int(rng.integers(len(RANDOM_KINDS[kind]))), int(rng.integers(10))) for kind in kinds]
    function = test_lowering_random.build(steps)
    shapes = rng.integers(1, 7, size=3)

    def everything(x, w):
        out, pull = jax.vjp(function, x, w)
        weights = jax.tree_util.tree_map(lambda o: jnp.cos(jnp.arange(o.size, dtype=float)).reshape(o.shape), out)
        _, tangent = jax.jvp(function, (x, w), (jnp.ones_like(x), jnp.cos(w)))
        return out, pull(weights), tangent

    args = {"x": rng.normal(size=shapes[:2]), "w": rng.normal(size=shapes[1:])}
    return Case(everything, args, ("w",) if seed % 2 else (), 1e-11)


CASES = {
    "order_of_axes": Case(
        lambda x: (x, jnp.transpose(x, (1, 2, 0)), x[1], x[:, 1], x[..., 1], x.reshape(4, 6), x.reshape(-1)),
        {"x": CUBE},
    ),
    "matrices_and_vectors": Case(
        lambda a, v, w: (a @ v, w @ a, a.T @ w, v @ a.T, a @ a.T, a.T @ a, (a @ a.T).T @ a, jnp.outer(w, v)),
        {"a": WIDE, "v": WIDE[0], "w": WIDE[:, 0]},
    ),
    "broadcasting": Case(
        lambda x, row, column: (x + row, x * column[:, None], row - x[:, :1], jnp.exp(x[:1]) * x, CUBE[0, 0] + CUBE),
        {"x": WIDE, "row": WIDE[0], "column": WIDE[:, 0]},
    ),
    "joins": Case(
        lambda x: [
            jnp.concatenate([x, x[:, :1]], 1),
            jnp.stack([x, -x], 1),
            jnp.stack([x, -x], 3),
            jnp.tile(x, (2, 1, 3)),
        ],
        {"x": CUBE},
    ),
    "constants": Case(
        lambda y: [
            *(jnp.asarray(c) for c in (WIDE, np.arange(40), WIDE > 0, CUBE, np.zeros((0, 3)), np.full((2, 3), 7))),
            *(y.sum() * jnp.asarray(c) for c in (WIDE, [0.1, np.inf, -np.nan, -0.0], np.full((4, 5), -2.5), CUBE[0])),
            *(jnp.float64(0.1), jnp.int64(3), jnp.zeros((2, 0)), jnp.array([True, False])),
        ],
        {"y": STATE},
        exact=True,
    ),
    "odd_names": Case(
        lambda d: (d['a "quoted" $name'] + d["x"]["0"], d["x"]["end"][0] * d["x"]["end"][1]["y z"]), {"d": ODD_NAMES}
    ),
    "odd_static_names": Case(
        lambda y, d: y * d['a "quoted" $name'] + d["x"]["end"][1]["y z"], {"y": STATE, "d": ODD_NAMES}, ("d",)
    ),
    "bare_static": Case(lambda y, p: (p * y, p), {"y": STATE, "p": STATE}, ("p",)),
    "static_scalar": Case(lambda t, p: t * p, {"t": np.float64(2.0), "p": np.float64(3.0)}, ("p",)),
    "parts_of_static": Case(
        lambda y, p: (p[1:3], p.T, p[::-1], p[:, ::2], p.reshape(-1), y), {"y": STATE, "p": WIDE}, ("p",)
    ),
    "only_static": Case(lambda p: (jnp.sin(p), p.sum()), {"p": STATE}, ("p",)),
    "nested": Case(nested, {"y": STATE, "d": {"x": np.ones((4, 5)), "k": (np.arange(30.0),)}}),
    "nested_static": Case(nested, {"y": STATE, "d": {"x": np.ones((4, 5)), "k": (np.arange(30.0),)}}, ("d",)),
    "nothing": Case(lambda y: [], {"y": STATE}),
    "argument_itself": Case(lambda y, z: (y, z, z[:3], z.reshape(5, 8), y), {"y": STATE, "z": WIDE[0]}),
    "one_array_twice": Case(lambda y: (jnp.sin(y), jnp.sin(y).T, jnp.sin(y).reshape(-1), y[1:], y[1:]), {"y": WIDE}),
    "loops_of_static": Case(loops, {"y": WIDE[0], "p": WIDE[:8, :9]}, ("p",)),
    "loops": Case(loops, {"y": WIDE[0], "p": WIDE[:8, :9]}),
    "long": Case(long, {"y": WIDE[:, 0], "p": WIDE[:, 1]}, more=({"y": WIDE[:, 2], "p": -WIDE[:, 1]},)),
    "long_static": Case(long, {"y": WIDE[:, 0], "p": WIDE[:, 1]}, ("p",)),
    "rules": Case(lambda y: (clipped(y), jax.grad(lambda v: clipped(v).sum() + custom(v).sum())(y)), {"y": WIDE}),
    "single_precision": Case(
        lambda y: jnp.sin(y.astype(jnp.float32)) * jnp.float32(0.1) + jnp.ones(40, jnp.float32),
        {"y": WIDE[0]},
        (),
        1e-6,
    ),
    "masks": Case(
        lambda y: (y > 0, (y > 0) & (y < 1) | (y == 2), ~(y > 0), jnp.all(y > 0, 0), jnp.any(y > 2)), {"y": WIDE}
    ),
    "mask_carried": Case(lambda y: lax.scan(lambda c, r: (c ^ (r > 0), c), y[0] > 0, y), {"y": WIDE}),
    "empty": Case(
        lambda y: (y[:0].sum(), y[:0].max(initial=1.0), y[:0] @ y.T, jnp.concatenate([y[:0], y])), {"y": WIDE}
    ),
    **{f"random-{seed}": at_random(seed) for seed in range(25)},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(CASES, tmp_path_factory.mktemp("julia"))


@pytest.mark.julia
@pytest.mark.slow
@pytest.mark.parametrize("label", CASES)
def test_results(run, label):
    run.check(label)


def test_big_constants_are_handed_in():
    program = lower_julia({"f": CASES["constants"].traced()})
    kept = [value for value in program.constants.values() if value.shape == WIDE.shape and value.dtype == np.float64]
    np.testing.assert_array_equal(kept[0], WIDE)
    assert "Matrix{Bool}" in program.source
    assert "f_const" in next(iter(program.constants))


def test_a_long_function_compiles_its_lines_apart():
    many = source_of(long, {"y": WIDE[:, 0], "p": WIDE[:, 1]})
    few = source_of(lambda x: jnp.sin(x), {"x": WIDE})
    assert many.count("rt.apart(") > 20
    assert re.search(r"rt\.apart\(\(?(branch|carry)\w*.* -> ", many), "what is assigned twice is handed in"
    assert "apart" not in few


# --- speed ---

SMALL = """
include(joinpath(ARGS[1], "arrays.jl"))
const rt = Arrays
include(ARGS[2])
vjp = bind_vjp(Dict{String, Any}("" => [0.5, -0.2]), Dict{String, Any}())
function spent(vjp, t, y, a)
    vjp(t, y, a)
    return @allocated vjp(t, y, a)
end
vectors() = (Vector{Float64}(undef, 2), Vector{Float64}(undef, 2), Vector{Float64}(undef, 2))
spent_on(f) = (f(); @allocated f())
println(Base.invokelatest(spent, vjp, 0.1, [1.0, 2.0], [0.3, 0.4]), " ", Base.invokelatest(spent_on, vectors))
"""


@pytest.mark.julia
def test_a_small_function_allocates_its_results_alone(tmp_path):
    def vjp(t, y, a, p):
        out, pull = jax.vjp(lambda y, p: jnp.stack([y[0] * (p[0] + y[1]), y[1] * jnp.sin(t + p[1] * y[0])]), y, p)
        return out, *pull(a)

    args = {"t": 0.1, "y": STATE, "a": STATE, "p": STATE}
    (tmp_path / "field.jl").write_text(lower_julia({"vjp": trace(vjp, args, static=("p",))}).source)
    (tmp_path / "run.jl").write_text(SMALL)
    command = [julia_program.program().path, "--startup-file=no", tmp_path / "run.jl", SOURCES, tmp_path / "field.jl"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mine, theirs = map(int, done.stdout.split())
    assert mine <= theirs + 48  # a tuple of the three
