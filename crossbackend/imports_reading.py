"""Results that a Julia program wrote: `records/KEY.json` and `records/KEY/NAME.npy`, read and checked.

Nothing is executed and nothing unpickled. Whatever is wrong with a record is said at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend import storable
from crossbackend.errors import Mistake, UserError
from crossbackend.record import FORMAT, Record
from crossbackend.store import made_of, not_a_record

_AGAIN = "Run the Julia program again; it writes a record anew."
_REAL = ("<f8", "<f4")


@dataclass(frozen=True)
class Result:
    """A record as it was read, with the digest of the problem that it is about, empty where it names none."""

    key: str
    record: Record
    problem_digest: str


def results_folder(folder: Path) -> Path:
    """Return the folder that holds `records/`: the one given, or `results` in an exported one.

    Raises
    ------
    UserError
        There is none.
    """
    for found in (folder, folder / "results"):
        if (found / "records").is_dir():
            return found
    got = f"{folder}, which " + ("holds no folder `records`" if folder.is_dir() else "is no folder")
    fix = "`julia run.jl` in an exported folder writes `results`."
    raise UserError(Mistake("import", got, "the results of a Julia program", fix))


def read_results(folder: Path) -> tuple[list[Result], list[Mistake]]:
    """Return the results of a folder, and what is wrong with those that cannot be used."""
    found: list[Result] = []
    mistakes: list[Mistake] = []
    records = folder / "records"
    for path in sorted(records.glob("*.json")):
        wrong = []
        result = _read(path, wrong)
        mistakes += wrong
        if result is not None and not wrong:
            found.append(result)
    whole = {path.stem for path in records.glob("*.json")}
    for path in sorted(records.iterdir()):
        if path.is_dir() and path.name not in whole:
            got = "arrays without the JSON file, which is written last"
            fix = f"Its program was stopped in the middle: run it again, or remove {path.name!r}."
            mistakes.append(Mistake(f"records/{path.name}", got, f"records/{path.name}.json beside them", fix))
    return found, mistakes


def _read(path: Path, wrong: list[Mistake]) -> Result | None:
    """Return the result of a JSON file, None where there is no telling; note everything that is wrong with it."""
    where = f"records/{path.name}"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        wrong.append(Mistake(where, f"what cannot be read ({error})", "a JSON object", _AGAIN))
        return None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        got = f"format {fields.get('format')!r}" if isinstance(fields, dict) else f"a {type(fields).__name__}"
        fix = "Export the problem again by this version, and run it." if isinstance(fields, dict) else _AGAIN
        wrong.append(Mistake(where, got, f"a record of format {FORMAT}", fix))
        return None
    for said in (not_a_record(fields), _wrong_extras(fields)):
        if said:
            wrong.append(Mistake(where, said, f"the fields of a record of format {FORMAT}"))
    if wrong:
        return None
    arrays = _arrays(path.with_suffix(""), fields["arrays"], wrong)
    said = storable.wrong_record(fields, arrays)
    if said:
        wrong.append(Mistake(where, f"a record that cannot be compared ({said})", "numbers of their kinds"))
    record = made_of(fields, arrays)
    record.versions = {name: number for name, number in record.versions.items() if number}
    wrong += [Mistake(f"{where}: {name}", got, expected) for name, got, expected in _kinds(record)]
    return Result(path.stem, record, fields.get("problem_digest") or "")


def _wrong_extras(fields: Mapping[str, Any]) -> str:
    """Return what is wrong with the fields that a stored record has not, and with the problem's name."""
    name, digest, arrays = fields.get("problem"), fields.get("problem_digest"), fields.get("arrays")
    if isinstance(name, str) and not (name and all(c.isalnum() or c in "_-" for c in name)):
        return f"the problem {name!r}: letters, digits, '_' and '-' name one"
    if not (digest is None or isinstance(digest, str)):
        return "a problem_digest that is no text"
    if not isinstance(arrays, dict) or not all(isinstance(about, dict) for about in arrays.values()):
        return "no object `arrays` with the dtype and shape of each"
    return ""


def _arrays(folder: Path, listed: Mapping[str, Any], wrong: list[Mistake]) -> dict[str, np.ndarray]:
    """Return the arrays listed; note those that are missing, not what the list says, or not in it."""
    found = {}
    where = f"records/{folder.name}"
    for name, about in listed.items():
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            wrong.append(Mistake(f"{where}.json", f"an array called {name!r}", "names of files in its own folder"))
            continue
        path = folder.joinpath(*parts[:-1], f"{parts[-1]}.npy")
        try:
            found[name] = _array(path, about)
        except FileNotFoundError:
            wrong.append(Mistake(f"{where}/{name}.npy", "no file", f"the array that {folder.name}.json lists", _AGAIN))
        except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
            said = f"{about.get('dtype')}, shape {about.get('shape')}"
            wrong.append(Mistake(f"{where}/{name}.npy", str(error), f"an array of {said}", _AGAIN))
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.npy")} if folder.is_dir() else set()
    for name in sorted(there - {f"{name}.npy" for name in listed}):
        wrong.append(Mistake(f"{where}/{name}", "an array", f"nothing: {folder.name}.json does not list it", _AGAIN))
    return found


def _array(path: Path, about: Mapping[str, Any]) -> np.ndarray:
    """Return an array whose file holds what the list says, and no more.

    Raises
    ------
    ValueError, OSError
        With the words for a message.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject or dtype.str != about.get("dtype") or list(shape) != about.get("shape"):
            raise ValueError(f"an array of {dtype.str}, shape {list(shape)}")
        begin = file.tell()
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        file.seek(0, 2)
        if file.tell() - begin != size:
            raise ValueError(f"{file.tell() - begin} bytes of numbers where {size} belong")
        file.seek(begin)
        flat = np.frombuffer(file.read(), dtype)
    return flat.reshape(shape[::-1]).transpose().copy() if fortran else flat.reshape(shape).copy()


def _kinds(record: Record) -> Iterator[tuple[str, str, str]]:
    """Yield (array, got, expected) where numbers are not of the record's precision."""
    wanted = "<f4" if record.dtype == "float32" else "<f8"
    for name, array in record.arrays.items():
        own = name.startswith("gradient/") or name == "forward/ys" or name.startswith("forward/ys/")
        if own and array.dtype.str != wanted:
            yield name, f"an array of {array.dtype.str}", f"{wanted}, for the record's dtype is {record.dtype}"
        elif name.endswith(("/t0", "/t1")) and array.dtype.str not in _REAL:
            yield name, f"an array of {array.dtype.str}", "floating numbers"
    if record.status == "ok" and not record.gradient():
        yield "gradient", "no array", "a gradient, for its status is ok"


def check_shapes(result: Result, card: Mapping[str, Any]) -> list[Mistake]:
    """Return the arrays of a result whose names or shapes are not those of its problem's card.

    A gradient need not have the part with respect to y0; what is there of a part must be all of it.
    """
    arrays, where = result.record.arrays, f"records/{result.key}.json"
    parts = ["gradient/params"] + ["gradient/y0"] * any(_under("gradient/y0", name) for name in arrays)
    wanted = _wanted(card)
    found = []
    for name, shape in wanted.items():
        expected = f"shape {shape}, the problem's"
        if name in arrays and list(arrays[name].shape) != shape:
            found.append(Mistake(f"{where}: {name}", f"shape {list(arrays[name].shape)}", expected))
        elif name not in arrays and result.record.status == "ok" and any(_under(part, name) for part in parts):
            found.append(Mistake(f"{where}: {name}", "no such array", f"one of {expected}"))
    leaves = [name for name in wanted if name.startswith("gradient/")]
    for name in sorted(arrays) if leaves else ():
        if name.startswith("gradient/") and name not in leaves:
            found.append(Mistake(f"{where}: {name}", "a leaf that the problem has not", f"one of {', '.join(leaves)}"))
    return found


def _under(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}/")


def _wanted(card: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the shape of every leaf of the gradient and of the solution, as far as a card says it."""
    groups: list[tuple[str, Any, list[int]]] = [("gradient/y0", card.get("state"), [])]
    groups.append(("gradient/params", card.get("parameters"), []))
    if isinstance(card.get("ts"), list):
        groups.append(("forward/ys", card.get("state"), [len(card["ts"])]))
    found = {}
    for prefix, shapes, lead in groups:
        for name, shape in shapes.items() if isinstance(shapes, dict) else ():
            if isinstance(shape, list):
                found[f"{prefix}/{name}" if name else prefix] = [*lead, *shape]
    return found
