"""The files of a problem's Julia program that Julia reads: its functions, its facts and its arrays."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend import lowering, tree
from crossbackend.errors import Mistake
from crossbackend.julia_functions import Functions
from crossbackend.julia_text import problem_text
from crossbackend.problem import Problem


def program_files(functions: Functions) -> dict[str, bytes]:
    """Return all that Julia reads, by path: `field.jl`, `problem.jl` and the arrays.

    Raises
    ------
    UnsupportedPrimitive
        A function uses what has no rule in Julia.
    """
    program = lowering.lower_julia(functions.traced, title=functions.problem.name)
    arrays = _arrays(functions, program.constants)
    return {
        "field.jl": program.source.encode(),
        "problem.jl": problem_text(functions, list(program.constants)).encode(),
        **{f"arrays/{name}.npy": _npy(array) for name, array in arrays.items()},
    }


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder, by their paths within it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _arrays(functions: Functions, constants: Mapping[str, Any]) -> dict[str, Any]:
    """Return every array of an exported folder by its path under `arrays/`, without the ending."""
    groups = {"params": tree.flatten(functions.constants["params"]), "data": tree.flatten(functions.constants["data"]),
              "constants": dict(constants)}  # fmt: skip
    return {f"{group}/{name or '_'}": array for group, found in groups.items() for name, array in found.items()}


def _npy(array: Any) -> bytes:
    """Return an array as the bytes of a `.npy`, in C order, whole numbers as int64."""
    array = np.asarray(array)
    if array.dtype.kind in "iu":
        array = array.astype(np.int64)
    out = io.BytesIO()
    np.lib.format.write_array(out, np.require(array, requirements="C"), allow_pickle=False)
    return out.getvalue()


def check_names(problem: Problem) -> list[Mistake]:
    """Return the leaves whose names cannot be paths of files."""
    found = []
    for what in ("params", "data"):
        for name in tree.flatten(getattr(problem, what)):
            parts = name.split("/") if name else []
            if any(part in ("", ".", "..") or "\\" in part or not part.isprintable() for part in parts):
                where = f"Problem({problem.name!r}).{what}"
                found.append(Mistake(where, f"the leaf {name!r}", "names that can be files'", "Rename the key."))
    return found
