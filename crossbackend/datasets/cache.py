"""Arrays that are costly to make, kept in an npz file named by a key of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, NotImplementedError, MemoryError, TokenError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


def key(settings: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the settings, JSON values all."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays of an npz, made and written first where it is missing or damaged.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    make : callable
        `make() -> dict of arrays`, none of dtype object.

    Returns
    -------
    dict of str to array
    """
    found = _read(path)
    if found is None:
        found = make()
        _write(path, found)
    return found


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays, or None where there are none to be believed; nothing is ever unpickled."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as part:  # its CRC is checked as its last byte is read
                    found[name.removesuffix(".npy")] = np.lib.format.read_array(part, allow_pickle=False)
    except _UNREADABLE:
        return None
    return found


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the npz whole or not at all: an interrupted run leaves no half of it under its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as out:
            with zipfile.ZipFile(out, "w") as archive:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                        np.lib.format.write_array(part, array, allow_pickle=False)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
