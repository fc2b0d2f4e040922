"""What a training goes on from: one npz, written whole or not at all, that unpickles nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend.errors import Mistake, UserError
from crossbackend.store import npz_arrays, write_bytes

_ABOUT = "about"
_KINDS = {"settings": dict, "epochs": list, "seconds": (int, float)}


@dataclass
class Checkpoint:
    """A training after some of its steps.

    Attributes
    ----------
    about : dict
        JSON: `settings` (everything that decides the curve), `epochs` and `seconds` so far.
    arrays : dict of str to ndarray
        `state/...` of the stepper, `curve/...` so far.
    """

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]


def path(folder: Path, name: str) -> Path:
    """Return where a training's checkpoint lies."""
    return folder / "training" / f"{name}.checkpoint.npz"


def write(where: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the last one."""
    about = np.frombuffer(json.dumps(checkpoint.about, allow_nan=True).encode(), np.uint8)
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **{_ABOUT: about, **checkpoint.arrays})  # type: ignore[arg-type]
    write_bytes(where, out.getvalue())


def read(where: Path) -> Checkpoint | None:
    """Return a checkpoint, None where there is none.

    Raises
    ------
    UserError
        A file that is damaged.
    """
    if not where.exists():
        return None
    try:
        arrays = npz_arrays(where.read_bytes())
        about = _checked(json.loads(arrays.pop(_ABOUT).tobytes()))
    except (OSError, ValueError, KeyError, RecursionError, MemoryError) as error:
        fix = "Remove it, or write --force, to begin anew."
        raise UserError(Mistake(str(where), f"a damaged file ({error})", "a checkpoint", fix)) from error
    return Checkpoint(about, arrays)


def _checked(about: Any) -> dict[str, Any]:
    """Return what a checkpoint says of itself, a `ValueError` where a part of it is missing."""
    if isinstance(about, dict) and all(isinstance(about.get(name), kind) for name, kind in _KINDS.items()):
        return about
    raise ValueError("its settings, epochs or seconds are missing")


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return (name, old value, new value) of every setting that differs, nested ones by dotted names."""
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append((f"{prefix}{key}", a, b))
    return found


def refuse_other_settings(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to go on from a training that was begun otherwise.

    Raises
    ------
    UserError
        With every difference.
    """
    found = differences(old, new)
    if found:
        fix = "Write those settings, another --out, or --force to begin anew."
        raise UserError(*(Mistake(f"{name}, {what}", repr(b), f"{a!r}, as it was begun", fix) for what, a, b in found))
