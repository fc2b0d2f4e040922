"""The committed trainings of the paper's systems: all there, and the pendulum that they learned swings up."""

from pathlib import Path

import numpy as np
import pytest

from crossbackend import tree
from crossbackend.compare import Comparison, compare
from crossbackend.store import load_run
from crossbackend.train import swing_up
from crossbackend.train.experiments import EXPERIMENTS
from tests.test_example import drawn_by_other_versions

PAPER = Path(__file__).parents[1] / "reports/paper"


@pytest.fixture(scope="module")
def paper() -> Comparison:
    return compare(load_run(PAPER))


def test_every_experiment_is_trained_under_every_norm_with_three_seeds_on_both_backends(paper):
    assert paper.damaged == []
    assert all(record.status == "ok" for record in paper.training)
    found = {(r.experiment, r.backend, r.norm, r.seed) for r in paper.training}
    norms = {(name, norm) for name, made in EXPERIMENTS.items() for norm in made.norms}
    assert found == {
        (name, backend, norm, seed)
        for name, norm in norms
        for backend in ("torchdiffeq", "diffrax")
        for seed in range(3)
    }


def test_the_flow_has_three_widths_and_the_neural_cde_two_tolerances(paper):
    assert {r.width for r in paper.training if r.experiment == "cnf"} == {4, 8, 12}
    assert {r.rtol for r in paper.training if r.experiment == "neural_cde"} == {1e-3, 1e-4}


def test_both_backends_begin_with_the_same_loss(paper):
    first: dict[tuple[str, int, int | None], list[float]] = {}
    for record in paper.training:
        key = record.experiment, record.seed, record.width
        first.setdefault(key, []).append(float(record.arrays["curve/loss"][0]))
    for losses in first.values():
        np.testing.assert_allclose(losses, losses[0], rtol=2e-3)


def swinging(paper):
    return [r for r in paper.training if r.experiment == "symoden" and r.backend == "diffrax"]


def test_the_trained_pendulum_stands_upright_in_the_simulator(paper):
    """Within 0.3 rad and rad/s, from the committed parameters, simulated anew; every seed and norm."""
    for record in swinging(paper):
        params = {"V": _network(record, "V"), "g": _network(record, "g")}
        motion = swing_up.simulate(params)
        np.testing.assert_array_equal(motion["control/q"][0], 0.0)
        assert len(motion["control/u"]) == swing_up.STEPS
        assert swing_up.distance(motion["control/q"][-1], motion["control/velocity"][-1]) < 0.3, record.name


def test_the_stored_motion_ends_upright_too(paper):
    for record in swinging(paper):
        q, velocity = record.arrays["control/q"], record.arrays["control/velocity"]
        assert swing_up.distance(q[-1], velocity[-1]) < 0.3, record.name


def _network(record, name):
    arrays = {k.removeprefix(f"params/{name}/"): v for k, v in record.arrays.items() if k.startswith(f"params/{name}/")}
    layers = sorted({int(key.split("/")[0]) for key in arrays})
    return [
        {key.split("/")[1]: v.astype(float) for key, v in arrays.items() if key.startswith(f"{n}/")} for n in layers
    ]


def test_torchdiffeq_shows_the_evaluations_of_table_3(paper):
    means = {}
    for record in paper.training:
        if record.experiment == "symoden" and record.backend == "torchdiffeq":
            means.setdefault(record.norm, []).append(record.arrays["curve/backward_nfe"][0])
    assert {norm: set(map(int, first)) for norm, first in means.items()} == {
        "default": {98}, "mixed-seminorm": {98}, "seminorm": {98}, "as-released": {56},
    }  # fmt: skip


def test_a_record_holds_what_it_sums(paper):
    for record in paper.training:
        curves = {k.removeprefix("curve/"): v for k, v in record.arrays.items() if k.startswith("curve/")}
        assert {len(curve) for curve in curves.values()} == {record.steps}
        assert record.backward_nfe_total == curves["backward_nfe"].sum()
        assert record.parameters == sum(a.size for n, a in tree.leaves(record.arrays) if n.startswith("params/"))


def test_its_report_is_what_this_version_writes(paper, tmp_path):
    from crossbackend.report import write

    if drawn_by_other_versions():
        pytest.skip(f"drawn by other versions of {', '.join(drawn_by_other_versions())} than constraints.txt has")
    written = write(paper, tmp_path, figures=True)
    stale = [path.name for path in written if path.read_bytes() != (PAPER / path.relative_to(tmp_path)).read_bytes()]
    assert stale == [], "run `crossbackend report reports/paper --figures`"
