"""A run: trial, counting runs side by side, timing one at a time, errors against the reference."""

from __future__ import annotations

import datetime
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crossbackend import machine, registry
from crossbackend.digest import problem_digest
from crossbackend.errors import Mistake, UserError
from crossbackend.plan import Choice, check_choice
from crossbackend.problem import Problem
from crossbackend.record import FORMAT, Record, Status, from_outcome, relative_error
from crossbackend.store import load_run, npz_bytes, prepare, write_bytes, write_json, write_record
from crossbackend.study.cells import Cell, cells, set_aside, stored
from crossbackend.study.pool import Failed, Stopped, WorkerHandle
from crossbackend.study.timing import time_cells
from crossbackend.trial import Trial, compare_ports


@dataclass(frozen=True)
class Options:
    """How a run is done; none of it changes a gradient.

    Attributes
    ----------
    out : Path
        The run's folder.
    repeats, seconds : int, float
        A native plan is timed until it has run `repeats` times or `seconds` in all, at least once.
    timing : bool
    force : bool
        Run cells again whose records are there.
    timeout : float
        Seconds for one request to a worker.
    memory_gib : float
        Resident memory of one worker.
    progress : bool
    """

    out: Path
    repeats: int = 5
    seconds: float = 0.5
    timing: bool = True
    force: bool = False
    timeout: float = 600.0
    memory_gib: float = 4.0
    progress: bool = True


@dataclass
class Study:
    """The state of a run under way."""

    problems: Sequence[Problem]
    choice: Choice
    options: Options
    cells: list[Cell]
    workers: dict[str, WorkerHandle] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    warmed: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)
    to_time: set[str] = field(default_factory=set)
    declined: list[dict[str, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    bar: Any = None

    def worker(self, name: str) -> WorkerHandle:
        """Return the worker of a backend, or of `reference`."""
        return self.workers[name]

    def tick(self, text: str) -> None:
        """Move the progress bar by one cell."""
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(1)


def run_study(problems: Sequence[Problem], choice: Choice, options: Options) -> Path:
    """Run every cell that the folder does not hold, and return the folder.

    Raises
    ------
    UserError
        For mistakes in the choice, the folder or a problem, before any solve.
    KeyboardInterrupt
        After Ctrl-C; what is stored by then is a usable run.
    """
    _check(problems, choice)
    prepare(options.out)
    study = Study(problems, choice, options, cells(problems, choice))
    set_aside(study.cells, options.out)
    if not options.force:
        found = {cell.digest: stored(cell, options.out) for cell in study.cells}
        study.records = {digest: record for digest, record in found.items() if record is not None}
    todo = [cell for cell in study.cells if cell.digest not in study.records]
    if options.timing:
        study.to_time = {c.digest for c in study.cells if _wants_time(c, study.records.get(c.digest))}
    references = [problem for problem in problems if not _has_reference(problem, options)]
    about = _about(study, options)
    write_json(options.out / "run.json", about)
    started = time.monotonic()
    try:
        if todo or study.to_time or references:
            _work(study, todo, references)
    except KeyboardInterrupt:
        about["interrupted"] = True
        raise
    finally:
        about |= {"declined": study.declined, "seconds": round(time.monotonic() - started, 1)}
        if (todo or study.to_time or references) or about.get("interrupted"):
            write_json(options.out / "run.json", about)
    fill_errors(options.out)
    return options.out


def _check(problems: Sequence[Problem], choice: Choice) -> None:
    names = [problem.name for problem in problems]
    twice = sorted({name for name in names if names.count(name) > 1})
    mistakes = [
        Mistake("problems", f"the name {name!r} twice", "a name of its own for every problem") for name in twice
    ]
    check_choice(choice, problems, registry.names())
    for name in choice.backends:
        lacking = registry.missing(name)
        if lacking:
            extra = name.partition(":")[0]
            fix = f"Install crossbackend[{extra}], or name other backends by --backend."
            got = f"{name!r}, which needs {', '.join(lacking)}"
            mistakes.append(Mistake("--backend", got, "a backend whose libraries are installed", fix))
    if mistakes:
        raise UserError(*mistakes)


def _wants_time(cell: Cell, record: Record | None) -> bool:
    if cell.plan.stepping != "native":
        return False
    return record is None or (record.status == Status.OK and record.time is None)


def _has_reference(problem: Problem, options: Options) -> bool:
    if options.force:
        return False
    if not (options.out / "run.json").exists():
        return False
    run = load_run(options.out)
    known = run.references.get(problem.name)
    return known is not None and known.get("digest") == problem_digest(problem) and problem.name in run.cards


def _about(study: Study, options: Options) -> dict[str, Any]:
    known = load_run(options.out).about if (options.out / "run.json").exists() else {}
    names = [*known.get("problems", []), *(problem.name for problem in study.problems)]
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()
    return {
        "format": FORMAT,
        "name": options.out.name,
        "created": now,
        "command": shlex.join(["crossbackend", *sys.argv[1:]]),
        "problems": list(dict.fromkeys(names)),
        "planned": len(study.cells),
        "declined": known.get("declined", []),
        "timing": options.timing,
        "machine": machine.facts(),
        "versions": machine.versions(),
    }


def _work(study: Study, todo: list[Cell], references: list[Problem]) -> None:
    """Start the workers, do everything, and end them whatever happens."""
    options = study.options
    environment = (
        {"JAX_PLATFORMS": "cpu"} if study.choice.device == "cpu" else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    )
    for name in (*study.choice.backends, "reference"):
        memory = int(options.memory_gib * 2**30)
        study.workers[name] = WorkerHandle(name, options.timeout, memory, environment)
    total = len(todo) + len(references) + len(study.to_time)
    study.bar = tqdm(total=total, unit="cell", disable=not options.progress, dynamic_ncols=True, smoothing=0.05)
    try:
        names = {cell.problem.name for cell in todo}
        _trials(study, [problem for problem in study.problems if problem.name in names])
        lanes = [lambda name=name: _lane(study, name, todo) for name in study.choice.backends]
        _side_by_side(study, [*lanes, lambda: _references(study, references)])
        if options.timing:
            time_cells(study)
    finally:
        study.stop.set()
        for handle in study.workers.values():
            handle.kill()
        study.bar.close()


def _side_by_side(study: Study, jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs in threads; the first error, or Ctrl-C, ends them all."""
    with ThreadPoolExecutor(max(1, len(jobs))) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except BaseException:
            study.stop.set()
            for handle in study.workers.values():
                handle.kill()
            raise


def _trials(study: Study, problems: Sequence[Problem]) -> None:
    """Run every problem's functions once in each library; raise all mistakes as one error."""
    by_library: dict[str, str] = {}
    for name in study.choice.backends:
        by_library.setdefault(registry.get(name).library, name)
    found: dict[tuple[str, str], Trial] = {}

    def trials(library: str, backend: str) -> None:
        for problem in problems:
            try:
                found[problem.name, library] = study.worker(backend).ask(problem, "trial", library=library)
            except Failed as error:
                where = f"Problem({problem.name!r}) under {library}"
                got = f"{error.status}: {error.message}"
                found[problem.name, library] = Trial(library, [Mistake(where, got, "functions that run")])

    _side_by_side(study, [lambda library=a, backend=b: trials(library, backend) for a, b in by_library.items()])
    mistakes: list[Mistake] = []
    for problem in problems:
        of_problem = [found[problem.name, library] for library in by_library]
        # The same mistake shows in every library: one of them says it.
        first = next((trial.mistakes for trial in of_problem if trial.mistakes), [])
        if not first and len(of_problem) == 2:
            first = compare_ports(problem, of_problem[0], of_problem[1])
        mistakes += first
    if mistakes:
        raise UserError(*mistakes)


def _lane(study: Study, backend: str, todo: list[Cell]) -> None:
    """Run one backend's counting runs, sweep by sweep, and compile the bare plans that will be timed."""
    mine = [cell for cell in study.cells if cell.plan.backend == backend]
    wanted = {cell.digest for cell in todo}
    for problem in study.problems:
        of_problem = [cell for cell in mine if cell.problem is problem]
        if not of_problem:
            continue
        reasons = study.worker(backend).ask(problem, "declines", plans=[cell.plan for cell in of_problem])
        sweeps: dict[tuple[str, ...], list[Cell]] = {}
        for cell, reason in zip(of_problem, reasons, strict=True):
            if reason is not None:
                _decline(study, cell, reason)
            else:
                sweeps.setdefault(cell.plan.sweep_key, []).append(cell)
        for key, sweep in sweeps.items():
            for cell in sweep:
                if cell.digest in wanted:
                    _record(study, cell)
            _warm(study, key, sweep)


def _decline(study: Study, cell: Cell, reason: str) -> None:
    plan = cell.plan
    study.declined.append(
        {
            "problem": plan.problem,
            "backend": plan.backend,
            "norm": plan.norm,
            "stepping": plan.stepping,
            "reason": reason,
        }
    )
    if cell.digest not in study.records:
        _keep(study, cell, Record(cell.digest, plan.as_dict(), Status.UNSUPPORTED, reason))
        study.tick(plan.describe())


def _record(study: Study, cell: Cell) -> None:
    """Make one counting run and store its record, whatever comes of it."""
    plan = cell.plan
    try:
        outcome, settings = study.worker(plan.backend).ask(cell.problem, "record", plan=plan)
        record = from_outcome(cell.digest, plan.as_dict(), outcome, settings)
    except Failed as error:
        record = Record(cell.digest, plan.as_dict(), error.status, error.message)
    except UserError as error:  # an operation that the lowering lacks, say
        record = Record(cell.digest, plan.as_dict(), Status.UNSUPPORTED, str(error))
    _keep(study, cell, record)
    study.tick(plan.describe())


def _keep(study: Study, cell: Cell, record: Record) -> None:
    record.machine = machine.facts()
    record.versions = registry.versions(cell.plan.backend)
    study.records[cell.digest] = record
    write_record(study.options.out, record)


def _warm(study: Study, key: tuple[str, ...], sweep: list[Cell]) -> None:
    """Compile and call the bare plan of a sweep that will be timed; the first call is told apart."""
    good = [c for c in sweep if c.digest in study.to_time and study.records[c.digest].status == Status.OK]
    if not good:
        return
    cell = good[0]
    try:
        study.warmed[key] = study.worker(cell.plan.backend).ask(cell.problem, "warm", plan=cell.plan)
    except Failed:
        return  # its cells stay untimed; what went wrong in the counting run is in the record


def _references(study: Study, problems: Sequence[Problem]) -> None:
    """Compute the reference and the card of every problem that lacks them."""
    folder = study.options.out
    for problem in problems:
        if study.stop.is_set():
            raise Stopped
        base = folder / "reference" / problem.name
        try:
            about, arrays, card = study.worker("reference").ask(problem, "reference")
        except (Failed, UserError) as error:
            about = {"format": FORMAT, "problem": problem.name, "status": "failed", "floor": None, "check": None,
                     "routes": [{"name": "reference", "seconds": 0.0, "message": str(error)}]}  # fmt: skip
            arrays, card = {}, {"format": FORMAT, "name": problem.name, "description": problem.description,
                                "source": problem.source, "ts": list(problem.ts)}  # fmt: skip
        about["digest"] = problem_digest(problem)
        write_bytes(base.with_suffix(".npz"), npz_bytes(arrays))
        write_json(base.with_suffix(".json"), about)
        write_json(folder / "problems" / f"{problem.name}.json", card)
        study.tick(f"{problem.name} reference")


def fill_errors(folder: Path) -> None:
    """Write every record's gradient error against its problem's reference, where it changed."""
    run = load_run(folder)
    for record in run.records:
        about = run.references.get(record.problem, {})
        error: dict[str, Any] = dict.fromkeys(("all", "y0", "params", "floor"))
        if record.status == Status.OK and about.get("status") in ("exact", "ok"):
            gradient = record.gradient()
            truth = {k.removeprefix("gradient/"): a for k, a in about["arrays"].items()}
            error["floor"] = about.get("floor")
            error["all"] = relative_error(gradient, truth)
            for group in ("y0", "params"):
                error[group] = relative_error(_of(gradient, group), _of(truth, group))
        if error != record.error:
            record.error = error
            write_record(folder, record)


def _of(gradient: dict[str, Any], group: str) -> dict[str, Any]:
    return {name: array for name, array in gradient.items() if name.partition("/")[0] == group}
