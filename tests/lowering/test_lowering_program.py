"""What a lowered program promises beside the right numbers: errors, hoisting, purity, no JAX, inf and nan."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_jax import assert_same
from jax import lax

from crossbackend.errors import UserError
from crossbackend.lowering import UnsupportedPrimitive, lower, trace

STATE = np.array([0.7, -0.4])
WEIGHTS = {"layers": [{"w": np.eye(20), "b": np.ones(20)}, {"w": np.ones((20, 20)), "b": np.zeros(20)}], "extra": STATE}


def network(y, params):
    for layer in params["layers"]:
        y = jnp.tanh(layer["w"] @ y + layer["b"])
    return y


def lowered(function, args, static=()):
    return lower({"f": trace(function, args, static=static)})


# --- errors ---


def test_unsupported_primitives_are_named_with_their_lines_all_at_once():
    def field(y):
        ordered = jnp.sort(y)
        return jnp.linalg.inv(jnp.outer(ordered, y) + jnp.eye(2))

    first = inspect.getsourcelines(field)[1] + 1
    with pytest.raises(UnsupportedPrimitive, match=r'run SciPy with engine="jax"') as caught:
        lowered(field, {"y": STATE})
    text = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert re.search(rf"test_lowering_program\.py:{first}.*`sort`", text)
    assert re.search(rf"test_lowering_program\.py:{first + 1}.*`lu`", text)
    assert len(caught.value.mistakes) >= 3


def test_a_missing_primitive_inside_a_loop_is_found():
    with pytest.raises(UnsupportedPrimitive, match="`sort`"):
        lowered(lambda y: lax.scan(lambda c, r: (jnp.sort(c) * r, None), y, y)[0], {"y": STATE})


def test_complex_numbers_are_refused():
    with pytest.raises(UnsupportedPrimitive, match="complex128"):
        lowered(lambda y: jnp.abs(jnp.exp(1j * y)), {"y": STATE})


def test_random_numbers_are_refused():
    with pytest.raises(UnsupportedPrimitive, match="random"):
        lowered(lambda y: y + jax.random.normal(jax.random.key(0), (2,)), {"y": STATE})


@pytest.mark.parametrize(("function", "args"), [("class", ("y",)), ("f", ("np",)), ("f", ("exp",))])
def test_reserved_names(function, args):
    with pytest.raises(ValueError, match="cannot name a function or an argument"):
        lower({function: trace(lambda **kw: kw[args[0]] * 2, dict.fromkeys(args, STATE))})


def test_special_functions_of_constants_are_folded():
    assert_same(lambda y: y * lax.erf(jnp.linspace(0.0, 1.0, 30)) + lax.lgamma(2.5) + lax.erf_inv(0.3), {"y": STATE[0]})


def test_wrong_names():
    with pytest.raises(ValueError, match=r"static names \['z'\]"):
        trace(lambda y: y, {"y": STATE}, static=("z",))
    program = lowered(lambda y, p: y * p, {"y": STATE, "p": STATE}, static=("p",))
    with pytest.raises(KeyError, match="'g' is not among"):
        program.bind("g")
    with pytest.raises(TypeError, match=r"static arguments \['p'\], got \[\]"):
        program.bind("f")


def test_traceback_shows_the_lowered_line():
    bound = lowered(lambda y: jnp.tanh(y @ jnp.ones((50, 50))), {"y": np.ones(50)}).bind("f")
    with pytest.raises(ValueError, match="matmul") as caught:
        bound(np.ones(3))
    assert "y @ const" in "".join(traceback.format_exception(caught.value))


# --- structure ---


def test_uses():
    traced = trace(network, {"y": np.ones(20), "params": WEIGHTS})
    layer = {"b": True, "w": True}
    assert traced.uses("params") == {"extra": False, "layers": [layer, layer]}
    assert traced.used_leaves("params") == (False, True, True, True, True)
    assert traced.uses("y") is True


def test_unused_argument_is_still_passed():
    bound = lowered(lambda t, y: 2 * y, {"t": 0.0, "y": STATE}).bind("f")
    np.testing.assert_array_equal(bound(0.0, STATE), 2 * STATE)
    np.testing.assert_array_equal(bound(np.float64(0.0), STATE), 2 * STATE)


def test_results_keep_their_structure():
    def function(y, d):
        return {"b": (y * 2, [d["x"], d["k"][0] + 1]), "a": y.sum(), "none": None}

    args = {"y": STATE, "d": {"x": np.ones((4, 5)), "k": (np.arange(30.0),)}}
    assert_same(function, args)
    assert_same(function, args, static=("d",))
    assert_same(lambda y: (y,), {"y": STATE})
    assert_same(lambda y: [], {"y": STATE})


def test_names_come_from_the_arguments():
    source = lowered(network, {"y": np.ones(20), "params": WEIGHTS}, static=("params",)).source
    assert 'params_layers_0_w = params["layers"][0]["w"]' in source
    assert "def bind_f(params" in source
    assert "def f(y):" in source


def test_several_functions_in_one_program():
    one = trace(lambda y: y * 2, {"y": STATE})
    two = trace(lambda t, y: y / t, {"t": 1.0, "y": STATE})
    program = lower({"double": one, "over": two})
    np.testing.assert_array_equal(program.bind("double")(STATE), STATE * 2)
    np.testing.assert_array_equal(program.bind("over")(4.0, STATE), STATE / 4)


def test_same_trace_same_text():
    def make():
        args = {"y": np.ones(20), "params": WEIGHTS}
        traced = trace(lambda y, params: jax.grad(lambda p: network(y, p).sum())(params), args)
        return traced.digest_text, lower({"f": traced}).source

    assert make() == make()


def test_digest_text_tells_captured_constants_apart():
    texts = {trace(lambda y, c=c: y + jnp.asarray(c), {"y": STATE}).digest_text for c in (STATE, STATE + 1e-15, STATE)}
    assert len(texts) == 2


# --- purity and hoisting ---


def test_static_work_runs_once():
    calls = []

    class Counting(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, **options):
            calls.append(ufunc.__name__)
            inputs = [np.asarray(i) for i in inputs]
            return getattr(ufunc, method)(*inputs, **options)

    def function(y, p):
        return jnp.exp(p) @ y

    p = np.ones((40, 40))
    bound = lowered(function, {"y": np.ones(40), "p": p}, static=("p",)).bind("f", p=p.view(Counting))
    assert calls == ["exp"]
    bound(np.ones(40))
    assert calls == ["exp"]


@pytest.mark.parametrize("n", [3, 50])
def test_results_are_new_arrays(n):
    y, p = np.ones(n), np.ones(n) * 2
    functions = [lambda y, p: (y, p, p * 2, y[:2], y.reshape(1, -1)), lambda y, p: [jnp.zeros(n), y + 0.0, y * 1.0]]
    for function in functions:
        bound = lowered(function, {"y": y, "p": p}, static=("p",)).bind("f", p=p)
        first = bound(y)
        kept = [np.array(a) for a in first]
        for array in first:
            array[...] = 7.0
        assert (y == 1).all()
        assert (p == 2).all()
        for a, b in zip(bound(y), kept, strict=True):
            np.testing.assert_array_equal(a, b)


def test_two_results_never_share_memory():
    def function(y):
        s = jnp.sin(y)
        return s, s.T, s.reshape(-1), s

    results = lowered(function, {"y": np.ones((5, 6))}).bind("f")(np.ones((5, 6)))
    for i, a in enumerate(results):
        assert not any(np.shares_memory(a, b) for b in results[i + 1 :])


# --- NumPy alone ---

SCRIPT = """
import sys
sys.modules["jax"] = None
import numpy as np
data = np.load(sys.argv[1])
namespace = {"constants": {k[2:]: data[k] for k in data.files if k.startswith("c_")}}
exec(data["source"].item(), namespace)
got = namespace["bind_f"]()(data["t"].item(), data["y"])
np.testing.assert_allclose(got, data["want"], rtol=1e-14)
assert not any(name.split(".")[0] in ("jax", "jaxlib", "torch") and m for name, m in sys.modules.items())
"""


def test_source_runs_without_jax(tmp_path):
    weights = np.random.default_rng(0).normal(size=(40, 40))

    def function(t, y):
        return jnp.tanh(weights @ y) * lax.erf(t) + jnp.interp(t, jnp.arange(30.0), jnp.sin(jnp.arange(30.0)))

    y = np.ones(40)
    program = lowered(function, {"t": 0.4, "y": y})
    constants = {f"c_{k}": v for k, v in program.constants.items()}
    assert any(v.shape == (40, 40) for v in constants.values())
    stored: dict = {"source": program.source, "t": 0.4, "y": y, "want": program.bind("f")(0.4, y), **constants}
    np.savez(tmp_path / "p.npz", **stored)
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "p.npz"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_and_program_load_no_jax():
    code = "import sys, crossbackend.lowering; assert not {'jax', 'torch', 'scipy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- inf and nan come out; nothing is raised ---

AWKWARD = {
    "divide": lambda y: y[0] / y[1],
    "reciprocal": lambda y: 1 / y,
    "negative_power": lambda y: y**-2,
    "power": lambda y: y[0] ** y[1],
    "exp": lambda y: jnp.exp(y * 1000),
    "log": jnp.log,
    "log1p": lambda y: jnp.log1p(y - 1),
    "sqrt": jnp.sqrt,
    "sin": lambda y: jnp.sin(y / 0.0),
    "tan": lambda y: jnp.tan(y[0] / y[1]) + jnp.cosh(y * 1e4),
    "atanh": lambda y: jnp.arctanh(y * 3) + jnp.arcsin(y * 3) + jnp.arccosh(y),
    "floor": lambda y: jnp.floor(y / 0.0) + jnp.round(1 / y),
    "fmod": lambda y: jnp.fmod(y, 0.0),
    "logistic": lambda y: jax.nn.sigmoid(y * 1e6) + jax.nn.sigmoid(-y * 1e6),
    "softplus": lambda y: jax.nn.softplus(y * 1e6),
    "max": lambda y: jnp.maximum(y[0], y[1]) + jnp.minimum(y, 0.0) + jnp.maximum(0.0, y),
    "max_reduce": lambda y: (jnp.max(y), jnp.min(y)),
    "clip": lambda y: jnp.clip(y, -1.0, 1.0),
    "sign": lambda y: jnp.sign(y) + jnp.abs(y),
    "masked": lambda y: jnp.where(y > 0, jnp.log(y), 0.0),
    "masked_gradient": jax.grad(lambda y: jnp.where(y > 0, jnp.log(jnp.where(y > 0, y, 1.0)), 0.0).sum()),
    "zero_times": lambda y: y * 0.0,
    "chosen_literals": lambda y: 1.0 / jnp.where(y > 0, 0.0, 2.0) + 1.0 / (jnp.where(y > 0, 0.0, 1.0) * 2.0),
    "carried_literals": lambda y: lax.scan(lambda c, r: (c * 0.0, 1.0 / c), 1.0, y)[1] + 1 / y,
    "lgamma": lambda y: lax.lgamma(y) + lax.cbrt(y),
    "isfinite": lambda y: (jnp.isfinite(y), jnp.isnan(y), jnp.isinf(1 / y)),
    "compare": lambda y: (y[0] < y[1], y == y, y != y, y >= 0),
    "argmax": lambda y: (jnp.argmax(y), jnp.argmin(y)),
    "norm_gradient": jax.grad(lambda y: jnp.sqrt(jnp.sum(y**2))),
    "static_literals": lambda y: y + jnp.log(0.0) + jnp.sqrt(jnp.array(-1.0)),
}
VALUES = [[0.0, 0.0], [-0.0, 2.0], [np.nan, 1.0], [1.0, np.nan], [np.inf, 0.0], [-np.inf, np.inf], [-2.0, 0.5]]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_values(name):
    function = AWKWARD[name]
    bound = lowered(lambda y: function(y), {"y": STATE}).bind("f")
    with jax.enable_x64(True):
        reference = jax.jit(function)
        for value in VALUES:
            y = np.array(value)
            want = [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(reference(y))]
            got = [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(bound(y))]
            for g, w in zip(got, want, strict=True):
                np.testing.assert_allclose(g, w, rtol=1e-12, err_msg=f"{value}")


def test_static_infinity():
    def function(y, p):
        return y * jnp.log(p[0]) / p[1]

    args = {"y": STATE, "p": np.array([0.0, 0.0])}
    program = lowered(function, args, static=("p",))
    with jax.enable_x64(True):
        want = np.asarray(function(jnp.array(STATE), jnp.array([0.0, 0.0])))
    np.testing.assert_array_equal(program.bind("f", p=args["p"])(STATE), want)


def test_big_arrays_warn_of_nothing():
    y = np.linspace(-1.0, 1.0, 51)
    got = lowered(lambda y: jnp.log(y) + jnp.sqrt(y) / y + jnp.exp(1000 * y), {"y": y}).bind("f")(y)
    assert np.isnan(got[0])
    assert np.isinf(got[-1])


# --- callbacks, wrappers ---


def test_debug_print_is_dropped(capsys):
    def function(y):
        jax.debug.print("y {}", y)
        return jax.jit(lambda v: (jax.debug.print("v {}", v), v * 2)[1])(y)

    bound = lowered(function, {"y": STATE}).bind("f")
    np.testing.assert_array_equal(bound(STATE), STATE * 2)
    assert capsys.readouterr().out == ""


@jax.custom_vjp
def clipped(x):
    return jnp.sin(x)


clipped.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.clip(g * jnp.cos(x), -0.1, 0.1),))


@jax.custom_jvp
def custom(x):
    return jnp.cos(x)


custom.defjvp(lambda p, t: (custom(*p), -2 * jnp.sin(p[0]) * t[0]))


@pytest.mark.parametrize("n", [2, 40])
def test_custom_rules_are_honoured(n):
    y = np.linspace(0.1, 2.0, n)
    assert_same(lambda y: (clipped(y), jax.grad(lambda v: clipped(v).sum())(y)), {"y": y})
    assert_same(lambda y: (custom(y), jax.grad(lambda v: custom(v).sum())(y)), {"y": y})


def test_platform_dependent_takes_the_cpu_branch():
    def function(y):
        return lax.platform_dependent(y, cpu=lambda v: v * 2, default=lambda v: v * 3)

    np.testing.assert_array_equal(lowered(function, {"y": STATE}).bind("f")(STATE), STATE * 2)


def test_float32_inside_stays_float32():
    y = np.linspace(0.0, 1.0, 5)
    assert_same(lambda y: jnp.sin(y.astype(jnp.float32)) * jnp.float32(3), {"y": y}, rtol=1e-6)


def test_single_precision_input_is_traced_in_double():
    traced = trace(lambda y: y * 2, {"y": np.ones(3, np.float32)})
    assert traced.jaxpr.out_avals[0].dtype == np.float64
