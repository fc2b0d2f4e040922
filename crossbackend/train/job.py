"""One training: what decides its curve, and the record that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from crossbackend.plan import Plan
from crossbackend.train.experiment import Preset, Samples, size
from crossbackend.train.experiments import named, preset
from crossbackend.training_record import TrainingRecord


@dataclass(frozen=True)
class Job:
    """The trainings of one experiment on one backend under one norm: they share what is compiled.

    Attributes
    ----------
    experiment, preset, backend, norm : str
    seeds : tuple of int
    stepping, device : str
    dtype : str or None
        The preset's where it is None.
    rtol, atol : float or None
        The preset's where they are None.
    width : int or None
    epochs : int or None
    steps : int or None
        End after so many steps, whatever the epochs.
    loss_scale : float
        Factor on the loss that the backward solve sees; what is stored and shown is without it. Adam's steps hardly
        know it, but the adjoint is linear in it, and so is what atol means to a_y.
    """

    experiment: str
    preset: str
    backend: str
    norm: str
    seeds: tuple[int, ...] = (0,)
    stepping: str = "native"
    device: str = "cpu"
    dtype: str | None = None
    rtol: float | None = None
    atol: float | None = None
    width: int | None = None
    epochs: int | None = None
    steps: int | None = None
    loss_scale: float = 1.0

    def sizes(self) -> Preset:
        """Return the preset with what the job changes."""
        made = preset(named(self.experiment), self.preset).with_width(self.width)
        changes = {"dtype": self.dtype, "rtol": self.rtol, "atol": self.atol, "epochs": self.epochs}
        return Preset(**{**vars(made), **{key: value for key, value in changes.items() if value is not None}})

    def problem(self) -> str:
        """Return the gallery problem that is trained."""
        return self.sizes().problem or named(self.experiment).problem

    def plan(self) -> Plan:
        """Return the plan of every step."""
        sizes = self.sizes()
        return Plan(
            self.problem(), self.backend, self.norm, self.stepping, sizes.rtol, sizes.atol,
            dtype=sizes.dtype, device=self.device,
        )  # fmt: skip

    def settings(self, samples: Samples) -> dict[str, Any]:
        """Return the record's settings."""
        sizes = self.sizes()
        per_epoch = -(-size(samples.train) // sizes.batch_size)
        whole = sizes.epochs * per_epoch
        return {
            "batch_size": sizes.batch_size, "batches_per_epoch": per_epoch, "epochs": sizes.epochs,
            "steps": whole if self.steps is None else min(whole, self.steps),
            "train_size": size(samples.train), "test_size": size(samples.test), "stepping": self.stepping,
            "loss_scale": self.loss_scale,
            "optimiser": asdict(sizes.optimiser), "model": _plain(sizes.model), "data": _plain(sizes.data),
        }  # fmt: skip

    def record(self, seed: int) -> TrainingRecord:
        """Return the record of one seed before its first step; its name needs no data."""
        sizes, experiment = self.sizes(), named(self.experiment)
        made = TrainingRecord(
            self.experiment, self.backend, self.norm, seed, sizes.rtol, sizes.atol, experiment.metric, self.problem(),
            self.preset, sizes.dtype, self.device, settings={"model": _plain(sizes.model)},
        )  # fmt: skip
        if self.stepping != "native":
            made.name += f"-{self.stepping}"
        if self.loss_scale != 1.0:
            made.name += f"-scale={self.loss_scale:g}"
        return made


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping as JSON gives it back."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
