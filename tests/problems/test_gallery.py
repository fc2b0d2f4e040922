"""The gallery: every file loads and runs, and shows what its docstring says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from crossbackend.load import gallery, load
from crossbackend.trial import trial
from tests.problems.cells import difference, gallery_outcome, worst_difference

pytest.importorskip("torch")
pytest.importorskip("jax")

NAMES = ("linear", "hudson_bay", "van_der_pol", "spiral", "forced_mlp", "dissipative")
STABLE = NAMES[:-1]
BACKENDS = ("torchdiffeq", "diffrax", "scipy")


PAPERS = ("neural_cde", "neural_cde_hermite", "neural_cde_relu", "cnf", "cnf_density", "symoden")


def test_the_gallery_is_in_order():
    assert gallery() == (*NAMES, *PAPERS)


@pytest.mark.parametrize("name", gallery())
def test_a_gallery_file_describes_itself_and_is_the_same_each_time(name):
    first, second = load(name), load(name)
    assert first.name == name
    assert first.source
    assert first.description.endswith(".")
    assert "\n" not in first.description
    for a, b in zip(_arrays(first), _arrays(second), strict=True):
        np.testing.assert_array_equal(a, b)


def _arrays(problem):
    from crossbackend import tree

    state = [] if callable(problem.initial) else tree.values(problem.initial)
    return [*tree.values(problem.params), *tree.values(problem.data), *state]


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("name", gallery())
def test_a_gallery_problem_passes_its_trial(name, library):
    assert trial(load(name), library).mistakes == []


@pytest.mark.parametrize("name", gallery())
def test_torch_and_jax_compute_the_same_functions(name):
    a, b = trial(load(name), "torch").samples, trial(load(name), "jax").samples
    assert a.keys() == b.keys()
    for key, values in a.items():
        np.testing.assert_allclose(values, b[key], rtol=1e-12, atol=1e-12)


def test_the_closed_form_of_linear_is_that_of_an_integration():
    problem: Any = load("linear")
    exact = problem.exact(problem.params, problem.data)

    def value(A, y0):
        path = solve_ivp(lambda t, y: A @ y, (0.0, 5.0), y0, "DOP853", problem.ts, rtol=1e-12, atol=1e-13).y.T
        return 0.5 * np.sum((path - problem.data["targets"]) ** 2)

    A, y0 = problem.params["A"], problem.initial
    assert exact["loss"] == pytest.approx(value(A, y0), rel=1e-11)
    h = 1e-4
    of_y0 = [(value(A, y0 + h * e) - value(A, y0 - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(exact["y0"], of_y0, rtol=1e-6, atol=1e-6)
    of_a = [(value(A + h * e, y0) - value(A - h * e, y0)) / (2 * h) for e in np.eye(9).reshape(9, 3, 3)]
    np.testing.assert_allclose(exact["params"]["A"].ravel(), of_a, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("norm", "stepping"), [("default", "native"), ("seminorm", "matched")])
def test_linear_reaches_its_closed_form(backend, norm, stepping):
    problem: Any = load("linear")
    exact = problem.exact(problem.params, problem.data)
    found = gallery_outcome("linear", backend, 1e-10, norm, stepping)
    assert found.gradient.loss == pytest.approx(exact["loss"], rel=1e-8)
    assert difference(found.gradient.arrays, {"y0": exact["y0"], "params/A": exact["params"]["A"]}) < 1e-8


def test_the_pelts_are_those_of_the_case_study():
    problem: Any = load("hudson_bay")
    assert problem.ts == tuple(float(year) for year in range(21))
    counts = np.exp(problem.data["log_counts"])
    assert counts.shape == (21, 2)
    np.testing.assert_allclose(counts[[0, 3, 10, 20]], [[30, 4], [77.4, 35.2], [27.1, 7.4], [24.7, 8.6]])
    np.testing.assert_allclose(counts.sum(axis=0), [715.7, 423.5])


def test_the_pelts_name_their_source_and_licence():
    text = (Path(__file__).parents[2] / "problems" / "hudson_bay.csv").read_text()
    assert "Hewitt" in text
    assert "public domain" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", STABLE)
def test_a_stable_problem_finds_its_way_back_and_agrees_to_rounding(name):
    found = [gallery_outcome(name, backend, 1e-6, "seminorm", "matched") for backend in BACKENDS]
    assert [item.status for item in found] == ["ok"] * 3
    assert max(item.reconstruction_error for item in found) < 50 * 1e-6
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].forward.accepted, other.forward.accepted)
        np.testing.assert_array_equal(found[0].backward.accepted, other.backward.accepted)
    assert worst_difference(found) < 1e-9


@pytest.mark.parametrize("name", STABLE)
def test_a_stable_problem_finds_its_way_back_in_the_library_as_it_is(name):
    found = gallery_outcome(name, "torchdiffeq", 1e-6)
    assert found.status == "ok"
    assert found.reconstruction_error < 50 * 1e-6


def test_forced_mlp_shows_what_the_adjoint_of_time_costs():
    norms = ("seminorm", "mixed-seminorm")
    evaluations = [gallery_outcome("forced_mlp", "torchdiffeq", 1e-6, norm).backward.nfe for norm in norms]
    assert evaluations[1] <= 0.7 * evaluations[0]


@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
def test_dissipative_loses_its_way_back(backend, rtol):
    found = gallery_outcome("dissipative", backend, rtol)
    assert found.status != "ok" or found.reconstruction_error > 0.1
