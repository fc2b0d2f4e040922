"""What a user should know about a plan, each with its evidence and what to do: a pure function of stored records.

A *warning* says that a gradient, or what is concluded from it, may be wrong; a *note* explains a difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossbackend.record import Record, Status
from crossbackend.series import BACKSOLVE, DIRECT, InSeries, gradient_of

UNSTABLE_FACTOR = 100.0
"""A reconstruction error above this multiple of rtol says that the reverse solve amplifies errors."""
BELOW_ATOL_SHARE = 0.5
"""Share of accepted backward steps with rms(a_y) under atol above which error control on a_y is called asleep."""
UNCONTROLLED = 1000.0
"""An error ratio of a_params on an accepted step above which no one can be said to control it; a step after a_params
began at zero may have a hundred."""
LOST_LEAF = 1e-4
"""A finite difference above this multiple of the largest leaf's is not zero."""
NEAR = 1e-9
"""Times closer than this, relative to the interval, are one time."""
GROWTH = 1.5
"""A reverse solve that reaches this multiple of the forward solve's largest |y| is said to grow."""
_SOLVER_FAILURES = (Status.NAN_IN_FIELD, Status.DIVERGED, Status.STEP_UNDERFLOW, Status.MAX_STEPS)

LEVELS = {
    "backsolve_unstable": "warning",
    "gradient_missing": "warning",
    "missed_breakpoint": "warning",
    "adjoint_below_atol": "warning",
    "integral_uncontrolled": "warning",
    "reference_uncertain": "warning",
    "norm_diluted": "note",
    "evaluates_outside_interval": "note",
    "settings_differ": "note",
}
"""Every flag by its name, the gravest first."""

ADVICE = {
    "backsolve_unstable": "The reverse solve is unstable, so the backsolve gradient is not to be trusted at any "
    "tolerance, in any library. Use an adjoint that stores the forward solution or differentiates through the steps "
    "(torchdiffeq's odeint, diffrax's RecursiveCheckpointAdjoint; here --gradient direct, interpolating or "
    "quadrature), or shorten the interval.",
    "gradient_missing": "The parameter moves the loss, but its gradient is zero: it does not reach the adjoint. Look "
    "for a detach or stop_gradient, for a leaf left out of field_params (of adjoint_params, of the arguments that are "
    "differentiated), or for a field that reads its parameter from somewhere else.",
    "missed_breakpoint": "The solver steps over a time where the field jumps, and its error estimate does not hold "
    "there. Solve piece by piece between the breakpoints, as matched stepping does. In torchdiffeq a step that ends "
    "exactly on a jump_t loses that one and all later ones: no regular grid, no round first_step (docs/upstream.md); "
    "SciPy's RK45 has no such option.",
    "adjoint_below_atol": "a_y is so small that atol alone decides: the steps follow y, and the adjoint's error is not "
    "controlled. Multiply the loss by 1 / rms(dL/dy) and divide the gradient by it again (a sum in place of a mean "
    "does nearly that), or lower the adjoint's atol (adjoint_atol in torchdiffeq, the stepsize_controller of "
    "diffrax's BacksolveAdjoint).",
    "integral_uncontrolled": "y and a_y ask for no smaller steps and nothing else may, so the parameters' gradient "
    "can be wrong at every tolerance, alike in all libraries (docs/adjoint.md, section 7). A field that is fed a "
    "function of t and whose last layer starts at zero does this. Scale a_params down and do not leave it out, "
    'norms={"light": {"y": 1, "a_y": 1, "a_params": 0.1}}, or take the default norm. The gradient `quadrature` '
    "controls that integral by itself (docs/gradients.md).",
    "reference_uncertain": "Without a reference no gradient error is shown, and no one can say which gradient is "
    "right. Kinks are the usual reason: declare the breakpoints, or take a smooth activation (softplus for ReLU).",
    "norm_diluted": "One RMS over all blocks lets many parameters outvote the state. Take a norm with a maximum over "
    "blocks, mixed-seminorm for the paper's (`crossbackend recipe` prints it), or judge by the gradient error alone.",
    "evaluates_outside_interval": "Harmless where the field is defined there; a control path or a table may not be. "
    'In torchdiffeq, cut the last step by options=dict(step_t=ts[-1:]) and adjoint_options=dict(norm="seminorm", '
    "step_t=ts); anywhere, clip t inside the field.",
    "settings_differ": "Not the same question was asked: before two gradients or counts are compared, set these alike, "
    "or compare under matched stepping, where they are.",
}


@dataclass(frozen=True)
class Flag(InSeries):
    """Something a user should know about a cell.

    Attributes
    ----------
    name : str
        One of `LEVELS`.
    backend, norm, stepping : str
        The cell; empty, or several joined by a comma, where it is about more than one.
    rtol : float or None
        None where it holds at every tolerance.
    evidence, advice : str
    level : {"warning", "note"}
    gradient : str
        Of the cell; empty where it is about more than one.
    """

    name: str
    backend: str
    norm: str
    stepping: str
    rtol: float | None
    evidence: str
    advice: str
    level: str
    gradient: str = BACKSOLVE


def flags(
    records: Sequence[Record],
    card: Mapping[str, Any],
    reference: Mapping[str, Any],
    differing: Sequence[Mapping[str, Any]],
) -> list[Flag]:
    """Return the flags of one problem, the gravest first.

    Parameters
    ----------
    records : sequence of Record
        Of one problem.
    card : mapping
        The problem's card: `ts`, `breakpoints`, sizes. What it lacks is not judged.
    reference : mapping
        `status`, `floor`, `leaves`.
    differing : sequence of mapping
        Settings in which backends differ: `{stepping, gradient, norm, pass, setting, values}`.
    """
    found = []
    for record in records:
        for name, evidence in (
            ("backsolve_unstable", _unstable(record)),
            ("gradient_missing", _missing(record, reference.get("leaves") or {})),
            ("missed_breakpoint", _missed(record, card)),
            ("adjoint_below_atol", _below_atol(record)),
            ("integral_uncontrolled", _uncontrolled(record)),
            ("norm_diluted", _diluted(record, card)),
            ("evaluates_outside_interval", _outside(record, card)),
        ):
            if evidence:
                cell = (record.backend, record.norm, record.stepping, record.rtol)
                found.append(_flag(name, *cell, evidence, gradient_of(record.plan)))
    if evidence := _uncertain(reference):
        found.append(_flag("reference_uncertain", "", "", "", None, evidence, ""))
    found += _settings(differing)
    order = list(LEVELS)
    return sorted(found, key=lambda flag: order.index(flag.name))


def _flag(name: str, backend: str, norm: str, stepping: str, rtol: float | None, evidence: str, gradient: str) -> Flag:
    return Flag(name, backend, norm, stepping, rtol, evidence, ADVICE[name], LEVELS[name], gradient)


def is_unstable(record: Record) -> bool:
    """Whether a record's reverse solve does not come back to the forward solution, or does not end.

    Only backsolve integrates y backwards; what the other gradients do not finish has another reason.
    """
    return bool(_unstable(record))


def _unstable(record: Record) -> str:
    error = record.reconstruction_error
    if gradient_of(record.plan) != BACKSOLVE:
        return ""
    if record.status != Status.OK:
        failed = record.backward and record.status in _SOLVER_FAILURES
        return f"it did not come to an end: {record.message}" if failed else ""
    if error is None or error <= UNSTABLE_FACTOR * record.rtol:
        return ""
    said = f"integrating back, y misses the stored solution by {error:.2g} of its size, {error / record.rtol:.2g} times"
    said += " rtol"
    times, by_time = (record.arrays.get(f"backward/reconstruction{end}") for end in ("_t", ""))
    if times is not None and by_time is not None and len(times) == len(by_time) > 1 and np.isfinite(by_time).all():
        said += f", most at t = {times[int(np.argmax(by_time))]:.4g}"
    forward, backward = ((getattr(record, which) or {}).get("y_max") for which in ("forward", "backward"))
    if forward and backward and backward > GROWTH * forward:
        said += f"; it grows to {backward / forward:.2g} times the forward solution's largest |y|"
    return said


def _missing(record: Record, leaves: Mapping[str, float]) -> str:
    """Return which leaves have no gradient though finite differences of the loss say that they should."""
    if record.status != Status.OK:
        return ""
    largest = max((abs(d) for d in leaves.values()), default=0.0)
    gradient = record.gradient()
    lost = [
        f"{name} (finite difference {along:.2g} along a random direction)"
        for name, along in leaves.items()
        if abs(along) > LOST_LEAF * largest and (name not in gradient or not np.any(gradient[name]))
    ]
    return f"the gradient is zero or absent for {', '.join(lost)}" if lost else ""


def _missed(record: Record, card: Mapping[str, Any]) -> str:
    """Return which declared breakpoints inside the interval no accepted step ends on, by pass."""
    ts = card.get("ts") or []
    if record.status != Status.OK or len(ts) < 2:
        return ""
    near = NEAR * (ts[-1] - ts[0])
    inside = [b for b in card.get("breakpoints") or [] if ts[0] + near < b < ts[-1] - near]
    said = []
    for which in _solves(record):
        steps = record.steps(which)
        if steps is None or not inside:
            continue
        ends = steps.t1[steps.accepted]
        lost = [b for b in inside if not np.any(np.abs(ends - b) <= near)]
        if lost:
            shown = ", ".join(f"{b:.4g}" for b in lost[:5]) + (", …" if len(lost) > 5 else "")
            said.append(f"in the {which} pass no accepted step ends on {len(lost)} of {len(inside)}: t = {shown}")
    return "; ".join(said)


def _solves(record: Record) -> tuple[str, ...]:
    """Return the passes of a record that are solves: differentiating through the steps takes none of its own."""
    return ("forward",) if gradient_of(record.plan) == DIRECT else ("forward", "backward")


def below_atol(record: Record) -> float | None:
    """Return the share of accepted backward steps that begin with rms(a_y) under atol; None where it is not known."""
    steps = record.steps("backward")
    if steps is None or "rms_a_y" not in steps.seen or not np.any(steps.accepted):
        return None
    return float(np.mean(steps.seen["rms_a_y"][steps.accepted] < record.atol))


def _below_atol(record: Record) -> str:
    share = below_atol(record)
    if record.status != Status.OK or share is None or share <= BELOW_ATOL_SHARE:
        return ""
    steps = record.steps("backward")
    assert steps is not None
    median = float(np.median(steps.seen["rms_a_y"][steps.accepted]))
    said = f"on {share:.0%} of the backward steps rms(a_y) is under atol (median {median:.2g}, atol {record.atol:.2g})"
    return said + _scaled(record)


def _scaled(record: Record) -> str:
    """Say what the loss times 1 / rms(dL/dy) gave."""
    scaled = record.scaled
    if not scaled or not scaled.get("backward"):
        return f"; {scaled['message']}" if scaled and scaled.get("message") else ""
    before, after = (record.backward or {}).get("nfe"), scaled["backward"]["nfe"]
    said = f"; with the loss times {scaled['factor']:.2g}: backward evaluations {before} → {after}"
    errors = record.error.get("all"), scaled.get("error")
    if None not in errors:
        said += f", gradient error {errors[0]:.2g} → {errors[1]:.2g}"
    return said


def _uncontrolled(record: Record) -> str:
    """Say how large the error of a_params is where the norm does not see it and it is out of all proportion."""
    steps = record.steps("backward")
    if record.status != Status.OK or steps is None or not {"ratio_a_params", "share_a_params"} <= set(steps.seen):
        return ""
    largest = float(np.max(steps.seen["ratio_a_params"][steps.accepted], initial=0.0))
    if np.any(steps.seen["share_a_params"]) or not largest > UNCONTROLLED:
        return ""
    return f"under a norm that leaves a_params out, its error ratio reaches {largest:.2g} on accepted steps"


def _diluted(record: Record, card: Mapping[str, Any]) -> str:
    """Say how a pooled norm splits between state and parameters where the parameters are more."""
    state, params = card.get("state_size"), card.get("field_parameter_size")
    pooled = record.settings.get("backward", {}).get("across") == "pooled"
    steps = record.steps("backward")
    if record.status != Status.OK or not pooled or not state or not params or params <= 2 * state or steps is None:
        return ""
    share = steps.seen.get("share_a_params")
    if share is None or not np.any(share[steps.accepted]):  # a seminorm does not see them
        return ""
    squared = float(np.median(share[steps.accepted].astype(np.float64) ** 2))
    masked = 0 if steps.masked is None else int(np.count_nonzero(steps.masked))
    kept = int(np.count_nonzero(steps.accepted))
    loosened = math.sqrt((2 * state + params) / (2 * state))
    return (
        f"a_params has {params} of the norm's {2 * state + params} entries and, in the median accepted step, "
        f"{squared:.0%} of its squared error; were that nothing, y and a_y might err {loosened:.2g} times their "
        f"tolerance: {masked} of {kept} accepted steps did"
    )


def _outside(record: Record, card: Mapping[str, Any]) -> str:
    """Say where outside the interval the field was evaluated, by pass."""
    ts = card.get("ts") or []
    if len(ts) < 2:
        return ""
    length, said = ts[-1] - ts[0], []
    for which in ("forward", "backward"):
        steps = record.steps(which)
        if steps is None or steps.t_range is None:
            continue
        low, high = steps.t_range
        beyond = max(ts[0] - low, high - ts[-1])
        if beyond > NEAR * length:
            at = low if ts[0] - low >= high - ts[-1] else high
            said.append(f"{which} pass: t = {at:.4g}, {beyond / length:.2g} of the interval's length outside it")
    return "; ".join(said)


def _uncertain(reference: Mapping[str, Any]) -> str:
    status, floor = reference.get("status"), reference.get("floor")
    if status == "uncertain":
        check = reference.get("check")
        said = "its two routes differ" + ("" if floor is None else f" by {floor:.2g} relative")
        return said + ("" if check is None else f"; finite differences agree with the first to {check:.2g}")
    if status == "failed":
        words = [route.get("message") for route in reference.get("routes") or [] if isinstance(route, dict)]
        said = "; ".join(dict.fromkeys(word for word in words if word))
        return "no route to a reference came to its end" + (f": {said}" if said else "")
    return ""


def _settings(differing: Iterable[Mapping[str, Any]]) -> list[Flag]:
    """Return a flag for each stepping, gradient and norm under which the backends' settings differ."""
    cells: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in differing:
        cells.setdefault((row["stepping"], row["norm"], gradient_of(row)), []).append(row)
    found = []
    for (stepping, norm, gradient), rows in cells.items():
        backends = sorted({name for row in rows for name in row["values"]})
        said = [
            f"{row['pass']} {row['setting']}: " + ", ".join(f"{name} {value}" for name, value in row["values"].items())
            for row in rows
        ]
        found.append(_flag("settings_differ", ", ".join(backends), norm, stepping, None, "; ".join(said), gradient))
    return found
