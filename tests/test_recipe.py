"""What `recipe` prints is run, and gives the gradient of crossbackend's own backend in as many evaluations."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from crossbackend import ops, registry, tree
from crossbackend.augmented import Augmented
from crossbackend.bound import Bound
from crossbackend.errors import UserError
from crossbackend.load import load
from crossbackend.plan import Plan
from crossbackend.recipe import facts as recipe_facts
from crossbackend.recipe import recipe
from tests import cases

RTOL, ATOL = 1e-6, 1e-8
PROBLEMS = {
    "follows time": lambda: load("forced_mlp"),
    "a dict state with an integral": cases.flow,
    "breakpoints": cases.piecewise,
    "an encoder": cases.latent,
}
LIBRARIES = {"torchdiffeq": "torch", "diffrax": "jax", "scipy": "jax"}


def needs(*names):
    lacking = [package for name in names for package in registry.missing(name)]
    return pytest.mark.skipif(bool(lacking), reason=f"{', '.join(lacking)} not installed")


every_problem = pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in PROBLEMS])


def printed(problem, library=None):
    """Execute what `recipe` prints and return the names it defines."""
    namespace = {}
    exec(compile(recipe(problem, library), f"<recipe for {library}>", "exec"), namespace)
    return namespace


@cache
def own(name, backend):
    """Return what crossbackend's backend records for a problem under the recipe's norm."""
    problem = PROBLEMS[name]()
    norm = "mixed-seminorm-integrals" if problem.integrals else "mixed-seminorm"
    plan = Plan(problem.name, backend, norm, "native", RTOL, ATOL)
    return registry.get(backend).compile(problem, plan).record(RTOL, ATOL)


class Run:
    """A problem in one library, its field counting, as a user of the recipe has it."""

    def __init__(self, problem, library):
        self.problem, self.count = problem, 0
        self.bound = Bound(problem, library)
        flags = self.bound.field_leaves()
        self.used = [name for name, flag in zip(self.bound.names, flags, strict=True) if flag]

    def one_more(self):
        self.count += 1

    def taken(self):
        count, self.count = self.count, 0
        return count


def run_torch(problem, solve):
    """Return (gradient by name, evaluations backward)."""
    import torch

    run = Run(problem, "torch")
    bound, params = run.bound, dict(tree.leaves(run.bound.params))
    for leaf in params.values():
        leaf.requires_grad_()
    y0 = bound.initial(bound.params, bound.data)
    for leaf in tree.values(y0):
        leaf.retain_grad() if leaf.requires_grad else leaf.requires_grad_()

    def field(t, y):
        run.one_more()
        return bound.field(t, y, bound.params, bound.data)

    ts = torch.tensor(problem.ts, dtype=torch.float64)
    ys = solve(field, y0, ts, tuple(params[name] for name in run.used), RTOL, ATOL)
    run.taken()
    bound.loss(ys, bound.params, bound.data).backward()
    leaves = {**params, **{f"y0/{name}": leaf for name, leaf in tree.leaves(y0)}}
    return {name: ops.to_numpy(leaf.grad) for name, leaf in leaves.items()}, run.taken()


def run_jax(problem, solve):
    """Return (gradient by name, evaluations backward)."""
    import jax
    import jax.numpy as jnp

    with ops.precision("jax", "float64"):
        run = Run(problem, "jax")
        bound = run.bound

        def field(t, y, args):
            jax.debug.callback(run.one_more)
            leaves = {**dict(tree.leaves(bound.params)), **args}
            return bound.field(t, y, tree.rebuild(bound.params, list(leaves.values())), bound.data)

        def loss(params, moved):
            y0 = jax.tree_util.tree_map(jnp.add, bound.initial(params, bound.data), moved)
            leaves = dict(tree.leaves(params))
            ts = jnp.asarray(problem.ts)
            ys = solve(field, y0, ts, {name: leaves[name] for name in run.used}, RTOL, ATOL)
            return bound.loss(ys, params, bound.data)

        y0 = bound.initial(bound.params, bound.data)
        zeros = jax.tree_util.tree_map(jnp.zeros_like, y0)
        value, pull = jax.jit(lambda *args: jax.vjp(loss, *args))(bound.params, zeros)
        jax.block_until_ready(value)
        jax.effects_barrier()
        run.taken()
        of_params, of_y0 = jax.block_until_ready(jax.jit(lambda pull, one: pull(one))(pull, jnp.ones_like(value)))
        jax.effects_barrier()
        leaves = {**dict(tree.leaves(of_params)), **{f"y0/{name}": leaf for name, leaf in tree.leaves(of_y0)}}
        return {name: ops.to_numpy(leaf) for name, leaf in leaves.items()}, run.taken()


def run_scipy(problem, solve):
    """Return (gradient by name, evaluations backward)."""
    system = Augmented(problem)
    count = []
    adjoint = system.function("adjoint")

    def counted(t, z):
        count.append(t)
        return adjoint(t, z)

    ys, a_y, a_params = solve(
        system.function("field"), counted, lambda ys: system.loss(ys)[1], system.y0(), problem.ts, RTOL, ATOL
    )
    direct = system.loss(ys)[2]
    of_y0 = {
        f"y0/{name}": a_y[at].reshape(shape)
        for name, at, shape in zip(system.layout.names, system.layout.slices, system.layout.shapes, strict=True)
    }
    return {**system.total(direct, a_y, a_params), **of_y0}, len(count)


RUNS = {
    "torchdiffeq": (run_torch, "torch_solve"),
    "diffrax": (run_jax, "jax_solve"),
    "scipy": (run_scipy, "scipy_solve"),
}


def check(name, library, *, exactly=False):
    run, solve = RUNS[library]
    problem = PROBLEMS[name]()
    gradient, evaluations = run(problem, printed(problem, library)[solve])
    outcome = own(name, library)
    wanted = {**outcome.gradient.params, **{f"y0/{k}": a for k, a in outcome.gradient.y0.items()}}
    assert sorted(gradient) == sorted(wanted)
    size = max(np.abs(array).max() for array in wanted.values())
    assert size > 0
    for leaf, array in wanted.items():
        np.testing.assert_allclose(gradient[leaf], array, rtol=0, atol=0 if exactly else 1e-12 * size, err_msg=leaf)
    assert evaluations == outcome.backward.nfe


@needs("torchdiffeq")
@every_problem
def test_torchdiffeq_is_ours(name):
    check(name, "torchdiffeq", exactly=True)


@pytest.mark.slow
@needs("diffrax")
@every_problem
def test_diffrax_is_ours(name):
    check(name, "diffrax")


@needs("scipy")
@every_problem
def test_scipy_is_ours(name):
    check(name, "scipy", exactly=True)


@needs("torchdiffeq")
@every_problem
def test_what_it_says_of_the_builtin_seminorm_is_so(name):
    """Where a_t stays 0 the string measures the same; where f depends on t it costs evaluations."""
    problem = PROBLEMS[name]()
    text = recipe(problem, "torchdiffeq")
    builtin = {}
    exec(text.replace('"norm": torch_adjoint_norm', '"norm": "seminorm"'), builtin)
    ours, evaluations = run_torch(problem, printed(problem, "torchdiffeq")["torch_solve"])
    theirs, theirs_evaluations = run_torch(problem, builtin["torch_solve"])
    if "a_t stays 0 here" in " ".join(text.split("\n# ")):
        assert theirs_evaluations == evaluations
        assert all(np.array_equal(ours[leaf], theirs[leaf]) for leaf in ours)
    else:
        assert "it still measures a_t here" in " ".join(text.split("\n# "))
        assert evaluations < 0.8 * theirs_evaluations


@needs("torchdiffeq", "diffrax", "scipy")
def test_three_parts_stand_in_one_file():
    problem = cases.forced(3)
    names = printed(problem)
    by_torch, _ = run_torch(problem, names["torch_solve"])
    by_scipy, _ = run_scipy(problem, names["scipy_solve"])
    for leaf, array in by_torch.items():
        np.testing.assert_allclose(by_scipy[leaf], array, rtol=1e-3, atol=1e-6)
    assert callable(names["jax_solve"])
    assert max(len(line) for line in recipe(problem).splitlines()) <= 120


# What it says of a problem.


def lines(problem, library=None):
    """Return the comment lines of a recipe, white space folded."""
    return [" ".join(line.strip("# ").split()) for line in recipe(problem, library).splitlines() if line[:1] == "#"]


@needs("scipy")
def test_it_has_the_problems_own_shapes():
    found = lines(load("forced_mlp"))
    assert "state y (32, 2): 64 numbers" in found
    assert "in f W1 (2, 32), W2 (32, 2), b1 (32,), b2 (2,), clock (32,): 194 numbers" in found
    assert "f depends on t" in found
    assert "ts 2 output times in [0, 5]" in found
    assert "z[290:322] a_params/clock (32,)" in found


@needs("scipy")
def test_it_names_what_is_not_in_the_field():
    found = lines(cases.latent())
    assert "in f field (3, 3): 9 numbers" in found
    assert "not in f decoder (3, 2), encoder (5, 3): in no adjoint state, so in no norm" in found
    assert "f does not depend on t" in found


@needs("scipy")
def test_a_field_that_jumps_has_breakpoints_and_no_slope():
    found = lines(cases.piecewise())
    assert "breakpoints 1, 2, 3" in found
    assert "f depends on t by jumps alone: df/dt = 0 at the 16 times tried" in found


@needs("scipy")
def test_a_breakpoint_at_an_end_is_none():
    assert "breakpoints 1, 2" in lines(cases.piecewise((0.0, 1.7, 3.0)))


def _nested_field(t, y, params, data):
    return {"in": {"a": -params["k"] * y["in"]["a"]}, "sum": y["in"]["a"][0]}


def nested(initial):
    loss = lambda ys, params, data: ops.namespace(ys).sum(ys["in"]["a"] ** 2)  # noqa: E731
    return cases.decay().replace(
        name="nested", vector_field=_nested_field, loss=loss, params={"k": np.array(0.5)}, initial=initial, exact=None
    )


@needs("torchdiffeq", "scipy")
def test_a_nested_state_comes_back_as_it_is():
    problem = nested({"sum": np.array(0.0), "in": {"a": np.array([1.0, 2.0])}})
    by_torch, _ = run_torch(problem, printed(problem, "torchdiffeq")["torch_solve"])
    by_scipy, _ = run_scipy(problem, printed(problem, "scipy")["scipy_solve"])
    np.testing.assert_allclose(by_torch["k"], by_scipy["k"], rtol=1e-5)
    np.testing.assert_allclose(by_torch["y0/in/a"], by_scipy["y0/in/a"], rtol=1e-5)


@needs("torchdiffeq")
def test_a_dict_of_one_entry_is_a_tuple_of_one():
    problem = cases.decay().replace(
        name="one", vector_field=lambda t, y, params, data: {"a": -params["rate"] * y["a"]},
        loss=lambda ys, params, data: ops.namespace(ys).sum(ys["a"][-1]), initial={"a": np.array([2.0])}, exact=None,
    )  # fmt: skip
    gradient, _ = run_torch(problem, printed(problem, "torchdiffeq")["torch_solve"])
    np.testing.assert_allclose(gradient["y0/a"], np.exp(-0.6 * 3.0), rtol=1e-4)


# Mistakes, and libraries that are not there.


def test_an_unknown_library_is_named():
    with pytest.raises(UserError) as caught:
        recipe(cases.decay(), "torchode")
    (mistake,) = caught.value.mistakes
    assert str(mistake) == (
        "recipe: got 'torchode', expected one of torchdiffeq, diffrax, scipy. Write one of them, or none for all three."
    )


@pytest.mark.parametrize(("given", "library"), [("torch", "diffrax"), ("jax", "torchdiffeq")])
@needs("torchdiffeq", "diffrax")
def test_a_library_without_functions_gets_a_comment(given, library):
    problem = cases.decay()
    problem = problem.replace(vector_field={given: problem.vector_field})
    assert f"Nothing to print: vector_field of 'decay' not given for {LIBRARIES[library]}." in lines(problem, library)
    names = printed(problem)
    there = {"torch": "torch_solve", "jax": "jax_solve"}
    assert there[given] in names
    assert there[LIBRARIES[library]] not in names
    assert "scipy_solve" in names


@needs("scipy")
def test_a_mistake_in_the_problem_is_the_users():
    problem = cases.decay().replace(vector_field=lambda t, y, params, data: y[:0] * params["rate"])
    with pytest.raises(UserError, match="y's own structure"):
        recipe(problem)


@needs("scipy")
def test_a_state_of_integrals_alone_has_no_norm():
    problem = cases.flow().replace(integrals=("logp", "z"))
    with pytest.raises(UserError, match="integrals: got every entry of the state"):
        recipe(problem)


def test_no_library_to_run_it(monkeypatch):
    monkeypatch.setattr(recipe_facts, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"torch and jax, neither installed, .* Install crossbackend\[torchdiffeq\]"):
        recipe(cases.decay())


@needs("torchdiffeq")
def test_torch_alone_finds_the_same(monkeypatch):
    expected = {name: recipe(make()) for name, make in PROBLEMS.items()}
    monkeypatch.setattr(recipe_facts, "find_spec", lambda name: name == "torch" or None)
    assert {name: recipe(make()) for name, make in PROBLEMS.items()} == expected


def test_it_is_imported_without_torch_and_jax():
    code = "import sys, crossbackend.recipe; print({'torch', 'jax', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# docs/recipe.md: y' = -w y sin(20 t), whose gradient is known, with a loss at two times.

PAGE = (Path(__file__).parents[1] / "docs/recipe.md").read_text(encoding="utf-8")
BLOCKS = dict(zip(LIBRARIES, re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), strict=True))
W, Y0, TS = 0.7, np.linspace(0.5, 1.0, 10), (0.0, 0.9, 2.0)


def decayed(t):
    return np.exp(-W * (1 - np.cos(20 * t)) / 20)


OF_Y0 = sum(decayed(t) for t in TS[1:])
OF_W = sum(-(1 - np.cos(20 * t)) / 20 * Y0.sum() * decayed(t) for t in TS[1:])


def page_torch(block, rtol=1e-7):
    """Run the block for torchdiffeq; return (of y0, of w, evaluations backward)."""
    import torch

    count = []
    w = torch.tensor(W, dtype=torch.float64, requires_grad=True)
    y0 = torch.tensor(Y0, requires_grad=True)

    def field(t, y):
        count.append(t)
        return -w * y * torch.sin(20 * t)

    def loss(ys):
        count.clear()
        return ys[1:].sum()

    ts = torch.tensor(TS, dtype=torch.float64)
    exec(block, {"field": field, "y0": y0, "ts": ts, "params": (w,), "loss": loss, "rtol": rtol, "atol": rtol / 100})
    return ops.to_numpy(y0.grad), ops.to_numpy(w.grad), len(count)


@needs("torchdiffeq")
def test_the_pages_lines_for_torchdiffeq():
    of_y0, of_w, evaluations = page_torch(BLOCKS["torchdiffeq"])
    np.testing.assert_allclose(of_y0, np.full(10, OF_Y0), rtol=1e-4)
    np.testing.assert_allclose(of_w, OF_W, rtol=1e-4)
    *_, builtin = page_torch(BLOCKS["torchdiffeq"].replace('"norm": norm', '"norm": "seminorm"'))
    assert evaluations < 0.6 * builtin


@pytest.mark.slow
@needs("diffrax")
def test_the_pages_lines_for_diffrax():
    import jax.numpy as jnp

    with ops.precision("jax", "float64"):
        namespace = {
            "field": lambda t, y, w: -w * y * jnp.sin(20 * t), "y0": jnp.asarray(Y0), "ts": jnp.asarray(TS),
            "params": jnp.asarray(W), "loss": lambda ys: jnp.sum(ys[1:]), "rtol": 1e-7, "atol": 1e-9,
        }  # fmt: skip
        exec(BLOCKS["diffrax"], namespace)
    np.testing.assert_allclose(np.asarray(namespace["gradient"]), OF_W, rtol=1e-4)


@needs("scipy")
def test_the_pages_lines_for_scipy():
    count = []

    def adjoint(t, z):
        count.append(t)
        s = np.sin(20 * t)
        return np.concatenate([-W * z[:10] * s, W * z[10:20] * s, [z[10:20] @ z[:10] * s]])

    def run(block):
        count.clear()
        namespace = {
            "field": lambda t, y: -W * y * np.sin(20 * t), "adjoint": adjoint, "y0": Y0, "ts": TS,
            "loss_gradient": lambda ys: np.array([0.0, 1.0, 1.0])[:, None] * np.ones_like(ys),
            "params": np.array([W]), "rtol": 1e-7, "atol": 1e-9,
        }  # fmt: skip
        exec(block, namespace)
        return namespace["of_y0"], namespace["of_params"], len(count)

    of_y0, of_w, evaluations = run(BLOCKS["scipy"])
    np.testing.assert_allclose(of_y0, np.full(10, OF_Y0), rtol=1e-4)
    np.testing.assert_allclose(of_w, [OF_W], rtol=1e-4)
    *_, plain = run(BLOCKS["scipy"].replace("method=Seminorm", "method=RK45"))
    assert evaluations < 0.8 * plain


def shown(first, rest):
    """Return the numbers of the row of a table of the page that starts so."""
    (row,) = re.findall(rf"^\| {re.escape(first)} \| {rest}", PAGE, re.MULTILINE)
    return [float(number) for number in row]


@needs("torchdiffeq")
def test_the_pages_numbers_on_forced_mlp():
    """Another processor's rounding may move a step."""
    problem, text = load("forced_mlp"), recipe(load("forced_mlp"), "torchdiffeq")
    ours = '"norm": torch_adjoint_norm'
    assert text.count(ours) == 1
    for number, norm in zip(shown("1e-6", r"(\d+),.*?\| (\d+),.*?\| (\d+),"), BUILTIN, strict=True):
        namespace = {}
        exec(text.replace(ours, BUILTIN[norm] or ours), namespace)
        _, evaluations = run_torch(problem, namespace["torch_solve"])
        assert evaluations == pytest.approx(number, rel=0.05)


BUILTIN = {"default": " ", '"seminorm"': '"norm": "seminorm"', "max(rms y, rms a_y)": ""}


@needs("torchdiffeq")
@pytest.mark.parametrize("norm", BUILTIN)
def test_the_pages_numbers_on_the_small_field(norm):
    ours = '"norm": norm'
    assert BLOCKS["torchdiffeq"].count(ours) == 1
    numbers = iter(shown(f"`{norm}`" if '"' in norm else norm, r"(\d+), (\S+) \| (\d+), (\S+) \|$"))
    for rtol in (1e-6, 1e-7):
        _, of_w, evaluations = page_torch(BLOCKS["torchdiffeq"].replace(ours, BUILTIN[norm] or ours), rtol)
        assert evaluations == pytest.approx(next(numbers), rel=0.05)
        assert abs(of_w / OF_W - 1) == pytest.approx(next(numbers), rel=0.2)


def test_the_pages_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", PAGE):
        assert (Path(__file__).parents[1] / "docs" / target).exists(), target
