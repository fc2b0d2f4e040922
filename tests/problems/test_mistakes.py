"""Every mistake in a problem: its place, what was got, what was expected, what to write."""

import re

import numpy as np
import pytest

from crossbackend import ops
from crossbackend.errors import UserError
from crossbackend.problem import Problem
from crossbackend.trial import compare_ports, trial


def field(t, y, params, data):
    return -params["k"] * y


def loss(ys, params, data):
    return ops.namespace(ys).sum(ys**2)


GOOD = {
    "name": "mine",
    "vector_field": field,
    "loss": loss,
    "params": {"k": np.ones(2)},
    "initial": np.ones(2),
    "ts": [0.0, 1.0],
}


def make(**changes):
    return Problem(**GOOD | changes)


# At construction, where nothing is run.

AT_CONSTRUCTION = {
    "integer parameters": (
        {"params": {"mlp": [{"w": np.arange(2)}]}},
        "Problem('mine').params['mlp/0/w']: got dtype int64, expected a floating dtype. Write np.asarray(..., dtype=",
    ),
    "complex data": ({"data": {"z": np.ones(2) * 1j}}, ".data['z']: got dtype complex128, expected real numbers."),
    "NaN in params": (
        {"params": {"k": np.array([1.0, np.nan])}},
        ".params['k']: got 1 entry that is NaN or infinite, expected finite numbers.",
    ),
    "infinity in data": ({"data": [np.array([np.inf, np.nan])]}, ".data['0']: got 2 entries that are NaN or infinite"),
    "NaN in y0": ({"initial": {"x": np.array(np.nan)}}, ".initial['x']: got 1 entry that is NaN or infinite"),
    "integer state": ({"initial": np.array([1, 2])}, ".initial: got dtype int64, expected a floating dtype."),
    "empty state": ({"initial": {}}, ".initial: got an empty state, expected an array or a dict of arrays."),
    "times that do not increase": (
        {"ts": [0.0, 2.0, 1.0]},
        ".ts: got ts[1] = 2, ts[2] = 1, expected strictly increasing times. Sort them and drop repeats; to integrate "
        "backwards, substitute t -> -t in the field.",
    ),
    "a time twice": ({"ts": [0.0, 1.0, 1.0]}, ".ts: got ts[1] = 1, ts[2] = 1, expected strictly increasing times."),
    "one time": ({"ts": [0.0]}, ".ts: got 1 times, expected at least the initial and the final time."),
    "a time that is NaN": ({"ts": [0.0, np.nan]}, ".ts: got a time that is NaN or infinite, expected finite times."),
    "times in two dimensions": ({"ts": [[0.0, 1.0]]}, ".ts: got shape (1, 2), expected a one-dimensional sequence"),
    "times of words": ({"ts": "ab"}, ".ts: got 'ab', expected a sequence of numbers."),
    "a tolerance above 1": ({"tolerances": [2.0]}, ".tolerances: got 2, expected values of rtol between 0 and 1."),
    "a precision unknown": ({"dtype": "float16"}, ".dtype: got 'float16', expected 'float64' or 'float32'."),
    "a name for no file": ({"name": "a/b"}, "Problem.name: got 'a/b', expected letters, digits, '_' and '-'"),
    "a field of other arguments": (
        {"vector_field": lambda t, y: y},
        ".vector_field: got a function of (t, y), expected a function of (t, y, params, data).",
    ),
    "a loss that is no function": ({"loss": 3.0}, ".loss: got float, expected a callable (ys, params, data)."),
    "an unknown library": (
        {"vector_field": {"numpy": field}},
        ".vector_field['numpy']: got function for 'numpy', expected a callable (t, y, params, data) for 'torch' or",
    ),
    "an integral that is no entry": (
        {"integrals": ["log_p"]},
        ".integrals: got 'log_p', expected an entry of the state",
    ),
    "a norm's name taken": ({"norms": {"mixed": {"y": 1}}}, ".norms['mixed']: got the name 'mixed', expected a name"),
    "an unknown block": ({"norms": {"own": {"z": 1}}}, ".norms['own']: got the block 'z', expected one of"),
    "a negative weight": ({"norms": {"own": {"y": -1}}}, ".norms['own']['y']: got -1, expected a weight >= 0."),
    "an unknown leaf": ({"field_params": ["w"]}, ".field_params: got 'w', expected a leaf of params ['k']."),
    "an exact that is a number": ({"exact": 1.0}, ".exact: got float, expected a callable (params, data)."),
}


@pytest.mark.parametrize("case", AT_CONSTRUCTION)
def test_a_mistake_at_construction(case):
    changes, words = AT_CONSTRUCTION[case]
    with pytest.raises(UserError, match=re.escape(words)):
        make(**changes)


def test_all_mistakes_come_in_one_error():
    with pytest.raises(UserError, match=r"\.params\['k'\]") as caught:
        make(params={"k": np.arange(2)}, data={"x": np.array(np.nan)}, ts=[1.0, 0.0], dtype="half", loss=None)
    assert [mistake.where for mistake in caught.value.mistakes] == [
        f"Problem('mine').{where}" for where in ("params['k']", "data['x']", "loss", "ts", "dtype")
    ]
    assert str(caught.value).count("\n") == 4


def test_construction_runs_no_function():
    def never(*args):
        raise AssertionError

    make(vector_field=lambda t, y, params, data: never(), loss=lambda ys, params, data: never())


# In the trial, which runs each function once.


def shape_of_another(t, y, params, data):
    return (params["k"] * y)[:1]


def other_entries(t, y, params, data):
    return {"x": y["x"] * params["k"], "w": y["x"]}


def single(t, y, params, data):
    dy = params["k"] * y
    xp = ops.namespace(y)
    return xp.astype(dy, xp.float32)


def nothing(t, y, params, data):
    del t, y, params, data


def raising(t, y, params, data):
    return params["rate"] * y


RAISED_AT = raising.__code__.co_firstlineno + 1

IN_TRIAL = {
    "f of another shape": (
        {"vector_field": shape_of_another},
        ".vector_field under {library}: got (1,), expected y's own structure (2,). Return dy in the structure",
    ),
    "f of other entries": (
        {
            "vector_field": other_entries,
            "loss": lambda ys, params, data: (ys["v"] ** 2).sum(),
            "initial": {"x": np.ones(2), "v": np.ones(2)},
        },
        "got {{w: (2,), x: (2,)}}, expected y's own structure {{v: (2,), x: (2,)}}.",
    ),
    "f of another precision": (
        {"vector_field": single},
        "float32, expected y's dtype {float64}. Make constants by xp.asarray(..., dtype=y.dtype).",
    ),
    "f of nothing": ({"vector_field": nothing}, ".vector_field under {library}: got None, expected dy"),
    "f that raises": (
        {"vector_field": raising},
        ".vector_field under {library}: got KeyError: 'rate' ({file}:{line}), expected a value.",
    ),
    "a loss that is no scalar": (
        {"loss": lambda ys, params, data: ys[-1, ...]},
        ".loss under {library}: got shape (2,), expected a scalar, shape (). Reduce it, for example by xp.mean(...).",
    ),
    "a loss that is a number": ({"loss": lambda ys, params, data: 1.0}, "got float, expected a scalar, shape ()."),
    "a loss of nothing": (
        {"loss": lambda ys, params, data: None},
        ".loss under {library}: got None, expected a scalar",
    ),
    "a loss that is not finite": (
        {"loss": lambda ys, params, data: ops.namespace(ys).sum(ops.namespace(ys).log(-ys * ys - 1))},
        ".loss under {library}: got nan on y held at y0, expected a finite number. Look for a log or a division by 0.",
    ),
    "a parameter that reaches nothing": (
        {"params": {"k": np.ones(2), "dead": {"w": np.ones(1)}}},
        "Problem('mine').params['dead/w']: got one that reaches none of them, expected a parameter that the field, the "
        "initial state or the loss depends on. Use it or drop it.",
    ),
    "an initial state that is NaN": (
        {"initial": lambda params, data: params["k"] * float("nan")},
        ".initial under {library}: got entries that are NaN or infinite, expected finite numbers.",
    ),
    "an initial state that is a number": (
        {"initial": lambda params, data: 1.0},
        ".initial under {library}: got float 1.0, expected an array or a dict of arrays.",
    ),
    "an integral that the state lacks": (
        {"initial": lambda params, data: {"x": params["k"]}, "integrals": ["log_p"]},
        ".integrals under {library}: got 'log_p', expected an entry of the state ['x'].",
    ),
}


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("case", IN_TRIAL)
def test_a_mistake_in_the_trial(case, library):
    pytest.importorskip(library)
    changes, words = IN_TRIAL[case]
    float64 = "torch.float64" if library == "torch" else "float64"
    words = words.format(library=library, float64=float64, file=__file__, line=RAISED_AT)
    found = trial(make(**changes), library).mistakes
    assert words in "\n".join(map(str, found))
    assert len(found) == 1


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_mistakes_of_field_loss_and_parameters_come_together(library):
    pytest.importorskip(library)
    params = {"k": np.ones(2), "dead": np.ones(1)}
    problem = make(vector_field=shape_of_another, loss=lambda ys, params, data: ys, params=params)
    found = trial(problem, library).mistakes
    roles = [f"Problem('mine').{role} under {library}" for role in ("vector_field", "loss")]
    assert [mistake.where for mistake in found] == [*roles, "Problem('mine').params['dead']"]


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_a_loss_of_nothing_is_told_beside_a_field_of_nothing(library):
    pytest.importorskip(library)
    found = trial(make(vector_field=nothing, loss=lambda ys, params, data: None), library).mistakes
    assert [mistake.got for mistake in found] == ["None", "None"]


def test_a_good_problem_has_no_mistakes():
    for library in ("torch", "jax"):
        pytest.importorskip(library)
        assert trial(make(), library).mistakes == []


def test_a_port_that_differs_is_told():
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    ported = make(vector_field={"torch": field, "jax": lambda t, y, params, data: -params["k"] * y * 1.001})
    found = compare_ports(ported, trial(ported, "torch"), trial(ported, "jax"))
    assert len(found) == 1
    words = "Problem('mine').vector_field under torch and jax: got values that differ by 0.001 relative to their size"
    assert str(found[0]).startswith(words)
    same = make(vector_field={"torch": field, "jax": field})
    assert compare_ports(same, trial(same, "torch"), trial(same, "jax")) == []
