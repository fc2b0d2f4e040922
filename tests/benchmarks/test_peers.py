"""The peers take our gradient: what the harness checks before it times anything, on the small problems, here too."""

import importlib

import numpy as np
import pytest

from benchmarks.overhead import NETWORKS, SHORT
from benchmarks.peers import diffrax_equinox, torchdiffeq_module
from benchmarks.turns import AGREE, _agree
from crossbackend import registry
from crossbackend.load import load
from crossbackend.plan import Plan

RTOL = 1e-5
OF = {"torchdiffeq_direct": "torchdiffeq", "torchdiffeq_module": "torchdiffeq", "diffrax_direct": "diffrax",
      "diffrax_equinox": "diffrax"}  # fmt: skip


def apart(peer, backend, name):
    """The difference of a peer's gradient and ours, over ours."""
    problem = load(name)
    loss, of_y0, leaves = importlib.import_module(f"benchmarks.peers.{peer}").prepare(problem, RTOL, RTOL / 100)()
    ours = registry.get(backend).compile(problem, Plan(name, backend, "default", "native", RTOL, RTOL / 100))
    gradient = ours.solve(RTOL, RTOL / 100)
    own = np.concatenate([np.ravel(leaf) for leaf in (*gradient.y0.values(), *gradient.params.values())])
    theirs = np.concatenate([np.ravel(leaf) for leaf in (of_y0, *leaves)])
    assert loss == pytest.approx(gradient.loss, rel=1e-3)
    return np.linalg.norm(own - theirs) / np.linalg.norm(own)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("peer", list(OF))
def test_a_peer_takes_our_gradient(peer, name):
    assert apart(peer, OF[peer], name) < AGREE


@pytest.mark.parametrize("name", ["linear", "cnf_density"])
def test_scipy_by_hand_takes_ours_also_of_a_state_of_several_arrays(name):
    assert apart("scipy_by_hand", "scipy", name) < AGREE


def test_every_problem_has_its_model():
    assert set(torchdiffeq_module.MODELS) == set(diffrax_equinox.MODELS) == set(SHORT)
    assert {load(name).name for name in NETWORKS} == set(NETWORKS)


def test_two_that_differ_are_not_timed():
    one = {"gradient": [[1.0, 2.0], [3.0]]}
    _agree(("a", "b"), [one, {"gradient": [[1.0, 2.0], [3.0001]]}])
    with pytest.raises(RuntimeError, match=r"a and b differ by 2\.\de-01: they do not take the same gradient"):
        _agree(("a", "b"), [one, {"gradient": [[1.0, 2.0], [4.0]]}])
    with pytest.raises(RuntimeError, match="nan"):
        _agree(("a", "b"), [one, {"gradient": [[1.0, 2.0], [float("nan")]]}])
