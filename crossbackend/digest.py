"""Digests: which stored records are still true.

A record's digest is SHA-256 over its plan, its problem's digest, the versions of the libraries that its backend
uses, and the record format. A problem's digest covers its functions' code and the bytes of its arrays. The code is
read from the function objects (bytecode, constants, captured values, and the functions of the user's own that it
calls), not from a jaxpr: comments and line numbers do not count, no library needs to be imported, and an upgrade
of JAX re-runs the cells that use JAX and no others.
"""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import FORMAT

_PROSE = ("name", "source", "description", "tolerances")
"""Fields of a problem that no result depends on (a plan names its own tolerance)."""


def problem_digest(problem: Problem) -> str:
    """Return SHA-256 (hex) of everything in a problem that a result depends on."""
    state = _Hash()
    for item in fields(problem):
        if item.name not in _PROSE:
            state.add(item.name)
            state.value(getattr(problem, item.name))
    return state.hexdigest()


def plan_digest(plan: Plan, problem: str, versions: Mapping[str, str]) -> str:
    """Return SHA-256 (hex) of a plan, its problem's digest, the backend's versions and the format."""
    whole = {"plan": plan.as_dict(), "problem": problem, "versions": dict(versions), "format": FORMAT}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


class _Hash:
    """Feeds values of any kind to SHA-256, each object once."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256(f"python {sys.version_info.major}.{sys.version_info.minor}".encode())
        self._seen: dict[int, Any] = {}

    def hexdigest(self) -> str:
        return self._sha.hexdigest()

    def add(self, text: str) -> None:
        self._sha.update(text.encode())
        self._sha.update(b"\0")

    def value(self, value: Any) -> None:
        """Feed one value by its kind."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            self.add(f"{type(value).__name__} {value!r}")
        elif isinstance(value, (np.ndarray, np.generic)):
            array = np.asarray(value)
            self.add(f"array {array.dtype.str} {array.shape}")
            self._sha.update(np.ascontiguousarray(array).tobytes())
        elif isinstance(value, types.ModuleType):
            self.add(f"module {value.__name__}")
        elif isinstance(value, (Mapping, list, tuple, set, frozenset)):
            self._container(value)
        elif id(value) in self._seen:
            self.add("seen")
        else:
            self._seen[id(value)] = value  # kept alive, so that an id is not used twice
            self._object(value)

    def _container(self, value: Any) -> None:
        self.add(f"{type(value).__name__} {len(value)}")
        if isinstance(value, Mapping):
            for key in sorted(value, key=repr):
                self.value(key)
                self.value(value[key])
            return
        for item in sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value:
            self.value(item)

    def _object(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self._function(value.__func__)
            self.value(value.__self__)
        elif isinstance(value, types.CodeType):
            self._code(value)
        elif isinstance(value, type):
            self._class(value)
        elif type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
            self.value(value.detach().cpu().numpy())
        elif hasattr(value, "__array__") and hasattr(value, "dtype"):
            self.value(np.asarray(value))
        else:
            self._class(type(value))
            inner = getattr(value, "__dict__", None)
            parts = inner if inner is not None else getattr(value, "func", None) or repr(type(value))
            self.value({k: v for k, v in parts.items() if not k.startswith("__")} if isinstance(parts, dict) else parts)
            for name in ("args", "keywords", "func"):  # functools.partial keeps these outside __dict__
                if hasattr(value, name) and type(value).__name__ == "partial":
                    self.value(getattr(value, name))

    def _class(self, kind: type) -> None:
        self.add(f"class {kind.__module__ if _installed_module(kind.__module__) else ''}.{kind.__qualname__}")
        if not _installed_module(kind.__module__):
            for name, member in sorted(vars(kind).items()):
                if isinstance(member, (types.FunctionType, staticmethod, classmethod)):
                    self.add(name)
                    self.value(getattr(member, "__func__", member))

    def _function(self, function: types.FunctionType) -> None:
        if _installed_module(function.__module__):
            self.add(f"function {function.__module__}.{function.__qualname__}")
            return
        self._code(function.__code__)
        self.value(function.__defaults__)
        self.value(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self.value(cell.cell_contents)
            except ValueError:  # a cell not filled yet
                self.add("empty cell")
        for name in _global_names(function.__code__):
            if name in function.__globals__:
                self.add(name)
                self.value(function.__globals__[name])

    def _code(self, code: types.CodeType) -> None:
        self._sha.update(code.co_code)
        self.value([code.co_names, code.co_varnames, code.co_freevars, code.co_argcount])
        docstring = code.co_consts[:1] if code.co_consts and isinstance(code.co_consts[0], str) else ()
        for constant in code.co_consts[len(docstring) :]:
            self.value(constant)


def _global_names(code: types.CodeType) -> list[str]:
    """Return the names that a function and those defined in it look up, sorted."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= set(_global_names(constant))
    return sorted(names)


def _installed_module(name: str | None) -> bool:
    """Whether a module is part of Python or of an installed package, so that its version stands for its code."""
    module = sys.modules.get(name or "")
    path = getattr(module, "__file__", None)
    if module is None:
        return False
    if path is None or name == "builtins" or (name or "").partition(".")[0] == "crossbackend":
        return "problems" not in (name or "") and name != "__main__"
    stdlib = sysconfig.get_path("stdlib")
    return "site-packages" in path or "dist-packages" in path or path.startswith(stdlib)
