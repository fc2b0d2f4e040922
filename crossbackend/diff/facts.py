"""What two runs were made by and on, and what is said of their problems and cells: versions, references, flags."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from crossbackend.compare import Agreement, Comparison, ProblemComparison
from crossbackend.diff.cells import TINY, Key, Pair, gradients, key, number
from crossbackend.diff.parts import Fact, FlagChange, ProblemChange, ReferenceChange, SettingChange, VerdictChange
from crossbackend.flags import LEVELS, Flag
from crossbackend.record import Record, Status
from crossbackend.series import gradient_of
from crossbackend.speedup import AT_FLOOR
from crossbackend.wording import listed

MEMORY_ALIKE = 0.01
"""A machine's memory differs by less, as the system reports it, from one start to the next."""
_PROSE = ("format", "name", "description", "source", "tolerances", "picture")
"""Entries of a problem's card that no result depends on."""


def about(run: Comparison) -> dict[str, Any]:
    """Return a run's `run.json`, whatever it is made of."""
    return run.about if isinstance(run.about, dict) else {}


def differing(a: Comparison, b: Comparison, what: str) -> list[Fact]:
    """Return what differs in the `versions` or the `machine` of two runs."""
    return _facts(_recorded(a, what), _recorded(b, what))


def options(a: Comparison, b: Comparison) -> list[Fact]:
    """Return how the runs were asked for, where that differs: the command, timing, an interruption."""
    names = ("command", "timing", "interrupted")
    then, now = ({name: about(run).get(name) for name in names} for run in (a, b))
    return _facts(then, now)


def _facts(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Fact]:
    names = dict.fromkeys([*a, *b])
    return [Fact(name, (a.get(name), b.get(name))) for name in names if not _alike(name, a.get(name), b.get(name))]


def _alike(name: str, a: Any, b: Any) -> bool:
    known = number(a), number(b)
    if name == "memory_bytes" and known[0] is not None and known[1] is not None:
        return math.isclose(known[0], known[1], rel_tol=MEMORY_ALIKE)
    return bool(a == b)


def _recorded(run: Comparison, what: str) -> dict[str, Any]:
    """Return what a run says of itself and its records say of it: one that was resumed may have two versions."""
    found: dict[str, list[Any]] = {}
    for source in (about(run).get(what), *(getattr(record, what) for record in run.records)):
        for name, value in source.items() if isinstance(source, Mapping) else ():
            own = found.setdefault(str(name), [])
            if not any(_alike(name, value, other) for other in own):
                own.append(value)
    return {name: own[0] if len(own) == 1 else listed(map(str, own)) for name, own in found.items()}


def _both(a: Comparison, b: Comparison) -> Iterator[tuple[ProblemComparison, ProblemComparison]]:
    """Yield the problems of both runs."""
    other = {item.problem: item for item in b.problems}
    yield from ((item, other[item.problem]) for item in a.problems if item.problem in other)


def problems(a: Comparison, b: Comparison) -> list[ProblemChange]:
    """Return the problems that are not the same in both runs.

    A digest of a problem's functions also says which Python and which crossbackend made it, so digests are compared
    only where those are alike; a card that says less, of a problem whose reference failed, is no change.
    """
    same = _makers(a) == _makers(b)
    found = []
    for then, now in _both(a, b):
        shared = [name for name in then.card if name in now.card and name not in _PROSE]
        facts = _facts(*({name: item.card[name] for name in shared} for item in (then, now)))
        digests = [item.reference.get("digest") for item in (then, now)]
        code = same and None not in digests and digests[0] != digests[1]
        if facts or code:
            found.append(ProblemChange(then.problem, facts, code))
    return found


def _makers(run: Comparison) -> tuple[Any, str]:
    python = str(_recorded(run, "machine").get("python"))
    return _recorded(run, "versions").get("crossbackend"), ".".join(python.split(".")[:2])


def references(a: Comparison, b: Comparison) -> list[ReferenceChange]:
    """Return the references whose status, floor or gradient changed."""
    found = []
    for then, now in _both(a, b):
        status = str(then.reference.get("status", "missing")), str(now.reference.get("status", "missing"))
        floor = number(then.reference.get("floor")), number(now.reference.get("floor"))
        difference, _ = gradients(*(item.reference.get("arrays") or {} for item in (then, now)))
        uncertain = max(TINY, AT_FLOOR * max(floor[0] or 0.0, floor[1] or 0.0))
        if status[0] != status[1] or _far(floor) or (difference or 0.0) > uncertain:
            found.append(ReferenceChange(then.problem, status, floor, difference))
    return found


def _far(floor: tuple[float | None, float | None]) -> bool:
    low, high = sorted(value or 0.0 for value in floor)
    return (None in floor and floor != (None, None)) or high > AT_FLOOR * low


def settings(pairs: Iterable[Pair]) -> list[SettingChange]:
    """Return the effective settings that changed, alike ones of several cells once."""
    found: dict[tuple[str, ...], SettingChange] = {}
    for a, b in pairs:
        for solve in ("forward", "backward"):
            then, now = (record.settings.get(solve) or {} for record in (a, b))
            for fact in _facts(then, now) if then and now else ():
                which = (a.backend, solve, fact.name, repr(fact.values))
                same = found.setdefault(which, SettingChange(a.backend, solve, fact.name, fact.values, []))
                same.plans.append(a.plan)
    return list(found.values())


def flags(a: Comparison, b: Comparison) -> list[FlagChange]:
    """Return the flags that cells of both runs have in one of them only, the gravest first.

    Where the other run's cell did not finish, a flag is not missed: there was nothing to raise it.
    """
    found = []
    for then, now in _both(a, b):
        finished = [{key(record) for record in item.records if record.status == Status.OK} for item in (then, now)]
        shared = {key(record) for record in then.records} & {key(record) for record in now.records}
        flagged = _flagged(then, shared), _flagged(now, shared)
        for index, (here, other) in enumerate((flagged, flagged[::-1])):
            for name, cells in here.items():
                missed = finished[1 - index] - other.get(name, {}).keys()
                evidence = [flag for cell, flag in cells.items() if cell in missed]
                plans = [record.plan for record in then.records if key(record) in missed and key(record) in cells]
                if evidence:
                    row = FlagChange(then.problem, name, evidence[0].level, index == 1, evidence[0].evidence, plans)
                    found.append(row)
    order = list(LEVELS)
    return sorted(found, key=lambda change: order.index(change.name) if change.name in order else len(order))


def _flagged(item: ProblemComparison, shared: set[Key]) -> dict[str, dict[Key, Flag]]:
    """Return a problem's flags by name and cell; a flag that names no norm, say, holds in every norm's cells."""
    exact: dict[tuple[Any, ...], list[Key]] = defaultdict(list)
    for record in item.records:
        if key(record) in shared:
            gradient = gradient_of(record.plan)
            exact[record.backend, gradient, record.norm, record.stepping, record.rtol].append(key(record))
    found: dict[str, dict[Key, Flag]] = defaultdict(dict)
    for flag in item.flags:
        own = exact.get((flag.backend, flag.gradient, flag.norm, flag.stepping, flag.rtol))
        for cell in own if own is not None else _covered(flag, item.records, shared):
            found[flag.name].setdefault(cell, flag)
    return found


def _covered(flag: Flag, records: Sequence[Record], shared: set[Key]) -> list[Key]:
    backends = {flag.backend, *flag.backend.split(", ")}
    return [
        key(record)
        for record in records
        if (record.backend in backends or not flag.backend)
        and flag.gradient in ("", gradient_of(record.plan))
        and flag.norm in ("", record.norm)
        and flag.stepping in ("", record.stepping)
        and flag.rtol in (None, record.rtol)
        and key(record) in shared
    ]


def verdicts(a: Comparison, b: Comparison) -> list[VerdictChange]:
    """Return the matched cells of both runs whose verdict changed."""
    found = []
    for then, now in _both(a, b):
        other = _numbered(now.matched)
        for cell, old in _numbered(then.matched).items():
            new = other.get(cell)
            if new is not None and new.verdict != old.verdict:
                pairs = [(getattr(old, name), getattr(new, name)) for name in _OF_A_VERDICT]
                found.append(VerdictChange(then.problem, *cell[:4], *pairs, gradient=old.gradient))
    return found


_OF_A_VERDICT = ("verdict", "max_relative_difference", "backends")


def _numbered(cells: Iterable[Agreement]) -> dict[tuple[Any, ...], Agreement]:
    """Return cells by what they say of themselves, those that say the same (two devices) by their order too."""
    found: dict[tuple[Any, ...], Agreement] = {}
    for cell in cells:
        own = (cell.norm, cell.rtol, cell.atol, cell.dtype, cell.gradient)
        found[*own, sum(other[:5] == own for other in found)] = cell
    return found
