"""What changed between two runs in a few sentences, made from the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from crossbackend.diff import words
from crossbackend.diff.words import RUNS, arrow, multiple, named, signed, spaced, where
from crossbackend.wording import count, listed

if TYPE_CHECKING:
    from crossbackend.diff.parts import CellChange, Difference

OTHER_MACHINE = ("system", "architecture", "processor", "cores", "memory_bytes")
"""Facts that make two machines; the others change on one."""


def summary(found: Difference) -> list[tuple[str, str]]:
    """Say what changed: whether any result did, what may explain it, and the times; each with what it is about."""
    return [(topic, line) for topic, sayings in _SAID.items() for say in sayings for line in say(found)]


def _cells(found: Difference) -> Iterator[str]:
    cells = found.cells
    empty = [name for name, run in zip(RUNS, found.runs, strict=True) if not run["records"]]
    if empty:
        yield "Neither run holds a record." if len(empty) == 2 else f"Run {empty[0]} holds no record to compare with."
        return
    if not cells.shared:
        yield "The runs have no cell in common, so no result can be compared."
        return
    other = found.versions or found.machine or found.options or found.damaged[0] != found.damaged[1]
    quiet = not (found.findings or other)
    first = "Nothing differs. " if quiet and cells.same + cells.unfinished == cells.shared else ""
    if cells.same == cells.shared:
        yield f"{first}All {count(cells.shared, 'cell')} of both runs gave the same result to the last bit."
        return
    parts = {
        "changed": cells.changed,
        f"differ by rounding alone (gradients by {cells.largest:.1e} at most)": cells.rounding,
        "are the same to the last bit": cells.same,
        "finished in neither run": cells.unfinished,
    }
    said = listed(f"{n} {what}" for what, n in parts.items() if n)
    yield f"{first}Of {count(cells.shared, 'cell')} in both runs {said}."


def _alone(found: Difference) -> Iterator[str]:
    for name, rows in zip(RUNS, found.only, strict=True):
        by_problem: Counter[str] = Counter()
        for row in rows:
            by_problem[row.problem] += len(row.plans)
        if rows:
            total = count(by_problem.total(), "cell")
            yield f"Run {name} alone holds {total}: {listed(f'{n} of {problem}' for problem, n in by_problem.items())}."


def _made(found: Difference) -> Iterator[str]:
    """Say which facts differ that may explain the rest, or that there is none."""
    if found.versions:
        yield f"Versions differ: {listed(f'{fact.name} {arrow(*fact.values)}' for fact in found.versions)}."
    other = [spaced(fact.name) for fact in found.machine if fact.name in OTHER_MACHINE]
    rest = [f"{spaced(fact.name)} {arrow(*fact.values)}" for fact in found.machine if fact.name not in OTHER_MACHINE]
    if other:
        yield (
            f"The machines differ ({listed(other)}): every time may differ for that alone, and rounding may move a "
            "step where the libraries choose their own."
        )
    if rest:
        yield f"On the machine: {listed(rest)}."
    if found.results and not (found.versions or found.machine or found.settings or found.problems):
        yield "No version, machine, setting or problem differs: nothing that is recorded explains what changed."


def _problems(found: Difference) -> Iterator[str]:
    for change in found.problems:
        own = sum(cell.plan["problem"] == change.problem for cell in found.results)
        yield (
            f"{change.problem} is not the same problem in both runs ({listed(words.problem(change))}): its results are "
            f"expected to differ ({count(own, 'cell')} did), and its times are not compared."
        )


def _unstable(found: Difference) -> Iterator[str]:
    own = sum(cell.unstable and not cell.expected for cell in found.results)
    if own:
        yield (
            f"In {count(own, 'changed cell')} the reverse solve is unstable, which magnifies rounding: what changed "
            "there says little."
        )


def _unexcused(found: Difference, kind: str) -> list[CellChange]:
    """Return the cells that changed in one way although the problem did not."""
    return [cell for cell in found.results if kind in cell.changed and not cell.expected]


def _by(cells: list[CellChange], said: Callable[[CellChange], str]) -> dict[str, list[dict[str, Any]]]:
    """Return the plans of cells by what is said of each."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        found.setdefault(said(cell), []).append(cell.plan)
    return found


def _of_problems(plans: list[dict[str, Any]]) -> str:
    return f"{count(len(plans), 'cell')}, on {named(plans, 'problem')} by {named(plans, 'backend')}"


def _statuses(found: Difference) -> Iterator[str]:
    for change, plans in _by(_unexcused(found, "status"), lambda cell: arrow(*cell.status)).items():
        yield f"The status went {change} in {_of_problems(plans)}."


def _counts(found: Difference) -> Iterator[str]:
    rows = _unexcused(found, "counts")
    if not rows:
        return
    said = f"Evaluations or steps changed in {_of_problems([cell.plan for cell in rows])}"
    for solve in ("forward", "backward"):
        pairs = [cell.counts[f"{solve} nfe"] for cell in rows if f"{solve} nfe" in cell.counts]
        shares = [b / a - 1 for a, b in pairs if a]
        if shares:
            low, high = signed(min(shares)), signed(max(shares))
            said += f"; {solve} evaluations by {low if low == high else f'{low} to {high}'}"
    yield f"{said}."


def _gradients(found: Difference) -> Iterator[str]:
    rows = _unexcused(found, "gradient")
    known = [cell for cell in rows if cell.gradient is not None and not cell.unstable]
    if known:
        worst = max(known, key=lambda cell: cell.gradient or 0.0)
        yield (
            f"Gradients differ by more than rounding in {count(len(known), 'cell')}, by {worst.gradient:.1e} at most "
            f"({worst.plan['problem']}, {where([worst.plan])})."
        )
    lost = _by([cell for cell in rows if cell.incomparable], lambda cell: cell.incomparable)
    for why, plans in lost.items():
        yield f"Gradients cannot be compared in {_of_problems(plans)}: {why}."
    losses = _unexcused(found, "loss")
    if losses:
        yield f"The loss differs by more than rounding in {count(len(losses), 'cell')}."


def _errors(found: Difference) -> Iterator[str]:
    cells = [cell for cell in _unexcused(found, "error") if not cell.unstable]
    ratios = [(cell.error_ratio, cell.plan) for cell in cells if cell.error_ratio is not None]
    parts = []
    for verb, end, own in (
        ("grew", "up to", sorted((pair for pair in ratios if pair[0] > 1), key=lambda pair: -pair[0])),
        ("shrank", "down to", sorted((pair for pair in ratios if pair[0] < 1), key=lambda pair: pair[0])),
    ):
        if own:
            ratio, plan = own[0]
            name = f"{plan['problem']}, {where([plan])}"
            parts.append(f"{verb} in {count(len(own), 'cell')}, {end} {multiple(ratio)} ({name})")
    if parts:
        yield f"The gradient error {listed(parts)}."


def _beside(found: Difference) -> Iterator[str]:
    """Say what changed about references, settings, flags and verdicts."""
    for row in found.references:
        yield f"The reference gradient of {row.problem} changed: {words.reference(row)}."
    if found.settings:
        names = dict.fromkeys(f"{row.backend} {spaced(row.setting)}" for row in found.settings)
        yield f"Effective settings changed: {listed(names)}."
    for verb, appeared in (("appeared", True), ("vanished", False)):
        own = [row for row in found.flags if row.appeared is appeared]
        if own:
            cells = listed(f"{row.name} on {row.problem} ({count(len(row.plans), 'cell')})" for row in own)
            yield f"Flags {verb}: {cells}."
    by_change: dict[str, list[str]] = {}
    for row in found.verdicts:
        by_change.setdefault(arrow(*row.verdict), []).append(row.problem)
    for change, problems in by_change.items():
        cells = count(len(problems), "matched cell")
        yield f"The verdict went {change} in {cells}, on {listed(dict.fromkeys(problems))}."


def _times(found: Difference) -> Iterator[str]:
    if not found.cells.shared:
        return
    if not found.times:
        lacking = [name for name, cells in zip(RUNS, found.timed, strict=True) if not cells]
        yield {
            0: "No cell that can be compared is timed in both runs.",
            1: f"Run {''.join(lacking)} measured no times, so times cannot be compared.",
            2: "Neither run measured times.",
        }[len(lacking)]
    if found.times and all(row.seconds[0] == row.seconds[1] for row in found.times):
        yield "Every time is the same, to the last digit."
        return
    for row in found.backends:
        span = f"median of {count(row.cells, 'cell')}, {row.low:.2f} to {row.high:.2f}"
        yield f"In B {row.backend} takes {row.ratio:.2f} times its time in A ({span}): {words.beyond(row)}."
    yield from _control(found)


def _control(found: Difference) -> Iterator[str]:
    """Say how far times moved where nothing changed: the spread of repeats within a run knows nothing of it."""
    rows = [row for row in found.backends if row.same_versions]
    moved = any(row.slower or row.faster for row in found.backends)
    if rows and moved and not any(fact.name in OTHER_MACHINE for fact in found.machine):
        low, high = min(row.low for row in rows), max(row.high for row in rows)
        yield (
            f"The versions behind {listed(row.backend for row in rows)} are the same in both runs, so {low:.2f} to "
            f"{high:.2f} times is what the machine alone does from run to run."
        )


def _damaged(found: Difference) -> Iterator[str]:
    for name, files in zip(RUNS, found.damaged, strict=True):
        if files:
            verb = "was" if len(files) == 1 else "were"
            yield f"{count(len(files), 'file')} of run {name} {verb} damaged and skipped."


_SAID: dict[str, tuple[Callable[[Difference], Iterator[str]], ...]] = {
    "Results": (_cells, _statuses, _counts, _gradients, _errors, _unstable),
    "What may explain it": (_made, _problems),
    "Also": (_beside,),
    "Times": (_times,),
    "One run alone": (_alone, _damaged),
}
