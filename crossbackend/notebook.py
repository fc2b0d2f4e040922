"""What a value looks like in a notebook, said by a room above the one that the value is from.

A `Comparison` and a `Record` stand below the report, and must not import it; the report can draw them. So they ask
here, and the report registers how, with `as_html.register(KIND)`.
"""

from __future__ import annotations

from functools import singledispatch


@singledispatch
def as_html(value: object) -> str | None:  # noqa: ARG001 - its type is what counts
    """Return a value as a fragment of HTML; None where nobody said how, and a notebook shows its text."""
    return None
