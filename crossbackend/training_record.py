"""What one training of an experiment gave: settings, a row for each epoch, evaluations, times, curves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

OK = "ok"
"""Status of a training that took all its steps."""
NAME = re.compile(r"[A-Za-z0-9_.=-]+")
"""What the name of a training's files is made of."""


@dataclass(repr=False)
class TrainingRecord:
    """One training as stored: format 1 (see `store`).

    Attributes
    ----------
    experiment : str
        `neural_cde`, `cnf` or `symoden`: the paper's Tables 1, 2 and 3.
    backend, norm, dtype, device : str
    seed : int
        Of the initial parameters and of the order of the batches.
    rtol, atol : float
    metric : str
        What an epoch is judged by on the test set: `accuracy` (a share, 0 to 1), `bits_per_dim`, `test_loss`.
    problem : str
        The gallery's problem.
    preset : str
        `reduced`, or the paper's sizes (`paper`, `paper-cifar10`).
    status, message : str
        `ok`, or how the training ended before its last step, and the words for it.
    settings : dict
        `batch_size`, `batches_per_epoch`, `epochs`, `steps` (fewer than the epochs have where it was cut short),
        `train_size`, `test_size`, `stepping`, `loss_scale` (factor on the loss that the backward solve saw, 1 where
        it is missing; every loss is stored without it), and the objects `optimiser` (`name`, `learning_rate`,
        `weight_decay`), `model` (`width`, ...) and `data` (`name`, ...).
    parameters, steps : int or None
        Numbers that are trained; steps taken.
    epochs : list of dict
        `epoch` (rising), `train_loss`, `test_loss`, the metric, `forward_nfe`, `backward_nfe`, `forward_rejected`,
        `backward_rejected` (sums over the epoch's batches) and `seconds`.
    forward_nfe_per_batch, backward_nfe_per_batch : float or None
        Means over the training steps.
    forward_nfe_total, backward_nfe_total : int or None
    time : dict
        Seconds: `compile_s`, `median_step_s`, `median_forward_s`, `median_backward_s` (medians over the training
        steps), `total_s`.
    threads : int or None
    machine, versions : dict
    arrays : dict of str to ndarray
        `curve/NAME` (steps,); `params/NAME`, the trained parameters; `solve/{forward,backward}/{t0,t1,accepted}`, the
        attempts of the last training steps' solves, one solve after the other, in the problem's time (diffrax's to
        single precision), and `solve/count`, how many solves they are of: up to 20, one where it is missing;
        `control/t` (n+1,), `control/q` and `control/velocity` (n+1, 2), `control/u` (n, 2): the double pendulum,
        angles in rad from hanging down, the second one relative.
    name : str
        Of its two files, without suffix: letters, digits, `_.=-`. Made from the fields where it is empty.
    """

    experiment: str
    backend: str
    norm: str
    seed: int
    rtol: float
    atol: float
    metric: str
    problem: str = ""
    preset: str = "reduced"
    dtype: str = "float64"
    device: str = "cpu"
    status: str = OK
    message: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    steps: int | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    forward_nfe_per_batch: float | None = None
    backward_nfe_per_batch: float | None = None
    forward_nfe_total: int | None = None
    backward_nfe_total: int | None = None
    time: dict[str, Any] = field(default_factory=dict)
    threads: int | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            width = [f"width={self.width}"] if self.width is not None else []
            problem = [self.problem] if self.problem not in ("", self.experiment) else []
            parts = [self.experiment, *problem, self.preset, self.backend, self.norm, f"rtol={self.rtol:g}",
                     f"atol={self.atol:g}", *width, self.dtype, self.device, f"seed={self.seed}"]  # fmt: skip
            self.name = "-".join(re.sub(r"[^A-Za-z0-9_.=-]", "_", part) for part in parts)

    def __repr__(self) -> str:
        cell = f"{self.experiment}, {self.backend}, {self.norm}, rtol {self.rtol:g}, seed {self.seed}: {self.status}"
        return f"<TrainingRecord {repr(cell)[1:-1]}>"

    @property
    def ended(self) -> bool:
        """Whether the training took all its steps."""
        return self.status == OK

    @property
    def width(self) -> int | None:
        """The width of the model's layers, where it has one."""
        return (self.settings.get("model") or {}).get("width")

    @property
    def loss_scale(self) -> float:
        """Factor on the loss that the backward solve saw."""
        return float(self.settings.get("loss_scale") or 1.0)

    @property
    def solves(self) -> int:
        """How many solves the recorded attempts are of."""
        count = self.arrays.get("solve/count")
        return 1 if count is None else int(count.item())

    @property
    def final(self) -> float | None:
        """The metric after the last epoch."""
        return self.epochs[-1].get(self.metric) if self.epochs else None

    def solved(self, which: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return t0, t1 and accepted of the recorded `forward` or `backward` attempts, None without any."""
        t0, t1, accepted = (self.arrays.get(f"solve/{which}/{name}") for name in ("t0", "t1", "accepted"))
        if t0 is None or t1 is None or accepted is None or not len(t0):
            return None
        return t0, t1, accepted.astype(bool, copy=False)

    def flat(self) -> dict[str, Any]:
        """Return the JSON object without format, checksum and arrays; JSON has no NaN, which becomes null."""
        names = (item.name for item in fields(self) if item.name not in ("arrays", "name"))
        return {name: _without_nan(getattr(self, name)) for name in names}


def from_fields(found: Mapping[str, Any], arrays: dict[str, np.ndarray], name: str) -> TrainingRecord:
    """Return the record of a JSON object's fields; those that it has no place for are left out."""
    known = {item.name for item in fields(TrainingRecord)} - {"arrays", "name"}
    own = {key: value for key, value in found.items() if key in known and value is not None}
    return TrainingRecord(**own, arrays=arrays, name=name)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
