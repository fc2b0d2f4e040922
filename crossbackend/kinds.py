"""What a field of a stored file may hold, and the sentence for what holds something else.

Null is always allowed: what a file lacks, or holds as null, is not known and no mistake. Numbers must fit a float, for
a JSON file may hold whole numbers of any length.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

DEEPEST = 50
"""Objects and lists within one another; what is deeper breaks whatever walks it."""
LONGEST_TIME = 1e30
"""In seconds; its reciprocal is the shortest. Ratios of times beyond them overflow."""


class Kind(NamedTuple):
    """What a field may hold beside null: a test, and the same in words."""

    holds: Callable[[Any], bool]
    words: str


def _finite(value: Any) -> bool:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return known and abs(value) <= sys.float_info.max  # exact for whole numbers too long for a float


def positive(value: Any) -> bool:
    """Whether a value is a number above 0 that fits a float."""
    return _finite(value) and value > 0


def _size(value: Any) -> bool:
    return _finite(value) and value >= 0


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _times(value: Any) -> bool:
    rising = _list_of(_finite)(value) and all(a < b for a, b in zip(value, value[1:], strict=False))
    return rising and (not value or _finite(value[-1] - value[0]))


def _by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_finite, value.values()))


def _route(value: Any) -> bool:
    return not isinstance(value, dict) or not any(wrong(value, {"name": TEXT, "message": TEXT, "seconds": SIZE}))


NUMBER = Kind(_finite, "a finite number")
POSITIVE = Kind(positive, "a finite number above 0")
SIZE = Kind(_size, "a finite number that is not negative")
COUNT = Kind(_whole, "a whole number that is not negative")
SECONDS = Kind(
    lambda value: _finite(value) and 1 / LONGEST_TIME <= value <= LONGEST_TIME,
    f"seconds above 0, {1 / LONGEST_TIME:g} to {LONGEST_TIME:g}",
)
WAIT = Kind(
    lambda value: _size(value) and value <= LONGEST_TIME,
    f"seconds that are not negative, up to {LONGEST_TIME:g}",
)
TEXT = Kind(_text, "text")
LIST = Kind(lambda value: isinstance(value, list), "a list")
NUMBERS = Kind(_list_of(_finite), "a list of finite numbers")
WORDS = Kind(_list_of(_text), "a list of texts")
OBJECTS = Kind(_list_of(lambda value: isinstance(value, dict)), "a list of objects")
SHARE = Kind(lambda value: _size(value) and value <= 1, "a share, 0 to 1")
TIMES = Kind(_times, "a list of finite numbers, each above the one before")
LEAVES = Kind(_by_name, "an object of finite numbers by leaf")
ROUTES = Kind(_list_of(_route), "a list of objects with texts `name` and `message` and a number `seconds`")

Spec = Mapping[str, Any]
"""A kind by field; for a field that is an object, the spec of what is inside."""


def wrong(fields: Mapping[str, Any], spec: Spec, under: str = "") -> Iterator[str]:
    """Yield the fields that are there and not of their kind."""
    for name, kind in spec.items():
        value = fields.get(name)
        if value is None:
            continue
        if isinstance(kind, Kind):
            if not kind.holds(value):
                yield mistake(under + name, value, f"{kind.words}, or null")
        elif not isinstance(value, dict):
            yield mistake(under + name, value, "an object")
        else:
            yield from wrong(value, kind, f"{under}{name}.")


def unwieldy(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields that hold, however deep inside, what nothing can compute with or write as JSON again."""
    for name, value in fields.items():
        rest = [(value, 0)]
        while rest:
            item, depth = rest.pop()
            if depth > DEEPEST:
                yield mistake(name, Said("an endless nesting"), f"at most {DEEPEST} levels")
                break
            if isinstance(item, (dict, list)):
                rest += [(inner, depth + 1) for inner in (item.values() if isinstance(item, dict) else item)]
            elif isinstance(item, (int, float)) and not abs(item) <= sys.float_info.max:
                yield mistake(name, item, "numbers that are finite as floats")


def first(*found: Iterator[str]) -> str:
    """Return the first sentence of all, or nothing."""
    return next((said for some in found for said in some), "")


def mistake(name: str, got: Any, expected: str) -> str:
    """Return `FIELD: got VALUE, expected KIND`."""
    shown = got if isinstance(got, Said) else repr(got)
    return f"{name}: got {shown if len(shown) <= 60 else f'{shown[:59]}…'}, expected {expected}"


class Said(str):
    """What was got, already in words."""


NOTHING = Said("nothing")
