"""Backends by name, found by the entry point `crossbackend.backends` and checked when they are loaded."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import cast

from crossbackend.backends.contract import Backend
from crossbackend.errors import Mistake, UserError

GROUP = "crossbackend.backends"


def names() -> tuple[str, ...]:
    """Return every registered backend, installed libraries or not, in order of registration."""
    return tuple(dict.fromkeys(point.name for point in entry_points(group=GROUP)))


def _point(name: str) -> EntryPoint:
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point
    expected = f"one of {', '.join(names()) or 'no backend at all: install crossbackend'}"
    raise UserError(Mistake("backend", repr(name), expected))


@cache
def get(name: str) -> Backend:
    """Return a backend by name; `scipy:jax` asks the backend `scipy` for its engine `jax`.

    Raises
    ------
    UserError
        No such backend or engine, or a plug-in that does not do what `Backend` asks.
    """
    base, _, engine = name.partition(":")
    loaded = _point(base).load()
    backend = loaded.with_engine(engine) if engine and hasattr(loaded, "with_engine") else loaded
    if engine and backend is loaded:
        raise UserError(Mistake("backend", repr(name), f"{base!r}, which has no engines"))
    if not isinstance(backend, Backend):
        missing = [
            part for part in ("name", "library", "distributions", "declines", "compile") if not hasattr(backend, part)
        ]
        expected = "an object with name, library, distributions, declines and compile"
        raise UserError(Mistake(f"entry point {base!r} of {GROUP}", f"one without {', '.join(missing)}", expected))
    return cast(Backend, backend)


def versions(name: str, training: bool = False) -> dict[str, str]:
    """Return the installed versions of the packages that a backend's records depend on, crossbackend among them.

    Those of a training depend on more (`training_distributions`). A package that is not installed is left out, and so
    is a program that is not there.
    """
    found = {}
    more = training_distributions(name) if training else ()
    for distribution in ("crossbackend", *get(name).distributions, *more):
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            continue
    return found | {program: number for program, number in programs(name).items() if number is not None}


def programs(name: str) -> dict[str, str | None]:
    """Return the versions of the programs that a backend runs, None for one that is not there."""
    own = getattr(get(name), "programs", None)
    return {} if own is None else own()


def training_distributions(name: str) -> tuple[str, ...]:
    """Return the packages that a backend's training needs beside the backend's own."""
    return tuple(getattr(get(name), "training_distributions", ()))


def missing(name: str) -> tuple[str, ...]:
    """Return the packages and programs that a backend needs and this environment lacks."""
    have = versions(name)
    return tuple(part for part in (*get(name).distributions, *programs(name)) if part not in have)


def advice(name: str) -> str:
    """Return how to get what a backend lacks, in sentences; nothing where it lacks nothing."""
    lacking = missing(name)
    said = [f"Install crossbackend[{name.partition(':')[0]}]."] if set(lacking) & set(get(name).distributions) else []
    if set(lacking) & set(programs(name)):
        words = get(name).program_advice()  # type: ignore[attr-defined]
        said.append(f"{words[:1].upper()}{words[1:]}.")
    return " ".join(said)


def known(name: str) -> bool:
    """Whether a name is a backend's here, with its engine."""
    try:
        get(name)
    except UserError:
        return False
    return True


def installed() -> tuple[str, ...]:
    """Return the backends whose packages and programs are all there."""
    return tuple(name for name in names() if not missing(name))
