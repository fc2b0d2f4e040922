"""A run on disk: `records/DIGEST.{json,npz}`, `problems/NAME.json`, `reference/NAME.{json,npz}`, `run.json`.

A run of trainings has `training/NAME.{json,npz}`, and need have nothing else. How a file is written, and when it is
believed, `pairs` says: a file that is not is named and skipped. `lock.hold` is for what writes into a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from crossbackend import kinds, storable
from crossbackend.errors import Mistake, UserError
from crossbackend.pairs import (
    Damaged,
    checksum,
    npz_arrays,
    npz_bytes,
    read_json,
    read_pair,
    sweep,
    unsealed,
    write_bytes,
    write_json,
    write_pair,
    write_sealed,
)  # fmt: skip
from crossbackend.record import FORMAT, Record, Status
from crossbackend.training_record import NAME, TrainingRecord, from_fields

_BESIDE_PLAN = ("digest", "status", "message", "loss", "forward", "backward", "error", "reconstruction_error",
                "rounding_floor", "scaled", "error_split", "time", "peak_memory_bytes", "memory_rise_bytes",
                "device_memory_bytes", "settings", "machine", "versions")  # fmt: skip
_OBJECTS = {"error": dict, "settings": dict, "machine": dict, "versions": dict, "forward": (dict, type(None)),
            "backward": (dict, type(None)), "time": (dict, type(None)),
            "scaled": (dict, type(None)), "error_split": (dict, type(None))}  # fmt: skip
PLAN_FIELDS = ("problem", "backend", "norm", "stepping", "rtol", "atol", "gradient", "dtype", "device", "first_step")
_PARTS = ("records", "problems", "reference")
_OWN = {*_PARTS, "training", "superseded", "cache", "figures", "index.html", "report.pdf", ".lock", ".lock.json"}
"""What a run's folder may hold beside `run.json`."""

__all__ = [
    "PLAN_FIELDS", "Damaged", "Run", "checksum", "load_run", "made_of", "not_a_record", "npz_arrays", "npz_bytes",
    "prepare", "read_about", "read_record", "read_training", "refuse_foreign", "write_about", "write_bytes",
    "write_card", "write_json", "write_record", "write_reference", "write_training",
]  # fmt: skip

T = TypeVar("T")


@dataclass
class Run:
    """What a run's folder holds.

    Attributes
    ----------
    folder : Path
    about : dict
        `run.json`: when and how the run was made, the cells planned, those declined with their reasons.
    records : list of Record
    cards : dict of str to dict
        `problems/NAME.json` by problem.
    references : dict of str to dict
        `reference/NAME.json` by problem, its arrays under the key `arrays`.
    damaged : list of str
        One sentence a file that was skipped.
    training : list of TrainingRecord
    """

    folder: Path
    about: dict[str, Any] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: dict[str, dict[str, Any]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    training: list[TrainingRecord] = field(default_factory=list)


def write_record(folder: Path, record: Record) -> None:
    """Store a record."""
    write_pair(folder / "records" / record.digest, {"format": FORMAT, **record.flat()}, record.arrays)


def read_record(path: Path) -> Record:
    """Return the record of a JSON file and the npz beside it.

    Raises
    ------
    Damaged
        Unreadable, of another format, with a checksum that does not hold, or without what a record has.
    """
    fields, arrays = read_pair(path)
    _refuse(path, not_a_record(fields))
    if fields.get("digest") != path.stem:
        _refuse(path, f"its digest is {fields.get('digest')!r}: the file was renamed or copied")
    return made_of(fields, arrays)


def made_of(fields: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> Record:
    """Return the record of a JSON object that is one; fields that no record has are left out."""
    plan = {name: fields.get(name) for name in PLAN_FIELDS}
    rest = {name: fields[name] for name in _BESIDE_PLAN if name in fields and name != "status"}
    return Record(plan=plan, status=Status(fields["status"]), arrays=arrays, **rest)


def _usable_record(path: Path) -> Record:
    """Return a record that can be compared: beside being one, every number in it is of its kind."""
    record = read_record(path)
    _refuse(path, storable.wrong_record(vars(record), record.arrays))
    return record


def write_card(folder: Path, name: str, card: Mapping[str, Any]) -> None:
    """Store a problem's card."""
    write_sealed(folder / "problems" / f"{name}.json", card)


def _read_card(path: Path) -> tuple[str, dict[str, Any]]:
    card = unsealed(path, read_json(path))
    _refuse(path, storable.wrong_card(card))
    return path.stem, card


def _refuse(path: Path, wrong: str) -> None:
    if wrong:
        raise Damaged(f"{path.name}: {wrong}")


def not_a_record(fields: Mapping[str, Any]) -> str:
    """Return what keeps the fields from being a record: other programs write records too."""
    words = {name: fields.get(name) for name in PLAN_FIELDS if name not in ("rtol", "atol", "first_step")}
    bad = [
        name for name, value in {**words, "message": fields.get("message", "")}.items() if not isinstance(value, str)
    ]
    bad += [name for name in ("rtol", "atol") if not kinds.positive(fields.get(name))]
    if fields.get("first_step") is not None and not kinds.positive(fields["first_step"]):
        bad.append("first_step")
    bad += [name for name in _OBJECTS if not isinstance(fields.get(name), _OBJECTS[name])]
    if fields.get("status") not in list(Status):
        bad.append("status")
    if fields.get("status") == Status.OK:
        passes = (fields.get("forward"), fields.get("backward"))
        bad += [] if all(isinstance(p, dict) and isinstance(p.get("nfe"), int) for p in passes) else ["nfe"]
    if bad:
        return f"missing or of the wrong kind: {', '.join(dict.fromkeys(bad))}"
    return ""


def write_reference(folder: Path, name: str, about: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Store a problem's reference gradient and what is known about it."""
    write_pair(folder / "reference" / name, {**about, "format": FORMAT}, arrays)


def write_training(folder: Path, record: TrainingRecord) -> Path:
    """Store a training as `training/NAME.{json,npz}`; return the JSON file's path.

    Raises
    ------
    ValueError
        A name of other characters than letters, digits and `_.=-`.
    """
    if not NAME.fullmatch(record.name):
        raise ValueError(f"{record.name!r} is no name of a training: letters, digits and _.=- only")
    base = folder / "training" / record.name
    write_pair(base, {"format": FORMAT, **record.flat()}, record.arrays)
    return base.with_name(f"{base.name}.json")


def read_training(path: Path) -> TrainingRecord:
    """Return the training of a JSON file and the npz beside it.

    Raises
    ------
    Damaged
        Unreadable, of another format, with a checksum that does not hold, or with a field that is not what it must be.
    """
    fields, arrays = read_pair(path)
    _refuse(path, storable.wrong_training(fields, arrays))
    return from_fields(fields, arrays, path.stem)


def prepare(folder: Path) -> None:
    """Make a run's folder, or check that an existing one is a run of this format; end what a killed run began.

    Raises
    ------
    UserError
        A file of that name, a folder that cannot be written, or one of another format.
    """
    refuse_foreign(folder)
    try:
        for part in _PARTS:
            (folder / part).mkdir(parents=True, exist_ok=True)
        written = [path for path in (folder, *(folder / part for part in (*_PARTS, "training"))) if path.exists()]
        reason = None if all(os.access(path, os.W_OK) for path in written) else "it is read-only"
        if reason is None:
            for part in written[1:]:
                sweep(part)
            for left in folder.glob(".run.json.*.tmp"):
                left.unlink()
    except OSError as error:
        reason = error.strerror
    if reason:
        raise UserError(
            Mistake("--out", f"{folder} ({reason})", "a folder that can be written", "Write another folder.")
        )


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that is no place for a run; change nothing.

    Raises
    ------
    UserError
        A file of that name, a folder that holds other files, or a run of another format.
    """
    if folder.exists() and not folder.is_dir():
        fix = "Write another folder after --out."
        raise UserError(Mistake("--out", f"{folder}, a file", "a folder for the run", fix))
    if (folder / "run.json").exists():
        read_about(folder)
    elif folder.is_dir() and not _begun(folder):
        expected = "an empty folder or a run"
        raise UserError(Mistake("--out", f"{folder}, which holds other files", expected, "Write another folder."))


def _begun(folder: Path) -> bool:
    """Whether a folder holds nothing, or what a run leaves that ended before its `run.json`, or lost it."""
    own = all(path.name in _OWN or path.name.startswith(".run.json.") for path in folder.iterdir())
    inside = (path for part in _PARTS for path in (folder / part).glob("*"))
    return own and all(path.suffix in (".json", ".npz", ".tmp") for path in inside)


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """Write a run's `run.json`."""
    write_sealed(folder / "run.json", about)


def read_about(folder: Path) -> dict[str, Any]:
    """Return a run's `run.json`.

    Raises
    ------
    UserError
        No such folder, no run in it, a run of another format, or a `run.json` that is damaged or whose fields are of
        another kind.
    """
    path = folder / "run.json"
    if not path.exists():
        got = f"{folder}, which " + ("holds no run.json" if folder.is_dir() else "is no folder")
        raise UserError(Mistake("run", got, "the folder of a run", "Make one by `crossbackend run`."))
    try:
        about = unsealed(path, read_json(path))
        _refuse(path, storable.wrong_about(about))
        return about
    except Damaged as error:
        expected = f"a run of format {FORMAT}"
        fix = "Write another folder; or remove that file, and the run's own command writes it anew beside the records."
        raise UserError(Mistake("run", f"{folder}, where {error}", expected, fix)) from error


def load_run(folder: Path) -> Run:
    """Return everything a run's folder holds; damaged files are listed and skipped.

    Raises
    ------
    UserError
        No such folder, or no run in it, or a run of another format.
    """
    run = Run(folder, read_about(folder))
    run.records = sorted(_each(run, "records", _usable_record), key=_order)
    run.cards = dict(_each(run, "problems", _read_card))
    run.references = dict(_each(run, "reference", _read_reference))
    run.training = sorted(_each(run, "training", read_training), key=_training_order)
    return run


def _each(run: Run, part: str, read: Callable[[Path], T]) -> Iterator[T]:
    """Yield what is read from the JSON files of a part of a run; note those that are damaged."""
    for path in sorted((run.folder / part).glob("*.json")):
        try:
            yield read(path)
        except Damaged as error:
            run.damaged.append(f"{part}/{error}")


def _read_reference(path: Path) -> tuple[str, dict[str, Any]]:
    fields, arrays = read_pair(path)
    _refuse(path, storable.wrong_reference(fields, arrays))
    return path.stem, {**fields, "arrays": arrays}


def _order(record: Record) -> tuple[Any, ...]:
    return (record.problem, record.backend, record.stepping, record.norm, -record.rtol, record.dtype, record.digest)


def _training_order(record: TrainingRecord) -> tuple[Any, ...]:
    return (record.experiment, record.problem, record.preset, -record.rtol, -record.atol, record.width or 0,
            record.dtype, record.device, record.backend, record.norm, record.seed, record.name)  # fmt: skip
