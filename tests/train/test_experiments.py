"""The paper's three experiments: data as the gallery's problems take them, sizes, scores."""

import inspect
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbackend import datasets, ops, tree
from crossbackend.bound import Bound
from crossbackend.datasets.split import Part, Split
from crossbackend.errors import UserError
from crossbackend.load import load
from crossbackend.plan import Plan
from crossbackend.train.experiment import Preset, Samples, size
from crossbackend.train.experiments import EXPERIMENTS, named, preset
from crossbackend.train.job import Job
from crossbackend.trial import trial

gallery = cache(load)
PRESETS = [(name, which) for name, experiment in EXPERIMENTS.items() for which in experiment.presets]


@cache
def vowels():
    pytest.importorskip("aeon")
    experiment = named("neural_cde")
    return experiment, preset(experiment, "reduced"), experiment.load(preset(experiment, "reduced"), None, None)


def problem_of(experiment, sizes):
    return gallery(sizes.problem or experiment.problem)


def fitted(experiment, sizes, samples, count=2):
    """Return the gallery's problem with an experiment's parameters and a batch of it."""
    rng = np.random.default_rng(0)
    data = experiment.batch(sizes, samples.train, np.arange(count), rng)
    changes = dict(samples.changes) | {"params": experiment.parameters(sizes, samples, rng), "data": data}
    return problem_of(experiment, sizes).replace(**changes, dtype=sizes.dtype)


class TestNeuralCDE:
    def test_the_control_is_linear_between_frames_and_stands_still_after_the_last(self, rng):
        experiment, sizes, samples = vowels()
        raw = datasets.japanese_vowels()
        frames = np.concatenate(raw.train.inputs)
        index = np.array([0, 3, 17, 200, 269])
        data = experiment.batch(sizes, samples.train, index, rng)
        longest = max(len(one) for one in (*raw.train.inputs, *raw.test.inputs))
        np.testing.assert_array_equal(data["knots"], np.arange(longest))
        for t in (0.0, 0.3, 4.0, 6.99, 11.5, 20.2, longest - 1.0):
            found = ops.interpolate(np.array(t), data["knots"], data["path"])
            for row, number in zip(found, index, strict=True):
                series = (raw.train.inputs[number] - frames.mean(axis=0)) / frames.std(axis=0)
                knots = np.arange(len(series))
                wanted = [min(t, knots[-1]), *(np.interp(t, knots, channel) for channel in series.T)]
                np.testing.assert_allclose(row, wanted, atol=1e-12)
        slope = ops.interpolate(np.array(longest - 1.5), data["knots"], data["path"], derivative=1)
        ended = [len(raw.train.inputs[number]) < longest - 1 for number in index]
        assert any(ended)
        np.testing.assert_array_equal(slope[ended], 0)
        np.testing.assert_allclose(data["first"][:, 1:], samples.train["values"][index, 0, 1:])
        np.testing.assert_array_equal(data["labels"].argmax(axis=1), raw.train.labels[index])

    def test_sizes(self):
        experiment, sizes, samples = vowels()
        assert (size(samples.train), size(samples.test)) == (270, 370)
        assert samples.train["values"].shape[2] == 13
        problem = fitted(experiment, sizes, samples)
        assert problem.ts == (0.0, 28.0)
        assert problem.breakpoints == tuple(range(1, 28))
        assert trial(problem, "torch").mistakes == []

    @pytest.mark.parametrize("name", ["reduced", "paper"])
    def test_parameters(self, name, rng):
        experiment, _, samples = vowels()
        sizes = preset(experiment, name)
        params = experiment.parameters(sizes, samples, rng)
        model = sizes.model
        shapes = [layer["w"].shape for layer in params["field"]]
        inner = [model["width"]] * model["layers"]
        assert shapes == list(zip([model["hidden"], *inner], [*inner, 13 * model["hidden"]], strict=True))
        assert params["read"]["w"].shape == (model["hidden"], 9)

    def test_scores_are_the_gallerys_loss(self, rng):
        experiment, sizes, samples = vowels()
        problem = fitted(experiment, sizes, samples, count=20)
        ys = rng.normal(size=(2, 20, sizes.model["hidden"]))
        found = experiment.scores(ys, problem.params, problem.data)
        assert found["loss"].shape == found["accuracy"].shape == (20,)
        assert found["loss"].mean() == pytest.approx(float(problem.loss(ys, problem.params, problem.data)), rel=1e-12)
        exact = problem.data["labels"] @ np.arange(9)
        guessed = np.argmax(ys[-1] @ problem.params["read"]["w"] + problem.params["read"]["b"], axis=1)
        assert found["accuracy"].sum() == (guessed == exact).sum()

    def test_speech_commands_need_a_folder(self):
        experiment = named("neural_cde")
        with pytest.raises(
            UserError, match=r"--data: got no folder, expected the folder of Speech Commands.*docs/data"
        ):
            experiment.load(preset(experiment, "paper"), None, None)


IMAGES = {"reduced": (1, 8, 8), "paper": (1, 28, 28), "paper-cifar10": (3, 32, 32)}


class TestFlow:
    def _samples(self, name, monkeypatch, rng):
        """Load a preset whose images are made up."""
        experiment = named("cnf")
        sizes, shape = preset(experiment, name), IMAGES[name]
        shape = shape[1:] if name == "paper" else shape  # MNIST comes without an axis of channels
        parts = [Part(rng.integers(0, sizes.data["levels"], (n, *shape), dtype=np.uint8), np.arange(n)) for n in (3, 2)]
        split = Split(parts[0], parts[1], None, ())
        for source in ("mnist", "cifar10"):
            monkeypatch.setattr(datasets, source, lambda folder: split)
        monkeypatch.setattr(datasets, "digits", lambda: split)
        return experiment, sizes, experiment.load(sizes, "anywhere", None)

    @pytest.mark.parametrize("name", IMAGES)
    def test_parameters_and_times_fit_the_gallery(self, name, monkeypatch, rng):
        pytest.importorskip("torch")
        experiment, sizes, samples = self._samples(name, monkeypatch, rng)
        assert samples.train["pixels"].shape == (3, *IMAGES[name])
        problem = fitted(experiment, sizes, samples)
        blocks = len(sizes.model["scales"])
        assert (problem.ts, problem.breakpoints) == ((0.0, float(blocks)), tuple(range(1, blocks)))
        assert trial(problem, "torch").mistakes == []
        bound = Bound(problem, "torch", "float32")
        state = bound.initial(bound.params, bound.data)
        for k in range(blocks):
            dy = bound.field(bound.time(k + 0.5), state, bound.params, bound.data)
            assert {name: tuple(leaf.shape) for name, leaf in dy.items()} == {"z": (2, *IMAGES[name]), "logp": (2,)}
            assert str(dy["z"].dtype) == "torch.float32"

    @pytest.mark.parametrize("name", ["paper", "paper-cifar10"])
    def test_the_papers_blocks_are_at_three_scales(self, name, monkeypatch, rng):
        experiment, sizes, samples = self._samples(name, monkeypatch, rng)
        blocks = experiment.parameters(sizes, samples, rng)["blocks"]
        channels = IMAGES[name][0]
        assert [block[0]["w"].shape[1] for block in blocks] == [4**scale * channels + 1 for scale in (0, 0, 1, 2)]
        assert [block[-1]["w"].shape[0] for block in blocks] == [4**scale * channels for scale in (0, 0, 1, 2)]
        assert {block[0]["w"].shape[0] for block in blocks} == {64}

    def test_a_batch_is_dequantised_as_the_gallery_does(self, monkeypatch, rng):
        experiment, sizes, samples = self._samples("paper", monkeypatch, rng)
        index = np.array([2, 0, 2])
        data = experiment.batch(sizes, samples.train, index, np.random.default_rng(4))
        noise = np.random.default_rng(4).uniform(size=(3, 1, 28, 28))
        to_real_line = load("cnf").vector_field.__globals__["to_real_line"]
        x, offset = to_real_line(samples.train["pixels"][index], noise, 256, 0.05)
        np.testing.assert_allclose(data["x"], x, rtol=1e-13)
        np.testing.assert_allclose(data["offset"], offset, rtol=1e-13)
        assert set(np.unique(data["v"])) == {-1.0, 1.0}
        assert not np.array_equal(data["x"][0], data["x"][2]), "the noise is each sample's own"
        pixels = np.floor(256 * (1 / (1 + np.exp(-data["x"])) - 0.05) / 0.9)
        np.testing.assert_array_equal(pixels, samples.train["pixels"][index])

    def test_scores_are_the_gallerys_loss(self, monkeypatch, rng):
        experiment, sizes, samples = self._samples("reduced", monkeypatch, rng)
        problem = fitted(experiment, sizes, samples, count=3)
        ys = {"z": rng.normal(size=(2, 3, 1, 8, 8)), "logp": rng.normal(size=(2, 3))}
        found = experiment.scores(ys, problem.params, problem.data)
        assert found["loss"].shape == (3,)
        assert found["loss"].mean() == pytest.approx(float(problem.loss(ys, problem.params, problem.data)), rel=1e-12)

    @pytest.mark.parametrize(("name", "source"), [("paper", "MNIST"), ("paper-cifar10", "CIFAR-10")])
    def test_images_need_a_folder(self, name, source):
        experiment = named("cnf")
        with pytest.raises(UserError, match=f"--data: got no folder, expected the folder of {source}"):
            experiment.load(preset(experiment, name), None, None)


class TestSymODEN:
    @given(st.integers(0, 5), st.lists(st.integers(1, 9), min_size=1, max_size=3))
    def test_parameters_are_drawn_as_the_gallerys(self, seed, widths):
        experiment = named("symoden")
        sizes = Preset(1, 1, 1, 1, None, {"mass": widths, "potential": widths[:1], "push": widths[::-1]})
        found = experiment.parameters(sizes, None, np.random.default_rng(seed))
        drawn = gallery("symoden").vector_field.__globals__["parameters"]
        wanted = drawn(np.random.default_rng(seed), widths, widths[:1], widths[::-1])
        assert tree.structure(found) == tree.structure(wanted)
        for leaf, other in zip(tree.values(found), tree.values(wanted), strict=True):
            np.testing.assert_array_equal(leaf, other)

    def test_the_papers_sizes(self):
        """As counted from section 3.3's networks: 400 x 3, 300 x 2 and 300 x 2, and no constant in V."""
        experiment = named("symoden")
        params = experiment.parameters(preset(experiment, "paper"), None, np.random.default_rng(0))
        counts = {name: sum(leaf.size for leaf in tree.values(part)) for name, part in params.items()}
        assert counts == {
            "M": 5 * 400 + 2 * 401 * 400 + 401 * 3, "V": 5 * 300 + 301 * 300 + 300, "g": 5 * 300 + 301 * 300 + 301 * 4,
        }  # fmt: skip

    def test_windows_and_scores(self, rng):
        pytest.importorskip("torch")
        experiment = named("symoden")
        sizes = preset(experiment, "reduced")
        windows = rng.normal(size=(9, 8, 8))
        samples = Samples({"seen": windows}, {"seen": windows}, {"ts": 0.05 * np.arange(8)})
        data = experiment.batch(sizes, samples.train, np.array([4, 1, 4]), rng)
        np.testing.assert_array_equal(data["seen"], np.stack([windows[4], windows[1], windows[4]], axis=1))
        problem = fitted(experiment, sizes, samples, count=4)
        ys = rng.normal(size=(8, 4, 8))
        found = experiment.scores(ys, problem.params, problem.data)["loss"]
        assert found.mean() == pytest.approx(float(problem.loss(ys, problem.params, problem.data)), rel=1e-12)
        assert found[2] == pytest.approx(np.mean((ys[:, 2] - windows[2]) ** 2), rel=1e-12)
        assert trial(problem, "torch").mistakes == []

    def test_what_is_loaded_is_the_simulated_pendulum(self, tmp_path):
        experiment = named("symoden")
        sizes = Preset(1, 1, 1, 1, None, {}, {"trajectories": 7})
        found = experiment.load(sizes, None, tmp_path)
        made = datasets.acrobot(7)
        np.testing.assert_array_equal(found.train["seen"], made.train)
        np.testing.assert_array_equal(found.test["seen"], made.test)
        np.testing.assert_array_equal(found.changes["ts"], made.times)
        assert list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "which"), PRESETS)
def test_presets_are_what_jobs_and_plans_can_be_made_of(name, which):
    experiment, job = named(name), Job(name, which, "torchdiffeq", "default")
    sizes = preset(experiment, which)
    assert job.plan() == Plan(
        sizes.problem or experiment.problem, "torchdiffeq", "default", "native", sizes.rtol, sizes.atol,
        dtype=sizes.dtype,
    )  # fmt: skip
    assert set(experiment.norms) <= {"default", "mixed-seminorm", "seminorm", *problem_of(experiment, sizes).norms}
    assert job.record(3).name == f"{job.record(0).name.removesuffix('0')}3"
    assert inspect.getdoc(type(experiment))


def test_the_papers_presets_are_the_papers():
    """Batch, epochs, tolerances, optimiser: the paper's section 3 and appendix."""
    cde, cnf, oden = (preset(named(name), "paper") for name in ("neural_cde", "cnf", "symoden"))
    assert (cde.batch_size, cde.epochs, cde.rtol, cde.atol) == (1024, 200, 1e-3, 1e-6)
    assert (cnf.batch_size, cnf.epochs, cnf.rtol, cnf.atol) == (256, 100, 1e-5, 1e-5)
    assert (oden.batch_size, oden.epochs, oden.rtol, oden.atol) == (256, 50, 1e-4, 1e-4)
    found = [
        (made.name, made.learning_rate, made.weight_decay) for made in (cde.optimiser, cnf.optimiser, oden.optimiser)
    ]
    assert found == [("adam", 1.6e-3, 0.01), ("adam", 1e-3, 0.0), ("adamw", 1e-3, 0.01)]


def test_unknown_names_are_said_with_the_closest():
    with pytest.raises(UserError, match=r"experiment: got 'symodem', expected one of .* Did you mean 'symoden'\?"):
        named("symodem")
    with pytest.raises(UserError, match=r"--preset: got 'x', expected one of reduced, paper\."):
        preset(named("symoden"), "x")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "nfe"), [("default", 98), ("mixed-seminorm", 98), ("seminorm", 98), ("as-released", 56)]
)
def test_table_3s_evaluations_are_the_released_norms(norm, nfe, tmp_path, monkeypatch):
    """The first step of a reduced training: 7 intervals of two steps or of one (14 and 8 evaluations)."""
    pytest.importorskip("torch")
    from crossbackend import registry
    from crossbackend.train.loop import generator, order

    experiment, job = named("symoden"), Job("symoden", "reduced", "torchdiffeq", norm)
    sizes = job.sizes()
    few = Preset(**{**vars(sizes), "data": {**sizes.data, "trajectories": 7}})
    samples = experiment.load(few, None, None)
    index = order(0, 0, size(samples.train), sizes.batch_size)[0]
    data = experiment.batch(sizes, samples.train, index, generator(0, 1, 0, 0))
    params = experiment.parameters(sizes, samples, generator(0, 3))
    problem = load("symoden").replace(params=params, data=data, dtype="float32", **samples.changes)
    backend = registry.get("torchdiffeq")
    step = backend.stepper(problem, job.plan(), sizes.optimiser).step(data)  # type: ignore[attr-defined]
    assert step.nfe[1] == nfe
    assert step.rejected[1] == 0
