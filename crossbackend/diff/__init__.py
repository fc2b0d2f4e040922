"""What changed between two stored runs, A and B: results, times, flags, and the facts that may explain it.

    parts    what a difference is made of
    cells    the cells of both runs, paired; their results and times
    facts    versions, machine, problems, references, settings, flags, verdicts
    words, sentences, text
             phrases, the summary, and the text for a terminal

Cells are paired by their plan and not by their digest, for a digest holds the versions, which may be what changed.
"""

from __future__ import annotations

from typing import Any

from crossbackend.compare import Comparison
from crossbackend.diff import cells, facts
from crossbackend.diff.parts import Difference

__all__ = ["Difference", "diff"]


def diff(a: Comparison, b: Comparison, names: tuple[str, str] | None = None) -> Difference:
    """Return what changed from run A to run B.

    Parameters
    ----------
    a, b : Comparison
    names : tuple of str, optional
        What to call them; their own names by default.
    """
    pairs = cells.paired(a, b)
    problems = facts.problems(a, b)
    changed = {change.problem for change in problems}
    every = [cells.change(*pair, expected=pair[0].problem in changed) for pair in pairs]
    times = cells.times([pair for pair in pairs if pair[0].problem not in changed])
    own = [str(facts.about(run).get("name") or "run") for run in (a, b)]
    return Difference(
        names=names or (own[0], own[1]),
        runs=(_shown(a), _shown(b)),
        versions=facts.differing(a, b, "versions"),
        machine=facts.differing(a, b, "machine"),
        options=facts.options(a, b),
        problems=problems,
        references=facts.references(a, b),
        only=(cells.alone(a, b), cells.alone(b, a)),
        cells=cells.counted(every),
        results=sorted((cell for cell in every if cell.changed), key=lambda cell: cell.weight),
        settings=facts.settings(pairs),
        flags=facts.flags(a, b),
        verdicts=facts.verdicts(a, b),
        times=times,
        backends=cells.by_backend(times, pairs),
        timed=(cells.timed(a), cells.timed(b)),
        damaged=(list(a.damaged), list(b.damaged)),
    )


def _shown(run: Comparison) -> dict[str, Any]:
    """Return what a reader tells a run by."""
    own = facts.about(run)
    machine = own.get("machine")
    machine = machine if isinstance(machine, dict) else {}
    shown = {key: own.get(key) for key in ("name", "created", "seconds")}
    return {**shown, "processor": machine.get("processor"), "cores": machine.get("cores"), "records": len(run.records)}
