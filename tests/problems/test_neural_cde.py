"""The neural CDEs of the gallery: the speech they read, the control through it, the field, and what the solvers do."""

import importlib
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline

from crossbackend import initialise, ops, tree
from crossbackend.load import load
from tests.problems.cells import gallery_outcome, worst_difference

NAMES = ("neural_cde", "neural_cde_hermite", "neural_cde_relu")
BACKENDS = ("torchdiffeq", "diffrax", "scipy")
SPEECH = Path(__file__).parents[2] / "problems" / "japanese_vowels.csv"


@cache
def shipped():
    """Return the rows of the file by the utterance's number: (speaker, array of shape (frames, 12))."""
    rows = np.loadtxt(SPEECH, delimiter=",", skiprows=8)
    numbers = sorted(set(rows[:, 0].astype(int)))
    parts = {number: rows[rows[:, 0] == number] for number in numbers}
    return {number: (int(part[0, 1]), part[:, 3:]) for number, part in parts.items()}


def truth(name, frames, t):
    """Return X(t) and dX/dt of one utterance, time first, by NumPy and SciPy; a knot belongs to the piece after it."""
    values = np.column_stack([np.arange(len(frames)), frames])
    knots = np.arange(len(frames))
    if t >= knots[-1]:
        return values[-1], np.zeros(values.shape[1])
    i = int(np.floor(t))
    if name == "neural_cde_hermite":
        slopes = np.concatenate([values[1:2] - values[:1], np.diff(values, axis=0)])
        spline = CubicHermiteSpline(knots, values, slopes)
        return spline(t), spline.derivative()(t)
    return np.array([np.interp(t, knots, column) for column in values.T]), values[i + 1] - values[i]


def test_the_speech_names_its_source_and_licence():
    head = "".join(line for line in SPEECH.read_text().splitlines() if line.startswith("#"))
    for words in ("Kudo", "Toyama", "Shimbo", "Japanese Vowels", "UCI", "10.24432/C5NS47", "CC BY 4.0"):
        assert words in head


def test_the_speech_is_six_utterances_of_six_speakers():
    found = shipped()
    assert [speaker for speaker, _ in found.values()] == [2, 3, 5, 7, 8, 9]
    assert [frames.shape for _, frames in found.values()] == [(n, 12) for n in (11, 7, 10, 12, 10, 9)]
    rows = np.loadtxt(SPEECH, delimiter=",", skiprows=8)
    for number, (_, frames) in found.items():
        np.testing.assert_array_equal(rows[rows[:, 0] == number, 2], np.arange(len(frames)))


def test_the_speech_is_the_shortest_of_each_speaker_in_the_training_set():
    datasets = pytest.importorskip("aeon.datasets")
    series, speakers = datasets.load_japanese_vowels(split="train")
    for number, (speaker, frames) in shipped().items():
        np.testing.assert_array_equal(frames, series[number - 1].T)
        assert int(speakers[number - 1]) == speaker
        others = zip(series, speakers, strict=True)
        assert len(frames) == min(x.shape[1] for x, found in others if int(found) == speaker)


@pytest.mark.parametrize("name", NAMES)
def test_the_interval_is_split_at_the_knots(name):
    problem: Any = load(name)
    assert problem.ts == (0.0, 11.0)
    assert problem.breakpoints == tuple(float(k) for k in range(1, 11))
    np.testing.assert_array_equal(problem.data["knots"], np.arange(12.0))
    np.testing.assert_array_equal(np.argmax(problem.data["labels"], axis=1) + 1, [2, 3, 5, 7, 8, 9])


@pytest.mark.parametrize("name", NAMES)
def test_the_control_goes_through_the_observations(name):
    data: Any = load(name).data
    for k, knot in enumerate(data["knots"]):
        wanted = [np.r_[min(k, len(x) - 1), x[min(k, len(x) - 1)]] for _, x in shipped().values()]
        for t in (knot, max(knot - 1e-9, 0.0)):  # the piece after the knot, and the one before
            found = ops.interpolate(np.asarray(t), data["knots"], data["path"])
            np.testing.assert_allclose(found, wanted, atol=1e-8)


@pytest.mark.parametrize("name", ["neural_cde", "neural_cde_hermite"])
def test_the_control_is_that_of_scipy(name):
    data: Any = load(name).data

    @given(st.floats(0.0, 11.0, exclude_max=True))
    def agrees(t):
        value, slope = (ops.interpolate(np.asarray(t), data["knots"], data["path"], d) for d in (0, 1))
        for k, (_, frames) in enumerate(shipped().values()):
            wanted = truth(name, frames, t)
            np.testing.assert_allclose(value[k], wanted[0], atol=1e-12)
            np.testing.assert_allclose(slope[k], wanted[1], atol=1e-12)

    agrees()


def test_the_slope_jumps_at_a_knot_where_the_control_is_linear_and_not_where_it_is_cubic():
    jumps = {}
    for name in ("neural_cde", "neural_cde_hermite"):
        data: Any = load(name).data
        left, right = (ops.interpolate(np.asarray(t), data["knots"], data["path"], 1) for t in (3 - 1e-12, 3.0))
        jumps[name] = np.abs(right - left).max()
    assert jumps["neural_cde"] > 0.1
    assert jumps["neural_cde_hermite"] < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_a_state_stands_still_once_its_utterance_is_over(name):
    problem: Any = load(name)
    ends = np.array([len(frames) - 1 for _, frames in shipped().values()])
    z = np.random.default_rng(0).normal(size=(6, 8))
    for t in (0.5, 5.5, 6.0, 6.5, 8.5, 9.25, 10.5):
        moves = np.abs(problem.vector_field(np.asarray(t), z, problem.params, problem.data)).max(axis=1)
        np.testing.assert_array_equal(moves > 0, t < ends)


def by_hand(name, t, z, params):
    """Return F(z) dX/dt, one utterance and one entry at a time."""
    activation = (lambda x: np.maximum(x, 0)) if name == "neural_cde_relu" else (lambda x: np.logaddexp(x, 0))
    out = np.zeros_like(z)
    for k, (_, frames) in enumerate(shipped().values()):
        hidden = z[k]
        for layer in params["field"][:-1]:
            hidden = activation(layer["w"].T @ hidden + layer["b"])
        flat = np.tanh(params["field"][-1]["w"].T @ hidden + params["field"][-1]["b"])
        slope = truth(name, frames, t)[1]
        for i in range(z.shape[1]):
            out[k, i] = sum(flat[i * len(slope) + j] * slope[j] for j in range(len(slope)))
    return out


@pytest.mark.parametrize("name", NAMES)
def test_the_field_is_that_written_by_hand(name):
    problem: Any = load(name)
    rng = np.random.default_rng(1)
    for t in (0.0, 0.3, 4.0, 6.7, 9.5, 10.9):
        z = rng.normal(size=(6, 8))
        found = problem.vector_field(np.asarray(t), z, problem.params, problem.data)
        np.testing.assert_allclose(found, by_hand(name, t, z, problem.params), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_initial_state_and_loss_are_those_written_by_hand(name):
    problem: Any = load(name)
    params = problem.params
    first = np.stack([np.r_[0.0, frames[0]] for _, frames in shipped().values()])
    np.testing.assert_allclose(
        problem.initial(params, problem.data), first @ params["start"]["w"] + params["start"]["b"], rtol=1e-13
    )
    ys = np.random.default_rng(2).normal(size=(2, 6, 8))
    total = 0.0
    for k, (speaker, _) in enumerate(shipped().values()):
        scores = ys[1, k] @ params["read"]["w"] + params["read"]["b"]
        total -= np.log(np.exp(scores[speaker - 1]) / np.exp(scores).sum())
    assert problem.loss(ys, params, problem.data) == pytest.approx(total / 6, rel=1e-12)


def run_other_sizes(library, sizes, lengths):
    """Run the three functions in float32 on a minibatch of random series, and check every shape and dtype."""
    batch, features, hidden, width, layers, classes = sizes
    problem: Any = load("neural_cde")
    model = importlib.import_module("_neural_cde_model")  # the loader imported it
    rng = np.random.default_rng(3)
    series = [rng.normal(size=(n, features)) for n in lengths]
    control = model.control(series, np.eye(classes)[np.arange(batch) % classes], ops.linear_coefficients)
    params = model.parameters(rng, features + 1, hidden, width, layers, classes)
    through = [layer["w"].shape for layer in params["field"]]
    assert through == list(pairwise([hidden, *[width] * layers, hidden * (features + 1)]))
    params, control = (
        tree.map_leaves(lambda leaf: ops.asarray(leaf, library, "float32"), x) for x in (params, control)
    )
    z = problem.initial(params, control)
    dz = problem.vector_field(ops.asarray(np.array(0.5), library, "float32"), z, params, control)
    assert tuple(dz.shape) == tuple(z.shape) == (batch, hidden)
    value = problem.loss(ops.namespace(z).stack([z, z + dz]), params, control)
    assert tuple(value.shape) == ()
    assert {str(x.dtype).removeprefix("torch.") for x in (z, dz, value)} == {"float32"}


@settings(max_examples=20)
@given(st.tuples(*[st.integers(1, 4)] * 6), st.data())
def test_other_sizes_and_float32(sizes, data):
    run_other_sizes("numpy", sizes, data.draw(st.lists(st.integers(2, 6), min_size=sizes[0], max_size=sizes[0])))


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_sizes_and_float32_in_a_library(library):
    pytest.importorskip(library)
    run_other_sizes(library, (3, 2, 4, 5, 3, 2), [4, 2, 6])


def test_the_variants_share_their_parameters_as_torch_draws_them():
    first, *others = (tree.flatten(load(name).params) for name in NAMES)
    for other in others:
        for name, leaf in other.items():
            np.testing.assert_array_equal(leaf, first[name])
    rng = np.random.default_rng(6)
    np.testing.assert_array_equal(first["start/w"], initialise.linear(rng, 13, 8)["w"])


def test_a_changed_copy_travels_to_another_process(tmp_path):
    problem: Any = load("neural_cde").replace(source="changed")
    (tmp_path / "problem.pickle").write_bytes(cloudpickle.dumps(problem))
    code = (
        "import pickle, sys, numpy as np; p = pickle.loads(open(sys.argv[1], 'rb').read()); "
        "print(np.sum(p.vector_field(np.asarray(0.5), p.initial(p.params, p.data), p.params, p.data)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "problem.pickle")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    z = problem.initial(problem.params, problem.data)
    wanted = np.sum(problem.vector_field(np.asarray(0.5), z, problem.params, problem.data))
    assert float(done.stdout) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_same_steps_give_the_same_gradient(name):
    """Under the default norm; `make check` has the seminorm."""
    norm = "default"
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    found = [gallery_outcome(name, backend, 1e-4, norm, "matched") for backend in BACKENDS]
    assert [item.status for item in found] == ["ok"] * 3
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].forward.accepted, other.forward.accepted)
        np.testing.assert_array_equal(found[0].backward.accepted, other.backward.accepted)
    assert worst_difference(found) < 1e-9


@pytest.mark.slow
def test_torchdiffeq_needs_the_papers_norm_where_the_control_is_smooth():
    pytest.importorskip("torch")
    norms = ("default", "seminorm", "mixed-seminorm")
    default, library, paper = (
        gallery_outcome("neural_cde_hermite", "torchdiffeq", 1e-8, norm).backward.nfe for norm in norms
    )
    assert library > 0.9 * default  # it sees the adjoint of time
    assert paper < 0.8 * default


@pytest.mark.slow
def test_a_solver_that_is_not_told_the_knots_pays_for_them():
    pytest.importorskip("jax")
    told, untold = (gallery_outcome("neural_cde", name, 1e-6) for name in ("diffrax", "scipy"))
    assert untold.forward.nfe > 5 * told.forward.nfe
