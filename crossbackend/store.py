"""A run on disk: `records/DIGEST.{json,npz}`, `problems/NAME.json`, `reference/NAME.{json,npz}`, `run.json`.

A run of trainings has `training/NAME.{json,npz}`, and need have nothing else.
A file is written under a temporary name and renamed, so that it is there whole or not at all. The checksum of a
record, a training and a reference covers its JSON and its arrays; one that does not hold is named and not believed.
Reading never executes anything.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from crossbackend import kinds, storable
from crossbackend.errors import Mistake, UserError
from crossbackend.record import FORMAT, Record, Status
from crossbackend.training_record import NAME, TrainingRecord, from_fields

_BESIDE_PLAN = ("digest", "status", "message", "loss", "forward", "backward", "error", "reconstruction_error",
                "rounding_floor", "scaled", "error_split", "time", "peak_memory_bytes", "settings", "machine",
                "versions")  # fmt: skip
_OBJECTS = {"error": dict, "settings": dict, "machine": dict, "versions": dict, "forward": (dict, type(None)),
            "backward": (dict, type(None)), "time": (dict, type(None)),
            "scaled": (dict, type(None)), "error_split": (dict, type(None))}  # fmt: skip
_UNREADABLE = (OSError, ValueError, EOFError, RecursionError)
_NO_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, KeyError, NotImplementedError, RuntimeError, TypeError)
PLAN_FIELDS = ("problem", "backend", "norm", "stepping", "rtol", "atol", "gradient", "dtype", "device", "first_step")


T = TypeVar("T")


class Damaged(Exception):
    """A stored file that cannot be believed; the text says which and why."""


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


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people to read, whole or not at all."""
    write_bytes(path, json.dumps(value, indent=1, default=_plain, allow_nan=False).encode() + b"\n")


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as the bytes of an npz; equal arrays give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            part = io.BytesIO()
            np.lib.format.write_array(part, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def npz_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an npz, never unpickling anything.

    Raises
    ------
    ValueError
        Where the bytes are no npz of plain arrays.
    """
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                part = io.BytesIO(archive.read(name))
                found[name.removesuffix(".npy")] = np.lib.format.read_array(part, allow_pickle=False)
    except (*_NO_ZIP, *_UNREADABLE) as error:
        raise ValueError(f"no npz of plain arrays: {error}") from error
    return found


def checksum(fields: Mapping[str, Any], npz: bytes) -> str:
    """Return SHA-256 over a record's JSON, the checksum left out, and its npz's bytes."""
    bare = {key: value for key, value in fields.items() if key != "checksum"}
    return hashlib.sha256(_json(bare) + npz).hexdigest()


def _write_pair(base: Path, fields: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write BASE.npz, then BASE.json with the checksum of both: a JSON file means that both are there."""
    npz = npz_bytes(arrays)
    path = base.with_name(f"{base.name}.npz")
    if not (path.exists() and path.read_bytes() == npz):
        base.with_name(f"{base.name}.json").unlink(missing_ok=True)  # its arrays are about to go
        write_bytes(path, npz)
    write_json(base.with_name(f"{base.name}.json"), {**fields, "checksum": checksum(fields, npz)})


def _read_pair(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the fields of a JSON file and the arrays of the npz beside it, without format and checksum.

    Raises
    ------
    Damaged
    """
    fields = _read_json(path)
    try:
        npz = path.with_suffix(".npz").read_bytes()
        holds = checksum(fields, npz) == fields.get("checksum")
        arrays = npz_arrays(npz) if holds else {}
    except _UNREADABLE as error:
        raise Damaged(f"{path.name}: cannot be read ({error})") from error
    if not holds:
        raise Damaged(f"{path.name}: the checksum does not hold: the file was changed or cut short")
    return {key: value for key, value in fields.items() if key not in ("format", "checksum")}, arrays


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except _UNREADABLE as error:
        raise Damaged(f"{path.name}: cannot be read ({error})") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        got = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        raise Damaged(f"{path.name}: format {got!r}, this version reads format {FORMAT}")
    return fields


def write_record(folder: Path, record: Record) -> None:
    """Store a record."""
    _write_pair(folder / "records" / record.digest, {"format": FORMAT, **record.flat()}, record.arrays)


def read_record(path: Path) -> Record:
    """Return the record of a JSON file and the npz beside it.

    Raises
    ------
    Damaged
        Unreadable, of another format, with a checksum that does not hold, or without what a record has.
    """
    fields, arrays = _read_pair(path)
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


def _read_card(path: Path) -> tuple[str, dict[str, Any]]:
    card = _read_json(path)
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
    _write_pair(folder / "reference" / name, {**about, "format": FORMAT}, arrays)


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
    _write_pair(base, {"format": FORMAT, **record.flat()}, record.arrays)
    return base.with_name(f"{base.name}.json")


def read_training(path: Path) -> TrainingRecord:
    """Return the training of a JSON file and the npz beside it.

    Raises
    ------
    Damaged
        Unreadable, of another format, with a checksum that does not hold, or with a field that is not what it must be.
    """
    fields, arrays = _read_pair(path)
    _refuse(path, storable.wrong_training(fields, arrays))
    return from_fields(fields, arrays, path.stem)


def prepare(folder: Path) -> None:
    """Make a run's folder, or check that an existing one is a run of this format.

    Raises
    ------
    UserError
        A file of that name, a folder that cannot be written, or one of another format.
    """
    if folder.exists() and not folder.is_dir():
        fix = "Write another folder after --out."
        raise UserError(Mistake("--out", f"{folder}, a file", "a folder for the run", fix))
    if (folder / "run.json").exists():
        read_about(folder)
    elif folder.is_dir() and any(folder.iterdir()):
        expected = "an empty folder or a run"
        raise UserError(Mistake("--out", f"{folder}, which holds other files", expected, "Write another folder."))
    try:
        for part in ("records", "problems", "reference"):
            (folder / part).mkdir(parents=True, exist_ok=True)
            for left in (folder / part).glob(".*.tmp"):  # by a run that was killed
                left.unlink()
        writable = os.access(folder, os.W_OK) and os.access(folder / "records", os.W_OK)
        reason = None if writable else "it is read-only"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise UserError(
            Mistake("--out", f"{folder} ({reason})", "a folder that can be written", "Write another folder.")
        )


def read_about(folder: Path) -> dict[str, Any]:
    """Return a run's `run.json`.

    Raises
    ------
    UserError
        No such folder, no run in it, a run of another format, or a `run.json` whose fields are of another kind.
    """
    path = folder / "run.json"
    if not path.exists():
        got = f"{folder}, which " + ("holds no run.json" if folder.is_dir() else "is no folder")
        raise UserError(Mistake("run", got, "the folder of a run", "Make one by `crossbackend run`."))
    try:
        about = _read_json(path)
        _refuse(path, storable.wrong_about(about))
        return about
    except Damaged as error:
        expected = f"a run of format {FORMAT}"
        raise UserError(Mistake("run", f"{folder}, where {error}", expected, "Write another folder.")) from error


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
    fields, arrays = _read_pair(path)
    _refuse(path, storable.wrong_reference(fields, arrays))
    return path.stem, {**fields, "arrays": arrays}


def _order(record: Record) -> tuple[Any, ...]:
    return (record.problem, record.backend, record.stepping, record.norm, -record.rtol, record.dtype, record.digest)


def _training_order(record: TrainingRecord) -> tuple[Any, ...]:
    return (record.experiment, record.problem, record.preset, -record.rtol, -record.atol, record.width or 0,
            record.dtype, record.device, record.backend, record.norm, record.seed, record.name)  # fmt: skip
