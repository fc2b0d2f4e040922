"""Which Julia there is: `$JULIA`, or `julia` on PATH; its version and the packages that it finds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

OLDEST = (1, 5)
GET = "install Julia 1.5 or newer (https://julialang.org/downloads), or set JULIA to the path of its program"
_SECONDS = 60
"""How long a Julia may take to say its version or to look for packages."""


@dataclass(frozen=True)
class JuliaProgram:
    """What was found.

    Attributes
    ----------
    path : str
        Empty where there is no Julia that can be used.
    version : str
        As `1.5.3`.
    reason : str
        Why it cannot be used, and what to do; empty where it can.
    """

    path: str = ""
    version: str = ""
    reason: str = ""


def program() -> JuliaProgram:
    """Return the Julia of `$JULIA` or on PATH; looked for once in a process."""
    return _program(os.environ.get("JULIA", ""), os.environ.get("PATH", ""))


@cache
def _program(named: str, search: str) -> JuliaProgram:
    path = shutil.which(named or "julia", path=search)
    if path is None:
        found = f"JULIA is {named!r}, which is no program" if named else "no julia on PATH, and JULIA is not set"
        return JuliaProgram(reason=f"{found}: {GET}")
    said = _said([path, "--version"])
    version = re.match(r"julia version (\d+)\.(\d+)(\S*)", said)
    if version is None:
        return JuliaProgram(reason=f"{path} does not say which Julia it is ({said[:80]!r}): {GET}")
    number = f"{version[1]}.{version[2]}{version[3]}"
    if (int(version[1]), int(version[2])) < OLDEST:
        return JuliaProgram(reason=f"{path} is Julia {number}, which is too old: {GET}")
    return JuliaProgram(path, number)


def _said(command: list[str]) -> str:
    """Return what a command prints; the error's words where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        return str(error)
    return done.stdout.strip() or done.stderr.strip()


_LOOK = 'for name in ARGS println("found ", something(Base.find_package(name), "")) end'


@cache
def packages(path: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of those of some packages that a Julia finds, `unknown` for one that does not say it.

    Parameters
    ----------
    path : str
        Of the Julia.
    names : tuple of str
        Of the packages.
    """
    lines = [line[6:] for line in _said([path, "--startup-file=no", "-e", _LOOK, *names]).splitlines()
             if line.startswith("found ")]  # fmt: skip
    return {name: _version(Path(file)) for name, file in zip(names, lines, strict=False) if file}


def _version(file: Path) -> str:
    """Return the version of the package whose module is `PACKAGE/src/NAME.jl`."""
    try:
        about = tomllib.loads((file.parent.parent / "Project.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "unknown"
    return str(about.get("version", "unknown"))


def sources() -> Path:
    """Return the folder of the Julia package: inside the installed package, or at the top of the repository."""
    package = Path(__file__).resolve().parent
    inside = package / "julia"
    return inside if inside.is_dir() else package.parent / "julia"
