"""What a user did wrong, said once: where, what was got, what was expected, what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """One mistake of a user's.

    Attributes
    ----------
    where : str
        The place, as the user knows it: a file, a field of `Problem`, an option.
    got : str
        What stands there.
    expected : str
        What should stand there.
    fix : str
        What to write instead. May be empty where `expected` says it all.
    """

    where: str
    got: str
    expected: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: got {self.got}, expected {self.expected}."
        return f"{text} {self.fix}".rstrip()


class UserError(Exception):
    """One or more mistakes of a user's: one message and exit code 2, never a traceback.

    Parameters
    ----------
    *mistakes : Mistake
        All that is wrong, so that a file is mended in one go.
    """

    def __init__(self, *mistakes: Mistake) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(mistake) for mistake in mistakes))

    def __reduce__(self) -> tuple[type[UserError], tuple[Mistake, ...]]:
        """Keep the mistakes when the error travels from a worker process."""
        return type(self), self.mistakes


def raise_all(mistakes: Sequence[Mistake]) -> None:
    """Raise one `UserError` with every mistake of the list; do nothing for an empty one."""
    if mistakes:
        raise UserError(*mistakes)
