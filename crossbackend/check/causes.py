"""Where the evidence of a failure points: mathematics, settings or tolerance; see `findings.Cause`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crossbackend.agreement import same_steps
from crossbackend.check.evidence import GOOD, Sweep, apart, factor, reference_gradient, wrong_leaves
from crossbackend.check.findings import Cause
from crossbackend.compare import ProblemComparison
from crossbackend.record import Record
from crossbackend.wording import listed

Found = tuple[Cause | None, str]
FAR = 1e3
"""Forward solutions that are apart by more than this multiple of rtol solve different equations."""


def of_error(item: ProblemComparison, sweep: Sweep, others: Sequence[Sweep]) -> Found:
    """Return why a sweep's gradient does not come to the reference.

    Parameters
    ----------
    others : sequence of Sweep
        Of the same norm and stepping; one of them that converges shows what is right.
    """
    right = next((other for other in others if other is not sweep and other.converges), None)
    if math.isnan(sweep.errors[-1]):
        return None, "there is no reference to hold it against"
    if right is not None and (said := _of_solution(sweep, right)):
        return Cause.MATHEMATICS, said
    if not sweep.loss_converges:
        return Cause.MATHEMATICS, _of_loss(sweep, right)
    return Cause.MATHEMATICS, _of_gradient(item, sweep)


def _of_solution(sweep: Sweep, right: Sweep) -> str:
    """Say how two forward solutions differ; nothing where their tolerance explains it."""
    rtol = max(sweep.tightest.rtol, right.tightest.rtol)
    whole = apart(sweep.tightest, right.tightest)
    if whole <= FAR * rtol:
        return ""
    if apart(sweep.tightest, right.tightest, first=True) > FAR * rtol:
        return f"its solution differs from {right.backend}'s from y(t0) on: another initial state"
    return (
        f"its solution is {whole:.1e} from {right.backend}'s at tolerances of {rtol:.0e}: the vector field, "
        "its parameters or its time is another one"
    )


def _of_loss(sweep: Sweep, right: Sweep | None) -> str:
    said = f"its loss is off by {sweep.losses[-1]:.1e} too, and does not come closer with the tolerance"
    if right is None:
        return f"{said}: the field, the parameters or the loss is another one than the reference's"
    whole = apart(sweep.tightest, right.tightest)
    return (
        f"{said}, though its solution at the output times is {right.backend}'s (to {whole:.1e}): the loss is another "
        "one, or reads another output time"
    )


def _of_gradient(item: ProblemComparison, sweep: Sweep) -> str:
    truth, found = reference_gradient(item), sweep.tightest.gradient()
    wrong = wrong_leaves(found, truth, GOOD * sweep.tightest.rtol)
    said = "its loss is right and its gradient is not"
    zero = [name for name in wrong if name not in found or not found[name].any()]
    if zero:
        return f"{said}: {listed(zero)} {'has' if len(zero) == 1 else 'have'} no gradient at all"
    c = factor(found, truth, wrong)
    which = "every leaf" if len(wrong) == len(truth) else listed(wrong)
    if c is not None:
        return f"{said}: {which} is {c:.6g} times the right value"
    right = listed([name for name in truth if name not in wrong])
    rest = f"; right are {right}" if right else ""
    return f"{said}, in {which}{rest}: a derivative of the field, of y(t0) or of the loss is wrong"


def of_disagreement(item: ProblemComparison, a: Sweep, b: Sweep, rtol: float) -> Found:
    """Return why two sweeps differ at one tolerance."""
    stalled = [sweep for sweep in (a, b) if not sweep.converges and not math.isnan(sweep.errors[-1])]
    if stalled:
        cause, evidence = of_error(item, stalled[0], [a, b])
        return cause, f"{stalled[0].backend}: {evidence}"
    ours, theirs = (next(r for r in sweep.records if r.rtol == rtol) for sweep in (a, b))
    errors = [sweep.errors[[r.rtol for r in sweep.records].index(rtol)] for sweep in (a, b)]
    both = f"the errors of both are {errors[0]:.1e} and {errors[1]:.1e} and fall with the tolerance"
    ts = item.card.get("ts") or [0.0, 1.0]
    if a.stepping == "matched" and not same_steps(ours, theirs, float(ts[-1] - ts[0])):
        return Cause.SETTINGS, f"{both}, but their steps differ: {_first_apart(ours, theirs)}{_settings(item, a)}"
    if any(math.isnan(error) for error in errors):
        return None, "there is no reference to tell whose it is"
    if a.stepping == "native":
        return Cause.TOLERANCE, f"{both}: each is what its tolerance allows, and a smaller rtol brings them together"
    return Cause.MATHEMATICS, f"{both}, and their steps are the same: one of them rounds, or weighs, something else"


def _first_apart(a: Record, b: Record) -> str:
    for which in ("forward", "backward"):
        one, two = (getattr(record, which) or {} for record in (a, b))
        counts = [f"{p.get('accepted')} accepted and {p.get('rejected')} rejected" for p in (one, two)]
        if counts[0] != counts[1]:
            return f"{counts[0]} in {a.backend}'s {which} pass, {counts[1]} in {b.backend}'s"
    return "as many, of other lengths"


def _settings(item: ProblemComparison, sweep: Sweep) -> str:
    differing = [
        f"{row['pass']} {row['setting']}"
        for row in item.settings_differ
        if (row["stepping"], row["norm"]) == (sweep.stepping, sweep.norm) and row["setting"] == "norm"
    ]
    named = f"; what they say of themselves differs in {listed(differing)}" if differing else ""
    return f"{named}. The norm, its weights, the first step or the controller is another one"
