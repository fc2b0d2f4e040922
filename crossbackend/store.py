"""A run on disk: `records/DIGEST.{json,npz}`, `problems/NAME.json`, `reference/NAME.{json,npz}`, `run.json`.

A file is written under a temporary name and renamed, so that it is there whole or not at all. A record's checksum
covers its JSON and its arrays; one that does not hold is named and not believed. Reading never executes anything.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend.errors import Mistake, UserError
from crossbackend.record import FORMAT, Record, Status

_BESIDE_PLAN = ("digest", "status", "message", "loss", "forward", "backward", "error", "reconstruction_error",
                "rounding_floor", "time", "peak_memory_bytes", "settings", "machine", "versions")  # fmt: skip
PLAN_FIELDS = ("problem", "backend", "norm", "stepping", "rtol", "atol", "gradient", "dtype", "device", "first_step")


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
    """

    folder: Path
    about: dict[str, Any] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: dict[str, dict[str, Any]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)


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
    """Return the arrays of an npz, never unpickling anything."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = {}
        for name in archive.namelist():
            with archive.open(name) as part:
                found[name.removesuffix(".npy")] = np.lib.format.read_array(io.BytesIO(part.read()), allow_pickle=False)
        return found


def checksum(fields: Mapping[str, Any], npz: bytes) -> str:
    """Return SHA-256 over a record's JSON, the checksum left out, and its npz's bytes."""
    bare = {key: value for key, value in fields.items() if key != "checksum"}
    return hashlib.sha256(_json(bare) + npz).hexdigest()


def write_record(folder: Path, record: Record) -> None:
    """Store a record. The arrays go first: a JSON file means that both are there."""
    npz = npz_bytes(record.arrays)
    fields = {"format": FORMAT, **record.flat()}
    fields["checksum"] = checksum(fields, npz)
    base = folder / "records" / record.digest
    write_bytes(base.with_suffix(".npz"), npz)
    write_bytes(
        base.with_suffix(".json"), json.dumps(fields, indent=1, default=_plain, allow_nan=False).encode() + b"\n"
    )


def read_record(path: Path) -> Record:
    """Return the record of a JSON file and the npz beside it.

    Raises
    ------
    Damaged
        Unreadable, of another format, or with a checksum that does not hold.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        npz = path.with_suffix(".npz").read_bytes()
    except (OSError, ValueError) as error:
        raise Damaged(f"{path.name}: cannot be read ({error})") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        got = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        raise Damaged(f"{path.name}: format {got!r}, this version reads format {FORMAT}")
    if checksum(fields, npz) != fields.get("checksum"):
        raise Damaged(f"{path.name}: the checksum does not hold: the file was changed or cut short")
    try:
        plan = {name: fields[name] for name in PLAN_FIELDS}
        rest = {name: fields[name] for name in _BESIDE_PLAN if name != "status"}
        return Record(plan=plan, status=Status(fields["status"]), arrays=npz_arrays(npz), **rest)
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path.name}: {type(error).__name__}: {error}") from error


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
    about = folder / "run.json"
    if about.exists():
        try:
            found = json.loads(about.read_text(encoding="utf-8")).get("format")
        except (OSError, ValueError, AttributeError) as error:
            found = f"unreadable ({error})"
        if found != FORMAT:
            expected = f"a run of format {FORMAT}"
            raise UserError(Mistake("--out", f"{folder}, a run of format {found}", expected, "Write another folder."))
    elif folder.is_dir() and any(folder.iterdir()):
        expected = "an empty folder or a run"
        raise UserError(Mistake("--out", f"{folder}, which holds other files", expected, "Write another folder."))
    try:
        (folder / "records").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(Mistake("--out", f"{folder} ({error.strerror})", "a folder that can be written")) from error


def load_run(folder: Path) -> Run:
    """Return everything a run's folder holds; damaged files are listed and skipped.

    Raises
    ------
    UserError
        No such folder, or no run in it, or a run of another format.
    """
    about = folder / "run.json"
    if not about.exists():
        got = f"{folder}, which " + ("holds no run.json" if folder.is_dir() else "does not exist")
        raise UserError(Mistake("run", got, "the folder of a run", "Make one by `crossbackend run`."))
    prepare(folder)
    run = Run(folder, json.loads(about.read_text(encoding="utf-8")))
    for path in sorted((folder / "records").glob("*.json")):
        try:
            run.records.append(read_record(path))
        except Damaged as error:
            run.damaged.append(f"records/{error}")
    for name, value in _read_all(folder / "problems", run):
        run.cards[name] = value
    for name, value in _read_all(folder / "reference", run):
        value["arrays"] = {}
        try:
            arrays = folder / "reference" / f"{name}.npz"
            if arrays.exists():
                value["arrays"] = npz_arrays(arrays.read_bytes())
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            run.damaged.append(f"reference/{name}.npz: {error}")
        run.references[name] = value
    run.records.sort(key=_order)
    return run


def _read_all(folder: Path, run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.glob("*.json")):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            run.damaged.append(f"{folder.name}/{path.name}: {error}")
            continue
        if isinstance(value, dict) and value.get("format") == FORMAT:
            yield path.stem, value
        else:
            run.damaged.append(f"{folder.name}/{path.name}: not of format {FORMAT}")


def _order(record: Record) -> tuple[Any, ...]:
    return (record.problem, record.backend, record.stepping, record.norm, -record.rtol, record.dtype, record.digest)
