"""The epochs of one training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend import machine, registry, tree
from crossbackend.backends.training import SolveFailed, Step, Stepper
from crossbackend.store import npz_bytes, write_bytes, write_training
from crossbackend.train import checkpoint
from crossbackend.train.checkpoint import Checkpoint
from crossbackend.train.experiment import Arrays, Experiment, Preset, Samples, size
from crossbackend.training_record import TrainingRecord

CURVES = ("loss", "forward_nfe", "backward_nfe", "forward_rejected", "backward_rejected", "forward_s", "backward_s",
          "step_s")  # fmt: skip
PASSES = ("forward", "backward")
SOLVES = 20
"""Solves at the end of a training whose attempts are kept."""
CHECKPOINT_S = 30.0
"""Seconds of training between checkpoints, at least."""
_ORDER, _NOISE, _TEST, _WEIGHTS = range(4)
"""What a random number is for; each has a stream of its own, so that resuming needs no generator's state."""


class NotFinite(Exception):
    """The loss or its gradient is not finite; the text says at which step."""


def generator(seed: int, purpose: int, *place: int) -> np.random.Generator:
    """Return the generator of one purpose at one place of one training."""
    return np.random.default_rng([seed, purpose, *place])


def order(seed: int, epoch: int, samples: int, batch_size: int) -> np.ndarray:
    """Return the epoch's batches as indices, shape (batches, batch_size): every sample at least once.

    The last batch is filled from the beginning of the same order, so that all batches have one shape.
    """
    shuffled = generator(seed, _ORDER, epoch).permutation(samples)
    return np.resize(shuffled, (-(-samples // batch_size), batch_size))


@dataclass
class Training:
    """One training under way.

    Parameters
    ----------
    record : TrainingRecord
        Filled as it goes on.
    experiment, preset, samples
        What is trained on what.
    stepper : Stepper
    folder : Path
        The run's.
    tell : callable
        Called with the record after every step.
    """

    record: TrainingRecord
    experiment: Experiment
    preset: Preset
    samples: Samples
    stepper: Stepper
    folder: Path
    tell: Callable[[TrainingRecord], None]
    curves: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CURVES})
    before: float = 0.0
    """Seconds of earlier processes."""
    attempts: list[Any] = field(default_factory=list)
    """Those of the last steps, forward and backward: (t0, t1, accepted)."""

    def run(self, settings: Mapping[str, Any]) -> TrainingRecord:
        """Train to the end, or until the loss is not finite, and store the record."""
        record = self.record
        self.began = self.kept = time.monotonic()
        compiled = self.stepper.compile_s
        try:
            self._train(settings)
        except NotFinite as error:
            record.status, record.message = "nan_loss", str(error)
        except SolveFailed as error:
            record.status = "solve_failed"
            record.message = f"{self._where(self._done)}: {error}"
        self._finish(self.stepper.compile_s - compiled)
        write_training(self.folder, record)
        checkpoint.path(self.folder, record.name).unlink(missing_ok=True)
        return record

    @property
    def _done(self) -> int:
        return len(self.curves["loss"])

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Start from the seed's parameters, or from a checkpoint of the same settings."""
        rng = generator(self.record.seed, _WEIGHTS)
        self.stepper.start(self.experiment.parameters(self.preset, self.samples, rng))
        found = checkpoint.read(checkpoint.path(self.folder, self.record.name))
        if found is None:
            return
        checkpoint.refuse_other_settings(self.record.name, found.about["settings"], dict(settings))
        self.stepper.restore(_under("state/", found.arrays))
        self.curves = {name: found.arrays[f"curve/{name}"].tolist() for name in CURVES}
        self.attempts = _split(_under("solve/", found.arrays))
        self.record.epochs = found.about["epochs"]
        self.before = found.about["seconds"]

    def _train(self, settings: Mapping[str, Any]) -> None:
        record, per_epoch, last = self.record, settings["batches_per_epoch"], settings["steps"]
        if self._done and self._done % per_epoch == 0 and len(record.epochs) * per_epoch < self._done:
            self._end_epoch(self._done // per_epoch - 1, per_epoch)  # its checkpoint is older than its judgement
        while self._done < last:
            epoch, first = divmod(self._done, per_epoch)
            batches = order(record.seed, epoch, size(self.samples.train), self.preset.batch_size)
            for number in range(first, min(per_epoch, last - epoch * per_epoch)):
                data = self._batch(self.samples.train, batches[number], _NOISE, epoch, number)
                self._note(self.stepper.step(data), data)
                if time.monotonic() - self.kept > CHECKPOINT_S:
                    self._keep(settings)
            self._end_epoch(epoch, per_epoch)
        if not record.epochs or record.epochs[-1]["epoch"] * per_epoch < last:
            return
        self._keep(settings)

    def _batch(self, part: Arrays, index: np.ndarray, *place: int) -> Any:
        purpose, *rest = place
        return self.experiment.batch(self.preset, part, index, generator(self.record.seed, purpose, *rest))

    def _note(self, step: Step, data: Any) -> None:
        loss = step.loss / self.record.settings["loss_scale"]
        values = (loss, *step.nfe, *step.rejected, *step.seconds)
        for name, value in zip(CURVES, values, strict=True):
            self.curves[name].append(float(value))
        self.attempts = [*self.attempts, step.attempts][-SOLVES:]
        self.record.steps = self._done
        self.tell(self.record)
        if not math.isfinite(step.loss):
            path = self.folder / "training" / f"{self.record.name}.batch.npz"
            arrays = {f"data/{name}": leaf for name, leaf in tree.leaves(data)}
            write_bytes(path, npz_bytes(arrays | _named("params/", self.stepper.params())))
            raise NotFinite(f"{self._where(self._done - 1)}: not finite; its batch is in {path.name}")

    def _where(self, step: int) -> str:
        epoch, number = divmod(step, self.record.settings["batches_per_epoch"])
        return f"step {step + 1} (epoch {epoch + 1}, batch {number + 1})"

    def _end_epoch(self, epoch: int, per_epoch: int) -> None:
        """Judge the epoch on the test set; one that was cut short by `--steps` is not judged."""
        mine = {name: np.array(curve[epoch * per_epoch :]) for name, curve in self.curves.items()}
        if len(mine["loss"]) < per_epoch:
            return
        sums = {name: int(mine[name].sum()) for name in CURVES[1:5]}
        row = {"epoch": epoch + 1, "train_loss": float(mine["loss"].mean()), **sums, "seconds": mine["step_s"].sum()}
        self.record.epochs.append({**row, **self.judge()})

    def judge(self) -> dict[str, float]:
        """Return the loss and the metric on the test set."""
        part, batch_size = self.samples.test, self.preset.batch_size
        count, params = size(part), self.stepper.params()
        found: dict[str, list[np.ndarray]] = {}
        for number, start in enumerate(range(0, count, batch_size)):
            index = np.arange(start, start + batch_size) % count  # the last batch is filled up, and cut below
            data = self._batch(part, index, _TEST, number)
            _, ys = self.stepper.predict(data)
            for name, values in self.experiment.scores(ys, params, data).items():
                found.setdefault(name, []).append(values[: count - start])
        means = {name: float(np.concatenate(parts).mean()) for name, parts in found.items()}
        return {"test_loss": means["loss"], self.record.metric: means.get(self.record.metric, means["loss"])}

    def _keep(self, settings: Mapping[str, Any]) -> None:
        self.kept = time.monotonic()
        arrays = {f"state/{name}": leaf for name, leaf in self.stepper.state().items()}
        arrays |= {f"curve/{name}": np.array(curve) for name, curve in self.curves.items()}
        arrays |= self._solves()
        for number, name in enumerate(PASSES):
            arrays[f"solve/{name}/lengths"] = np.array([len(both[number]) for both in self.attempts])
        about = {"settings": dict(settings), "epochs": self.record.epochs, "seconds": self._seconds()}
        checkpoint.write(checkpoint.path(self.folder, self.record.name), Checkpoint(about, arrays))

    def _solves(self) -> dict[str, np.ndarray]:
        """Return where in t the last solves' steps lie, and how many solves they are of."""
        found = {"solve/count": np.array(len(self.attempts))}
        for number, name in enumerate(PASSES):
            arrays = _attempts([both[number] for both in self.attempts])
            found |= {f"solve/{name}/{key}": values for key, values in arrays.items()}
        return found

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    def _finish(self, compile_s: float) -> None:
        """Fill in what the whole training says."""
        record, params = self.record, self.stepper.params()
        curves = {name: np.array(values) for name, values in self.curves.items()}
        record.parameters = sum(leaf.size for leaf in tree.values(params))
        record.steps = self._done
        if self._done:
            record.forward_nfe_per_batch = float(curves["forward_nfe"].mean())
            record.backward_nfe_per_batch = float(curves["backward_nfe"].mean())
            record.forward_nfe_total = int(curves["forward_nfe"].sum())
            record.backward_nfe_total = int(curves["backward_nfe"].sum())
            medians = {f"median_{name}": float(np.median(curves[name])) for name in CURVES[5:]}
            record.time = {"compile_s": compile_s, **medians, "total_s": self._seconds()}
        kind = self.preset.dtype  # no digits are kept that were not computed with
        record.arrays = {f"curve/{name}": _narrow(values) for name, values in curves.items()}
        record.arrays |= {name: leaf.astype(kind) for name, leaf in _named("params/", params).items()}
        record.arrays |= self._solves()
        record.arrays |= self.experiment.after(params)
        record.machine = machine.facts()
        record.versions = registry.versions(record.backend, training=True)


def _attempts(solves: list[Any]) -> dict[str, np.ndarray]:
    """Return the attempts of several solves, one after the other."""
    rows = np.array([row for solve in solves for row in solve], dtype=float).reshape(-1, 3)
    return {"t0": rows[:, 0], "t1": rows[:, 1], "accepted": rows[:, 2].astype(bool)}


def _split(stored: Mapping[str, np.ndarray]) -> list[Any]:
    """Return the attempts of each solve, forward and backward, as a checkpoint holds them."""
    passes = []
    for name in PASSES:
        rows = list(zip(*(stored[f"{name}/{key}"].tolist() for key in ("t0", "t1", "accepted")), strict=True))
        ends = np.cumsum(stored[f"{name}/lengths"], dtype=int)
        passes.append([rows[end - length : end] for end, length in zip(ends, stored[f"{name}/lengths"], strict=True)])
    return list(zip(*passes, strict=True))


def _narrow(values: np.ndarray) -> np.ndarray:
    whole = np.isfinite(values).all() and np.array_equal(values, np.rint(values))
    return values.astype(np.int32) if whole else values


def _named(prefix: str, params: Any) -> dict[str, np.ndarray]:
    return {f"{prefix}{name}": leaf for name, leaf in tree.leaves(params)}


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): leaf for name, leaf in arrays.items() if name.startswith(prefix)}
