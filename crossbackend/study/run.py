"""A run: trials, counting runs side by side, timing one at a time, errors against the reference."""

from __future__ import annotations

import datetime
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossbackend import machine, registry
from crossbackend.digest import problem_digest
from crossbackend.errors import Mistake, raise_all
from crossbackend.lock import hold
from crossbackend.plan import Choice, check_choice
from crossbackend.problem import Problem
from crossbackend.record import FORMAT, Record, Status
from crossbackend.store import Run, load_run, write_about
from crossbackend.study.cells import RETRIED, Cell, cells, set_aside, usual_rtols
from crossbackend.study.dispatch import run_on_cluster
from crossbackend.study.explained import lacks
from crossbackend.study.lane import Lanes, time_cells
from crossbackend.study.options import Options
from crossbackend.study.references import fill_errors, has_reference, run_references
from crossbackend.study.state import Study
from crossbackend.study.trials import run_trials


def run_study(problems: Sequence[Problem], choice: Choice, options: Options) -> Path:
    """Run every cell that the folder does not hold, and return the folder.

    Raises
    ------
    UserError
        For mistakes in the choice, the options, the folder or a problem, before any solve.
    KeyboardInterrupt
        After Ctrl-C; what is stored by then is a usable run.
    """
    conduct(problems, choice, options)
    return options.out


def conduct(problems: Sequence[Problem], choice: Choice, options: Options) -> Study:
    """Do what `run_study` does, and return what is known when it is over: what the problems' trials gave, for one."""
    _check(problems, choice, options)
    with hold(options.out):
        return _conduct(problems, choice, options)


def _conduct(problems: Sequence[Problem], choice: Choice, options: Options) -> Study:
    known = load_run(options.out) if (options.out / "run.json").exists() else Run(options.out)
    study = _study(problems, choice, options, known)
    about = _about(study, known.about)
    write_about(options.out, about)
    started = time.monotonic()
    work = bool(study.todo or study.to_time or study.references)
    try:
        if work:
            _work(study)
    except KeyboardInterrupt:
        about["interrupted"] = True
        raise
    finally:
        if work:
            about |= {"declined": _declined(options.out), "seconds": round(time.monotonic() - started, 1)}
            about |= _where(study)
            about |= {"phases": study.phases} if study.phases else {}
            write_about(options.out, about)
        fill_errors(options.out)
    return study


def _check(problems: Sequence[Problem], choice: Choice, options: Options) -> None:
    mistakes = options.mistakes()
    names = [problem.name for problem in problems]
    for name in sorted({name for name in names if names.count(name) > 1}):
        mistakes.append(Mistake("problems", f"the name {name!r} twice", "a name of its own for every problem"))
    check_choice(choice, problems, registry.names())
    if not choice.backends:
        fix = "Install crossbackend[all]."
        mistakes.append(Mistake("--backend", "no backend", "one whose libraries are installed", fix))
    mistakes += [mistake for name in choice.backends if (mistake := not_installed(name))]
    raise_all(mistakes)


def not_installed(name: str) -> Mistake | None:
    """Return the mistake of naming a backend whose libraries are not installed."""
    lacking = registry.missing(name)
    if not lacking:
        return None
    fix = f"{registry.advice(name)} Or name other backends."
    got = f"{name!r}, which needs {', '.join(lacking)}"
    return Mistake("--backend", got, "a backend whose libraries are installed", fix)


def _study(problems: Sequence[Problem], choice: Choice, options: Options, known: Run) -> Study:
    """Return what is to be done: what the folder does not hold, or all of it with `force`."""
    digests = {problem.name: problem_digest(problem) for problem in problems}
    every = cells(problems, choice, digests)
    set_aside(every, digests, known)
    current = {cell.digest for cell in every}
    there = {r.digest: r for r in known.records if r.digest in current and r.status not in RETRIED}
    usual = usual_rtols(every)
    if options.explain:  # of a run without it, or of other tolerances
        unexplained = {c.digest for c in every if c.digest in there and lacks(there[c.digest], c.plan, usual)}
        there = {digest: record for digest, record in there.items() if digest not in unexplained}
    records = {} if options.force else there
    todo = {cell.digest for cell in every if cell.digest not in records}
    to_time = {cell.digest for cell in every if options.timing and _wants_time(cell, records.get(cell.digest))}
    references = [p for p in problems if options.force or not has_reference(p, digests[p.name], known, options.seeds)]
    return Study(problems, choice, options, every, todo, to_time, references, digests, records, usual)


def _wants_time(cell: Cell, record: Record | None) -> bool:
    if cell.plan.stepping != "native":
        return False
    return record is None or (record.status == Status.OK and record.time is None)


def _about(study: Study, known: dict[str, Any]) -> dict[str, Any]:
    """Return what `run.json` says."""
    out = study.options.out
    return {
        "format": FORMAT,
        "name": out.resolve().name,
        "created": datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat(),
        "command": _commands(known.get("command")),
        "problems": list(dict.fromkeys([*known.get("problems", []), *(p.name for p in study.problems)])),
        "planned": len(study.cells),
        "declined": known.get("declined", []),
        "timing": study.options.timing,
        "seconds": known.get("seconds"),
        **({"phases": known["phases"]} if "phases" in known else {}),
        "machine": machine.facts(),
        "versions": machine.versions(),
    }


def _commands(known: Any) -> str:
    """Return the command line, behind those that made the run so far: each once, as a shell takes them."""
    this = shlex.join(["crossbackend", *sys.argv[1:]])
    earlier = known.split(" && ") if isinstance(known, str) and known else []
    return " && ".join(dict.fromkeys([*earlier, this]))


def _where(study: Study) -> dict[str, Any]:
    """Return what `run.json` says of a cluster's machines: how many there were, and what they have in common."""
    if not study.machines:
        return {}
    first, *others = study.machines
    common = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    return {"machine": common, "machines": len(study.machines)}


def _declined(folder: Path) -> list[dict[str, str]]:
    """Return the plans that their backends declined, once a sweep, with the reasons."""
    keys = ("problem", "backend", "gradient", "norm", "stepping")
    rows = [
        {**{key: record.plan[key] for key in keys}, "reason": record.message}
        for record in load_run(folder).records
        if record.status == Status.UNSUPPORTED
    ]
    return [row for i, row in enumerate(rows) if row not in rows[:i]]


def _work(study: Study) -> None:
    """Start the workers, do everything, and end them whatever happens."""
    try:
        if study.options.scheduler is None:
            _work_here(study)
        else:
            run_on_cluster(study)
    finally:
        study.end()
        if study.bar is not None:
            study.bar.close()


def _work_here(study: Study) -> None:
    study.start()
    with study.phase("side_by_side"):
        run_trials(study)
        study.side_by_side(Lanes(study).all(lambda: run_references(study)))
    with study.phase("timed"):
        time_cells(study)
