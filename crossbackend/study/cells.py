"""What is to be done: the cells of a run, and which of them a folder already holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crossbackend import registry
from crossbackend.digest import plan_digest, problem_digest
from crossbackend.plan import Choice, Plan, plans
from crossbackend.problem import Problem
from crossbackend.record import Record, Status
from crossbackend.store import Damaged, read_record
from crossbackend.study.pool import WorkerHandle

RETRIED = (Status.TIMEOUT, Status.OUT_OF_MEMORY, Status.CRASHED)
"""Statuses that say something about the machine: such a cell is run again the next time."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One plan with its problem and the digest of its record."""

    problem: Problem
    plan: Plan
    digest: str

    def path(self, folder: Path) -> Path:
        """Return where its record is stored."""
        return folder / "records" / f"{self.digest}.json"


def cells(problems: Sequence[Problem], choice: Choice) -> list[Cell]:
    """Return the cells of a run, in the order problem, backend, norm, stepping, rtol."""
    found = []
    for problem in problems:
        digest = problem_digest(problem)
        for plan in plans(problem, choice):
            found.append(Cell(problem, plan, plan_digest(plan, digest, registry.versions(plan.backend))))
    return found


def stored(cell: Cell, folder: Path) -> Record | None:
    """Return a cell's record if it is there, whole, and need not be tried again."""
    path = cell.path(folder)
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except Damaged:
        return None
    return None if record.status in RETRIED else record


def set_aside(cells: Sequence[Cell], folder: Path) -> int:
    """Move records of the same plans but another digest to `superseded/`; return how many.

    They are results of an edited problem or of other library versions: kept, but no part of the run.
    """
    current = {(cell.plan.problem, cell.plan): cell.digest for cell in cells}
    moved = 0
    for path in sorted((folder / "records").glob("*.json")):
        try:
            record = read_record(path)
        except Damaged:
            continue
        plan = Plan(**record.plan)
        if current.get((plan.problem, plan), record.digest) != record.digest:
            (folder / "superseded").mkdir(exist_ok=True)
            for part in (path, path.with_suffix(".npz")):
                part.replace(folder / "superseded" / part.name)
            moved += 1
    return moved


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
            found |= dict.fromkeys(mine, f"not installed: {', '.join(lacking)}")
        elif any(plan.device != "cpu" for plan in mine):
            worker = WorkerHandle(backend, timeout=120.0, memory_bytes=2**33, environment={})
            try:
                found |= dict(zip(mine, worker.ask(problem, "declines", plans=mine), strict=True))
            finally:
                worker.kill()
        else:
            found |= {plan: registry.get(backend).declines(problem, plan) for plan in mine}
    return [(plan, found[plan]) for plan in plans]
