"""The main results of a run's trainings in words, made from the numbers of its cells."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from crossbackend.spread import within
from crossbackend.summary import Point
from crossbackend.training_record import TrainingRecord
from crossbackend.training_summary import (
    TrainingCell,
    Trainings,
    final_within,
    metric_name,
    time_ratio,
    trainings,
)  # fmt: skip
from crossbackend.wording import count, listed

PRECISE = 1e-9
"""Savings below this share are rounding."""


def points(records: Sequence[TrainingRecord]) -> list[Point]:
    """Say, experiment by experiment, what each norm changed in evaluations and in the metric, then in time."""
    found = trainings(records)
    groups: dict[str, list[Trainings]] = defaultdict(list)
    for item in found:
        setting = item.setting
        where = (
            setting.experiment if setting.problem == setting.experiment else f"{setting.experiment} ({setting.problem})"
        )
        groups[", ".join([where, f"{setting.preset} preset", *_scale(item)])].append(item)
    lines = []
    for where, some in groups.items():
        lines += [_sentence(where, norm, pairs) for norm, pairs in _by_norm(some).items()]
    lines += [_time(norm, pairs) for norm, pairs in _by_norm(found).items()]
    lines += _failures(records)
    return [Point("Training", line) for line in lines if line]


def _scale(item: Trainings) -> list[str]:
    return [said for name, said in item.told.items() if name == "loss scale"]


Pair = tuple[TrainingCell, TrainingCell]
"""A cell, and the one of the same setting and backend under the default norm."""


def _by_norm(found: Iterable[Trainings]) -> dict[str, list[Pair]]:
    """Return the cells of every norm that have a seed in common with the default."""
    pairs: dict[str, list[Pair]] = defaultdict(list)
    for item in found:
        cells = {(cell.backend, cell.norm): cell for cell in item.cells}
        for (backend, norm), cell in cells.items():
            if cell.saved.mean is not None:
                pairs[norm].append((cell, cells[backend, "default"]))
    return pairs


def _by_backend(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    found: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        found[pair[0].backend].append(pair)
    return dict(sorted(found.items()))


def _sentence(where: str, norm: str, pairs: Sequence[Pair]) -> str:
    said = [f"{_evaluations(own)} in {backend}" for backend, own in _by_backend(pairs).items()]
    return f"{where}: backward evaluations under {norm}, against default: {listed(said)}. {_metric(pairs)}."


def _evaluations(pairs: Sequence[Pair]) -> str:
    """Say how many backward evaluations are saved: of one setting with its spread, of several their range."""
    found = [cell.saved for cell, _ in pairs]
    means = [one.mean for one in found if one.mean is not None]
    if len(found) > 1:
        inside = sum(bool(within(one.mean, one.std)) for one in found)
        words = f"{count(len(found), 'setting')}" + (f", within the spread in {inside}" if inside else "")
        low, high = _share(min(means)), _share(max(means))
        if low == high:
            return f"{low} ({words})"
        if low.split()[-1] == high.split()[-1] == "fewer":
            low = low.removesuffix(" fewer")
        return f"{low} to {high} ({words})"
    one, share = found[0], _share(means[0])
    if one.std is None:
        return f"{share} (one seed, no spread)"
    inside = ", within the spread" if within(one.mean, one.std) else ""
    return f"{share} (± {100 * one.std:.1f}, {count(one.n, 'seed')}{inside})"


def _share(saved: float) -> str:
    if abs(saved) < PRECISE:
        return "as many"
    return f"{100 * abs(saved):.1f} % {'fewer' if saved > 0 else 'more'}"


def _metric(pairs: Sequence[Pair]) -> str:
    """Say what became of the metric: its numbers where they are few, else how often it changed beyond the spread.

    Norms are compared within a cell's setting and backend alone; where the backends trained for different lengths,
    each one's numbers say theirs.
    """
    name = metric_name(pairs[0][0].metric)
    name = name[:1].upper() + name[1:]
    known = [pair for pair in pairs if pair[0].final.mean is not None and pair[1].final.mean is not None]
    if not known:
        return f"{name} is not known"
    judged = [_judged(*pair) for pair in known]
    if len(known) <= len(_by_backend(known)):
        apart = len({own.setting.length for own, _ in known}) > 1
        values = [f"{_value(own)} against {_value(base)} in {own.backend}"
                  + (f" after {own.setting.length}" if apart else "") for own, base in known]  # fmt: skip
        said = [f"{value} ({words})" for value, words in zip(values, judged, strict=True)]
        return f"{name}: {listed(said)}"
    counts = Counter(judged)
    return f"{name}: {listed(f'{words} in {n} of {len(known)} cells' for words, n in counts.most_common())}"


def _judged(own: TrainingCell, base: TrainingCell) -> str:
    inside = final_within(own, base)
    if inside is None:
        return "without a spread to judge by"
    if inside:
        return "within the spread of the seeds"
    change = (own.final.mean or 0.0) - (base.final.mean or 0.0)
    better = change > 0 if own.metric == "accuracy" else change < 0
    return f"{'better' if better else 'worse'} by more than the spread"


def _value(cell: TrainingCell) -> str:
    factor, unit = (100.0, " %") if cell.metric == "accuracy" else (1.0, "")
    mean, std = cell.final.mean or 0.0, cell.final.std
    return f"{factor * mean:.3g}" + ("" if std is None else f" ± {factor * std:.2g}") + unit


def _time(norm: str, pairs: Sequence[Pair]) -> str:
    """Say how many times longer a training step takes under the default, by backend."""
    said = []
    for backend, own in _by_backend(pairs).items():
        ratios = [ratio for cell, base in own if (ratio := time_ratio(cell, base)) is not None]
        if ratios:
            more = f" ({min(ratios):.2g} to {max(ratios):.2g})" if len(ratios) > 1 else ""
            said.append(f"{np.median(ratios):.2g} in {backend}{more}")
    if not said:
        return ""
    paper = "; the paper says roughly 2" if norm == "mixed-seminorm" else ""
    return (
        f"A training step under default takes this many times as long as under {norm}, median over the settings: "
        f"{listed(said)}{paper}."
    )


def _failures(records: Sequence[TrainingRecord]) -> list[str]:
    bad = [record for record in records if not record.ended]
    if not bad:
        return []
    words = listed(sorted({record.status.replace("_", " ") for record in bad}))
    return [f"{len(bad)} of {count(len(records), 'training')} did not end: {words}."]
