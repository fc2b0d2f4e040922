"""The file of a baseline, read: whatever it holds, a baseline comes out of it or a mistake with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crossbackend import kinds
from crossbackend.check.holding import COUNTS, PLAN, Key, key
from crossbackend.errors import Mistake, UserError, raise_all
from crossbackend.plan import STEPPINGS
from crossbackend.record import Status

FORMAT = 1
"""Version of the file; a reader refuses any other."""
LARGEST = 50_000_000
"""Bytes of a file that is read: a hundred thousand cells take less."""
UPDATE = "--update-baseline"
_MOST_MISTAKES = 10
_PASS = {name: kinds.COUNT for name in COUNTS}
_CELL = {
    **dict.fromkeys(("backend", "norm", "stepping", "gradient", "dtype", "device", "status"), kinds.TEXT),
    "rtol": kinds.POSITIVE, "atol": kinds.POSITIVE, "first_step": kinds.POSITIVE, "error": kinds.SIZE,
    "forward": _PASS, "backward": _PASS,
}  # fmt: skip
_NEEDED = ("backend", "norm", "stepping", "rtol", "atol", "status")


def read(path: Path) -> dict[str, Any]:
    """Return the baseline of a file, in the form of `taken`.

    Raises
    ------
    UserError
        No such file; no JSON, or another format; cells that are not what they must be, up to ten of them named.
    """
    whole = _json(path)
    if not isinstance(whole, dict) or whole.get("format") != FORMAT or isinstance(whole.get("format"), bool):
        got = f"format {_short(whole.get('format'))}" if isinstance(whole, dict) else f"a {type(whole).__name__}"
        fix = f"Write it anew by {UPDATE}."
        raise UserError(Mistake(f"baseline {path}", got, f"a baseline of format {FORMAT}", fix))
    mistakes = []
    for said in _wrong(whole):
        if len(mistakes) == _MOST_MISTAKES:
            break
        where, _, rest = said.partition(": got ")
        got, _, expected = rest.rpartition(", expected ")
        mistakes.append(Mistake(f"baseline {path}: {where}", got, expected, ""))
    raise_all(mistakes)
    problems = {
        name: {"versions": entry["versions"], "cells": [_known(cell) for cell in entry["cells"]]}
        for name, entry in whole["problems"].items()
    }
    return {"format": FORMAT, "problems": problems}


def _known(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell's own fields: what else a file holds is not written again."""
    passes = {
        which: None if cell.get(which) is None else {name: cell[which].get(name) for name in COUNTS}
        for which in ("forward", "backward")
    }
    return dict(zip(PLAN, key(cell), strict=True)) | {"status": cell["status"], **passes, "error": cell.get("error")}


def _json(path: Path) -> Any:
    where, expected = f"baseline {path}", "a JSON file that the check wrote"
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UserError(Mistake(where, f"more than {LARGEST} bytes", expected))
        return json.loads(content.decode("utf-8"))
    except FileNotFoundError as error:
        fix = f"{UPDATE} writes it."
        raise UserError(Mistake(where, "a file that does not exist", expected, fix)) from error
    except OSError as error:
        raise UserError(Mistake(where, f"a file that cannot be read ({error.strerror})", expected)) from error
    except (ValueError, RecursionError) as error:
        got = f"no JSON ({_short(error)})"
        raise UserError(Mistake(where, got, expected, f"Write it anew by {UPDATE}.")) from error


def _wrong(whole: Mapping[str, Any]) -> Iterator[str]:
    """Yield what keeps a JSON object from being a baseline."""
    problems = whole.get("problems")
    if not isinstance(problems, dict):
        yield kinds.mistake("problems", problems, "an object by problem")
        return
    for name, entry in problems.items():
        at = f"problems.{_short(name, 30)}"
        cells = entry.get("cells") if isinstance(entry, dict) else None
        if not isinstance(cells, list):
            yield kinds.mistake(f"{at}.cells", cells, "a list of cells")
            continue
        versions = entry.get("versions")
        if not isinstance(versions, dict) or not all(isinstance(value, str) for value in versions.values()):
            yield kinds.mistake(f"{at}.versions", versions, "an object of texts")
        seen: set[Key] = set()
        for index, cell in enumerate(cells):
            yield from _wrong_cell(cell, f"{at}.cells[{index}]", seen)


def _wrong_cell(cell: Any, at: str, seen: set[Key]) -> Iterator[str]:
    if not isinstance(cell, dict):
        yield kinds.mistake(at, cell, "an object")
        return
    bad = [*kinds.wrong(cell, _CELL), *(f"{name}: got nothing, expected a value" for name in _NEEDED
                                        if cell.get(name) is None)]  # fmt: skip
    for name, known in (("status", tuple(map(str, Status))), ("stepping", STEPPINGS)):
        if isinstance(cell.get(name), str) and cell[name] not in known:
            bad.append(kinds.mistake(name, cell[name], f"one of {', '.join(known)}"))
    yield from (f"{at}.{said}" for said in bad)
    if not bad:
        if key(cell) in seen:
            yield f"{at}: got a cell that is there already, expected each cell once"
        seen.add(key(cell))


def _short(value: Any, most: int = 60) -> str:
    text = value if isinstance(value, str) else f"{value}" if isinstance(value, Exception) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
