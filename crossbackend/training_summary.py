"""What the trainings of a run say: mean and spread over seeds for each cell.

A cell holds the trainings that differ in the seed alone: another number of epochs or another loss scale makes another
cell, for neither metric nor evaluations can be compared. Spreads are sample standard deviations; one seed has none.
Savings and changes are taken seed by seed against the norm `default`, so that what all norms share of a seed's luck
drops out. A training that failed counts in no mean and is listed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from crossbackend.spread import Spread, spread, within
from crossbackend.training_record import TrainingRecord
from crossbackend.wording import count

NAMES = {"accuracy": "accuracy", "bits_per_dim": "bits per dimension", "test_loss": "test loss"}
NORMS = ("default", "seminorm", "mixed-seminorm")
"""Norms that come first, in this order."""
_EXPERIMENTS = {"neural_cde": 0, "cnf": 1, "symoden": 2}
_BESIDE = ("batch_size", "train_size", "test_size", "stepping")
"""Settings that keep two trainings from being repeats of each other, beside the model's and the data's name."""
_TIMES = ("median_step_s", "median_forward_s", "median_backward_s", "total_s")


@dataclass(frozen=True)
class Setting:
    """What trainings have in common that differ in backend, norm and seed alone.

    `epochs` is None where the training was to end before its last epoch, or where nobody knows how many steps an epoch
    has.
    """

    experiment: str
    problem: str
    preset: str
    data: str
    rtol: float
    atol: float
    dtype: str
    device: str
    width: int | None
    epochs: int | None = None
    steps: int | None = None
    loss_scale: float = 1.0
    more: tuple[tuple[str, str], ...] = ()
    """Other settings of model and training, as text."""

    @property
    def length(self) -> str:
        """How long was trained: `12 epochs`, or `6 steps` of a training that was cut short."""
        if self.epochs is not None:
            return count(self.epochs, "epoch")
        return "" if self.steps is None else count(self.steps, "step")


@dataclass(frozen=True)
class TrainingCell:
    """The trainings of one setting, backend and norm.

    Attributes
    ----------
    seeds : list of int
        Those that ended.
    failed : list of dict
        `{seed, status, steps, message}` of the others.
    final : Spread
        The metric after the last epoch.
    forward_nfe_per_batch, backward_nfe_per_batch, forward_nfe_total, backward_nfe_total : Spread
    saved : Spread
        Share of the default's backward evaluations per batch that this norm saves, seed by seed.
    changed : Spread
        The metric minus the default's, seed by seed.
    time : dict of str to float or None
        Medians over the seeds, in seconds; `compile_s` is the largest.
    """

    setting: Setting
    backend: str
    norm: str
    metric: str
    seeds: list[int]
    failed: list[dict[str, Any]]
    final: Spread
    forward_nfe_per_batch: Spread
    backward_nfe_per_batch: Spread
    forward_nfe_total: Spread
    backward_nfe_total: Spread
    saved: Spread
    changed: Spread
    time: dict[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object, the setting's fields beside the others."""
        fields = asdict(self)
        setting = fields.pop("setting")
        return {**setting, "more": dict(setting["more"]), **fields}


@dataclass(frozen=True)
class Trainings:
    """The trainings of one setting.

    Attributes
    ----------
    setting : Setting
    told : dict of str to str
        What tells it from the experiment's other settings, in words, by what it is about.
    words : str
        The setting in full.
    records : list of TrainingRecord
    cells : list of TrainingCell
    """

    setting: Setting
    told: dict[str, str]
    words: str
    records: list[TrainingRecord] = field(repr=False)
    cells: list[TrainingCell] = field(repr=False)

    @property
    def title(self) -> str:
        """A short name, unlike those of the experiment's other settings."""
        return self.titled()

    def titled(self, without: str = "") -> str:
        """Return the short name, less what it says about the `width` or the `length`."""
        return ", ".join([self.setting.experiment, *(said for name, said in self.told.items() if name != without)])


def setting_of(record: TrainingRecord) -> Setting:
    """Return what a training has in common with its repeats under other norms, backends and seeds."""
    own, model = record.settings, record.settings.get("model") or {}
    more = [(name, own[name]) for name in _BESIDE if own.get(name) is not None]
    more += [(str(name), value) for name, value in sorted(model.items()) if name != "width"]
    source = own.get("data") or {}
    more += [(str(name), value) for name, value in sorted(source.items()) if name != "name"]
    data = str(source.get("name") or "")
    said = tuple((name.replace("_", " "), str(value)) for name, value in more)
    return Setting(record.experiment, record.problem or record.experiment, record.preset, data, record.rtol,
                   record.atol, record.dtype, record.device, record.width, *_length(own), record.loss_scale,
                   said)  # fmt: skip


def _length(own: dict[str, Any]) -> tuple[int | None, int | None]:
    """Return epochs and steps; no epochs where the steps are not all of theirs."""
    epochs, steps, each = (own.get(name) for name in ("epochs", "steps", "batches_per_epoch"))
    whole = None if epochs is None or each is None else epochs * each
    return (epochs if steps in (None, whole) else None), steps


def trainings(records: Sequence[TrainingRecord]) -> list[Trainings]:
    """Return the trainings setting by setting, in the order of the paper's tables; cells by backend and norm."""
    by_setting: dict[Setting, list[TrainingRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: _EXPERIMENTS.get(record.experiment, len(_EXPERIMENTS))):
        by_setting[setting_of(record)].append(record)
    named = _titles(list(by_setting))
    return [Trainings(setting, *named[setting], found, _cells(setting, found)) for setting, found in by_setting.items()]


def _parts(setting: Setting) -> dict[str, str]:
    """Return what a setting is made of, in words, by what it is about."""
    found = {"preset": f"{setting.preset} preset", "data": setting.data, "problem": setting.problem,
             "rtol": f"rtol {_power(setting.rtol)}", "atol": f"atol {_power(setting.atol)}",
             "width": "" if setting.width is None else f"width {setting.width}", "length": setting.length,
             "loss scale": "" if setting.loss_scale == 1.0 else f"loss scale {_scale(setting.loss_scale)}",
             "dtype": setting.dtype, "device": setting.device}  # fmt: skip
    return found | {name: f"{name} {value}" for name, value in setting.more}


def _power(value: float) -> str:
    """Return 1e-3 for 0.001."""
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _scale(value: float) -> str:
    return f"{value:g}" if 0.01 <= value < 1e5 else _power(value)


def _titles(settings: Sequence[Setting]) -> dict[Setting, tuple[dict[str, str], str]]:
    """Return what tells every setting from its experiment's others, and all of it in words.

    Of atol no more is told than is needed, for it goes with rtol; a loss scale is told whatever the others have.
    """
    found = {}
    for setting in settings:
        beside = [_parts(other) for other in settings if other.experiment == setting.experiment]
        own = _parts(setting)
        differ = [name for name in own if len({other.get(name, "") for other in beside}) > 1]
        always = [name for name in ("preset", "data", "rtol", "atol", "width", "loss scale") if own[name]]
        told = {name: own[name] for name in own if own[name] and (name in differ or name == "loss scale")}
        told.pop("atol", None)
        words = ", ".join(own[name] for name in [*always, *(n for n in differ if n not in always)] if own[name])
        found[setting] = (told, words)
    titles = Counter((s.experiment, *told.values()) for s, (told, _) in found.items())
    for setting, (told, _) in found.items():
        if titles[setting.experiment, *told.values()] > 1:  # they differ in atol
            told["atol"] = f"atol {_power(setting.atol)}"
    return found


def side_by_side(found: Sequence[Trainings]) -> list[list[Trainings]]:
    """Return together what differs in the backend and in how long was trained alone; the rest one by one.

    Times of a step can be compared so, a metric cannot. What has a backend in common stays apart.
    """
    rows: list[list[Trainings]] = []
    for item in found:
        row = next((row for row in rows if all(_partners(item, other) for other in row)), None)
        if row is None:
            rows.append([item])
        else:
            row.append(item)
    return rows


def _partners(one: Trainings, other: Trainings) -> bool:
    alike = replace(one.setting, epochs=None, steps=None) == replace(other.setting, epochs=None, steps=None)
    return alike and {cell.backend for cell in one.cells}.isdisjoint(cell.backend for cell in other.cells)


def _cells(setting: Setting, records: Sequence[TrainingRecord]) -> list[TrainingCell]:
    by_cell: dict[tuple[str, str], list[TrainingRecord]] = defaultdict(list)
    for record in records:
        by_cell[record.backend, record.norm].append(record)
    rank = {norm: index for index, norm in enumerate(NORMS)}
    order = sorted(by_cell, key=lambda cell: (cell[0], rank.get(cell[1], len(rank)), cell[1]))
    return [_cell(setting, by_cell[key], by_cell.get((key[0], "default"), [])) for key in order]


def _cell(setting: Setting, records: Sequence[TrainingRecord], default: Sequence[TrainingRecord]) -> TrainingCell:
    ended = [record for record in records if record.ended]
    failed = [
        {"seed": r.seed, "status": r.status, "steps": r.steps, "message": r.message} for r in records if not r.ended
    ]

    def of(name: str) -> Spread:
        return spread(getattr(record, name) for record in ended)

    first = records[0]
    pairs = [] if first.norm == "default" else _pairs(ended, default)
    return TrainingCell(
        setting, first.backend, first.norm, first.metric, [record.seed for record in ended], failed, of("final"),
        of("forward_nfe_per_batch"), of("backward_nfe_per_batch"), of("forward_nfe_total"), of("backward_nfe_total"),
        saved=spread(_saved(own, base) for own, base in pairs),
        changed=spread(_difference(own.final, base.final) for own, base in pairs if own.metric == base.metric),
        # The seeds of one process share what the first of them compiled.
        time={name: _median(record.time.get(name) for record in ended) for name in _TIMES}
        | {"compile_s": max((s for record in ended if (s := record.time.get("compile_s")) is not None), default=None)},
    )  # fmt: skip


def _pairs(
    own: Sequence[TrainingRecord], default: Sequence[TrainingRecord]
) -> list[tuple[TrainingRecord, TrainingRecord]]:
    base = {record.seed: record for record in default if record.ended}
    return [(record, base[record.seed]) for record in own if record.seed in base]


def _saved(own: TrainingRecord, base: TrainingRecord) -> float | None:
    ours, theirs = own.backward_nfe_per_batch, base.backward_nfe_per_batch
    return None if ours is None or not theirs else 1.0 - ours / theirs


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def metric_name(metric: str) -> str:
    """Return a metric in words."""
    return NAMES.get(metric, metric.replace("_", " "))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def final_within(cell: TrainingCell, default: TrainingCell) -> bool | None:
    """Whether a norm's metric is within one standard deviation, the larger of the two, of the default's."""
    spreads = [found.std for found in (cell.final, default.final) if found.std is not None]
    return within(_difference(cell.final.mean, default.final.mean), max(spreads) if len(spreads) == 2 else None)


def as_dict(records: Sequence[TrainingRecord]) -> list[dict[str, Any]]:
    """Return the JSON list that `crossbackend compare --json` prints: an object a cell."""
    return [cell.as_dict() for item in trainings(records) for cell in item.cells]


def time_ratio(cell: TrainingCell, default: TrainingCell) -> float | None:
    """Return how many times as long a training step takes under the default norm."""
    own, base = cell.time["median_step_s"], default.time["median_step_s"]
    return None if not own or base is None else base / own
