"""Timing: native plans one at a time on the machine, backends in turns (A B C A B C)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from crossbackend.record import Status
from crossbackend.store import write_record
from crossbackend.study.cells import Cell
from crossbackend.study.pool import Failed

if TYPE_CHECKING:
    from crossbackend.study.run import Study


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
    spent: dict[str, list[float]] = {cell.digest: [] for cell in group}
    peaks: dict[str, int] = {}
    waiting = list(group)
    first = True
    while waiting:
        for cell in list(waiting):
            try:
                found = study.worker(cell.plan.backend).ask(cell.problem, "time", plan=cell.plan)
            except Failed:
                waiting.remove(cell)
                continue
            if first and found["seconds"] < 0.1 * study.options.seconds:
                continue  # a warm-up at this tolerance that costs little
            spent[cell.digest].append(found["seconds"])
            if found["peak_memory_bytes"] is not None:
                peaks[cell.digest] = max(peaks.get(cell.digest, 0), found["peak_memory_bytes"])
            times = spent[cell.digest]
            if len(times) >= study.options.repeats or sum(times) >= study.options.seconds:
                waiting.remove(cell)
        first = False
    for cell in group:
        record = study.records[cell.digest]
        if spent[cell.digest]:
            record.time = statistics(spent[cell.digest], study.warmed[cell.plan.sweep_key])
            record.peak_memory_bytes = peaks.get(cell.digest)
            write_record(study.options.out, record)
        study.tick(f"{cell.plan.describe()} timed")


def statistics(times: list[float], warmed: dict[str, float]) -> dict[str, Any]:
    """Return a record's `time`: seconds, as minimum, median and quartiles."""
    q1, median, q3 = (float(q) for q in np.percentile(times, [25, 50, 75]))
    return {
        "compile_s": warmed["compile_s"], "first_s": warmed["first_s"], "min_s": min(times), "median_s": median,
        "q1_s": q1, "q3_s": q3, "repeats": len(times),
    }  # fmt: skip
