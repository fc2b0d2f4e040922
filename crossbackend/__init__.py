"""Are the gradients the same? One ODE learning problem, run by torchdiffeq, diffrax and SciPy, and compared.

Importing this loads neither torch, jax nor matplotlib, and of crossbackend itself nothing before it is used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from crossbackend import notebook

if TYPE_CHECKING:
    from crossbackend import ops
    from crossbackend.api import export, gradient, import_results, recipe, run
    from crossbackend.errors import UserError
    from crossbackend.load import gallery, load
    from crossbackend.problem import Problem
    from crossbackend.record import Gradient, Record, Status
    from crossbackend.stored import advise, compare, diff, explain, report

__all__ = [
    "Gradient",
    "Problem",
    "Record",
    "Status",
    "UserError",
    "advise",
    "compare",
    "diff",
    "explain",
    "export",
    "gallery",
    "gradient",
    "import_results",
    "load",
    "ops",
    "recipe",
    "report",
    "run",
]

_HOMES = {
    "api": ("export", "gradient", "import_results", "recipe", "run"),
    "errors": ("UserError",),
    "load": ("gallery", "load"),
    "problem": ("Problem",),
    "record": ("Gradient", "Record", "Status"),
    "stored": ("advise", "compare", "diff", "explain", "report"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
"""The module of every public name but `ops`, which is a module."""


class _Package(ModuleType):
    """The package: a public name is loaded when it is first used, and no module of the same name takes its place.

    `compare`, `load` and others are functions of modules that are called so too, and Python makes a module an attribute
    of its package as soon as anything imports it.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "ops":
            return import_module(f"{self.__name__}.ops")
        if name not in _HOME:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{self.__name__}.{_HOME[name]}"), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOME or value is not sys.modules.get(f"{self.__name__}.{name}"):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})

    def __reduce__(self) -> tuple[Any, tuple[str]]:  # a problem's function that holds the package travels by its name
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package
notebook.later(lambda: import_module("crossbackend.report"))
