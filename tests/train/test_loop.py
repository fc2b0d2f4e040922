"""One training: batches, epochs, checkpoints, judgement, and how it ends before its last step."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbackend import registry, tree
from crossbackend.backends.training import Counts, SolveFailed, Step
from crossbackend.errors import UserError
from crossbackend.load import load
from crossbackend.store import read_training
from crossbackend.train import checkpoint, experiments, loop, worker
from crossbackend.train.checkpoint import Checkpoint
from crossbackend.train.experiment import Samples
from crossbackend.train.job import Job
from crossbackend.train.loop import Training, generator, order
from crossbackend.train.worker import Lane
from crossbackend.training_record import TrainingRecord
from tests.train import small

pytest.importorskip("torch")
pytest.importorskip("jax")
pytest.importorskip("optax")

SECONDS = {"forward_s", "backward_s", "step_s"}
STEPPERS = {}
"""What diffrax has compiled, for all tests of this file: `start` makes it fresh."""


class Lab:
    """A run's folder, and trainings of the tiny experiment in this process."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.patch, self.said, self.tiny = folder, monkeypatch, [], small.Tiny()
        monkeypatch.setattr(worker, "load", lambda name: small.driven())
        self.experiment(self.tiny)

    def experiment(self, tiny):
        self.tiny = tiny
        self.patch.setitem(experiments.EXPERIMENTS, "tiny", tiny)

    def lane(self, backend, force=False, say=None, **changes):
        job = Job("tiny", "reduced", backend, "default", **changes)
        made = Lane(job, self.folder, None, None, force, say or self.said.append)
        if backend == "diffrax" and job.loss_scale == 1.0:
            if backend not in STEPPERS:
                STEPPERS[backend] = made._compile(job.record(0))
            made.stepper = STEPPERS[backend]
        return made

    def train(self, backend, **changes):
        """Train and return the records of all seeds."""
        lane = self.lane(backend, **changes)
        self.said.clear()
        lane.run()
        return [self.record(lane.job, seed) for seed in lane.job.seeds]

    def path(self, job, seed=0, suffix=".json"):
        return self.folder / "training" / f"{job.record(seed).name}{suffix}"

    def record(self, job, seed=0):
        return read_training(self.path(job, seed))

    def stop(self, backend, after, **changes):
        """Train until so many steps were told of, and stop there as Ctrl-C does."""
        told = []

        def say(message):
            told.append(message)
            if len(told) == after:
                raise KeyboardInterrupt

        lane = self.lane(backend, say=say, **changes)
        with pytest.raises(KeyboardInterrupt):
            lane.run()
        return lane.job


@pytest.fixture
def lab(tmp_path, monkeypatch):
    return Lab(tmp_path, monkeypatch)


def same(found, wanted):
    """Two records are the same but for their seconds."""
    bare = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]  # noqa: E731
    assert bare(found.epochs) == bare(wanted.epochs)
    assert (found.status, found.message, found.steps) == (wanted.status, wanted.message, wanted.steps)
    names = {name for name in wanted.arrays if name.removeprefix("curve/") not in SECONDS}
    for name in names:
        np.testing.assert_array_equal(found.arrays[name], wanted.arrays[name], err_msg=name)
        assert found.arrays[name].dtype == wanted.arrays[name].dtype


class TestOrder:
    @given(st.integers(0, 9), st.integers(0, 3), st.integers(1, 40), st.integers(1, 50))
    def test_every_sample_once_then_the_first_ones_again(self, seed, epoch, samples, batch_size):
        found = order(seed, epoch, samples, batch_size)
        assert found.shape == (math.ceil(samples / batch_size), batch_size)
        flat = found.ravel()
        assert sorted(flat[:samples]) == list(range(samples))
        for at, one in enumerate(flat[samples:], samples):
            assert one == flat[at - samples]

    def test_another_epoch_and_another_seed_have_another_order(self):
        first = order(0, 0, 100, 10)
        np.testing.assert_array_equal(order(0, 0, 100, 10), first)
        for other in (order(0, 1, 100, 10), order(1, 0, 100, 10)):
            assert not np.array_equal(other, first)

    def test_streams_of_random_numbers_are_apart(self):
        places = [(0, 0), (0, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0), (2, 1), (3,)]
        drawn = {generator(seed, *place).random() for seed in (0, 1, 2) for place in places}
        assert len(drawn) == 3 * len(places)


def test_both_backends_are_given_the_same_batches_and_learn_the_same(lab):
    seen, losses = [], []
    for backend in ("torchdiffeq", "diffrax"):
        lab.experiment(small.Tiny())
        (record,) = lab.train(backend)
        seen.append(lab.tiny.seen)
        losses.append(record.arrays["curve/loss"])
    first, second = (found[-10:] for found in seen)  # without the one to compile with
    assert len(first) == len(second) == 10
    for (index, data), (other, others) in zip(first, second, strict=True):
        np.testing.assert_array_equal(index, other)
        for a, b in zip(tree.values(data), tree.values(others), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(*losses, rtol=2e-2)
    parts = [getattr(lab.tiny.samples, name) for name in 2 * (*3 * ["train"], *2 * ["test"])]
    noise = [
        data["drive"] - np.moveaxis(part["drive"][index], 0, 1)
        for (index, data), part in zip(first, parts, strict=True)
    ]
    assert len({leaf.round(12).tobytes() for leaf in noise}) == 8, "fresh noise a step; the test set keeps its own"


def test_rows_sum_the_curves(trainer, lab):
    (record,) = lab.train(trainer)
    assert (record.status, record.steps, record.message) == ("ok", 6, "")
    assert [row["epoch"] for row in record.epochs] == [1, 2]
    for number, row in enumerate(record.epochs):
        mine = slice(3 * number, 3 * number + 3)
        for name in ("forward_nfe", "backward_nfe", "forward_rejected", "backward_rejected"):
            assert row[name] == record.arrays[f"curve/{name}"][mine].sum()
        assert row["train_loss"] == pytest.approx(record.arrays["curve/loss"][mine].mean(), rel=1e-12)
        assert row["seconds"] == pytest.approx(record.arrays["curve/step_s"][mine].sum())
        assert {"test_loss", "accuracy"} <= row.keys()
    for which in ("forward", "backward"):
        nfe = record.arrays[f"curve/{which}_nfe"]
        assert getattr(record, f"{which}_nfe_per_batch") == nfe.mean()
        assert getattr(record, f"{which}_nfe_total") == nfe.sum() > 0
        attempts = record.arrays[f"solve/{which}/accepted"]
        assert (~attempts).sum() == record.arrays[f"curve/{which}_rejected"].sum()
        assert record.time[f"median_{which}_s"] == np.median(record.arrays[f"curve/{which}_s"])
    assert record.arrays["solve/count"] == 6
    assert record.parameters == 4 + 2 + 4 + 2
    assert record.versions["crossbackend"]


def test_numbers_are_kept_in_the_precision_they_were_computed_in(trainer, lab):
    (record,) = lab.train(trainer)
    assert {leaf.dtype for name, leaf in record.arrays.items() if name.startswith("params/")} == {np.dtype("f4")}
    assert record.dtype == "float32"


@pytest.mark.parametrize("after", [1, 3, 4, 6])
def test_resumed_it_is_the_same_to_the_last_bit(trainer, lab, after):
    """Stopped within an epoch, at its last step, at the first one after it, and at the very last."""
    (whole,) = lab.train(trainer)
    lab.patch.setattr(loop, "CHECKPOINT_S", -1.0)
    lab.folder = lab.folder / "again"
    job = lab.stop(trainer, after)
    assert lab.path(job, suffix=".checkpoint.npz").exists() == (after > 1)
    assert not lab.path(job).exists()
    (found,) = lab.train(trainer)
    assert sum(message["do"] == "step" for message in lab.said) == 6 - max(after - 1, 0)
    same(found, whole)
    assert not lab.path(job, suffix=".checkpoint.npz").exists()
    assert found.time["total_s"] > 0


def test_stopped_while_it_is_judged_it_is_judged_later(trainer, lab):
    (whole,) = lab.train(trainer)
    lab.patch.setattr(loop, "CHECKPOINT_S", -1.0)
    for epoch in (1, 2):
        lab.folder = lab.folder / f"again{epoch}"
        judge, told = Training.judge, []

        def stop(self, judge=judge, told=told, epoch=epoch):
            told.append(1)
            if len(told) == epoch:
                raise KeyboardInterrupt
            return judge(self)

        with lab.patch.context() as patch:
            patch.setattr(Training, "judge", stop)
            with pytest.raises(KeyboardInterrupt):
                lab.lane(trainer).run()
        (found,) = lab.train(trainer)
        same(found, whole)


def test_no_checkpoint_is_due_in_a_short_training(trainer, lab):
    job = lab.stop(trainer, 5)
    assert not lab.path(job, suffix=".checkpoint.npz").exists()


def test_seeds_of_one_lane_do_not_know_of_each_other(trainer, lab):
    _, second = lab.train(trainer, seeds=(0, 1))
    assert [message["name"] for message in lab.said if message["do"] == "done"] == [
        lab.path(lab.lane(trainer).job, seed).stem for seed in (0, 1)
    ]
    lab.folder = lab.folder / "alone"
    (alone,) = lab.train(trainer, seeds=(1,))
    same(second, alone)


class TestOtherSettings:
    def _refused(self, lab, words, **changes):
        with pytest.raises(UserError, match=words[0]) as caught:
            lab.train("torchdiffeq", **changes)
        text = str(caught.value)
        assert [word for word in words if word not in text] == []
        assert len(caught.value.mistakes) == len(words)

    def test_are_refused_where_a_training_was_begun(self, lab):
        lab.patch.setattr(loop, "CHECKPOINT_S", -1.0)
        job = lab.stop("torchdiffeq", 3)
        before = lab.path(job, suffix=".checkpoint.npz").read_bytes()
        self._refused(lab, ["epochs: got 3, expected 2, as it was begun.", "steps: got 9, expected 6"], epochs=3)
        lab.experiment(lab.tiny.changed(optimiser=small.Optimiser("adam", 0.5), model={"width": 2, "depth": 3}))
        names = [
            "model.depth: got 3, expected None",
            "optimiser.learning_rate: got 0.5, expected 0.01",
            "optimiser.name: got 'adam', expected 'adamw'",
            "optimiser.weight_decay: got 0.0, expected 0.1",
        ]
        self._refused(lab, names)
        assert lab.path(job, suffix=".checkpoint.npz").read_bytes() == before

    def test_are_refused_where_a_training_is_done(self, lab):
        lab.train("torchdiffeq")
        self._refused(lab, ["steps: got 2, expected 6, as it was begun"], steps=2)
        versions = registry.versions("torchdiffeq")
        lab.patch.setattr(worker.registry, "versions", lambda name, training: versions | {"torch": "9.9"})
        self._refused(lab, ["versions.torch: got '9.9'"])

    def test_name_the_optimisers_package_too(self):
        pytest.importorskip("optax")
        both = [registry.versions("diffrax", training=training) for training in (True, False)]
        assert set(both[0]) - set(both[1]) == {"optax"}
        assert registry.training_distributions("torchdiffeq") == ()

    def test_begin_anew_with_force(self, lab):
        lab.train("torchdiffeq")
        (found,) = lab.train("torchdiffeq", steps=2, force=True)
        assert found.steps == 2

    def test_force_forgets_the_checkpoint_too(self, lab):
        lab.patch.setattr(loop, "CHECKPOINT_S", -1.0)
        lab.stop("torchdiffeq", 3)
        (found,) = lab.train("torchdiffeq", epochs=1, force=True)
        assert (found.steps, len(found.epochs)) == (3, 1)


def test_what_is_done_is_kept_and_trained_again_by_force(trainer, lab):
    (first,) = lab.train(trainer)
    path = lab.path(lab.lane(trainer).job)
    before = path.read_bytes()
    lab.train(trainer)
    assert lab.said == [{"do": "done", "name": path.stem}]
    assert path.read_bytes() == before
    (again,) = lab.train(trainer, force=True)
    assert sum(message["do"] == "step" for message in lab.said) == 6
    same(again, first)


def test_a_damaged_record_is_trained_anew(lab):
    (first,) = lab.train("torchdiffeq")
    path = lab.path(lab.lane("torchdiffeq").job)
    path.write_text(path.read_text().replace("ok", "ko", 1))
    (again,) = lab.train("torchdiffeq")
    same(again, first)


@pytest.mark.parametrize("content", [b"", b"no archive", None], ids=["empty", "text", "cut short"])
def test_a_damaged_checkpoint_is_said_and_left(lab, content):
    lab.patch.setattr(loop, "CHECKPOINT_S", -1.0)
    job = lab.stop("torchdiffeq", 4)
    path = lab.path(job, suffix=".checkpoint.npz")
    path.write_bytes(path.read_bytes()[:-80] if content is None else content)
    with pytest.raises(UserError, match=r"\.checkpoint\.npz: got a damaged file .*--force, to begin anew"):
        lab.train("torchdiffeq")
    assert path.exists()
    (found,) = lab.train("torchdiffeq", force=True)
    assert found.status == "ok"


def test_a_checkpoint_is_read_as_it_was_written_and_unpickles_nothing(tmp_path):
    path = tmp_path / "deep" / "x.checkpoint.npz"
    assert checkpoint.read(path) is None
    arrays = {"state/params/w/0": np.array(3.5), "curve/loss": np.array([1.0, np.nan]), "i": np.array([2**40])}
    about = {"settings": {"a": [1, None]}, "seconds": 0.1, "epochs": [{"train_loss": math.inf}]}
    checkpoint.write(path, Checkpoint(about, arrays))
    found = checkpoint.read(path)
    assert found.about == about
    for name, leaf in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], leaf)
        assert found.arrays[name].dtype == leaf.dtype
    with path.open("wb") as out:
        np.savez(out, about=np.array({"a": 1}, dtype=object))
    with pytest.raises(UserError, match="got a damaged file"):
        checkpoint.read(path)


def poisoned(tiny, sample):
    """Let one training sample's target be NaN."""
    train = {name: leaf.copy() for name, leaf in tiny.samples.train.items()}
    train["target"][sample] = np.nan
    tiny.samples = Samples(train, tiny.samples.test)


def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_its_batch(trainer, lab):
    (whole,) = lab.train(trainer)
    lab.folder = lab.folder / "poisoned"
    poisoned(lab.tiny, order(0, 0, 7, small.BATCH)[1, 0])
    lab.tiny.seen.clear()
    (record,) = lab.train(trainer)
    name = lab.path(lab.lane(trainer).job).stem
    assert record.status == "nan_loss"
    assert record.message == f"step 2 (epoch 1, batch 2): not finite; its batch is in {name}.batch.npz"
    assert (record.steps, record.ended, record.epochs) == (2, False, [])
    loss = record.arrays["curve/loss"]
    assert math.isnan(loss[-1])
    np.testing.assert_array_equal(loss[:-1], whole.arrays["curve/loss"][:1])
    with np.load(lab.path(lab.lane(trainer).job, suffix=".batch.npz"), allow_pickle=False) as kept:
        data = lab.tiny.seen[-1][1]
        assert {key for key in kept if key.startswith("data/")} == {f"data/{key}" for key in tree.flatten(data)}
        for key, leaf in tree.leaves(data):
            np.testing.assert_array_equal(kept[f"data/{key}"], leaf)
        for key, leaf in record.arrays.items():
            if key.startswith("params/"):
                np.testing.assert_array_equal(kept[key], leaf)
    assert not lab.path(lab.lane(trainer).job, suffix=".checkpoint.npz").exists()
    lab.train(trainer)
    assert lab.said == [{"do": "done", "name": name}], "it would end there again"


def test_force_takes_the_batch_of_an_earlier_end_away(lab):
    healthy = lab.tiny.samples
    poisoned(lab.tiny, 1)  # sample 0 is what is compiled with
    (record,) = lab.train("torchdiffeq")
    batch = lab.path(lab.lane("torchdiffeq").job, suffix=".batch.npz")
    assert (record.status, batch.exists()) == ("nan_loss", True)
    lab.tiny.samples = healthy
    (record,) = lab.train("torchdiffeq", force=True)
    assert (record.status, batch.exists()) == ("ok", False)


class Fake:
    """A stepper without a solver: y is x at every output, and every step takes a share off the parameters."""

    compile_s = 0.0

    def __init__(self, fail_at=None):
        self.count, self.fail_at = 0, fail_at

    def step(self, data):
        self.count += 1
        if self.count == self.fail_at:
            raise SolveFailed("the library's words")
        self._params = tree.map_leaves(lambda leaf: 0.9 * leaf, self._params)
        return Step.of(float(self.count), Counts(nfe=[7, 9]), (0.1, 0.2, 0.4))

    def predict(self, data):
        return 0.0, np.stack([data["x"], 2 * data["x"], data["drive"][0]])

    def params(self):
        return self._params

    def start(self, params):
        self._params = params

    def state(self):
        return {f"params/{name}": leaf for name, leaf in tree.leaves(self._params)}


@pytest.mark.parametrize(("fail_at", "where"), [(1, "step 1 (epoch 1, batch 1)"), (5, "step 5 (epoch 2, batch 2)")])
def test_a_solve_that_failed_is_a_record_that_says_where(lab, fail_at, where):
    lane = lab.lane("torchdiffeq")
    lane.stepper = Fake(fail_at)
    lane.run()
    record = lab.record(lane.job)
    assert (record.status, record.message) == ("solve_failed", f"{where}: the library's words")
    assert (record.steps, len(record.epochs)) == (fail_at - 1, (fail_at - 1) // 3)
    assert len(record.arrays["curve/loss"]) == fail_at - 1
    assert record.backward_nfe_per_batch == (9.0 if fail_at > 1 else None)


def test_a_real_solve_that_failed(lab):
    train = {name: leaf.copy() for name, leaf in lab.tiny.samples.train.items()}
    train["drive"][:] = np.inf
    lane = lab.lane("torchdiffeq")
    lane.stepper = lane._compile(lane.job.record(0))
    lane.samples = Samples(train, lane.samples.test)
    lane.run()
    record = lab.record(lane.job)
    assert record.status == "solve_failed"
    assert record.message.startswith("step 1 (epoch 1, batch 1): underflow in dt")


@given(count=st.integers(1, 13), batch_size=st.integers(1, 6))
def test_judged_in_batches_as_all_at_once(count, batch_size):
    tiny = small.Tiny(noise=0.0).changed(batch_size=batch_size)
    part = tiny._part(np.random.default_rng(count), count)
    samples = Samples(tiny.samples.train, part)
    stepper = Fake()
    stepper.start(small.driven().params)
    record = TrainingRecord("tiny", "torchdiffeq", "default", 0, 1e-3, 1e-5, tiny.metric)
    training = Training(record, tiny, tiny.presets["reduced"], samples, stepper, None, None)  # type: ignore[arg-type]
    found = training.judge()
    data = tiny.batch(tiny.presets["reduced"], part, np.arange(count), np.random.default_rng(0))
    whole = tiny.scores(stepper.predict(data)[1], stepper.params(), data)
    assert found["test_loss"] == pytest.approx(whole["loss"].mean(), rel=1e-12)
    assert found["accuracy"] == pytest.approx(whole["accuracy"].mean(), rel=1e-12)
    assert {len(index) for index, _ in tiny.seen[:-1]} == {batch_size}, "all batches have one shape"


def test_a_training_cut_short_by_steps_is_not_judged_after_its_last_whole_epoch(lab):
    lane = lab.lane("torchdiffeq", steps=4)
    lane.stepper = Fake()
    lane.run()
    record = lab.record(lane.job)
    assert (record.status, record.steps, [row["epoch"] for row in record.epochs]) == ("ok", 4, [1])
    np.testing.assert_array_equal(record.arrays["curve/loss"], [1, 2, 3, 4])
    np.testing.assert_allclose(record.arrays["params/w"], 0.9**4 * _first(lab)["w"], rtol=1e-6)


def _first(lab):
    """The parameters that seed 0 begins with."""
    return lab.tiny.parameters(None, None, generator(0, loop._WEIGHTS))


def test_the_scale_of_the_loss_is_seen_by_the_adjoint_alone(lab):
    found = {}
    for scale in (1.0, 1e3):
        lane = lab.lane("torchdiffeq", steps=1, loss_scale=scale, dtype="float64", rtol=1e-8, atol=1e-10)
        lane.run()
        record = lab.record(lane.job)
        assert record.settings["loss_scale"] == scale
        gradient = np.concatenate([leaf.grad.numpy().ravel() for leaf in lane.stepper.compiled.leaves])
        found[scale] = record.arrays["curve/loss"][0], gradient, lane.job.record(0).name
    assert found[1e3][0] == pytest.approx(found[1.0][0], rel=1e-12)
    np.testing.assert_allclose(found[1e3][1], 1e3 * found[1.0][1], rtol=1e-5)
    assert found[1e3][2] == f"{found[1.0][2]}-scale=1000"


def test_the_name_tells_stepping_and_scale_apart():
    names = {
        Job("symoden", "reduced", "torchdiffeq", "default", stepping=stepping, loss_scale=scale, dtype="float64")
        .record(seed).name
        for stepping in ("native", "matched") for scale in (1.0, 10.0) for seed in (0, 1)
    }  # fmt: skip
    assert len(names) == 8


class TestDeclined:
    def _words(self, lab, words, backend="torchdiffeq", **changes):
        with pytest.raises(UserError, match=words):
            lab.lane(backend, **changes).run()
        assert not (lab.folder / "training").exists()

    def test_a_backend_that_cannot_train(self, lab):
        self._words(lab, "--backend: got 'scipy', expected torchdiffeq or diffrax, which can train", "scipy")

    def test_matched_stepping_in_single_precision(self, lab):
        self._words(lab, r"train: got a plan that torchdiffeq declines, .*needs float64", stepping="matched")

    def test_a_model_that_does_not_fit_its_problem(self, lab):
        lab.tiny.parameters = lambda *_: small.driven().params | {"w": np.ones((3, 2))}
        self._words(lab, r"Problem\('driven'\)\.vector_field under torch: got RuntimeError")


def test_the_tiny_problem_is_no_file_of_the_gallery():
    with pytest.raises(UserError, match="'driven'"):
        load("driven")
