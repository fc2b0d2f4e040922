"""Lists and shares in words, the same in the terminal, in JSON and in the report."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def listed(names: Iterable[str]) -> str:
    """Return `a, b and c`."""
    found = list(names)
    return "".join(found) if len(found) < 2 else f"{', '.join(found[:-1])} and {found[-1]}"


def count(n: int, one: str) -> str:
    """Return `1 cell`, `2 cells`."""
    return f"{n} {one}" if n == 1 else f"{n} {one}s"


def percent(share: float) -> str:
    """Return `31 %` for 0.31, with a real minus and no minus zero."""
    return f"{round(100 * share)} %".replace("-", "\N{MINUS SIGN}")


def clean(text: Any) -> str:
    """Return text without what a terminal, XML or a reader would stumble over: controls, surrogates, bidi marks."""
    return _CONTROL.sub("\ufffd", str(text))
