"""Records as a pandas table: the same columns with the same types whatever a run holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from crossbackend.record import ERROR_PARTS, Record

if TYPE_CHECKING:
    import pandas as pd

_WORDS, _COUNT, _NUMBER = "string", "Int64", "float64"


def _typed(dtype: str, *names: str, under: str = "") -> dict[str, str]:
    return {f"{under}{name}": dtype for name in names}


def _columns() -> dict[str, str]:
    passes: dict[str, str] = {}
    for under, more in (("forward.", ()), ("backward.", ("spurious", "masked"))):
        passes |= _typed(_COUNT, "nfe", "accepted", "rejected", *more, under=under)
        passes |= _typed(_NUMBER, "t_min", "t_max", "y_max", under=under)
    parts = _typed(_COUNT, "vjp_y", "vjp_params", "recomputed", under="backward.parts.")
    return {
        **_typed(_WORDS, "problem", "backend", "norm", "stepping"), **_typed(_NUMBER, "rtol", "atol"),
        **_typed(_WORDS, "gradient", "dtype", "device"), **_typed(_NUMBER, "first_step"),
        **_typed(_WORDS, "status", "message"), **_typed(_NUMBER, "loss"),
        **_typed(_NUMBER, "all", "y0", "params", "floor", under="error."),
        **_typed(_NUMBER, "reconstruction_error", "rounding_floor"), **passes, **parts,
        **_typed(_NUMBER, "median_s", "q1_s", "q3_s", "min_s", "first_s", "compile_s", under="time."),
        **_typed(_COUNT, "time.repeats", "peak_memory_bytes", "memory_rise_bytes", "device_memory_bytes"),
        **_typed(_NUMBER, "whole", under="error_split."), **_typed(_NUMBER, *ERROR_PARTS, under="error_split.parts."),
        **_typed(_NUMBER, *ERROR_PARTS, under="error_split.share."),
        **_typed(_NUMBER, "residual", "replay", under="error_split."), **_typed(_WORDS, "error_split.message"),
        **_typed(_NUMBER, "factor", "below_atol", "error", under="scaled."),
        **_typed(_WORDS, "status", "message", under="scaled."),
        **{f"scaled.{name}": dtype for name, dtype in passes.items()}, **_typed(_WORDS, "digest"),
    }  # fmt: skip


COLUMNS = _columns()
"""The columns of `Comparison.to_pandas` with their dtypes, in order; docs/records.md says what each one holds."""


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row for each record, in their order, with the columns `COLUMNS`."""
    import pandas as pd

    rows = [record.flat() for record in records]
    return pd.DataFrame({
        name: pd.Series([_fitting(_inside(row, name), dtype) for row in rows], dtype=dtype)
        for name, dtype in COLUMNS.items()
    })  # fmt: skip


def _inside(row: Mapping[str, Any], path: str) -> Any:
    found: Any = row
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _fitting(value: Any, dtype: str) -> str | float | None:
    """Return a value as its column holds it, None for one of another kind: other programs write records too."""
    if dtype == _WORDS:
        return None if value is None else str(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    if dtype == _COUNT:
        return int(number) if abs(number) < 2**53 and number == math.floor(number) else None
    return number
