"""Stored files: a JSON file, and the npz beside it; there whole or not at all, and believed only where all holds.

A file is written under a temporary name and renamed. The checksum of a pair covers its JSON and its arrays, that of a
sealed JSON file its own fields. Reading never executes anything.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend.errors import Mistake, UserError
from crossbackend.record import FORMAT

_UNREADABLE = (OSError, ValueError, EOFError, RecursionError, MemoryError)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What a disk answers that is full, or that was made read-only meanwhile."""
_STAGED = re.compile(r"\.(?P<name>.+)\.json\.(?P<process>\d+)\.tmp")
_NPY_1 = b"\x93NUMPY\x01\x00"
"""How a .npy of version 1.0 begins; the length of its header follows."""
NO_SEAL = "the checksum does not hold: the file was changed or cut short"


class Damaged(Exception):
    """A stored file that cannot be believed; the text says which and why."""


@contextlib.contextmanager
def room(place: Path) -> Iterator[None]:
    """Say a full or read-only disk as one mistake; nothing that was there is lost by it.

    Raises
    ------
    UserError
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        fix = "What was stored is still whole: make room, and the same command goes on from there."
        got = f"a disk that takes no more ({error.strerror})"
        raise UserError(Mistake(str(place), got, "room for the file", fix)) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    UserError
        The disk is full or read-only.
    OSError
        Anything else that keeps it from being written.
    """
    with room(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = _stage(path, content)
        try:
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)


def _stage(path: Path, content: bytes) -> Path:
    """Write the bytes under the temporary name of a path, down to the disk; leave nothing where that fails."""
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with staged.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    return staged


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False).encode()


def _for_people(value: Any) -> bytes:
    return json.dumps(value, indent=1, default=_plain, allow_nan=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people to read, whole or not at all."""
    write_bytes(path, _for_people(value))


def write_sealed(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a JSON object with its own checksum, whole or not at all."""
    bare = {key: value for key, value in fields.items() if key != "checksum"}
    write_json(path, {**bare, "checksum": checksum(bare)})


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
                found[name.removesuffix(".npy")] = _array(archive.read(name))
    except Exception as error:  # zipfile, zlib, tokenize and NumPy raise two dozen kinds on bytes that are no npz
        raise ValueError(f"no npz of plain arrays: {error}") from error
    return found


def _array(content: bytes) -> np.ndarray:
    """Return the array of a .npy as NumPy reads it; a header that was read before is not parsed again.

    A run's thousands of arrays have a few dozen headers, and NumPy takes longer to parse one than to read the rest.
    """
    end = len(_NPY_1) + 2 + int.from_bytes(content[len(_NPY_1) : len(_NPY_1) + 2], "little")
    if content.startswith(_NPY_1) and len(content) > end:
        shape, fortran, dtype = _header(content[:end])
        count = math.prod(shape)
        if not fortran and not dtype.hasobject and len(content) - end == count * dtype.itemsize:
            return np.frombuffer(content, dtype, count, end).reshape(shape).copy()  # a copy may be written to
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


@lru_cache(1024)
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether it is in Fortran's order, and dtype, of a .npy file's first bytes."""
    part = io.BytesIO(content)
    np.lib.format.read_magic(part)
    return np.lib.format.read_array_header_1_0(part)


def checksum(fields: Mapping[str, Any], npz: bytes = b"") -> str:
    """Return SHA-256 over a record's JSON, the checksum left out, and its npz's bytes."""
    bare = {key: value for key, value in fields.items() if key != "checksum"}
    return hashlib.sha256(_json(bare) + npz).hexdigest()


def write_pair(base: Path, fields: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write BASE.npz and BASE.json with the checksum of both: a JSON file means that both are there.

    Both are on the disk under temporary names before anything old goes, so that a full disk loses nothing, and what
    a kill between the two renames leaves is put in its place by `sweep`.

    Raises
    ------
    UserError
        The disk is full or read-only.
    """
    npz = npz_bytes(arrays)
    beside, path = base.with_name(f"{base.name}.npz"), base.with_name(f"{base.name}.json")
    content = _for_people({**fields, "checksum": checksum(fields, npz)})
    if beside.exists() and beside.read_bytes() == npz:
        write_bytes(path, content)
        return
    with room(path), contextlib.ExitStack() as left:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = []
        for target, data in ((beside, npz), (path, content)):
            staged.append(_stage(target, data))
            left.callback(staged[-1].unlink, missing_ok=True)
        path.unlink(missing_ok=True)  # its arrays are about to go
        staged[0].replace(beside)
        staged[1].replace(path)


def sweep(folder: Path) -> None:
    """End what a killed process began to write in a folder: put a whole pair in its place, remove anything else."""
    left = sorted(folder.glob(".*.tmp"))
    for path in left:
        found = _STAGED.fullmatch(path.name)
        if found is not None:
            _complete(path, folder / found["name"], found["process"])
    for path in left:
        path.unlink(missing_ok=True)


def _complete(staged: Path, base: Path, process: str) -> None:
    """Rename a staged JSON file, and its npz, where the old JSON file is gone and the checksum of the new one holds."""
    beside, target = base.with_name(f"{base.name}.npz"), base.with_name(f"{base.name}.json")
    arrays = base.with_name(f".{base.name}.npz.{process}.tmp")
    if target.exists():
        return
    source = arrays if arrays.exists() else beside
    try:
        fields = read_json(staged)
        if checksum(fields, source.read_bytes()) != fields.get("checksum"):
            return
        if source == arrays:
            arrays.replace(beside)
        staged.replace(target)
    except (Damaged, *_UNREADABLE):  # cut short: it goes
        return


def read_pair(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the fields of a JSON file and the arrays of the npz beside it, without format and checksum.

    Raises
    ------
    Damaged
    """
    fields = read_json(path)
    try:
        npz = path.with_suffix(".npz").read_bytes()
        holds = checksum(fields, npz) == fields.get("checksum")
        arrays = npz_arrays(npz) if holds else {}
    except _UNREADABLE as error:
        raise Damaged(f"{path.name}: cannot be read ({error})") from error
    if not holds:
        raise Damaged(f"{path.name}: {NO_SEAL}")
    return {key: value for key, value in fields.items() if key not in ("format", "checksum")}, arrays


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file of this format, whatever its checksum.

    Raises
    ------
    Damaged
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("no file")
        fields = json.loads(path.read_text(encoding="utf-8"))
    except _UNREADABLE as error:
        raise Damaged(f"{path.name}: cannot be read ({error})") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        got = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        shown = repr(got) if isinstance(got, (str, int, float, type(None))) else f"of type {type(got).__name__}"
        raise Damaged(f"{path.name}: format {shown[:60]}, this version reads format {FORMAT}")
    return fields


def unsealed(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields without their checksum, which must hold where there is one: other programs write none.

    Raises
    ------
    Damaged
    """
    if "checksum" not in fields:
        return fields
    try:
        holds = checksum(fields) == fields["checksum"]
    except _UNREADABLE as error:
        raise Damaged(f"{path.name}: cannot be read ({error})") from error
    if not holds:
        raise Damaged(f"{path.name}: {NO_SEAL}")
    return {key: value for key, value in fields.items() if key != "checksum"}
