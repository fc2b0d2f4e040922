"""The main results in words, made from the numbers of a Comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossbackend.record import Status
from crossbackend.wording import listed, percent

Spread = defaultdict[str, defaultdict[str, list[float]]]
"""Numbers by norm and backend."""
ADDITIVE = 0.1
"""A residual above this share of the whole error says that the parts of an error do not add up."""

if TYPE_CHECKING:
    from crossbackend.compare import ProblemComparison


def sentences(problems: Sequence[ProblemComparison], damaged: Sequence[str]) -> list[str]:
    """Say whether the backends agree, what is wrong and why, what the norms save, what failed."""
    return [
        *_agreement(problems), *_flags(problems), *_rejections(problems), *_savings(problems), *_speedups(problems),
        *_splits(problems), *_status(problems, damaged),
    ]  # fmt: skip


def _agreement(problems: Sequence[ProblemComparison]) -> list[str]:
    judged = [p for p in problems if any(a.verdict != "missing" for a in p.matched)]
    good = [p for p in judged if all(a.verdict == "pass" for a in p.matched)]
    lines = []
    if good:
        cells = [a for p in good for a in p.matched]
        worst = max(a.max_relative_difference or 0.0 for a in cells)
        backends = sorted({name for a in cells for name in a.backends})
        lines.append(
            f"On {len(good)} of {len(judged)} problems {listed(backends)} give the same gradient, to {worst:.1e} "
            "relative, at every tolerance when they take the same steps."
        )
    failing = sorted({p.problem for p in judged if any(a.verdict == "fail" for a in p.matched)})
    if failing:
        lines.append(
            f"On {listed(failing)} the backends do not agree although they were to take the same steps, and the "
            "reverse solve is no excuse: look there first."
        )
    return lines


def _flags(problems: Sequence[ProblemComparison]) -> list[str]:
    lines = []
    for item in problems:
        flagged, cells = _unstable(item)
        if not flagged:
            continue
        errors = [r.error["all"] for r in item.records if r.error.get("all") is not None]
        share = "in every cell" if flagged == cells else f"in {flagged} of {cells} cells"
        text = f"On {item.problem} the reverse solve is unstable {share}"
        if errors and flagged == cells:
            text += f": the backsolve gradients are wrong by {min(errors):.1g} to {max(errors):.1g} in every library"
        lines.append(text + ".")
    return lines


def _unstable(item: ProblemComparison) -> tuple[int, int]:
    """Return how many cells are flagged, of how many that were run."""
    flagged = sum(flag.name == "backsolve_unstable" for flag in item.flags)
    return flagged, sum(record.status != Status.UNSUPPORTED for record in item.records)


def _savings(problems: Sequence[ProblemComparison]) -> list[str]:
    by_norm: Spread = defaultdict(lambda: defaultdict(list))
    for item in problems:
        flagged, cells = _unstable(item)
        if flagged == cells:
            continue  # what is saved on a wrong gradient is no saving
        for saving in item.savings:
            if saving.stepping == "native":
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
            if row.stepping == "native" and row.cost == "backward_nfe" and row.factor is not None:
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
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for item in problems:
        flagged, cells = _unstable(item)
        if flagged == cells:
            continue
        for row in item.rejections:
            if row.stepping == "native" and row.norm == "default":
                counts = row.spurious, row.rejected, row.masked, row.accepted
                totals[row.backend] = [a + b for a, b in zip(totals[row.backend], counts, strict=True)]
    parts = [
        f"{percent(spurious / rejected)} in {backend}"
        + (f" (and {masked} accepted step{'s' if masked > 1 else ''} masked)" if masked else "")
        for backend, (spurious, rejected, masked, _) in sorted(totals.items())
        if rejected
    ]
    if not parts:
        return []
    return [
        "Of the rejected backward steps under the libraries' default norms, spurious, for y and a_y alone would have "
        f"accepted them: {listed(parts)}."
    ]


def _splits(problems: Sequence[ProblemComparison]) -> list[str]:
    """Say on how many problems the forward solve makes most of the gradient's error."""
    shares = {
        item.problem: row["share"]["forward"]
        for item in problems
        for row in item.splits
        if row.get("norm") == "default" and "share" in row and row["residual"] <= ADDITIVE
    }
    most = [share for share in shares.values() if share > 0.5]
    if not most:
        return []
    return [
        f"On {len(most)} of {len(shares)} problems the forward solve makes most of the gradient's error in SciPy "
        f"({percent(min(most))} to {percent(max(most))}), which no norm of the backward solve can change."
    ]


def _status(problems: Sequence[ProblemComparison], damaged: Sequence[str]) -> list[str]:
    records = [record for item in problems for record in item.records]
    bad = [r for r in records if r.status not in (Status.OK, Status.UNSUPPORTED)]
    lines = []
    if bad:
        by_status = sorted({str(r.status) for r in bad})
        lines.append(f"{len(bad)} of {len(records)} plans did not finish: {listed(by_status)}.")
    uncertain = [p.problem for p in problems if p.reference.get("status") in ("uncertain", "failed")]
    if uncertain:
        lines.append(f"No reference gradient for {listed(uncertain)}: errors are not shown there.")
    if damaged:
        files = "1 file was" if len(damaged) == 1 else f"{len(damaged)} files were"
        lines.append(f"{files} damaged and skipped.")
    return lines
