"""What a value looks like in a notebook, said by a room above the one that the value is from.

A `Comparison` and a `Record` stand below the report, and must not import it; the report can draw them. So they ask
here, and the report registers how, with `as_html.register(KIND)`. The report is not loaded before something is shown:
the package says by `later` what loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

_waiting: list[Callable[[], object]] = []


def later(load: Callable[[], object]) -> None:
    """Have something called before the first value is shown that nobody has said how to show yet."""
    _waiting.append(load)


@singledispatch
def as_html(value: object) -> str | None:
    """Return a value as a fragment of HTML; None where nobody said how, and a notebook shows its text."""
    if not _waiting:
        return None
    while _waiting:
        _waiting.pop()()
    return as_html(value)
