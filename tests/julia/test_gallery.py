"""The gallery in Julia: the printed functions are JAX's, and matched stepping takes SciPy's steps to its gradient."""

import numpy as np
import pytest

from crossbackend import ops
from crossbackend.agreement import same_steps
from crossbackend.backends.julia import program_of
from crossbackend.flags import is_unstable
from crossbackend.flattened import Flattened, ravel
from crossbackend.julia_process import SHARED
from crossbackend.load import gallery, load
from crossbackend.record import Status, from_outcome, gradient_difference
from tests.problems.cells import compiled, gallery_outcome

pytestmark = [pytest.mark.julia, pytest.mark.slow]
UNSTABLE = {"dissipative"}
"""Problems whose reverse solve amplifies rounding, by which their gradients differ."""


def by_jax(flat):
    """Return the functions that are printed, run by JAX on NumPy arrays."""
    params, data = flat.bound.params, flat.bound.data

    def vjp(t, y, a, with_time=False):
        dy, pull = flat.pullback(t, y, params, data, with_time=with_time)
        of_y, of_params, of_t = pull(a)
        return (dy, of_y, ravel(of_params, like=a), *((of_t,) if with_time else ()))

    return {
        "initial": lambda: flat.initial(params, data),
        "field": lambda t, y: flat.field(t, y, params, data),
        "vjp": vjp,
        "vjp_t": lambda t, y, a: vjp(t, y, a, with_time=True),
        "loss": lambda ys: flat.loss(ys, params, data),
        "initial_pull": lambda a: flat.initial_pull(a, params, data),
    }


def called(key, name, folder, *args):
    """Return what Julia's function gives."""
    folder.mkdir()
    for number, array in enumerate(args):
        np.save(folder / f"{number}.npy", array)
    return list(SHARED.ask("call", key, name, str(folder)).arrays.values())


@pytest.mark.parametrize("name", gallery())
def test_the_functions_are_jaxs(name, rng, tmp_path):
    """To 1e-12 of a result's largest entry, at random points near the initial state."""
    problem = load(name)
    flat = Flattened(problem, "jax")
    program = program_of(problem)
    program.ready(("base", "default", "native", "-"))
    functions = by_jax(flat)
    with ops.precision("jax", "float64"):
        y0 = np.asarray(functions["initial"]())
    for trial in range(3):
        t = np.asarray(rng.uniform(problem.ts[0], problem.ts[-1]))
        y = y0 * (1 + 0.1 * rng.standard_normal(y0.shape)) + 0.01 * rng.standard_normal(y0.shape)
        ys = np.stack([y0 * (1 + 0.05 * rng.uniform(-1, 1, y0.shape)) for _ in problem.ts])
        a = rng.standard_normal(y0.shape)
        points = {
            "initial": (),
            "field": (t, y),
            "vjp": (t, y, a),
            "vjp_t": (t, y, a),
            "loss": (ys,),
            "initial_pull": (a,),
        }
        for function, args in points.items():
            found = called(program.key, function, tmp_path / f"{trial}-{function}", *args)
            with ops.precision("jax", "float64"):
                expected = functions[function](*(ops.asarray(arg, "jax") for arg in args))
            parts = expected if isinstance(expected, tuple) else (expected,)
            assert len(found) == len(parts)
            for mine, part in zip(found, map(np.asarray, parts), strict=True):
                assert mine.shape == part.shape, function
                size = np.max(np.abs(part), initial=0.0)
                assert np.max(np.abs(mine - part), initial=0.0) <= 1e-12 * size, function


@pytest.mark.parametrize("norm", ["default", "seminorm"])
@pytest.mark.parametrize("name", gallery())
def test_matched_stepping_is_scipys(name, norm):
    outcomes = {backend: gallery_outcome(name, backend, 1e-6, norm, "matched") for backend in ("julia", "scipy")}
    records = {backend: from_outcome("", {"rtol": 1e-6}, outcome, {}) for backend, outcome in outcomes.items()}
    assert {record.status for record in records.values()} == {Status.OK}
    for which in ("forward", "backward"):
        mine, its = (getattr(outcomes[backend], which).counts for backend in ("julia", "scipy"))
        assert mine == its, which
    ts = load(name).ts
    assert same_steps(records["julia"], records["scipy"], ts[-1] - ts[0])
    assert any(is_unstable(record) for record in records.values()) == (name in UNSTABLE)
    if name not in UNSTABLE:
        gradients = [outcome.gradient.arrays for outcome in outcomes.values()]
        assert gradient_difference(*gradients) <= 1e-9


@pytest.mark.parametrize("name", ["linear", "hudson_bay", "van_der_pol", "cnf_density"])
def test_native_stepping_is_scipys(name):
    """Its own rules, written in Julia: the same steps where no kink turns rounding into another step."""
    mine, its = (gallery_outcome(name, backend, 1e-6) for backend in ("julia", "scipy"))
    assert mine.forward.counts == its.forward.counts
    assert mine.backward.counts == its.backward.counts
    assert gradient_difference(mine.gradient.arrays, its.gradient.arrays) <= 1e-9


def test_a_warm_gradient_is_faster_than_scipys():
    """By far on a small problem: `hudson_bay` takes 20 to 50 times as long in SciPy."""
    import time

    sweeps = [compiled(load("hudson_bay"), backend) for backend in ("julia", "scipy")]
    best = []
    for sweep in sweeps:
        sweep.solve(1e-6, 1e-8)
        times = []
        for _ in range(5):
            started = time.perf_counter()
            sweep.solve(1e-6, 1e-8)
            times.append(time.perf_counter() - started)
        best.append(min(times))
    assert best[0] < best[1]
