"""What is to be done: the cells of a run, and which of them a folder already holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossbackend import registry
from crossbackend.digest import plan_digest
from crossbackend.plan import Choice, Plan, plans
from crossbackend.problem import Problem
from crossbackend.record import Record, Status, usual_rtol
from crossbackend.store import Run
from crossbackend.study.parcel import Parcel
from crossbackend.study.pool import Failed, WorkerHandle

RETRIED = (Status.TIMEOUT, Status.OUT_OF_MEMORY, Status.CRASHED)
"""Statuses that say something about the machine: such a cell is run again the next time."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One plan with its problem, as it is here or as it travels, and the digest of its record."""

    problem: Problem | Parcel
    plan: Plan
    digest: str


def cells(problems: Sequence[Problem], choice: Choice, digests: Mapping[str, str]) -> list[Cell]:
    """Return the cells of a run, in the order problem, backend, norm, stepping, rtol.

    Parameters
    ----------
    digests : mapping of str to str
        Every problem's digest, by its name.
    """
    return [
        Cell(problem, plan, plan_digest(plan, digests[problem.name], registry.versions(plan.backend)))
        for problem in problems
        for plan in plans(problem, choice)
    ]


def usual_rtols(cells: Sequence[Cell]) -> dict[tuple[str, ...], float]:
    """Return the rtol that stands for every sweep of a run, by the sweep's key."""
    found: dict[tuple[str, ...], list[float]] = {}
    for cell in cells:
        found.setdefault(cell.plan.sweep_key, []).append(cell.plan.rtol)
    return {key: rtol for key, rtols in found.items() if (rtol := usual_rtol(rtols)) is not None}


def set_aside(cells: Sequence[Cell], digests: Mapping[str, str], run: Run) -> int:
    """Move records that are no longer true to `superseded/`; return how many.

    They are results of an edited problem, whatever their tolerance, or of the same plan with other versions of its
    libraries: kept, but no part of the run. Records of programs that are no backend here are left alone.
    """
    current = {cell.plan: cell.digest for cell in cells}
    stale = [record for record in run.records if not _true(record, current, digests)]
    for record in stale:
        supersede(run.folder, record)
    gone = {record.digest for record in stale}
    run.records = [record for record in run.records if record.digest not in gone]
    for name, digest in digests.items():
        if run.references.get(name, {}).get("digest", digest) != digest:
            _move(run.folder, f"reference/{name}.json", f"reference/{name}.npz")
            del run.references[name]
    return len(stale)


def supersede(folder: Path, record: Record) -> None:
    """Move a record of a run to `superseded/`."""
    _move(folder, f"records/{record.digest}.json", f"records/{record.digest}.npz")


def _move(folder: Path, *names: str) -> None:
    """Move files of a run to `superseded/`."""
    (folder / "superseded").mkdir(exist_ok=True)
    for name in names:
        path = folder / name
        if path.exists():
            path.replace(folder / "superseded" / path.name)


def _true(record: Record, current: Mapping[Plan, str], digests: Mapping[str, str]) -> bool:
    if record.problem not in digests or not registry.known(record.backend):
        return True
    plan = Plan(**record.plan)
    then = plan_digest(plan, digests[record.problem], record.versions)
    return record.digest == then == current.get(plan, then)


def plans_of(problem: Problem, choice: Choice) -> list[Plan]:
    """Return the plans of one problem."""
    return list(plans(problem, choice))


def declines(problem: Problem, plans: Sequence[Plan]) -> list[tuple[Plan, str | None]]:
    """Return every plan with the reason why its backend cannot run it, or None.

    Looking for a GPU imports torch or jax, so a worker per backend does that.
    """
    found: dict[Plan, str | None] = {}
    for backend in dict.fromkeys(plan.backend for plan in plans):
        mine = [plan for plan in plans if plan.backend == backend]
        lacking = registry.missing(backend)
        if lacking:
            found |= dict.fromkeys(mine, f"not installed: {', '.join(lacking)}. {registry.advice(backend)}")
        elif any(plan.device != "cpu" for plan in mine):
            worker = WorkerHandle(backend, timeout=120.0, memory_bytes=2**33, environment={})
            try:
                found |= dict(zip(mine, worker.ask(problem, "declines", plans=mine), strict=True))
            except Failed as error:
                found |= dict.fromkeys(mine, f"{error.status}: {error}")
            finally:
                worker.kill()
        else:
            found |= {plan: registry.get(backend).declines(problem, plan) for plan in mine}
    return [(plan, found[plan]) for plan in plans]
