"""The process that trains one job: `python -m crossbackend.train.worker`, the job as JSON on its standard input.

It answers in lines of JSON on its standard output; what a library prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from crossbackend import registry
from crossbackend.backends.training import Stepper
from crossbackend.errors import Mistake, UserError
from crossbackend.load import load
from crossbackend.plan import Choice, check_choice
from crossbackend.scaling import scaled
from crossbackend.store import Damaged, read_training
from crossbackend.train import checkpoint
from crossbackend.train.experiment import Samples
from crossbackend.train.experiments import named
from crossbackend.train.job import Job
from crossbackend.train.loop import Training, generator
from crossbackend.training_record import TrainingRecord
from crossbackend.trial import trial


class Lane:
    """A job at work: what its seeds share.

    Parameters
    ----------
    job : Job
    out : Path
        The run's folder.
    data, cache : Path, optional
    force : bool
        Begin anew where there is something to go on from.
    say : callable
        Called with what the run shall know.
    """

    def __init__(self, job: Job, out: Path, data: Path | None, cache: Path | None, force: bool, say: Any) -> None:
        self.job, self.out, self.force, self.say = job, out, force, say
        self.experiment, self.sizes, self.plan = named(job.experiment), job.sizes(), job.plan()
        self.samples: Samples = self.experiment.load(self.sizes, data, cache)
        self.settings = job.settings(self.samples)
        self.stepper: Stepper | None = None  # made for the first seed that is not there yet

    def run(self) -> None:
        """Train every seed that is not there yet."""
        for seed in self.job.seeds:
            record = self.job.record(seed)
            settings = self._identity(record)
            if self.force:
                self._remove(record)
            if not self._there(record, settings):
                self._train(record, settings)
            self.say({"do": "done", "name": record.name})

    def _identity(self, record: TrainingRecord) -> dict[str, Any]:
        """Return everything that decides the curve."""
        record.settings = self.settings
        facts = ("experiment", "problem", "preset", "backend", "norm", "dtype", "device", "seed", "rtol", "atol")
        versions = {"versions": registry.versions(self.job.backend, training=True)}
        return {name: getattr(record, name) for name in facts} | self.settings | versions

    def _paths(self, record: TrainingRecord) -> list[Path]:
        base = self.out / "training"
        names = [f"{record.name}{suffix}" for suffix in (".json", ".npz", ".batch.npz")]
        return [*(base / name for name in names), checkpoint.path(self.out, record.name)]

    def _remove(self, record: TrainingRecord) -> None:
        for path in self._paths(record):
            path.unlink(missing_ok=True)

    def _there(self, record: TrainingRecord, settings: dict[str, Any]) -> bool:
        """Whether the record is stored, of the same settings; a damaged one is trained anew."""
        path = self._paths(record)[0]
        if not path.exists():
            return False
        try:
            stored = read_training(path)
        except Damaged:
            return False
        facts = {name: getattr(stored, name) for name in settings if hasattr(stored, name)}
        versions = {name: stored.versions.get(name) for name in settings["versions"]}
        checkpoint.refuse_other_settings(record.name, facts | stored.settings | {"versions": versions}, settings)
        return True

    def _train(self, record: TrainingRecord, settings: dict[str, Any]) -> None:
        self.stepper = self.stepper or self._compile(record)
        record.threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or None
        training = Training(record, self.experiment, self.sizes, self.samples, self.stepper, self.out, self._tell)
        training.begin(settings)
        training.run(settings)

    def _compile(self, record: TrainingRecord) -> Stepper:
        backend: Any = registry.get(self.job.backend)
        if not hasattr(backend, "stepper"):
            raise UserError(Mistake("--backend", repr(self.job.backend), "torchdiffeq or diffrax, which can train"))
        rng = generator(record.seed, 0)
        first = self.experiment.batch(self.sizes, self.samples.train, rng.integers(0, 1, self.sizes.batch_size), rng)
        params = self.experiment.parameters(self.sizes, self.samples, rng)
        changes = dict(self.samples.changes) | {"params": params, "data": first, "dtype": self.sizes.dtype}
        problem = load(self.plan.problem).replace(**changes)
        if self.job.loss_scale != 1.0:
            problem = scaled(problem, self.job.loss_scale)
        choice = Choice((self.job.backend,), (self.job.norm,), (self.job.stepping,), (self.sizes.rtol,))
        check_choice(choice, [problem], registry.names())
        reason = backend.declines(problem, self.plan)
        if reason is not None:
            raise UserError(Mistake("train", f"a plan that {self.job.backend} declines", "another plan", f"{reason}."))
        mistakes = trial(problem, backend.library).mistakes
        if mistakes:
            raise UserError(*mistakes)
        return backend.stepper(problem, self.plan, self.sizes.optimiser)

    def _tell(self, record: TrainingRecord) -> None:
        self.say({"do": "step", "name": record.name, "steps": record.steps, "of": self.settings["steps"]})


def _own_output() -> IO[str]:
    """Return the pipe to the run, out of reach of what a library prints."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return replies


def main() -> int:
    """Train one job."""
    replies = _own_output()

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=replies, flush=True)

    asked = json.load(sys.stdin)
    job = Job(**{**asked["job"], "seeds": tuple(asked["job"]["seeds"])})
    places = [None if asked[name] is None else Path(asked[name]) for name in ("data", "cache")]
    try:
        Lane(job, Path(asked["out"]), places[0], places[1], asked["force"], say).run()
    except UserError as error:
        say({"do": "mistakes", "mistakes": [asdict(mistake) for mistake in error.mistakes]})
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
