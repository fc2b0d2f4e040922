"""`crossbackend import`: what a Julia program wrote becomes records of a run, beside those of other backends."""

from __future__ import annotations

import contextlib
import datetime
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossbackend import machine, storable
from crossbackend.digest import plan_digest
from crossbackend.errors import Mistake, UserError, raise_all
from crossbackend.imports_reading import Result, check_shapes, read_results, results_folder
from crossbackend.lock import hold
from crossbackend.plan import Plan
from crossbackend.record import FORMAT, Record
from crossbackend.store import Run, load_run, write_about, write_card, write_record
from crossbackend.study.cells import supersede
from crossbackend.study.references import fill_errors
from crossbackend.wording import count


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes
    ----------
    run : Path
    records : list of Record
    replaced : int
        Records of the same plans that were moved to `superseded/`.
    """

    run: Path
    records: list[Record]
    replaced: int

    def lines(self) -> list[str]:
        """Say it: how many records of which problem and backend, and how to see them."""
        counts = Counter((record.problem, record.backend) for record in self.records)
        said = [f"{problem}  {backend}: {count(n, 'record')}" for (problem, backend), n in counts.items()]
        if self.replaced:
            said.append(f"{self.replaced} earlier of the same plans moved to {self.run / 'superseded'}")
        command = shlex.join(["crossbackend", "report", str(self.run)])
        return [*said, f"imported into {self.run}; `{command}` writes the report"]


def import_results(folder: str | Path, run: str | Path, *, card: str | Path | None = None) -> Imported:
    """Put the results of a Julia program into a run, all of them or none.

    Parameters
    ----------
    folder : path
        The program's results, or the exported folder with `results` in it.
    run : path
        The run's folder; made where there is none.
    card : path, optional
        The problem's `card.json`; it is found where the results lie in the exported folder. Results of a problem that
        the run has are held to the run's own card.

    Raises
    ------
    UserError
        With everything that is wrong with the results, or for a folder that is no run.
    """
    folder, run = results_folder(Path(folder)), Path(run)
    results, mistakes = read_results(folder)
    if not results and not mistakes:
        fix = "Look at what its program printed."
        raise UserError(Mistake("import", f"{folder}, which holds no record", "records/KEY.json", fix))
    known = _known(run)
    beside = _card(folder, None if card is None else Path(card))
    cards = {**beside, **known.cards}
    for result in results:
        mistakes += check_shapes(result, cards.get(result.record.problem, {}))
        mistakes += _other_problem(result, known)
    mistakes += _twice(results)
    raise_all(mistakes)
    with _hold(run):
        known = _known(run)  # as it is now that nothing else writes into it
        records = [_finished(result, known) for result in results]
        replaced = _store(run, known, records, beside)
    return Imported(run, records, replaced)


def _known(run: Path) -> Run:
    """Return what the run's folder holds; a folder that is none of one yet is made into one when all is checked."""
    if (run / "run.json").exists():
        with _named():
            return load_run(run)
    return Run(run)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Name the run as this command's users know it."""
    try:
        yield
    except UserError as error:
        names = {"--out": "RUN", "run": "RUN"}
        raise UserError(*(replace(m, where=names.get(m.where, m.where)) for m in error.mistakes)) from None


@contextlib.contextmanager
def _hold(run: Path) -> Iterator[None]:
    with _named(), hold(run):
        yield


def _card(results: Path, given: Path | None) -> dict[str, dict[str, Any]]:
    """Return the card given, or that of the exported folder that the results lie in, by the problem's name."""
    path = given or results.resolve().parent / "card.json"
    if given is None and not path.exists():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(Mistake(str(path), f"what cannot be read ({error})", "the problem's card")) from error
    said = storable.wrong_card(card) if isinstance(card, dict) else "no object"
    if said or card.get("format") != FORMAT:
        got = said or f"format {card.get('format')!r}"
        raise UserError(Mistake(str(path), got, f"a card of format {FORMAT}", "Export the problem again."))
    return {str(card.get("name")): card}


def _other_problem(result: Result, known: Run) -> list[Mistake]:
    """Return the mistake of results of a problem that is another one in the run, by the digests of both."""
    name = result.record.problem
    there = known.references.get(name, {}).get("digest")
    if not (there and result.problem_digest) or there == result.problem_digest:
        return []
    got = f"results of another {name!r} than the run's"
    fix = "Export it again by the same Python and crossbackend as made the run, or import into another run."
    return [Mistake(f"records/{result.key}.json", got, f"the problem of digest {there[:12]}", fix)]


def _twice(results: Sequence[Result]) -> list[Mistake]:
    counts = Counter(tuple(result.record.plan.items()) for result in results)
    return [
        Mistake(f"records/{result.key}.json", "a plan that another record has too", "one record a plan", "Remove one.")
        for result in results
        if counts[tuple(result.record.plan.items())] > 1
    ]


def _finished(result: Result, known: Run) -> Record:
    """Return the record with its digest; errors against a reference are the run's own to compute."""
    record = result.record
    about = known.references.get(record.problem, {})
    problem = result.problem_digest or str(about.get("digest") or "")
    record.digest = plan_digest(Plan(**record.plan), problem, record.versions)
    record.error = dict.fromkeys(("all", "y0", "params", "floor"))
    return record


def _store(run: Path, known: Run, records: Sequence[Record], cards: Mapping[str, dict[str, Any]]) -> int:
    """Write the records, the cards that the run lacks and what `run.json` says; return how many were replaced."""
    plans = [record.plan for record in records]
    digests = {record.digest for record in records}
    replaced = [old for old in known.records if old.plan in plans and old.digest not in digests]
    for old in replaced:
        supersede(run, old)
    names = list(dict.fromkeys(record.problem for record in records))
    for name in names:
        if name in cards and name not in known.cards:
            write_card(run, name, cards[name])
    write_about(run, _about(run, known.about, names))
    for record in records:
        write_record(run, record)
    fill_errors(run)
    return len(replaced)


def _about(run: Path, known: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return what `run.json` says: as before, with the problems that are new."""
    created = datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()
    fresh = {
        "format": FORMAT, "name": run.resolve().name, "created": created,
        "command": shlex.join(["crossbackend", *sys.argv[1:]]), "planned": 0, "declined": [], "timing": False,
        "seconds": None, "machine": machine.facts(), "versions": machine.versions(),
    }  # fmt: skip
    return {**fresh, **known, "problems": list(dict.fromkeys([*known.get("problems", []), *names]))}
