"""A run whose cells are done by the workers of a Dask scheduler; the records are written here."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from crossbackend.errors import Mistake, UserError, raise_all
from crossbackend.problem import Problem
from crossbackend.record import Status
from crossbackend.study.cells import Cell
from crossbackend.study.cluster import Cluster, connect
from crossbackend.study.crew import Answer
from crossbackend.study.lane import lost_with, to_be_timed
from crossbackend.study.pool import Failed, Stopped
from crossbackend.study.references import run_references
from crossbackend.study.state import Study
from crossbackend.study.sweep import failed, sweeps
from crossbackend.study.tasks import Counting, Timing
from crossbackend.study.timing import Timed
from crossbackend.study.trials import run_trials

ASKING = 64
"""Trials, and references, under way at a time, at most: each is waited for by a thread."""


def run_on_cluster(study: Study) -> None:
    """Do everything on the cluster, and let go of it whatever happens.

    Raises
    ------
    UserError
    """
    cluster = connect(study.options, study.backends, study.choice.device)
    try:
        study.start({name: cluster.handle(name) for name in (*study.backends, "reference")})
        study.ending.append(cluster.stop)
        study.machines = [about["machine"] for about in cluster.machines.values()]
        _try(study, cluster)
        references = [lambda one=one: run_references(one) for one in _shares(study, cluster, study.references)]
        study.side_by_side([lambda: _count(study, cluster), *references])
        study.side_by_side([lambda: _time(study, cluster)])
        study.machines = [about["machine"] for about in cluster.machines.values()] or study.machines
    finally:
        cluster.stop()


def _shares(study: Study, cluster: Cluster, problems: Sequence[Problem]) -> Iterator[Study]:
    """Yield the study as seen by those that take a share of its problems each."""
    count = min(len(problems), max(1, cluster.cores), ASKING)
    for first in range(count):
        names = {problem.name for problem in problems[first::count]}
        yield replace(
            study,
            problems=[problem for problem in study.problems if problem.name in names],
            cells=[cell for cell in study.cells if cell.plan.problem in names],
            references=[problem for problem in study.references if problem.name in names],
        )


def _try(study: Study, cluster: Cluster) -> None:
    """Try the problems side by side; raise all mistakes as one error."""
    mistakes: list[Mistake] = []
    lock = threading.Lock()

    def one(share: Study) -> None:
        own = replace(share, mistaken={}, tried={})
        try:
            run_trials(own)
        except UserError as error:
            with lock:
                mistakes.extend(error.mistakes)
        with lock:
            study.mistaken.update(own.mistaken)
            study.tried.update(own.tried)

    names = {cell.plan.problem for cell in study.cells if cell.digest in study.todo}
    problems = [problem for problem in study.problems if problem.name in names]
    jobs = [lambda share=share: one(share) for share in _shares(study, cluster, problems)]
    try:
        study.side_by_side(jobs)
    except Stopped:  # by another share's error
        raise_all(mistakes)
        raise
    raise_all(list({str(mistake): mistake for mistake in mistakes}.values()))


def _count(study: Study, cluster: Cluster) -> None:
    """Count every sweep's cells that are to do, a sweep a task."""

    def tasks() -> Iterator[Counting]:
        for sweep in sweeps(cell for cell in study.cells if cell.digest in study.todo):
            lost = lost_with(study, sweep[0])
            if lost is None:
                key = sweep[0].plan.sweep_key
                usual = {key: study.usual[key]} if key in study.usual else {}
                yield Counting(_packed(cluster, sweep), usual)
            else:
                _lose(study, sweep, lost)

    def done(task: Counting, answer: Answer) -> None:
        if answer.kind == "failed":
            _lose(study, task.cells, Failed(*answer.value))
        for record in answer.value if answer.kind == "ok" else ():
            study.counted(record)

    cluster.spread(tasks(), done)


def _lose(study: Study, cells: Sequence[Cell], error: Failed) -> None:
    for record in failed(cells, error):
        study.counted(record)


def _time(study: Study, cluster: Cluster) -> None:
    """Time every native plan that ended ok, a problem's norm a task, each alone on its machine."""
    ready = to_be_timed(study, study.cells)
    study.skipped(c for c in study.cells if c.digest in study.to_time and study.records[c.digest].status != Status.OK)
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in ready:
        groups.setdefault((cell.plan.problem, cell.plan.norm), []).append(cell)

    def done(task: Timing, answer: Answer) -> None:
        for cell in task.cells:
            good = answer.kind == "ok"
            study.timed(cell.digest, answer.value[cell.digest] if good else Timed.not_timed(Failed(*answer.value)))

    cluster.spread((Timing(_packed(cluster, cells)) for cells in groups.values()), done, alone=True)


def _packed(cluster: Cluster, cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return cells whose problem is as it travels."""
    problem: Any = cells[0].problem
    parcel = cluster.parcel(problem)
    return tuple(replace(cell, problem=parcel) for cell in cells)
