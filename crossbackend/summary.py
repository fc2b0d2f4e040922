"""The main results in words, made from the numbers of a Comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossbackend.record import Record, Status, usual_rtol
from crossbackend.series import BACKSOLVE, gradient_of, series_of
from crossbackend.wording import listed, percent

Spread = defaultdict[str, defaultdict[str, list[float]]]
"""Numbers by norm and backend."""
ADDITIVE = 0.1
"""A residual above this share of the whole error says that the parts of an error do not add up."""

if TYPE_CHECKING:
    from crossbackend.compare import ProblemComparison


@dataclass(frozen=True)
class Point:
    """One result in words: what it is about, and the sentence."""

    topic: str
    text: str


def points(problems: Sequence[ProblemComparison], damaged: Sequence[str]) -> list[Point]:
    """Say whether the backends agree, what is wrong and why, what the norms save, what it took, what failed.

    What is said of norms is said of backsolve alone; agreement and times, of each gradient by itself.
    """
    said = {
        "Same steps": [line for name in _gradients(problems) for line in _agreement(problems, name)],
        "Own steps": [line for name in _gradients(problems) for line in _by_themselves(problems, name)],
        "Reverse solve": _flags(problems),
        "Rejected steps": _rejections(problems),
        "Equal tolerance": _savings(problems),
        "Equal error": _speedups(problems),
        "Whose error": _splits(problems),
        "Time": [line for name in _gradients(problems) for line in _times(problems, name)],
        "Missing": _status(problems, damaged),
    }
    return [Point(topic, text) for topic, lines in said.items() for text in lines]


def _gradients(problems: Sequence[ProblemComparison]) -> list[str]:
    """Return how the gradients of a run were taken, backsolve first."""
    found = {gradient_of(record.plan) for item in problems for record in item.records}
    return sorted(found, key=lambda name: (name != BACKSOLVE, name))


def _by(gradient: str) -> str:
    return "" if gradient == BACKSOLVE else f" with the gradient {gradient}"


def _agreement(problems: Sequence[ProblemComparison], gradient: str) -> list[str]:
    matched = {p.problem: [a for a in p.matched if a.gradient == gradient] for p in problems}
    judged = [p.problem for p in problems if any(a.verdict != "missing" for a in matched[p.problem])]
    good = [name for name in judged if all(a.verdict == "pass" for a in matched[name])]
    lines = []
    if good:
        cells = [a for name in good for a in matched[name]]
        worst = max(a.max_relative_difference or 0.0 for a in cells)
        backends = sorted({name for a in cells for name in a.backends})
        lines.append(
            f"On {len(good)} of {len(judged)} problems {listed(backends)} give the same gradient, to {worst:.1e} "
            f"relative, at every tolerance when they take the same steps{_by(gradient)}."
        )
    failing = sorted(name for name in judged if any(a.verdict == "fail" for a in matched[name]))
    if failing:
        lines.append(
            f"On {listed(failing)} the backends do not agree although they were to take the same steps, and the "
            f"reverse solve is no excuse{_by(gradient)}: look there first."
        )
    return lines


def _by_themselves(problems: Sequence[ProblemComparison], gradient: str) -> list[str]:
    """Say how far gradients differ where every library takes its own steps, at the usual tolerance."""
    stable = [item for item in problems if gradient != BACKSOLVE or not _all_unstable(item)]
    cells = {item.problem: [a for a in item.native if a.gradient == gradient] for item in stable}
    rtol = usual_rtol(a.rtol for own in cells.values() for a in own if a.max_relative_difference is not None)
    found = {}
    for item in stable:
        here = [a.max_relative_difference for a in cells[item.problem] if a.rtol == rtol]
        if known := [difference for difference in here if difference is not None]:
            found[item.problem] = max(known)
    if not found:
        return []
    low, high = min(found, key=lambda name: found[name]), max(found, key=lambda name: found[name])
    if not found[high]:
        return []  # a backend beside itself
    span = f"{found[low]:.1e} on {low}"
    if high != low:
        span += f" to {found[high]:.1e} on {high}"
    return [f"As the libraries run by themselves{_by(gradient)}, their gradients differ by {span} at rtol {rtol:g}."]


def _flags(problems: Sequence[ProblemComparison]) -> list[str]:
    lines = []
    for item in problems:
        flagged, cells = _unstable(item)
        if not flagged:
            continue
        errors = [r.error["all"] for r in _backsolved(item) if r.error.get("all") is not None]
        share = "in every cell" if flagged == cells else f"in {flagged} of {cells} cells"
        text = f"On {item.problem} the reverse solve is unstable {share}"
        if errors and flagged == cells:
            text += f": the backsolve gradients are wrong by {min(errors):.1g} to {max(errors):.1g} in every library"
        lines.append(text + ".")
    return lines


def _backsolved(item: ProblemComparison) -> list[Record]:
    return [record for record in item.records if gradient_of(record.plan) == BACKSOLVE]


def _unstable(item: ProblemComparison) -> tuple[int, int]:
    """Return how many cells of backsolve are flagged, of how many that were run."""
    flagged = sum(flag.name == "backsolve_unstable" for flag in item.flags)
    return flagged, sum(record.status != Status.UNSUPPORTED for record in _backsolved(item))


def _all_unstable(item: ProblemComparison) -> bool:
    flagged, cells = _unstable(item)
    return flagged == cells > 0


def _savings(problems: Sequence[ProblemComparison]) -> list[str]:
    by_norm: Spread = defaultdict(lambda: defaultdict(list))
    for item in problems:
        if _all_unstable(item):
            continue  # what is saved on a wrong gradient is no saving
        for saving in item.savings:
            if saving.stepping == "native" and saving.gradient == BACKSOLVE:
                by_norm[saving.norm][saving.backend].append(saving.saved)
    return [
        f"At equal tolerance the norm {norm} saves a median of {_spread(by_backend, percent)} of the backward "
        "evaluations against the library's default."
        for norm, by_backend in sorted(by_norm.items())
    ]


def _speedups(problems: Sequence[ProblemComparison]) -> list[str]:
    by_norm: Spread = defaultdict(lambda: defaultdict(list))
    for item in problems:
        for row in item.speedups:
            native = row.stepping == "native" and row.gradient == BACKSOLVE
            if native and row.cost == "backward_nfe" and row.factor is not None:
                by_norm[row.norm][row.backend].append(row.factor)
    return [
        f"At equal gradient error the default takes this many times the backward evaluations of {norm}, median over "
        f"the problems: {_spread(by_backend, '{:.2f}'.format)}."
        for norm, by_backend in sorted(by_norm.items())
    ]


def _spread(by_backend: Mapping[str, list[float]], shown: Callable[[float], str]) -> str:
    """Return `MEDIAN in BACKEND (LOWEST to HIGHEST)` for every backend."""
    return listed([
        f"{shown(float(np.median(found)))} in {backend} ({shown(min(found))} to {shown(max(found))})"
        for backend, found in sorted(by_backend.items())
    ])  # fmt: skip


def _rejections(problems: Sequence[ProblemComparison]) -> list[str]:
    """Say how many rejections under the libraries' default norms were spurious, and what was masked."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for item in problems:
        if _all_unstable(item):
            continue
        for row in item.rejections:
            if row.stepping == "native" and row.series == "default":
                counts = row.spurious, row.rejected, row.masked
                totals[row.backend] = [a + b for a, b in zip(totals[row.backend], counts, strict=True)]
    shares = [f"{percent(found[0] / found[1])} in {name}" for name, found in sorted(totals.items()) if found[1]]
    masked = [f"{found[2]} in {name}" for name, found in sorted(totals.items()) if found[2]]
    lines = []
    if shares:
        lines.append(
            "Under the libraries' default norms, y and a_y alone would have accepted this share of the backward steps "
            f"that were rejected (spurious rejections): {listed(shares)}."
        )
    if masked:
        lines.append(
            "The other way round, so many steps were accepted that y and a_y alone would have rejected (masked steps): "
            f"{listed(masked)}."
        )
    return lines


def _splits(problems: Sequence[ProblemComparison]) -> list[str]:
    """Say on how many problems the forward solve makes most of the gradient's error."""
    shares = {
        item.problem: row["share"]["forward"]
        for item in problems
        for row in item.splits
        if series_of(row) == "default" and "share" in row and row["residual"] <= ADDITIVE
    }
    most = [share for share in shares.values() if share > 0.5]
    if not most:
        return []
    return [
        f"On {len(most)} of {len(shares)} problems the forward solve makes most of the gradient's error in SciPy "
        f"({percent(min(most))} to {percent(max(most))}), which no norm of the backward solve can change."
    ]


def _times(problems: Sequence[ProblemComparison], gradient: str) -> list[str]:
    """Say how many times longer than the fastest backend each other one takes for one loss and gradient."""
    cells: dict[tuple[object, ...], dict[str, float]] = defaultdict(dict)
    records = [r for item in problems for r in item.records if gradient_of(r.plan) == gradient]
    for record in records:
        if record.stepping == "native" and record.time and record.time.get("median_s"):
            plan = tuple(value for name, value in record.plan.items() if name != "backend")
            cells[plan][record.backend] = record.time["median_s"]
    backends = sorted({name for found in cells.values() for name in found})
    whole = [found for found in cells.values() if len(found) == len(backends)]
    if len(backends) < 2 or not whole:
        return []
    medians = {name: float(np.median([found[name] for found in whole])) for name in backends}
    fastest = min(medians, key=lambda name: medians[name])
    parts = []
    for name in backends:
        if name != fastest:
            ratios = [found[name] / found[fastest] for found in whole]
            middle, low, high = (_times_as(r) for r in (float(np.median(ratios)), min(ratios), max(ratios)))
            parts.append(f"{name} {middle} times ({low} to {high})")
    text = f"One loss and gradient{_by(gradient)}, in multiples of {fastest}'s time, median over {len(whole)} plans: "
    text += listed(parts)
    waits = [r.time.get("compile_s") for r in records if r.backend == fastest and r.time]
    compiled = [wait for wait in waits if wait]
    if compiled:
        text += f"; {fastest} first compiles for {np.median(compiled):.2g} s (median)"
    return [text + "."]


def _times_as(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"


def _status(problems: Sequence[ProblemComparison], damaged: Sequence[str]) -> list[str]:
    records = [record for item in problems for record in item.records]
    bad = [r for r in records if r.status not in (Status.OK, Status.UNSUPPORTED)]
    lines = []
    if bad:
        by_status = sorted({str(r.status) for r in bad})
        tried = sum(record.status != Status.UNSUPPORTED for record in records)
        lines.append(f"{len(bad)} of {tried} plans did not finish: {listed(by_status)}.")
    uncertain = [p.problem for p in problems if p.reference.get("status") in ("uncertain", "failed")]
    if uncertain:
        lines.append(f"No reference gradient for {listed(uncertain)}: errors are not shown there.")
    if damaged:
        files = "1 file was" if len(damaged) == 1 else f"{len(damaged)} files were"
        lines.append(f"{files} damaged and skipped.")
    return lines
