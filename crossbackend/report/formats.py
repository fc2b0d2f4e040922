"""Numbers and words as a reader wants them: 5.4×10⁻³, 3.2 ms, 31 %, and nothing a file may hide in a string."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from crossbackend.wording import clean

NONE = "–"
"""What stands for a quantity that was not measured."""
MINUS = "−"
_SUPER = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_E_NOTATION = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-]?\d+)(?![\w.]*\w)")


def short(text: Any, most: int) -> str:
    """Return clean text of at most so many characters; what is cut ends in an ellipsis."""
    whole = clean(text)
    return whole if len(whole) <= most else f"{whole[: most - 1]}…"


def clean_all(value: Any) -> Any:
    """Return nested dicts and lists with every string cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean_all(key): clean_all(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean_all(item) for item in value]
    return value


def number(value: Any) -> float | None:
    """Return a finite float, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def power(exponent: int) -> str:
    """Return 10⁻⁶ for -6."""
    return "10" + str(exponent).translate(_SUPER)


def sci(value: Any, digits: int = 2) -> str:
    """Return 5.4×10⁻³ for 0.0054; plain digits between 0.1 and 1000; 10⁻⁶ for 1e-6 exactly."""
    found = number(value)
    if found is None:
        return NONE
    if found == 0:
        return "0"
    if 0.1 <= abs(found) < 1000:
        places = digits if abs(found) < 100 else max(digits, 3)
        return f"{float(f'{found:.{places}g}'):g}".replace("-", MINUS)
    mantissa, _, exponent = f"{found:.{digits - 1}e}".partition("e")
    return f"{mantissa.replace('-', MINUS)}×{power(int(exponent))}"


def tolerance(value: Any) -> str:
    """Return 10⁻⁶ for 1e-6 and 3×10⁻⁵ for 3e-5."""
    found = number(value)
    if found is None or found <= 0:
        return NONE
    mantissa, _, exponent = f"{found:.2e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return power(int(exponent)) if mantissa == "1" else f"{mantissa}×{power(int(exponent))}"


def plain(value: float) -> str:
    """Return 0.6, 1.5 or 3×10⁻⁵: a number on an axis."""
    return f"{value:g}" if 0.01 <= abs(value) < 1000 else tolerance(value)


def whole(value: Any) -> str:
    """Return 12 345 with a thin space, for counts."""
    found = number(value)
    return NONE if found is None else f"{found:,.0f}".replace(",", "\u202f").replace("-", MINUS)


def seconds(value: Any) -> str:
    """Return a time in the unit that suits it: 410 µs, 3.2 ms, 1.2 s, 13 min."""
    found = number(value)
    if found is None:
        return NONE
    if found >= 120:
        return f"{found / 60:.0f} min"
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if found >= size:
            return f"{_three(found / size)} {unit}"
    return "0 s" if found == 0 else f"{_three(found / 1e-6)} µs"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 10 else f"{value:.2g}"


def size(value: Any) -> str:
    """Return bytes as 120 kB, 4.2 MB, 412 MB or 16 GB."""
    found = number(value)
    if found is None:
        return NONE
    if found < 1e6:
        return f"{found / 1e3:.0f} kB"
    return f"{found / 1e9:.3g} GB" if found >= 1e9 else f"{found / 1e6:.{1 if found < 1e7 else 0}f} MB"


def percent(value: Any) -> str:
    """Return 31 % for 0.31, with a real minus."""
    found = number(value)
    return NONE if found is None else f"{round(found * 100)}\u202f%".replace("-", MINUS)


def ratio(value: Any) -> str:
    """Return 1.4×, 23×."""
    found = number(value)
    return NONE if found is None else f"{_three(found)}×"


def typographic(text: str) -> str:
    """Return a sentence with 6.0e-13 written as 6.0×10⁻¹³, 1e-06 as 10⁻⁶, and no line ending before a % sign."""
    text = _E_NOTATION.sub(lambda m: f"{m[1]}×{power(int(m[2]))}", text)
    return re.sub(r"(?<![\d.×])1×10", "10", text).replace(" %", "\u202f%")


def count(n: int, one: str, many: str | None = None) -> str:
    """Return `1 record`, `2 records`."""
    return f"{whole(n)} {one if n == 1 else many or one + 's'}"


def values(value: Any) -> str:
    """Return a setting or a fact in words: yes and no, numbers, text, lists."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return sci(value) if isinstance(value, float) else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {values(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(values(item) for item in value)
    return str(value)


def shape(value: Any) -> str:
    """Return 2 × 16 for [2, 16], scalar for []."""
    if not isinstance(value, (list, tuple)):
        return values(value)
    return " × ".join(values(n) for n in value) if value else "scalar"


def moment(iso: Any) -> datetime | None:
    """Return the time of an ISO string, None where it is not one."""
    try:
        return datetime.fromisoformat(str(iso).replace("Z", "+00:00"))
    except ValueError:
        return None
