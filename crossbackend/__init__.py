"""Are the gradients the same? One ODE learning problem, run by torchdiffeq, diffrax and SciPy, and compared.

Importing this loads neither torch, jax nor matplotlib.
"""

import crossbackend.compare
import crossbackend.diff
import crossbackend.explain
import crossbackend.export
import crossbackend.recipe
import crossbackend.report  # noqa: F401 - before the functions below take these modules' names
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
