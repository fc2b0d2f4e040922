"""What changed between two runs, as text for a terminal: the sentences, then every kind of change in lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from crossbackend.diff import sentences, words
from crossbackend.diff.words import RUNS, arrow, spaced, value, where
from crossbackend.wording import count

if TYPE_CHECKING:
    from crossbackend.diff.parts import Difference, Fact, FlagChange, ProblemChange, TimeChange

LARGEST = 20
"""Lines of one kind that are shown; the JSON has all."""
_WIDTH = 118
_IN_FULL = 400
"""Characters of a value, such as a command, that stands in a line of its own."""


def text(found: Difference) -> str:
    """Return the whole text."""
    parts = [
        [f"{name}  {label}{_shown(run)}" for name, label, run in zip(RUNS, found.names, found.runs, strict=True)],
        [line for _, sentence in sentences.summary(found) for line in _wrapped(sentence, "", "  ")],
        _section("What the runs were made by", _facts([*found.versions, *found.machine, *found.options])),
        _section("Problems that changed", map(_problem, found.problems)),
        _section("Results that changed, the largest for its tolerance first", _results(found)),
        _section("Settings that changed", _settings(found)),
        _section("Flags and verdicts", [*map(_flag, found.flags), *_verdicts(found)]),
        _section("Cells of one run alone", _alone(found)),
        _section("Times beyond the spread of the repeats, the largest change first", _times(found)),
    ]
    return "\n".join(line for part in parts if part for line in [*part, ""])


def _wrapped(sentence: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        sentence, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False
    )


def _section(title: str, found: Iterable[str]) -> list[str]:
    """Return a title and its lines, the first `LARGEST` of them; nothing where there are none."""
    lines = list(found)
    if not lines:
        return []
    said = [part for line in lines[:LARGEST] for part in _wrapped(line, "  ", "      ")]
    more = [f"  and {len(lines) - LARGEST} more, which --json has"] if len(lines) > LARGEST else []
    return [title, *said, *more]


def _shown(run: dict[str, Any]) -> str:
    """Return what else tells a run from another: when, on what, how large."""
    parts = [value(run["created"])] if run["created"] else []
    if run["processor"]:
        parts.append(value(run["processor"]) + (f", {run['cores']} cores" if run["cores"] else ""))
    return "".join(f", {part}" for part in [*parts, count(run["records"], "record")])


def _facts(found: Sequence[Fact]) -> Iterator[str]:
    """Yield facts in a line each, or in two where they are long."""
    for fact in found:
        texts = [value(one, _IN_FULL) for one in fact.values]
        if sum(map(len, texts)) < _WIDTH - 40:
            yield f"{spaced(fact.name)} {' -> '.join(texts)}"
        else:
            yield from (f"{spaced(fact.name)} in {name}: {one}" for name, one in zip(RUNS, texts, strict=True))


def _problem(change: ProblemChange) -> str:
    facts = [f"{spaced(fact.name)} {arrow(*fact.values)}" for fact in change.facts]
    return f"{change.problem}: {'; '.join([*facts, *(['its functions or data'] if change.code else [])])}"


def _results(found: Difference) -> Iterator[str]:
    """Yield a line for every kind of change of a problem: cells that changed alike are said once."""
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in found.results:
        alike.setdefault((cell.plan["problem"], words.changed(cell)), []).append(cell.plan)
    for (problem, said), plans in alike.items():
        yield f"{problem}, {where(plans)}: {said}"


def _settings(found: Difference) -> Iterator[str]:
    for row in found.settings:
        cells = count(len(row.plans), "cell")
        yield f"{row.backend}, {row.solve} {spaced(row.setting)} {arrow(*row.values)} ({cells})"


def _flag(row: FlagChange) -> str:
    verb = "appeared" if row.appeared else "vanished"
    return f"{row.level} {row.name} {verb} on {row.problem}, {where(row.plans)}: {row.evidence}"


def _verdicts(found: Difference) -> Iterator[str]:
    for row in found.verdicts:
        cell = f"{row.problem}, {row.series}, matched, rtol {row.rtol:g}"
        yield f"verdict {arrow(*row.verdict)} on {cell}: {words.verdict(row)}"


def _alone(found: Difference) -> Iterator[str]:
    """Yield a line for every problem, its backends together."""
    for name, rows in zip(RUNS, found.only, strict=True):
        by_problem: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_problem.setdefault(row.problem, []).extend(row.plans)
        yield from (f"{name}: {problem}, {where(plans)}" for problem, plans in by_problem.items())


def _times(found: Difference) -> Iterator[str]:
    for row in found.times:
        if row.verdict in ("slower", "faster"):
            yield f"{row.plan['problem']}, {where([row.plan])}: {_seconds(row)}"


def _seconds(row: TimeChange) -> str:
    a, b = row.seconds
    return f"{a:.3g} s -> {b:.3g} s, {row.ratio:.2f} times"
