"""A baseline: what a check counted once, kept in a repository, and what a later check is held against.

For those who upgrade a solver: a step more, or a larger error, is seen at once. Matched stepping is exact: the same
steps whatever the machine, so every count must be the same. A library's own steps move with rounding, so native
stepping has bounds. A file has a line a cell, sorted, so that its history reads well.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from crossbackend.check.baseline_reading import FORMAT, UPDATE, read
from crossbackend.check.evidence import reference_gradient
from crossbackend.check.findings import Cause, Finding, Verdict
from crossbackend.check.holding import COUNTS, PLAN, Held, Key, held, key
from crossbackend.compare import Comparison, ProblemComparison
from crossbackend.errors import Mistake, UserError
from crossbackend.record import Record, Status, relative_error
from crossbackend.store import write_bytes
from crossbackend.wording import count, listed

__all__ = ["FORMAT", "UPDATE", "held_against", "read", "taken", "write"]

_WAIT_S = 60.0
_SWEEP = PLAN[:6]
"""What the cells of one sweep of tolerances have in common."""


def taken(comparison: Comparison) -> dict[str, Any]:
    """Return the baseline of a run.

    Returns
    -------
    dict
        `{format, problems: {name: {versions, cells: [{backend, norm, stepping, ..., rtol, atol, first_step, status,
        forward: {nfe, accepted, rejected}, backward: {...}, error}]}}}`. `error` is the gradient's against the
        reference, to three digits, null where there is none; a pass that was not run is null too.
    """
    problems = {
        item.problem: {
            "versions": _versions(item.records),
            "cells": sorted(_cells(item).values(), key=_order),
        }
        for item in comparison.problems
    }
    return {"format": FORMAT, "problems": dict(sorted(problems.items()))}


def write(path: Path, comparison: Comparison) -> None:
    """Record a run as the baseline, whole or not at all; what the file says of other problems is kept.

    Raises
    ------
    UserError
        A file that is there and no baseline, or that cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock(path), timeout=_WAIT_S):  # tests in several processes share a baseline
            whole = read(path) if path.exists() else {"format": FORMAT, "problems": {}}
            whole["problems"] |= taken(comparison)["problems"]
            write_bytes(path, _text(whole).encode())
    except (OSError, Timeout) as error:
        reason = getattr(error, "strerror", None) or str(error)
        fix = "Write another file after --baseline."
        raise UserError(Mistake("baseline", f"{path} ({reason})", "a file that can be written", fix)) from error


def _lock(path: Path) -> Path:
    """Return the file of a baseline's lock: among the temporary ones, for a repository should not find it."""
    owner = os.getuid() if hasattr(os, "getuid") else ""
    digest = hashlib.sha256(f"{owner} {path.resolve()}".encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"crossbackend-baseline-{digest[:24]}.lock"


def _text(whole: Mapping[str, Any]) -> str:
    """Return the JSON text: a line a cell."""
    blocks = []
    for name, entry in sorted(whole["problems"].items()):
        cells = ",\n   ".join(json.dumps(cell, allow_nan=False) for cell in entry["cells"])
        versions = json.dumps(entry["versions"], sort_keys=True)
        body = f"\n   {cells}\n  " if cells else ""
        blocks.append(f'  {json.dumps(name)}: {{\n  "versions": {versions},\n  "cells": [{body}]}}')
    inside = ",\n".join(blocks)
    return f'{{\n "format": {whole["format"]},\n "problems": {{\n{inside}\n }}\n}}\n'


def _cells(item: ProblemComparison) -> dict[Key, dict[str, Any]]:
    """Return the cells of a problem; an error that was not stored is taken from the run's own reference."""
    truth = reference_gradient(item)
    found = {}
    for record in item.records:
        error = record.error.get("all")
        if error is None and truth and record.status == Status.OK:
            error = relative_error(record.gradient(), truth)
        cell = {name: record.plan.get(name) for name in PLAN} | {"status": str(record.status)}
        cell |= {which: _counts(getattr(record, which)) for which in ("forward", "backward")}
        found[key(cell)] = cell | {"error": rounded(error)}
    return found


def _counts(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if found is None else {name: found.get(name) for name in COUNTS}


def rounded(error: Any) -> float | None:
    """Return an error to three digits: more of them change from machine to machine."""
    known = isinstance(error, (int, float)) and not isinstance(error, bool) and math.isfinite(error)
    return float(f"{error:.3g}") if known else None


def _versions(records: Iterable[Record]) -> dict[str, str]:
    found: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for name, version in record.versions.items():
            found[name].add(str(version))
    return {name: listed(sorted(own)) for name, own in sorted(found.items())}


def _order(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    words = tuple(str(cell.get(name) or "") for name in _SWEEP)
    return (*words, -cell["rtol"], -cell["atol"], cell.get("first_step") or 0.0)


def held_against(comparison: Comparison, baseline: Mapping[str, Any]) -> list[Finding]:
    """Return what a run is, held against a baseline: the findings `baseline` of its problems.

    Parameters
    ----------
    comparison : Comparison
        Its problems alone are held against the baseline.
    baseline : mapping
        From `read` or `taken`.

    Returns
    -------
    list of Finding
        Problem by problem: a failure for each cell that changed and for each backend of which cells are lacking, a
        warning where cells are new, and a pass for the rest, whose text says what got better.
    """
    found = []
    for item in comparison.problems:
        entry = baseline["problems"].get(item.problem, {"versions": {}, "cells": []})
        found += _of_problem(item, entry)
    return found


def _of_problem(item: ProblemComparison, entry: Mapping[str, Any]) -> list[Finding]:
    problem, records = item.problem, {key(record.plan): record for record in item.records}
    then, now = {key(cell): cell for cell in entry["cells"]}, _cells(item)
    shared = [held(then[cell], now[cell], _floor(item, records[cell])) for cell in now if cell in then]
    sweeps: dict[Key, list[Held]] = defaultdict(list)
    for result in shared:
        sweeps[tuple(result.then.get(name) for name in _SWEEP)].append(result)
    found = [_failed(problem, result, sweep, _upgraded(entry["versions"], records[key(result.then)].versions))
             for sweep in sweeps.values() for result in sweep if result.wrong]  # fmt: skip
    found += _lacking(problem, [then[cell] for cell in then if cell not in now], item.records)
    found += _new(problem, [records[cell] for cell in now if cell not in then])
    good = [result for result in shared if not result.wrong]
    return [*found, *([_passed(problem, good)] if good else [])]


def _floor(item: ProblemComparison, record: Record) -> float | None:
    """Return what the reference may err by: as stored with the record, or as the run's reference says."""
    return record.error.get("floor") or item.reference.get("floor")


def _failed(problem: str, result: Held, sweep: Sequence[Held], upgraded: str) -> Finding:
    cause, why = _cause(result, sweep)
    then = result.then
    figures = result.worst if result.worst is not None else (None, None)
    return Finding(
        "baseline", problem, then["backend"], then["norm"], then["stepping"], then["rtol"], Verdict.FAIL,
        "; ".join(result.wrong), *figures, cause=cause, evidence=f"{why}; {upgraded}",
    )  # fmt: skip


def _cause(result: Held, sweep: Sequence[Held]) -> tuple[Cause | None, str]:
    """Return where a cell that changed points, from the cells of all tolerances of its backend, norm and stepping."""
    if result.now["status"] != result.then["status"]:
        of_machine = result.now["status"] in (Status.TIMEOUT, Status.OUT_OF_MEMORY, Status.CRASHED)
        return (Cause.MACHINE if of_machine else None), "the solve ended otherwise"
    if not result.grew:
        if result.now["error"] is None or result.then["error"] is None:
            return None, "the steps changed, and no error is known that could say whether the gradient did"
        return Cause.SETTINGS, "only the steps changed, the gradient's error is within its bound"
    known = sorted((cell for cell in sweep if cell.now["error"] is not None), key=lambda cell: cell.now["rtol"])
    if len(known) < 2:
        return None, "the error grew, and one tolerance cannot say whether it stays"
    tight, loose = known[0].now, known[-1].now
    between = f"{loose['error']:.2g} at rtol {loose['rtol']:g}, {tight['error']:.2g} at {tight['rtol']:g}"
    if all(cell.grew for cell in known) and _stays(loose, tight):
        return Cause.MATHEMATICS, f"the error grew at every tolerance and does not fall with it ({between})"
    return Cause.TOLERANCE, f"the error grew and still falls with the tolerance ({between})"


def _stays(loose: Mapping[str, Any], tight: Mapping[str, Any]) -> bool:
    """Whether an error falls by less than the fourth root of what the tolerance does."""
    return tight["error"] > loose["error"] * (tight["rtol"] / loose["rtol"]) ** 0.25


def _upgraded(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return which versions changed of those that a backend depends on."""
    changed = [f"{name} {then.get(name, 'none')} -> {version}" for name, version in sorted(now.items())
               if then.get(name) != version]  # fmt: skip
    if changed:
        return f"versions changed: {', '.join(changed)}"
    return "no version changed, so it is the problem, a setting or the machine"


def _lacking(problem: str, cells: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> list[Finding]:
    here, by_backend = {record.backend for record in records}, defaultdict(list)
    for cell in cells:
        by_backend[cell["backend"]].append(cell)
    found = []
    for backend, own in sorted(by_backend.items()):
        first = own[0]
        example = f"{first['norm']}, {first['stepping']}, rtol {first['rtol']:g}"
        why = (f"{backend} ran with other norms, tolerances or steppings than the baseline's" if backend in here
               else f"{backend} did not run at all: not installed, declined, or not asked for")  # fmt: skip
        text = f"{count(len(own), 'cell')} of the baseline not in this run ({example}{', ...' if len(own) > 1 else ''})"
        found.append(Finding("baseline", problem, backend, verdict=Verdict.FAIL, text=text, cause=Cause.SETTINGS,
                             evidence=why))  # fmt: skip
    return found


def _new(problem: str, records: Sequence[Record]) -> list[Finding]:
    if not records:
        return []
    backends = ",".join(sorted({record.backend for record in records}))
    text = f"{count(len(records), 'cell')} not in the baseline; {UPDATE} would record what is new"
    return [Finding("baseline", problem, backends, verdict=Verdict.WARN, text=text)]


def _passed(problem: str, good: Sequence[Held]) -> Finding:
    """Return the pass of all cells that are within their limits, with the figure that came nearest to its own."""
    better = sorted({said for result in good for said in result.better})
    text = f"{count(len(good), 'cell')} as in the baseline"
    if better:
        cells = sum(bool(result.better) for result in good)
        text += f"; {listed(better)} in {count(cells, 'cell')}: {UPDATE} would record it"
    near = [(result.worst, result.then) for result in good if result.worst is not None]
    if not near:
        return Finding("baseline", problem, text=text)
    figures, then = max(near, key=lambda pair: pair[0][0] / pair[0][1])
    return Finding("baseline", problem, then["backend"], then["norm"], then["stepping"], then["rtol"], Verdict.PASS,
                   text, *figures)  # fmt: skip
