"""The main results in words, made from the numbers of a Comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossbackend.record import Status

if TYPE_CHECKING:
    from crossbackend.compare import ProblemComparison


def sentences(problems: Sequence[ProblemComparison], damaged: Sequence[str]) -> list[str]:
    """Say whether the backends agree, where the reverse solve is unstable, what the norms save, what failed."""
    return [*_agreement(problems), *_flags(problems), *_savings(problems), *_status(problems, damaged)]


def _agreement(problems: Sequence[ProblemComparison]) -> list[str]:
    rows = [(p, a, a.max_relative_difference) for p in problems for a in p.matched]
    rows = [(p, a, difference) for p, a, difference in rows if difference is not None]
    if not rows:
        return []
    good = [p.problem for p in problems if p.matched and all(a.verdict == "pass" for a in p.matched)]
    count = sum(bool(p.matched) for p in problems)
    worst = max((difference for p, _, difference in rows if p.problem in good), default=0.0)
    backends = sorted({name for _, a, _ in rows for name in a.backends})
    lines = []
    if good:
        lines.append(
            f"On {len(good)} of {count} problems {_and(backends)} give the same gradient, to {worst:.1e} relative, "
            "at every tolerance when they take the same steps."
        )
    failing = sorted({p.problem for p, a, _ in rows if a.verdict == "fail"})
    if failing:
        lines.append(f"On {_and(failing)} they do not, and the reverse solve is no excuse: look there first.")
    return lines


def _flags(problems: Sequence[ProblemComparison]) -> list[str]:
    lines = []
    for item in problems:
        flagged = [f for f in item.flags if f.name == "backsolve_unstable"]
        if not flagged:
            continue
        cells = sum(r.status != Status.UNSUPPORTED for r in item.records)
        errors = [r.error["all"] for r in item.records if r.error.get("all") is not None]
        share = "in every cell" if len(flagged) == cells else f"in {len(flagged)} of {cells} cells"
        text = f"On {item.problem} the reverse solve is unstable {share}"
        if errors and len(flagged) == cells:
            text += f": the backsolve gradients are wrong by {min(errors):.1g} to {max(errors):.1g} in every library"
        lines.append(text + ".")
    return lines


def _savings(problems: Sequence[ProblemComparison]) -> list[str]:
    unstable = {p.problem for p in problems if len(p.flags) >= len(p.records) > 0}
    by_cell: dict[tuple[str, str], list[float]] = defaultdict(list)
    for item in problems:
        if item.problem in unstable:
            continue
        for saving in item.savings:
            if saving.stepping == "native":
                by_cell[saving.backend, saving.norm].append(saving.saved)
    lines = []
    for (backend, norm), saved in sorted(by_cell.items()):
        median = float(np.median(saved))
        verb = "saves" if median >= 0 else "costs"
        lines.append(
            f"In {backend} the norm {norm} {verb} a median of {abs(median):.0%} of the backward evaluations against "
            f"the default at equal tolerance (from {min(saved):.0%} to {max(saved):.0%})."
        )
    return lines


def _status(problems: Sequence[ProblemComparison], damaged: Sequence[str]) -> list[str]:
    records = [record for item in problems for record in item.records]
    bad = [r for r in records if r.status not in (Status.OK, Status.UNSUPPORTED)]
    lines = []
    if bad:
        by_status = sorted({str(r.status) for r in bad})
        lines.append(f"{len(bad)} of {len(records)} plans did not finish: {_and(by_status)}.")
    uncertain = [p.problem for p in problems if p.reference.get("status") in ("uncertain", "failed")]
    if uncertain:
        lines.append(f"No reference gradient for {_and(uncertain)}: errors are not shown there.")
    if damaged:
        lines.append(f"{len(damaged)} files were damaged and skipped; they are named below.")
    return lines


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
