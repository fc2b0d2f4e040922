"""Lists and shares in words, the same in the terminal, in JSON and in the report."""

from __future__ import annotations

from collections.abc import Iterable


def listed(names: Iterable[str]) -> str:
    """Return `a, b and c`."""
    found = list(names)
    return "".join(found) if len(found) < 2 else f"{', '.join(found[:-1])} and {found[-1]}"


def percent(share: float) -> str:
    """Return `31 %` for 0.31, with a real minus and no minus zero."""
    return f"{round(100 * share)} %".replace("-", "\N{MINUS SIGN}")
