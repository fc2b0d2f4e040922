"""From a comparison to findings: the questions of `findings.WHAT`, asked of one problem. A pure function of records."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crossbackend.agreement import MATCHED_TOLERANCE, Agreement
from crossbackend.check import causes
from crossbackend.check.evidence import GOOD, RATE, Sweep, reference_gradient, sweeps, worst_leaf
from crossbackend.check.findings import Cause, Finding, Verdict
from crossbackend.compare import ProblemComparison
from crossbackend.flags import Flag
from crossbackend.quick_reference import difference
from crossbackend.record import Record, Status
from crossbackend.wording import listed

DERIVATIVE = 5e-3
"""Largest difference to finite differences, relative to the leaf (`quick_reference.difference`), or `GOOD` times rtol
if that is more. A field with kinks moves finite differences by 1e-3 themselves."""
_MACHINE = (Status.TIMEOUT, Status.OUT_OF_MEMORY, Status.CRASHED)


@dataclass(frozen=True)
class Demands:
    """What a check asks for beyond its own limits.

    Attributes
    ----------
    fail_on : collection of str
        Flags that fail; `all` for every warning. Others warn, and notes are passed over.
    within : float or None
        Largest difference of gradients under native stepping; None: whatever their own errors explain.
    """

    fail_on: Collection[str] = ()
    within: float | None = None


def judge(item: ProblemComparison, demands: Demands) -> list[Finding]:
    """Return what is found of one problem, question by question; `ports` and `baseline` are asked elsewhere."""
    every = sweeps(item)
    return [
        *_solved(item),
        *_agreement(item, every, demands),
        *_convergence(item, every),
        *_derivative(item, every),
        *_flags(item, demands),
    ]


def _solved(item: ProblemComparison) -> Iterator[Finding]:
    """Yield a finding for every cell that did not end well, and one for all that did."""
    good = [record for record in item.records if record.status == Status.OK]
    declined = {r.backend: r.message for r in item.records if r.status == Status.UNSUPPORTED}
    said = [f"{len(good)} of {len(item.records)} cells"] + [f"{name} declined: {why}" for name, why in declined.items()]
    yield Finding("solved", item.problem, ", ".join(dict.fromkeys(r.backend for r in good)), text="; ".join(said))
    for record in item.records:
        if record.status in (Status.OK, Status.UNSUPPORTED):
            continue
        unstable = any(flag.name == "backsolve_unstable" and _is_of(flag, record) for flag in item.flags)
        verdict = Verdict.WARN if unstable else Verdict.FAIL
        cause = None if unstable else Cause.MACHINE if record.status in _MACHINE else Cause.MATHEMATICS
        yield _cell(record, "solved", verdict, f"{record.status}: {record.message}", cause, record.status.advice)


def _is_of(flag: Flag, record: Record) -> bool:
    return all(getattr(flag, name) == getattr(record, name) for name in ("backend", "norm", "stepping", "rtol"))


def _cell(record: Record, what: str, verdict: Verdict, text: str, cause: Cause | None, evidence: str) -> Finding:
    return Finding(
        what, record.problem, record.backend, record.norm, record.stepping, record.rtol, verdict, text,
        cause=cause, evidence=evidence,
    )  # fmt: skip


# Agreement.


def _agreement(item: ProblemComparison, every: Sequence[Sweep], demands: Demands) -> Iterator[Finding]:
    cells = [("matched", cell) for cell in item.matched] + [("native", cell) for cell in item.native]
    for stepping, cell in cells:
        own = [s for s in every if (s.norm, s.stepping) == (cell.norm, stepping) and s.backend in cell.backends]
        yield _agreed(item, stepping, cell, own, demands)
    if not any(len(cell.backends) > 1 for _, cell in cells):
        names = listed(dict.fromkeys(name for _, cell in cells for name in cell.backends)) or "none"
        text = f"nothing was compared: backends with a gradient: {names}; two are needed"
        yield Finding("agreement", item.problem, verdict=Verdict.FAIL, text=text, cause=None)


def _agreed(item: ProblemComparison, stepping: str, cell: Agreement, own: Sequence[Sweep], demands: Demands) -> Finding:
    base = Finding("agreement", item.problem, ", ".join(cell.backends), cell.norm, stepping, cell.rtol)
    if len(cell.backends) < 2:  # `solved` says why, and the one finding on nothing compared
        return replace(base, verdict=Verdict.WARN, text="fewer than two gradients")
    limit = MATCHED_TOLERANCE if stepping == "matched" else _native_limit(own, cell, demands)
    value = cell.max_relative_difference
    small = value is not None and limit is not None and value <= limit
    steps = "the same steps" if cell.same_steps else "other steps"
    shown = "infinitely" if value is None else f"by {value:.1e}"
    text = f"gradients differ {shown} ({', '.join(cell.worst_pair)}), {steps}"
    base = replace(base, value=value, limit=limit, text=text)
    if small and (cell.same_steps or stepping == "native"):
        return base
    if limit is None:
        return replace(base, text=f"{text}; no reference says what their tolerance explains")
    if cell.unstable:
        floor = "" if cell.rounding_floor is None else f"; rounding alone moves them by {cell.rounding_floor:.1e}"
        return replace(base, verdict=Verdict.WARN, text=f"{text}; the reverse solve is unstable{floor}")
    return replace(base, verdict=Verdict.FAIL, **_disagreement(item, cell, own))


def _native_limit(own: Sequence[Sweep], cell: Agreement, demands: Demands) -> float | None:
    """Return what the errors of the two worst explain, ten times, for leaf by leaf is more than as a whole."""
    if demands.within is not None:
        return demands.within
    errors = sorted(e for s in own for r, e in zip(s.records, s.errors, strict=True) if r.rtol == cell.rtol)
    if len(errors) < 2 or math.isnan(sum(errors)):
        return None
    return max(10 * (errors[-1] + errors[-2]), MATCHED_TOLERANCE)


def _disagreement(item: ProblemComparison, cell: Agreement, own: Sequence[Sweep]) -> dict[str, Any]:
    """Return the worst leaf of a pair that disagrees, and the cause."""
    pair = [sweep for name in cell.worst_pair for sweep in own if sweep.backend == name]
    if len(pair) < 2:  # same gradients, but other steps, or none that compare
        pair = list(own[:2])
    a, b = pair
    ours, theirs = (next(r for r in sweep.records if r.rtol == cell.rtol) for sweep in (a, b))
    worst = worst_leaf(ours.gradient(), theirs.gradient())
    cause, evidence = causes.of_disagreement(item, a, b, cell.rtol)
    found: dict[str, Any] = {"cause": cause, "evidence": evidence}
    if worst is not None:
        found |= {"leaf": worst.entry, "values": worst.values, "sides": (a.backend, b.backend)}
    return found


# Convergence.


def _convergence(item: ProblemComparison, every: Sequence[Sweep]) -> Iterator[Finding]:
    if not reference_gradient(item):
        why = "; ".join(route["message"] for route in item.reference.get("routes") or () if route.get("message"))
        check = item.reference.get("check")
        seen = why or (f"finite differences differ by {check:.1e}" if check is not None else "none was made")
        text = f"no reference to measure an error by: {seen}"
        yield Finding("convergence", item.problem, verdict=Verdict.FAIL, text=text, cause=Cause.MATHEMATICS)
        return
    for sweep in every:
        yield _converged(item, sweep, [s for s in every if (s.norm, s.stepping) == (sweep.norm, sweep.stepping)])


def _converged(item: ProblemComparison, sweep: Sweep, alike: Sequence[Sweep]) -> Finding:
    error, rtol = sweep.errors[-1], sweep.tightest.rtol
    rate = "" if sweep.rate is None or sweep.rate < 0.05 else f", falling as rtol^{sweep.rate:.2f}"
    base = Finding(
        "convergence", item.problem, sweep.backend, sweep.norm, sweep.stepping, None,
        text=f"error {error:.1e} at rtol {rtol:.0e}{rate}", value=error, limit=max(GOOD * rtol, 10 * sweep.floor),
    )  # fmt: skip
    if sweep.converges:  # an error above the limit passes by its rate alone, which the text says
        return base if error <= (base.limit or 0.0) else replace(base, limit=None)
    if sweep.excuse:
        return replace(base, verdict=Verdict.WARN, text=f"{base.text}; expected where {sweep.excuse} is raised")
    if sweep.slow:
        return replace(base, verdict=Verdict.WARN, text=f"{base.text}; slower than rtol^{RATE:g}, as kinks make it")
    truth, found = reference_gradient(item), sweep.tightest.gradient()
    worst = worst_leaf(found, truth)
    cause, evidence = causes.of_error(item, sweep, alike)
    more = {} if worst is None else {"leaf": worst.entry, "values": worst.values, "sides": (sweep.backend, "reference")}
    return replace(base, verdict=Verdict.FAIL, cause=cause, evidence=evidence, **more)


# Finite differences.


def _derivative(item: ProblemComparison, every: Sequence[Sweep]) -> Iterator[Finding]:
    rows = item.reference.get("derivatives") or []
    arrays = item.reference.get("arrays") or {}
    if not rows:
        if item.reference.get("status") != "missing":
            text = "no finite differences were made"
            yield Finding("derivative", item.problem, verdict=Verdict.WARN, text=text)
        return
    for sweep in every:
        record, limit = sweep.tightest, max(DERIVATIVE, GOOD * sweep.tightest.rtol)
        found = {
            row["leaf"]: (difference(row, record.gradient(), arrays), row)
            for row in sorted(rows, key=lambda row: difference(row, record.gradient(), arrays))
        }  # the worst of a leaf comes last
        value, row = max(found.values(), key=lambda pair: pair[0])
        base = Finding(
            "derivative", item.problem, sweep.backend, sweep.norm, sweep.stepping, record.rtol,
            text=f"{len(found)} leaves, {row['leaf']} furthest from finite differences", value=value, limit=limit,
        )  # fmt: skip
        if value <= limit:
            yield base
        elif sweep.excuse:
            yield replace(base, verdict=Verdict.WARN, text=f"{base.text}; expected where {sweep.excuse} is raised")
        else:
            wrong = [leaf for leaf, (off, _) in found.items() if not off <= limit]
            yield replace(base, verdict=Verdict.FAIL, **_derived(row, record, arrays, wrong))


def _derived(row: dict[str, Any], record: Record, arrays: dict[str, Any], wrong: Sequence[str]) -> dict[str, Any]:
    """Return both sides of a directional derivative that is wrong."""
    direction, gradient = arrays[f"direction/{row['seed']}/{row['leaf']}"], record.gradient()
    along = float((gradient[row["leaf"]] * direction).sum()) if row["leaf"] in gradient else math.nan
    nearest = min((value for _, value in row["steps"]), key=lambda value: abs(value - along))
    evidence = f"the loss itself moves otherwise: {listed(wrong)} disagree with central differences of it"
    return {
        "leaf": row["leaf"], "values": (along, nearest), "sides": (record.backend, "finite differences"),
        "cause": Cause.MATHEMATICS, "evidence": evidence,
    }  # fmt: skip


# Flags.


def _flags(item: ProblemComparison, demands: Demands) -> Iterator[Finding]:
    """Yield the warnings, those alike at several tolerances once, and every flag that is to fail."""
    groups: dict[tuple[str, str, str, str], list[Flag]] = {}
    for flag in item.flags:
        if flag.level == "warning" or flag.name in demands.fail_on:
            groups.setdefault((flag.name, flag.backend, flag.norm, flag.stepping), []).append(flag)
    if not groups:
        yield Finding("flag", item.problem, text="nothing is flagged")
    for (name, backend, norm, stepping), flags in groups.items():
        fails = name in demands.fail_on or "all" in demands.fail_on
        rtols = [flag.rtol for flag in flags]
        yield Finding(
            "flag", item.problem, backend, norm, stepping, rtols[0] if len(rtols) == 1 else None,
            Verdict.FAIL if fails else Verdict.WARN, f"{name}: {flags[0].evidence}", evidence=flags[0].advice,
        )  # fmt: skip
