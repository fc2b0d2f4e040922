"""The cells of a run, and what a choice may not hold."""

import numpy as np
import pytest

from crossbackend.errors import UserError
from crossbackend.plan import Choice, Plan, check_choice, plans
from crossbackend.problem import Problem

BACKENDS = ("torchdiffeq", "diffrax", "scipy")


def field(t, y, params, data):
    return -y


def loss(ys, params, data):
    return ys.sum()


def problem(**changes):
    given = {"name": "p", "tolerances": (1e-4, 1e-6)} | changes
    return Problem(vector_field=field, loss=loss, params={}, initial=np.ones(2), ts=[0, 1], **given)


def test_the_cells_in_order():
    found = plans(problem(), Choice(("a", "b"), ("default", "seminorm")))
    assert len(found) == 2 * 2 * 2 * 2
    assert [(p.backend, p.norm, p.stepping, p.rtol) for p in found[:5]] == [
        ("a", "default", "native", 1e-4), ("a", "default", "native", 1e-6), ("a", "default", "matched", 1e-4),
        ("a", "default", "matched", 1e-6), ("a", "seminorm", "native", 1e-4),
    ]  # fmt: skip


def test_no_cell_twice():
    choice = Choice(("a", "a"), ("default", "native:default"), ("native", "native"), (1e-4, 1e-4))
    assert plans(problem(), choice) == [Plan("p", "a", "default", "native", 1e-4, 1e-6)]


@pytest.mark.parametrize("rtol", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 3e-7])
def test_atol_is_the_number_a_person_would_write(rtol):
    (plan,) = plans(problem(), Choice(("a",), ("default",), ("native",), (rtol,)))
    mantissa, exponent = f"{rtol:e}".split("e")
    assert plan.atol == float(f"{mantissa}e{int(exponent) - 2}")


def test_a_norm_for_one_stepping():
    found = plans(problem(), Choice(("a",), ("default", "native:mixed", "matched:pooled"), rtols=(1e-4,)))
    assert [(p.norm, p.stepping) for p in found] == [
        ("default", "native"), ("default", "matched"), ("mixed", "native"), ("pooled", "matched"),
    ]  # fmt: skip


def test_a_gradient_is_a_sweep_of_its_own():
    choice = Choice(("a",), ("default",), ("native",), (1e-4, 1e-6), gradients=("backsolve", "direct"))
    found = plans(problem(), choice)
    assert [(p.gradient, p.rtol) for p in found] == [
        ("backsolve", 1e-4), ("backsolve", 1e-6), ("direct", 1e-4), ("direct", 1e-6),
    ]  # fmt: skip
    assert [p.describe() for p in found[1:3]] == [
        "p a default native rtol=1e-06",
        "p a direct default native rtol=0.0001",
    ]


def test_only_backsolve_tells_the_norms_of_its_blocks_apart():
    def cells(*norms, own=None):
        choice = Choice(("a",), norms, ("native",), (1e-4,), gradients=("backsolve", "quadrature"))
        return [(p.gradient, p.norm) for p in plans(problem(norms=own or {}), choice)]

    both = [("backsolve", "default"), ("backsolve", "seminorm"), ("quadrature", "default")]
    assert cells("default", "seminorm") == both
    assert cells("default", "native:mixed") == [("backsolve", "default"), ("backsolve", "mixed"), both[-1]]
    assert cells("seminorm") == [("backsolve", "seminorm"), ("quadrature", "seminorm")]  # declined, with the reason
    light = {"light": {"y": 1, "a_y": 1, "a_params": 0.1}}
    assert ("quadrature", "light") in cells("default", "light", own=light)


def test_a_problems_own_norm_is_for_it_alone():
    own = problem(norms={"light": {"y": 1, "a_params": 0.1}})
    choice = Choice(("a",), ("light",), ("native",), (1e-4,))
    assert [p.norm for p in plans(own, choice)] == ["light"]
    assert plans(problem(), choice) == []
    check_choice(Choice(("scipy",), ("light",)), [own, problem()], BACKENDS)


def test_the_problems_dtype_unless_another_is_named():
    mine = problem(dtype="float32")
    assert {p.dtype for p in plans(mine, Choice(("a",)))} == {"float32"}
    assert {p.dtype for p in plans(mine, Choice(("a",), dtype="float64"))} == {"float64"}


def test_a_sweep_is_a_plan_without_its_tolerance():
    base = Plan("p", "a", "default", "native", 1e-4, 1e-6)
    changed = {"problem": "q", "backend": "b", "norm": "n", "stepping": "matched", "gradient": "g", "dtype": "float32",
               "device": "cuda", "first_step": 0.1}  # fmt: skip
    keys = {Plan(**(base.as_dict() | {name: value})).sweep_key for name, value in changed.items()}
    assert len(keys | {base.sweep_key}) == len(changed) + 1
    assert Plan("p", "a", "default", "native", 1e-8, 1e-9).sweep_key == base.sweep_key


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backends": ("difrax",)}, r"--backend: got 'difrax', expected one of .*\. Did you mean 'diffrax'\?"),
        ({"backends": ("tensorflow",)}, r"--backend: got 'tensorflow', expected one of torchdiffeq, diffrax, scipy\.$"),
        ({"norms": ("semi-norm",)}, r"--norm: got 'semi-norm', expected one of .*\. Did you mean 'seminorm'\?"),
        ({"norms": ("natve:mixed",)}, r"--norm: got 'natve:mixed', expected one of"),
        ({"gradients": ("quadratur",)}, r"--gradient: got 'quadratur', expected one of .*Did you mean 'quadrature'"),
        ({"steppings": ("mached",)}, r"--stepping: got 'mached', expected one of native, matched\. Did you mean 'mat"),
        ({"rtols": (0.0,)}, r"--rtol: got 0, expected a number between 0 and 1\. Write for example --rtol 1e-6\."),
        ({"rtols": (-1e-3,)}, r"--rtol: got -0.001, expected a number between 0 and 1\."),
        ({"rtols": (float("nan"),)}, r"--rtol: got nan, expected a number between 0 and 1\."),
        ({"rtols": (1.0,)}, r"--rtol: got 1, expected a number between 0 and 1\."),
        ({"rtols": ("1e-6",)}, r"--rtol: got '1e-6', expected a number between 0 and 1\."),
        ({"atol_factor": 0.0}, r"--atol-factor: got 0, expected a positive number"),
        ({"atol_factor": float("inf")}, r"--atol-factor: got inf, expected a positive number"),
        ({"dtype": "float16"}, r"--dtype: got 'float16', expected one of float64, float32\."),
        ({"device": "gpu"}, r"--device: got 'gpu', expected one of cpu, cuda\."),
        ({"first_step": -0.1}, r"--first-step: got -0.1, expected a positive number\."),
    ],
)
def test_a_wrong_choice(changes, words):
    with pytest.raises(UserError, match=words):
        check_choice(Choice(**({"backends": BACKENDS} | changes)), [problem()], BACKENDS)


def test_all_that_is_wrong_comes_at_once():
    with pytest.raises(UserError) as caught:
        check_choice(Choice(("x", "scipy:jax"), ("y",), ("z",), (2.0,)), [problem()], BACKENDS)
    assert [m.where for m in caught.value.mistakes] == ["--backend", "--norm", "--stepping", "--rtol"]
