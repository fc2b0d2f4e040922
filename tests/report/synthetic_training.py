"""Made-up trainings for the tests of the report's Paper part: deterministic, three experiments, a failed one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend.compare import Comparison, compare
from crossbackend.report.view import View, build
from crossbackend.store import Run
from crossbackend.training_record import TrainingRecord
from tests.report import synthetic
from tests.report.synthetic import HOSTILE, about

BACKENDS = ("diffrax", "torchdiffeq")
SEEDS = (0, 1, 2)
SAVES = {"default": 0.0, "seminorm": 0.25, "mixed-seminorm": 0.5, "as-released": 0.4}
NORMS = {"neural_cde": ("default", "seminorm", "mixed-seminorm"), "cnf": ("default", "seminorm", "mixed-seminorm"),
         "symoden": ("default", "seminorm", "mixed-seminorm", "as-released")}  # fmt: skip
METRIC = {"neural_cde": "accuracy", "cnf": "bits_per_dim", "symoden": "test_loss"}
DATA = {"neural_cde": "JapaneseVowels", "cnf": "digits", "symoden": "acrobot"}
END = {"neural_cde": (0.5, 0.95), "cnf": (6.0, 2.4), "symoden": (3e-2, 4e-4)}
"""The metric before and after training."""
EPOCHS, BATCHES = 6, 10
SOLVES = 3
"""Solves whose attempts a record holds."""


def rng_of(*key: object) -> np.random.Generator:
    return np.random.default_rng([sum(map(ord, str(part))) * (i + 1) for i, part in enumerate(key)])


def epochs(experiment: str, per_batch: float, rng: np.random.Generator, count: int = EPOCHS) -> list[dict[str, Any]]:
    start, end = END[experiment]
    rows = []
    for epoch in range(1, count + 1):
        value = end + (start - end) * np.exp(-1.3 * epoch) + rng.normal(0, 0.01 * abs(end))
        nfe = round(BATCHES * per_batch * (0.7 + 0.3 * epoch / count))
        rows.append({
            "epoch": epoch, "train_loss": float(2.0 * np.exp(-0.5 * epoch)), "test_loss": float(np.exp(-0.4 * epoch)),
            METRIC[experiment]: float(min(value, 1.0) if experiment == "neural_cde" else abs(value)),
            "forward_nfe": 620, "backward_nfe": nfe, "forward_rejected": 3, "backward_rejected": nfe // 60,
            "seconds": 1.5 + 0.01 * epoch,
        })  # fmt: skip
    return rows


def solves(rng: np.random.Generator, steps: int, rejected: int, *, back: bool) -> dict[str, np.ndarray]:
    """Return the attempts of several solves, one after the other."""
    found = [synthetic.steps(rng, steps, rejected, back=back) for _ in range(SOLVES)]
    return {f"solve/{name}": np.concatenate([one[name] for one in found]) for name in found[0]}


def control(rng: np.random.Generator, n: int = 400) -> dict[str, np.ndarray]:
    """A swing up that settles, not exactly, at the top."""
    t = 0.05 * np.arange(n + 1)
    miss = rng.normal(0, 0.05, 2)
    rise = 1 - np.exp(-0.4 * t) * np.cos(1.5 * t)
    q = np.stack([(np.pi + miss[0]) * rise, miss[1] + 0.8 * np.exp(-0.5 * t) * np.sin(2 * t)], axis=1)
    velocity = np.gradient(q, t, axis=0)
    return {"control/t": t, "control/q": q, "control/velocity": velocity, "control/u": -velocity[:-1] + 1.0}


def training(experiment: str, backend: str, norm: str, seed: int, **more: Any) -> TrainingRecord:
    """Return one plausible training that ended; `epochs` and `loss_scale` as they are asked for."""
    rng = rng_of(experiment, backend, norm, seed, more.get("rtol"), more.get("width"))
    width = more.pop("width", None if experiment == "symoden" else 16)
    rtol = more.pop("rtol", {"neural_cde": 1e-3, "cnf": 1e-5, "symoden": 1e-4}[experiment])
    base = 100.0 * (rtol / 1e-3) ** -0.1 * (1 + 0.01 * (width or 0))
    per_batch = round(base * (1 - SAVES.get(norm, 0.1)) + rng.integers(-4, 5)) + 0.5
    length, scale = more.pop("epochs", EPOCHS), more.pop("loss_scale", None)
    rows = epochs(experiment, per_batch, rng, length)
    steps = length * BATCHES
    step = (0.02 if backend == "torchdiffeq" else 0.004) * (0.4 + 0.6 * per_batch / base) * (1 + 0.02 * seed)
    arrays = {"curve/loss": np.exp(-np.arange(steps) / 20.0), "params/w": rng.normal(size=(2, 3))}
    arrays |= solves(rng, 6, 1, back=False)
    arrays |= solves(rng, round(per_batch / 8), 4 if norm == "default" else 0, back=True)
    arrays["solve/count"] = np.array([SOLVES])  # as a file gives it back, which knows no 0-d arrays
    if experiment == "symoden":
        arrays |= control(rng)
    made = TrainingRecord(
        experiment, backend, norm, seed, rtol, rtol * 1e-3 if experiment == "neural_cde" else rtol,
        metric=METRIC[experiment], problem=more.pop("problem", experiment), dtype="float32",
        settings={
            "batch_size": 32, "batches_per_epoch": BATCHES, "epochs": length, "steps": steps, "train_size": 320,
            "test_size": 64, "optimiser": {"name": "Adam", "learning_rate": 1e-3, "weight_decay": 0.0},
            "model": {} if width is None else {"width": width}, "data": {"name": DATA[experiment]},
        },
        parameters=1234, steps=steps, epochs=rows, forward_nfe_per_batch=62.0, backward_nfe_per_batch=per_batch,
        forward_nfe_total=62 * steps, backward_nfe_total=round(per_batch * steps),
        time={"compile_s": 3.4 if backend == "diffrax" else 0.0, "median_step_s": step, "median_forward_s": 0.3 * step,
              "median_backward_s": 0.6 * step, "total_s": step * steps},
        threads=2, machine={"cores": 2}, versions={"numpy": "2.4.1"}, arrays=arrays, **more,
    )  # fmt: skip
    if scale is not None:
        made.settings["loss_scale"] = scale
        made.name += f"-scale={scale:g}"
    return made


def fail(record: TrainingRecord, status: str, message: str, steps: int) -> TrainingRecord:
    """Turn a training into one that stopped."""
    record.status, record.message, record.steps, record.epochs = status, message, steps, record.epochs[:1]
    record.arrays = {name: array for name, array in record.arrays.items() if name.startswith("curve/")}
    return record


def records() -> list[TrainingRecord]:
    """Return three experiments; the flow at three widths, the neural CDE at two tolerances, one training failed."""
    found = []
    for experiment, norms in NORMS.items():
        settings: list[dict[str, Any]] = {
            "neural_cde": [{"rtol": 1e-3}, {"rtol": 1e-4}], "cnf": [{"width": w} for w in (8, 32)], "symoden": [{}],
        }[experiment]  # fmt: skip
        found += [
            training(experiment, backend, norm, seed, **setting)
            for setting in settings for backend in BACKENDS for norm in norms for seed in SEEDS
        ]  # fmt: skip
    bad = next(r for r in found if (r.experiment, r.backend, r.norm, r.seed) == ("symoden", "diffrax", "seminorm", 1))
    fail(bad, "nan_loss", "the loss is NaN at step 17", 17)
    return found


def run(found: list[TrainingRecord], **more: Any) -> Run:
    made = Run(Path("."), about("paper", problems=[], planned=0, declined=[], **more))
    made.training = found
    return made


def paper() -> Comparison:
    """Return a run that holds trainings only."""
    return compare(run(records()))


def mixed() -> Comparison:
    """Return a run of records and of trainings, whose names overlap in part."""
    made = synthetic.run()
    made.records = [r for r in made.records if r.backend != "diffrax" and r.norm != "mixed-seminorm"][:60]
    made.training = [r for r in records() if r.experiment == "symoden"]
    return compare(made)


def one_seed() -> Comparison:
    """Return one seed, no default in one backend, odd norms, a plug-in's backend, an experiment of another name."""
    found = [training("neural_cde", "diffrax", norm, 0) for norm in ("default", "mixed-seminorm")]
    found += [training("neural_cde", "torchdiffeq", "seminorm", 0), training("cnf", "my-solver", "l1+linf", 7)]
    for record in found:
        del record.arrays["solve/count"]  # one solve, as the first records had
    odd = training("cnf", "diffrax", "default", 1)
    odd.experiment, odd.problem, odd.metric = "mine", "mine", "train_loss"
    return compare(run([*found, odd]))


def lengths() -> Comparison:
    """Return trainings that are shorter in one backend, and some at another loss scale."""
    norms = ("default", "mixed-seminorm")
    long = [training("symoden", "diffrax", norm, seed) for norm in norms for seed in SEEDS]
    short = [training("symoden", "torchdiffeq", norm, seed, epochs=2) for norm in norms for seed in SEEDS]
    scaled = [training("symoden", "diffrax", norm, seed, loss_scale=1000.0) for norm in norms for seed in SEEDS]
    return compare(run([*long, *short, *scaled]))


def all_failed() -> Comparison:
    """Return trainings of which none ended."""
    found = [training("symoden", "diffrax", norm, 0) for norm in ("default", "mixed-seminorm")]
    return compare(run([fail(record, "nan_loss", "the loss is NaN at step 3", 3) for record in found]))


def hostile() -> Comparison:
    """Return trainings whose every text is hostile."""
    found = []
    for seed in SEEDS:
        for norm in ("default", HOSTILE):
            record = training("symoden", HOSTILE, norm, seed)
            record.problem = record.preset = record.device = HOSTILE
            record.settings["data"]["name"] = HOSTILE
            record.settings["model"] = {HOSTILE: HOSTILE}
            found.append(record)
        found.append(fail(training("symoden", HOSTILE, "seminorm", seed), HOSTILE, HOSTILE, seed))
        other = training("cnf", "diffrax", "default", seed)
        other.experiment = HOSTILE
        found.append(other)
    return compare(run(found))


MADE = {
    "paper": paper,
    "mixed": mixed,
    "one_seed": one_seed,
    "lengths": lengths,
    "all_failed": all_failed,
    "hostile": hostile,
}


@cache
def shown(name: str) -> View:
    """Return the view of a made-up run, built once a session."""
    return build(MADE[name]())
