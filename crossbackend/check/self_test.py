"""The check, checked: plant each fault and see whether it is seen, and its cause named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from crossbackend import registry
from crossbackend.check.findings import Check, Finding
from crossbackend.check.mutants import FAULTS, NAME, Fault, host, planted
from crossbackend.check.run import check, judged
from crossbackend.check.specimen import specimen
from crossbackend.errors import Mistake, UserError
from crossbackend.problem import Problem


@dataclass(frozen=True)
class Plant:
    """One fault, and what the check made of it.

    Attributes
    ----------
    fault : str
        Its name; empty for the run without one.
    planted : str
        What was done, and to which backend.
    seen : bool
        Whether the check failed; without a fault, whether it passed.
    named : bool
        Whether a failure named the fault's cause and said so in its evidence; without a fault as `seen`.
    cause : str
        The cause that was to be named.
    said : str
        What the check said: of the failure that names the cause, or of the first.
    """

    fault: str
    planted: str
    seen: bool
    named: bool
    cause: str
    said: str


def self_test(problem: Problem | None = None, *, progress: bool = False) -> list[Plant]:
    """Plant every fault and return what the check made of it, the run without a fault first.

    All faulty backends stand in one run beside two sound ones; the check then looks at the sound ones and one faulty
    one at a time.

    Parameters
    ----------
    problem : Problem, optional
        On which the faults are planted; a small one of its own by default.

    Raises
    ------
    UserError
        Where fewer than two backends are installed.
    """
    sound = [name for name in ("scipy", "torchdiffeq", "diffrax") if name in registry.installed()][:2]
    if len(sound) < 2:
        got = f"{len(sound)} installed backends"
        raise UserError(Mistake("--self-test", got, "two sound ones to hold a faulty one against", "Install another."))
    chosen = specimen() if problem is None else problem
    with planted():
        faulty = [f"{NAME}:{fault.name}" for fault in FAULTS]
        whole = check(chosen, backends=[*sound, *faulty], progress=progress)
        return [_sound(judged(whole, sound)), *(_plant(whole, sound, fault) for fault in FAULTS)]


def _sound(found: Check) -> Plant:
    said = "; ".join(_words(finding) for finding in found.failures()) or "nothing fails"
    return Plant("", "nothing", found.ok, found.ok, "", said)


def _plant(whole: Check, sound: list[str], fault: Fault) -> Plant:
    faulty = f"{NAME}:{fault.name}"
    failures = judged(whole, [*sound, faulty]).failures()
    right = list(_naming(failures, fault))
    said = _words([*right, *failures][0]) if failures else "nothing fails"
    planted_in = f"{fault.planted}, in {host()}"
    return Plant(fault.name, planted_in, bool(failures), bool(right), str(fault.cause), said)


def _naming(failures: list[Finding], fault: Fault) -> Iterator[Finding]:
    """Yield the failures that name the fault's cause and blame no sound backend for it."""
    faulty = f"{NAME}:{fault.name}"
    for finding in failures:
        if finding.cause == fault.cause and fault.says in finding.evidence and faulty in finding.backend:
            yield finding


def _words(finding: Finding) -> str:
    cause = f" {finding.cause}: {finding.evidence}" if finding.cause else ""
    return f"{finding.what}, {finding.backend}: {finding.text}.{cause}"


def as_dict(plants: list[Plant]) -> dict[str, object]:
    """Return the JSON object that `crossbackend check --self-test --json` prints."""
    return {"format": 1, "ok": passed(plants), "plants": [asdict(plant) for plant in plants]}


def passed(plants: list[Plant]) -> bool:
    """Whether every fault was seen, its cause named, and nothing seen where there was none."""
    return all(plant.seen and plant.named for plant in plants)


def lines(plants: list[Plant]) -> Iterator[str]:
    """Yield what the terminal shows."""
    for plant in plants:
        verdict = "ok    " if plant.seen and plant.named else "FAILED"
        what = plant.fault or "no fault"
        yield f"{verdict} {what:18} planted: {plant.planted}"
        if plant.fault:
            named = "named" if plant.named else "not named"
            seen = "seen" if plant.seen else "NOT SEEN"
            yield f"       {'':18} {seen}; cause {plant.cause} {named}: {plant.said}"
        else:
            yield f"       {'':18} {plant.said}"
    faults = [plant for plant in plants if plant.fault]
    seen, named = sum(plant.seen for plant in faults), sum(plant.named for plant in faults)
    yield f"{len(faults)} faults planted, {seen} seen, {named} with their cause named"
