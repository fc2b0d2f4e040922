"""Digests: which stored records are still true.

A record's digest is SHA-256 over its plan, its problem's digest, the versions of the libraries that its backend
uses, and the record format. A problem's digest covers its functions' code and the bytes of its arrays. The code is
read from the function objects (instructions, constants, captured values, and the functions of the user's own that
it calls), not from a jaxpr: comments, docstrings and line numbers do not count, no library needs to be imported,
and an upgrade of JAX re-runs the cells that use JAX and no others.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import json
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.record import FORMAT

_PROSE = ("name", "source", "description", "tolerances")
"""Fields of a problem that no result depends on (a plan names its own tolerance)."""
_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes)
_NO_CODE = ("RESUME", "NOP", "CACHE", "EXTENDED_ARG", "PRECALL")
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


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
        self._seen: dict[int, tuple[int, Any]] = {}

    def hexdigest(self) -> str:
        return self._sha.hexdigest()

    def add(self, text: str) -> None:
        self._sha.update(text.encode(errors="surrogatepass"))
        self._sha.update(b"\0")

    def value(self, value: Any) -> None:
        """Feed one value by its kind."""
        if isinstance(value, _PLAIN):
            self.add(f"{type(value).__name__} {value!r}")
        elif isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
            array = np.asarray(value)
            self.add(f"array {array.dtype.str} {array.shape}")
            self._sha.update(np.ascontiguousarray(array).tobytes())
        elif isinstance(value, types.ModuleType):
            self.add(f"module {value.__name__}")
        elif isinstance(value, (tuple, frozenset)):  # Python shares equal ones as it likes
            self._container(value)
        elif id(value) in self._seen:
            self.add(f"seen {self._seen[id(value)][0]}")
        else:
            self._seen[id(value)] = len(self._seen), value  # kept alive, so that an id is not used twice
            self._new(value)

    def _new(self, value: Any) -> None:
        """Feed an object that was not seen before."""
        if isinstance(value, (Mapping, list, set)):
            self._container(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.CodeType):
            self._code(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.MethodType):
            self._parts("method", value.__func__, value.__self__)
        elif isinstance(value, (staticmethod, classmethod)):
            self._parts(type(value).__name__, value.__func__)
        elif isinstance(value, property):
            self._parts("property", value.fget)
        elif isinstance(value, functools.partial):
            self._parts("partial", value.func, value.args, value.keywords)
        elif type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
            self.value(value.detach().cpu().numpy())
        elif hasattr(value, "__array__") and hasattr(value, "dtype"):
            self.value(np.asarray(value))
        elif hasattr(value, "node_data") and hasattr(value, "children"):  # JAX's PyTreeDef
            self._parts("tree", value.node_data(), value.children())
        elif hasattr(value, "__wrapped__"):  # jitted, cached
            self._parts("wrapped", value.__wrapped__)
        elif callable(value) and isinstance(getattr(value, "__name__", None), str):  # a ufunc, a builtin
            self.add(f"{type(value).__name__} {getattr(value, '__module__', '')}.{value.__name__}")
        else:
            self._instance(value)

    def _parts(self, kind: str, *parts: Any) -> None:
        self.add(kind)
        for part in parts:
            self.value(part)

    def _container(self, value: Any) -> None:
        self.add(f"{type(value).__name__} {len(value)}")
        if isinstance(value, Mapping):
            for key in sorted(value, key=repr):
                self.value(key)
                self.value(value[key])
            return
        for item in sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value:
            self.value(item)

    def _instance(self, value: Any) -> None:
        """Feed an object of some class: the class, and what pickle would keep of the object."""
        self.value(type(value))
        try:
            state = value.__getstate__()
        except Exception:  # not made to be pickled: what it is must do
            state = None
        if isinstance(state, dict) and type(value).__module__.partition(".")[0] == "crossbackend":
            made_of = inspect.signature(type(value)).parameters  # the rest an adapted model notes while it is used
            state = {name: part for name, part in state.items() if name in made_of}
        if state is None:
            words = repr(value)
            self.add("" if " at 0x" in words else words)
        self.value(state)

    def _class(self, kind: type) -> None:
        self.add(f"class {_home(kind.__module__)}.{kind.__qualname__}")
        if _installed(kind.__module__):
            return
        for base in kind.__bases__:
            self.value(base)
        for name, member in sorted(vars(kind).items()):
            bookkeeping = name == "_abc_impl" or (name.startswith("__") and not callable(member))
            if not bookkeeping and not isinstance(member, _DESCRIPTORS):
                self.add(name)
                self.value(member)

    def _function(self, function: types.FunctionType) -> None:
        installed = _installed(function.__module__)
        if installed:
            self.add(f"function {function.__module__}.{function.__qualname__}")
        else:
            self.value(function.__code__)
        for default in (function.__defaults__, function.__kwdefaults__):
            if not installed:
                self.value(default)
        for cell in function.__closure__ or ():  # a function that a library returned holds what it was given
            try:
                self.value(cell.cell_contents)
            except ValueError:  # a cell not filled yet
                self.add("empty cell")
        if not installed:
            self._globals(function)

    def _globals(self, function: types.FunctionType) -> None:
        """Feed what the function's names mean: values, functions of the user's, and what it takes from a module."""
        names = {i.argval for i in _instructions(function.__code__) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        parts = {i.argval for i in _instructions(function.__code__) if i.opname in ("LOAD_ATTR", "LOAD_METHOD")}
        for name in sorted(names & set(function.__globals__)):
            self.add(name)
            value = function.__globals__[name]
            self.value(value)
            if isinstance(value, types.ModuleType) and not _installed(value.__name__):
                for part in sorted(parts & set(vars(value))):
                    self.add(part)
                    self.value(vars(value)[part])

    def _code(self, code: types.CodeType) -> None:
        """Feed the instructions; a docstring is none, and where a constant stands in the table does not count."""
        given = code.co_argcount + code.co_kwonlyargcount
        self.add(f"code {code.co_argcount} {code.co_posonlyargcount} {code.co_varnames[:given]} {code.co_flags & 0xFF}")
        for step in dis.get_instructions(code):
            if step.opname in _NO_CODE:
                continue
            self.add(step.opname)
            self.value(step.argval)


def _instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    """Yield the instructions of a function and of those defined in it."""
    for step in dis.get_instructions(code):
        yield step
        if isinstance(step.argval, types.CodeType):
            yield from _instructions(step.argval)


def _home(module: str) -> str:
    """Return a module's name, empty for one of the user's: the same file has another name when it is run."""
    return module if _installed(module) else ""


@functools.cache
def _folders() -> tuple[str, ...]:
    return tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))


def _installed(name: str | None) -> bool:
    """Whether a module is part of Python or of an installed package, so that its version stands for its code."""
    name = name or ""
    if name == "__main__" or name.startswith("crossbackend_problem_") or name not in sys.modules:
        return False
    path = getattr(sys.modules[name], "__file__", None)
    if path is None or name.partition(".")[0] == "crossbackend":
        return True
    return "site-packages" in path or "dist-packages" in path or path.startswith(_folders())
