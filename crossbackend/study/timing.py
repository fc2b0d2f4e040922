"""Timing: native plans one at a time on the machine, backends in turns (A B C A B C)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from crossbackend.errors import UserError
from crossbackend.record import Status
from crossbackend.study.cells import Cell
from crossbackend.study.lane import not_timed
from crossbackend.study.pool import Failed
from crossbackend.study.state import Study

CHEAP = 0.1
"""A call that takes less than this share of `Options.seconds` is made once more before it counts."""


def time_cells(study: Study) -> None:
    """Time every native plan that ended ok and has no time yet, and store its record again."""
    groups: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in study.cells:
        if cell.digest not in study.to_time:
            continue
        if study.records[cell.digest].status == Status.OK and cell.plan.sweep_key in study.warmed:
            groups[cell.plan.problem, cell.plan.norm, cell.plan.rtol].append(cell)
        else:
            study.tick(f"{cell.plan.describe()} not timed")
    for group in groups.values():
        _time_group(study, group)


def _time_group(study: Study, group: list[Cell]) -> None:
    """Time the backends of one cell in turns, each until its repeats or its seconds are spent."""
    options = study.options
    spent: dict[str, list[float]] = {cell.digest: [] for cell in group}
    peaks: dict[str, int] = {}
    waiting = list(group)
    first = True
    while waiting:
        for cell in list(waiting):
            try:
                found = study.workers[cell.plan.backend].ask(cell.problem, "time", plan=cell.plan)
            except (Failed, UserError) as error:
                waiting.remove(cell)
                spent[cell.digest].clear()
                not_timed(study, cell, error)
                continue
            if first and found["seconds"] < CHEAP * options.seconds:
                continue
            times = spent[cell.digest]
            times.append(found["seconds"])
            if found["peak_memory_bytes"] is not None:
                peaks[cell.digest] = max(peaks.get(cell.digest, 0), found["peak_memory_bytes"])
            if len(times) >= options.repeats or sum(times) >= options.seconds:
                waiting.remove(cell)
        first = False
    for cell in group:
        if spent[cell.digest]:
            record = study.records[cell.digest]
            record.message = ""
            record.time = statistics(spent[cell.digest], study.warmed[cell.plan.sweep_key])
            record.peak_memory_bytes = peaks.get(cell.digest)
            study.keep(cell, record)
        study.tick(f"{cell.plan.describe()} timed")


def statistics(times: list[float], warmed: dict[str, float]) -> dict[str, Any]:
    """Return a record's `time`: seconds, as minimum, median and quartiles."""
    q1, median, q3 = (float(q) for q in np.percentile(times, [25, 50, 75]))
    return {
        "compile_s": warmed["compile_s"], "first_s": warmed["first_s"], "min_s": min(times), "median_s": median,
        "q1_s": q1, "q3_s": q3, "repeats": len(times),
    }  # fmt: skip
