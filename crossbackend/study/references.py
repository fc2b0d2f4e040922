"""The reference gradients of a run's problems, and the records' errors against them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend.errors import UserError
from crossbackend.problem import Problem
from crossbackend.record import FORMAT, Record, Status, relative_error
from crossbackend.store import Run, load_run, write_card, write_record, write_reference
from crossbackend.study.pool import Failed
from crossbackend.study.state import Study

MADE_BY = f"crossbackend {version('crossbackend')}"


def has_reference(problem: Problem, digest: str, run: Run, seeds: int = 0) -> bool:
    """Whether a run holds the reference and the card of a problem as it is now, made by this version.

    With seeds, the quick one of so many (`Options.seeds`) is asked for.
    """
    about = run.references.get(problem.name, {})
    return (about.get("digest"), about.get("made_by")) == (digest, _maker(seeds)) and problem.name in run.cards


def _maker(seeds: int) -> str:
    return f"{MADE_BY}, quick, {seeds} seeds" if seeds else MADE_BY


def run_references(study: Study) -> None:
    """Compute the references and the cards that the run lacks."""
    folder = study.options.out
    for problem in study.references:
        try:
            about, arrays, card = _asked(study, problem)
            about |= {"digest": study.digests[problem.name], "made_by": _maker(study.options.seeds)}
        except (Failed, UserError) as error:
            # Without a digest, so that it is tried again the next time.
            about, arrays, card = _failed(problem, str(error)), {}, _bare_card(problem)
        write_card(folder, problem.name, card)
        write_reference(folder, problem.name, about, arrays)
        study.tick(f"{problem.name} reference")
    study.workers["reference"].kill()  # its memory is wanted for the rest


def _asked(study: Study, problem: Problem) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    if problem.name in study.mistaken:
        raise UserError(*study.mistaken[problem.name])
    return study.workers["reference"].ask(problem, "reference", seeds=study.options.seeds)


def _failed(problem: Problem, message: str) -> dict[str, Any]:
    routes = [{"name": "reference", "seconds": 0.0, "message": message}]
    return {"problem": problem.name, "status": "failed", "floor": None, "check": None, "routes": routes}


def _bare_card(problem: Problem) -> dict[str, Any]:
    return {"format": FORMAT, "name": problem.name, "description": problem.description, "source": problem.source,
            "ts": list(problem.ts)}  # fmt: skip


def fill_errors(folder: Path) -> None:
    """Write every record's gradient error against its problem's reference, where it changed."""
    run = load_run(folder)
    for record in run.records:
        about = run.references.get(record.problem, {})
        scaled = record.scaled and {**record.scaled, "error": _scaled_error(record, about)}
        error = _error(record, about)
        if error != record.error or scaled != record.scaled:
            record.error, record.scaled = error, scaled
            write_record(folder, record)


def _error(record: Record, about: Mapping[str, Any]) -> dict[str, float | None]:
    error: dict[str, float | None] = dict.fromkeys(("all", "y0", "params", "floor"))
    if record.status == Status.OK and about.get("status") in ("exact", "ok"):
        gradient = record.gradient()
        truth = _gradient(about)
        error["floor"] = about.get("floor")
        error["all"] = relative_error(gradient, truth)
        for group in ("y0", "params"):
            error[group] = relative_error(_of(gradient, group), _of(truth, group))
    return error


def _scaled_error(record: Record, about: Mapping[str, Any]) -> float | None:
    """Return the error of the gradient that the scaled loss gave."""
    own = {name.removeprefix("scaled/"): a for name, a in record.arrays.items() if name.startswith("scaled/")}
    if not own or about.get("status") not in ("exact", "ok"):
        return None
    return relative_error(own, _gradient(about))


def _gradient(about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return a reference's gradient; a quick one has directions among its arrays too."""
    found = about["arrays"].items()
    return {name.removeprefix("gradient/"): array for name, array in found if name.startswith("gradient/")}


def _of(gradient: Mapping[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in gradient.items() if name.partition("/")[0] == group}
