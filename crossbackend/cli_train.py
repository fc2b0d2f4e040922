"""The command `train`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossbackend.wording import clean

if TYPE_CHECKING:
    from crossbackend.training_record import TrainingRecord

DEFAULT_OUT = Path("reports/training")
EXPERIMENTS = ("neural_cde", "cnf", "symoden")
"""As in `train.experiments`, said here so that `--help` imports none of them; a test holds them together."""


def add(commands: Any) -> None:
    """Add the command to a parser."""
    made = commands.add_parser(
        "train", help="train one of the paper's experiments, counting evaluations; resumes what is there"
    )
    made.add_argument("experiment", metavar="EXPERIMENT", help=", ".join(EXPERIMENTS))
    made.add_argument("--backend", action="append", help="torchdiffeq, diffrax (both)")
    made.add_argument("--norm", action="append", help="a norm of the backward solve (the experiment's own list)")
    made.add_argument("--preset", default="reduced", help="reduced, or paper for the paper's sizes (%(default)s)")
    made.add_argument("--seeds", type=int, default=1, metavar="N", help="train with the seeds 0 to N - 1 (%(default)s)")
    made.add_argument("--seed", action="append", type=int, help="train with this seed; may be repeated")
    made.add_argument("--rtol", action="append", type=float, help="relative tolerance; atol keeps the preset's ratio")
    made.add_argument("--width", action="append", type=int, help="width of the networks (the preset's)")
    made.add_argument("--loss-scale", type=float, default=1.0, help="factor on the loss that the adjoint sees (1)")
    made.add_argument("--epochs", type=int, help="epochs (the preset's)")
    made.add_argument("--steps", type=int, help="end after so many steps")
    made.add_argument("--stepping", default="native", help="native, matched (%(default)s)")
    made.add_argument("--dtype", help="float64, float32 (the preset's)")
    made.add_argument("--device", default="cpu", help="cpu, cuda (%(default)s)")
    made.add_argument("--data", type=Path, help="folder of Speech Commands, MNIST or CIFAR-10: see docs/data.md")
    made.add_argument("--cache", type=Path, help="folder for computed data (cache/ in the run's folder)")
    made.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder of the run (%(default)s)")
    made.add_argument("--jobs", type=int, default=1, help="processes at a time, which share the cores (%(default)s)")
    made.add_argument("--force", action="store_true", help="train again what is there")
    made.add_argument("--no-report", action="store_true", help="store records only; see `crossbackend report`")
    made.add_argument("--quiet", action="store_true", help="no progress bar")
    made.add_argument("--json", action="store_true", help="print one JSON object at the end")
    made.set_defaults(do=_train)


def _jobs(args: argparse.Namespace) -> list[Any]:
    from crossbackend.train.experiments import named
    from crossbackend.train.job import Job

    experiment = named(args.experiment)
    seeds = tuple(range(args.seeds)) if args.seed is None else tuple(dict.fromkeys(args.seed))
    found = []
    for backend in dict.fromkeys(args.backend or ("torchdiffeq", "diffrax")):
        for rtol in dict.fromkeys(args.rtol or (None,)):
            for width in dict.fromkeys(args.width or (None,)):
                for norm in dict.fromkeys(args.norm or experiment.norms):
                    job = Job(
                        experiment.name, args.preset, backend, norm, seeds, args.stepping, args.device, args.dtype,
                        width=width, epochs=args.epochs, steps=args.steps, loss_scale=args.loss_scale,
                    )  # fmt: skip
                    if rtol is not None:
                        sizes = job.sizes()
                        job = replace(job, rtol=rtol, atol=float(f"{rtol * sizes.atol / sizes.rtol:.12g}"))
                    found.append(job)
    return found


def _train(args: argparse.Namespace) -> dict[str, Any] | None:
    from crossbackend import stored
    from crossbackend.train import Options, run_training

    options = Options(args.out, args.data, args.cache, args.jobs, args.force, not (args.quiet or args.json))
    records = run_training(_jobs(args), options)
    written = [] if args.no_report else stored.report(args.out)
    if args.json:
        return {"experiment": args.experiment, "preset": args.preset, "runs": [_summary(record) for record in records]}
    for record in records:
        print(clean(_line(record)))
    for path in written:
        print(f"wrote {path}")
    return None


def _summary(record: TrainingRecord) -> dict[str, Any]:
    """Return what a program would read of one training."""
    names = ("backend", "norm", "seed", "rtol", "atol", "dtype", "status", "message", "steps", "forward_nfe_per_batch",
             "backward_nfe_per_batch", "forward_nfe_total", "backward_nfe_total", "time", "name")  # fmt: skip
    found = {name: getattr(record, name) for name in names}
    return {**found, "metric": record.metric, record.metric: record.final, "initialisation": "as torch.nn.Linear's"}


def _line(record: TrainingRecord) -> str:
    cell = f"{record.backend:12}{record.norm:17}rtol {record.rtol:<7g}"
    width = f"width {record.width} " if record.width is not None else ""
    if not record.ended:
        return f"{cell}{width}seed {record.seed}  {record.status}: {record.message}"
    judged = "" if record.final is None else f"  {record.metric} {record.final:.4g}"
    step = record.time.get("median_step_s")
    took = "" if step is None else f"  {1e3 * step:.1f} ms a step"
    return (
        f"{cell}{width}seed {record.seed}  {record.steps} steps{judged}  evaluations a batch: "
        f"{record.forward_nfe_per_batch:.1f} forward, {record.backward_nfe_per_batch:.1f} backward{took}"
    )
