"""The error for a primitive that the printer does not know."""

from __future__ import annotations

from crossbackend.errors import UserError


class UnsupportedPrimitive(UserError):
    """A traced function uses primitives that have no NumPy rule; the mistakes name each with the user's line."""
