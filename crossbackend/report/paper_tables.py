"""The paper's Tables 1 to 3 with what was trained here, seconds per training step, and every training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from crossbackend.published import PRESET, PUBLISHED, Published, saved
from crossbackend.report.formats import NONE, count, percent, power, ratio, sci, seconds, tolerance, typographic, whole
from crossbackend.report.table import Cell, Table, grouped, num
from crossbackend.spread import Spread
from crossbackend.training_record import TrainingRecord
from crossbackend.training_summary import TrainingCell, Trainings, metric_name, side_by_side, time_ratio
from crossbackend.wording import listed

TITLES = {
    "neural_cde": "Neural CDE (the paper's Table 1)",
    "cnf": "Continuous normalising flow (the paper's Table 2)",
    "symoden": "Symplectic ODE-Net on the double pendulum (the paper's Table 3)",
}
"""What an experiment is in the paper."""


def plus_minus(found: Spread, factor: float = 1.0) -> str:
    """Return 95.3 ± 1.2, (1.44 ± 0.11)×10⁷, or the mean alone where one number has no spread; a dash without one."""
    if found.mean is None:
        return NONE
    mean, std = found.mean * factor, None if found.std is None else found.std * factor
    largest = max(abs(mean), std or 0.0)
    exponent = math.floor(math.log10(largest)) if largest else 0
    scale = 1.0 if -3 <= exponent < 6 else 10.0**exponent
    if not math.isfinite(mean / scale):
        return sci(mean)
    text = _fixed(mean / scale, std / scale if std is not None else None)
    if scale == 1.0:
        return text
    return f"{text}×{power(exponent)}" if std is None else f"({text})×{power(exponent)}"


def _fixed(mean: float, std: float | None) -> str:
    """Return mean and spread with as many places as two digits of the spread have; four digits of a mean alone."""
    size = std if std and std > abs(mean) * 1e-6 else None
    places = 1 - math.floor(math.log10(size)) if size else 3 - math.floor(math.log10(abs(mean) or 1.0))
    places = min(max(places, 0), 6)
    shown = [_grouped(value, places) for value in ([mean] if std is None else [mean, std])]
    if size is None:
        shown = [text.rstrip("0").rstrip(".") if "." in text else text for text in shown]
    return " ± ".join(shown)


def _grouped(value: float, places: int) -> str:
    return f"{value:,.{places}f}".replace(",", "\u202f").replace("-", "−")


def tables(found: Sequence[Trainings]) -> list[tuple[str, Table]]:
    """Return a title and a table for each experiment: what was trained here, then what was published."""
    experiments = dict.fromkeys(item.setting.experiment for item in found)
    return [
        (
            TITLES.get(experiment, experiment),
            _table(index, experiment, [item for item in found if item.setting.experiment == experiment]),
        )
        for index, experiment in enumerate(experiments)
    ]


def _table(index: int, experiment: str, found: Sequence[Trainings]) -> Table:
    metrics = dict.fromkeys(cell.metric for item in found for cell in item.cells)
    published = [row for row in PUBLISHED if row.experiment == experiment and row.metric in metrics]
    keys, bodies = [], []
    for item in found:
        for cell in item.cells:
            keys.append((typographic(item.words), cell.backend, cell.norm))
            bodies.append(_ours(cell, several=len(metrics) > 1))
    for row in published:
        keys.append((_setting(row), "torchdiffeq", row.norm))
        bodies.append(_theirs(row))
    one = next(iter(metrics)) if len(metrics) == 1 else "metric"
    unit, where = ", %" if one == "accuracy" else "", "" if one == "test_loss" else ", test set"
    caption = (
        f"{TITLES.get(experiment, experiment)}: mean ± sample standard deviation over the seeds that ended, one seed "
        "without a spread. Saved: share of the default's backward evaluations per batch, seed by seed."
    )
    if published:
        caption += " Published: the paper's sizes, data and steps, so its totals are not those of a reduced preset."
        caption += "".join(f" The norm {row.norm} is {row.note}." for row in published if row.note)
    if len({item.setting.length for item in found}) > 1:
        caption += " Trainings of different lengths are here: compare a metric with those of as many epochs alone."
    columns = [
        "training", "backend", "norm", "seeds", f"{metric_name(one)}{unit}{where}", "backward NFE per batch",
        "backward NFE in all", "forward NFE per batch", "saved",
    ]  # fmt: skip
    return Table(f"paper-{index}", caption, columns, grouped(keys, bodies), "", tuple(range(4, len(columns))))


def _ours(cell: TrainingCell, *, several: bool) -> list[Cell]:
    n = len(cell.seeds)
    failed = _failed(cell)
    seeds = Cell(whole(n) if n else "✕ none", failed, kind="" if n and not failed else "unstable" if n else "fail")
    factor = 100.0 if cell.metric == "accuracy" else 1.0
    final = num(plus_minus(cell.final, factor), metric_name(cell.metric) if several else "")
    counts = (cell.backward_nfe_per_batch, cell.backward_nfe_total, cell.forward_nfe_per_batch)
    return [seeds, final, *(num(plus_minus(found)) for found in counts), _saved(cell)]


def _failed(cell: TrainingCell) -> str:
    """Say which seeds did not end, how, and after how many steps."""
    return "; ".join(
        f"seed {one['seed']}: {one['status']}".replace("_", " ")
        + (f" after step {one['steps']}" if one["steps"] is not None else "")
        for one in cell.failed
    )


def _saved(cell: TrainingCell) -> Cell:
    if cell.norm == "default" or cell.saved.mean is None:
        why = "" if cell.norm == "default" or not cell.seeds else "no seed in common with default"
        return num(NONE, why)
    few = "" if cell.saved.n == len(cell.seeds) else count(cell.saved.n, "seed")
    return num(f"{plus_minus(cell.saved, 100.0)}\u202f%", few)


def _setting(row: Published) -> str:
    width = "" if row.width is None else f", width {row.width}"
    return f"{PRESET}: {row.data}, rtol {tolerance(row.rtol)}, atol {tolerance(row.atol)}{width}"


def _theirs(row: Published) -> list[Cell]:
    share = saved(row)
    return [
        Cell(whole(row.repeats)), num(row.metric_text), num(NONE), num(row.nfe_text), num(NONE),
        num(NONE if share is None else percent(share)),
    ]  # fmt: skip


def times(found: Sequence[Trainings]) -> Table:
    """Return seconds per training step, backends side by side: medians over seeds of medians over steps."""
    backends = sorted({cell.backend for item in found for cell in item.cells})
    keys, bodies = [], []
    rows = side_by_side(found)
    for row in rows:
        own = {(cell.backend, cell.norm): cell for item in row for cell in item.cells}
        for norm in dict.fromkeys(norm for _, norm in own):
            cells = [own.get((backend, norm)) for backend in backends]
            if any(cell is not None and cell.time["median_step_s"] is not None for cell in cells):
                keys.append((typographic(_together(row)), norm))
                parts = [
                    _timing(cell, own.get((backend, "default"))) for backend, cell in zip(backends, cells, strict=True)
                ]
                bodies.append(
                    [*(cell for part in parts for cell in part), *([_slower(cells)] if len(backends) > 1 else [])]
                )
    caption = (
        "Seconds per training step: medians over the seeds of the medians over the steps, forward and backward pass "
        "below. Default / this: how many times as long a step takes under the norm default; the paper says that its "
        "seminorm roughly halves the time. Compile: once for all seeds. Compare within this run; absolute times from a "
        "shared machine mean little."
    )
    if any(len(row) > 1 for row in rows):
        caption += " Where backends trained for different lengths and nothing else differs, they share a row."
    each = [(f"{name}, a step", f"{name}, default / this", f"{name}, compile") for name in backends]
    columns = ["training", "norm", *(name for part in each for name in part)]
    if len(backends) == 2:
        columns.append(f"{backends[1]} / {backends[0]}")
    elif len(backends) > 2:
        columns.append("slowest / fastest")
    return Table("paper-times", caption, columns, grouped(keys, bodies), "", tuple(range(2, len(columns))))


def _together(row: Sequence[Trainings]) -> str:
    """Return the title of what stands side by side, with each backend's own length where they differ."""
    if len(row) == 1:
        return row[0].title
    lengths = [f"{item.setting.length or 'unknown length'} in {listed(dict.fromkeys(c.backend for c in item.cells))}"
               for item in row]  # fmt: skip
    return f"{row[0].titled(without='length')}, {listed(lengths)}"


def _timing(cell: TrainingCell | None, default: TrainingCell | None) -> list[Cell]:
    if cell is None or cell.time["median_step_s"] is None:
        return [num(NONE)] * 3
    passes = [seconds(cell.time[f"median_{which}_s"]) for which in ("forward", "backward")]
    note = "" if NONE in passes else f"{passes[0]} + {passes[1]}"
    slower = None if default is None or cell.norm == "default" else time_ratio(cell, default)
    return [num(seconds(cell.time["median_step_s"]), note), num(ratio(slower)), num(seconds(cell.time["compile_s"]))]


def _slower(cells: Sequence[TrainingCell | None]) -> Cell:
    """Return how long a step takes in the second backend, in multiples of the first's; of more, slowest to fastest."""
    known = [cell.time["median_step_s"] if cell is not None else None for cell in cells]
    own = [value for value in known if value]
    if len(known) == 2:
        return num(ratio(known[1] / known[0]) if known[0] and known[1] else NONE)
    return num(ratio(max(own) / min(own)) if len(own) > 1 else NONE)


def failures(records: Iterable[TrainingRecord], titles: dict[int, str]) -> Table:
    """Return the trainings that did not end, with the words of each; `titles` by the record's `id`."""
    rows = [
        [
            Cell(typographic(titles[id(r)]), head=True), Cell(r.backend), Cell(r.norm), num(str(r.seed)),
            Cell(f"✕ {r.status}".replace("_", " "), kind="fail"), num(whole(r.steps)), Cell(r.message or NONE),
        ]
        for r in records if not r.ended
    ]  # fmt: skip
    columns = ["training", "backend", "norm", "seed", "status", "steps taken", "message"]
    caption = "Each with its seed and its words. They count in no mean."
    return Table("paper-failures", caption, columns, rows, "", (3, 5))


def every(records: Iterable[TrainingRecord], titles: dict[int, str]) -> Table:
    """Return every training of the run, one a row."""
    keys, bodies = [], []
    for r in records:
        keys.append((typographic(titles[id(r)]), r.backend, r.norm))
        status = Cell("ok") if r.ended else Cell(f"✕ {r.status}".replace("_", " "), kind="fail")
        final = None if r.final is None else r.final * (100.0 if r.metric == "accuracy" else 1.0)
        unit = "\u202f%" if r.metric == "accuracy" and final is not None else ""
        bodies.append([
            num(str(r.seed)), status, num(whole(r.steps)), num(sci(final, 3) + unit, metric_name(r.metric)),
            num(sci(r.backward_nfe_per_batch, 3)), num(whole(r.backward_nfe_total)),
            num(seconds(r.time.get("median_step_s"))), num(seconds(r.time.get("total_s"))),
        ])  # fmt: skip
    columns = ["training", "backend", "norm", "seed", "status", "steps", "metric, test set", "backward NFE per batch",
               "backward NFE in all", "a step", "in all"]  # fmt: skip
    caption = "Every training of the run: what it ended with, and the median time of its steps."
    return Table(
        "paper-all", caption, columns, grouped(keys, bodies), "Every training", (3, *range(5, 11)), inline=True
    )
