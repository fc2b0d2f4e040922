"""The backend `julia` beside SciPy: norms, ratios, settings, what compiling costs, what it cannot print."""

import gc

import numpy as np
import pytest

from crossbackend import UserError, norms, registry
from crossbackend.backends import julia as backend_module
from crossbackend.backends.julia import program_of
from crossbackend.plan import Plan
from crossbackend.record import Status
from tests import cases
from tests.backends import solves
from tests.backends.test_norms import NAMES, OWN

pytestmark = pytest.mark.julia


def plan(problem, norm="default", stepping="native", backend="julia", **changes):
    return Plan(problem.name, backend, norm, stepping, 1e-6, 1e-8, **changes)


def compiled(problem, norm="default", stepping="native", backend="julia", **changes):
    return registry.get(backend).compile(problem, plan(problem, norm, stepping, backend, **changes))


@pytest.fixture(scope="module")
def flow():
    return cases.flow().replace(norms=OWN)


@pytest.mark.parametrize("stepping", ["native", "matched"])
@pytest.mark.parametrize("name", NAMES)
def test_every_norm_gives_scipys_steps_and_ratios(flow, name, stepping):
    mine, its = (compiled(flow, name, stepping, backend).record(1e-6, 1e-8) for backend in ("julia", "scipy"))
    for which in ("forward", "backward"):
        a, b = getattr(mine, which), getattr(its, which)
        assert a.counts == b.counts
        assert set(a.seen) == set(b.seen)
        # What rounding leaves of an error estimate moves the native controller's next step a little.
        np.testing.assert_allclose(a.t1, b.t1, rtol=1e-9 if stepping == "matched" else 1e-6, atol=1e-12)
        for seen, array in a.seen.items():
            assert array.dtype == b.seen[seen].dtype
            np.testing.assert_allclose(array, b.seen[seen], rtol=5e-3, atol=1e-6, err_msg=seen)


def test_norms_that_see_time(flow):
    """a_t is integrated where the norm asks for it."""
    mine, its = (compiled(flow, "mixed-t", "native", backend).record(1e-6, 1e-8) for backend in ("julia", "scipy"))
    assert "ratio_a_t" in mine.backward.seen
    assert mine.backward.counts == its.backward.counts
    np.testing.assert_allclose(mine.backward.seen["ratio_a_t"], its.backward.seen["ratio_a_t"], rtol=1e-4, atol=1e-6)


def test_every_norm_that_a_plan_can_name_is_in_the_program(flow):
    problem = cases.decay()
    for name in norms.names():
        outcome = compiled(problem, name).record(1e-4, 1e-6)
        assert outcome.status == Status.OK, name


def test_a_norm_that_cannot_be_traced_is_left_out_and_the_others_run():
    def untraceable(blocks):
        return float(np.max(np.abs(np.asarray(blocks["a_y"]))))

    problem = cases.decay().replace(
        norms={"untraceable": untraceable, "twice": lambda blocks: 2 * abs(blocks["y"]).max()}
    )
    assert compiled(problem).solve(1e-6, 1e-8).loss > 0
    assert compiled(problem, "twice").record(1e-6, 1e-8).status == Status.OK
    words = r"norms\['untraceable'\]: got a function that Julia cannot run, expected another norm\. its function cannot"
    with pytest.raises(UserError, match=words):
        compiled(problem, "untraceable")


def test_a_primitive_without_a_rule_is_named():
    def field(t, y, params, data):
        import jax

        return -params["rate"] * y + 0 * jax.lax.top_k(y, 1)[0]

    problem = cases.decay().replace(vector_field={"jax": field})
    with pytest.raises(UserError, match="top_k"):
        compiled(problem)


def test_a_leaf_that_is_no_file_name_is_a_mistake():
    problem = cases.decay()
    problem = problem.replace(params={"..": problem.params["rate"]}, vector_field=lambda t, y, p, d: -p[".."] * y)
    with pytest.raises(UserError, match=r"\.params: got the leaf '\.\.', expected names that can be files'\. Rename"):
        compiled(problem)


def test_compiling_is_told_apart_and_counted_for_every_plan():
    problem = cases.forced(2)
    first = compiled(problem, "default")
    again = compiled(problem, "default")
    other = compiled(problem, "seminorm")
    assert first.compile_s > 0.1
    assert again.compile_s == first.compile_s, "what is there already has its price all the same"
    assert other.compile_s < first.compile_s
    before = first.compile_s
    first.solve(1e-5, 1e-7)
    first.record(1e-5, 1e-7)
    assert first.compile_s == before


def test_the_gradient_has_the_problems_leaves_and_shapes():
    gradient = solves.compiled("latent", "julia", "default", "native").solve(1e-6, 1e-8)
    assert {name: leaf.shape for name, leaf in gradient.params.items()} == {
        "decoder": (3, 2), "encoder": (5, 3), "field": (3, 3),
    }  # fmt: skip
    nested = cases.decay().replace(
        params={"rates": [{"k": np.array([0.6])}, np.array(1.0)]},
        vector_field=lambda t, y, p, d: -p["rates"][0]["k"] * p["rates"][1] * y, exact=None,
    )  # fmt: skip
    found = compiled(nested).solve(1e-8, 1e-10).params
    assert {name: leaf.shape for name, leaf in found.items()} == {"rates/0/k": (1,), "rates/1": ()}
    assert found["rates/0/k"] == pytest.approx(found["rates/1"] / 0.6, rel=1e-6)


def test_a_failed_solve_raises_in_julias_words():
    with pytest.raises(RuntimeError, match=r"forward solve: max\|y\| reached .* near t = "):
        compiled(cases.blow_up()).solve(1e-6, 1e-8)


def test_a_program_lasts_as_long_as_its_problem():
    problem = cases.decay()
    compiled(problem)
    key = program_of(problem).key
    assert key not in backend_module._FORGOTTEN
    del problem
    gc.collect()
    assert key in backend_module._FORGOTTEN
    compiled(cases.decay())
    assert key not in backend_module._FORGOTTEN, "Julia was told"


def test_the_peak_memory_is_julias_too():
    from crossbackend.study.worker import Worker

    worker, problem = Worker(), cases.decay()
    worker.problems["k"] = problem
    found = worker.time("k", plan(problem))
    assert found["peak_memory_bytes"] > 2**27
    assert registry.get("julia").processes() != ()
