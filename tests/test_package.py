"""The package's names: loaded when they are used, and functions whatever was imported before."""

import itertools
import pickle

import cloudpickle
import pytest

import crossbackend
from crossbackend import advice, cli_stored, cli_train
from crossbackend.train.experiments import EXPERIMENTS
from tests.test_imports import python

BOTH = ("compare", "diff", "explain", "export", "load", "recipe", "report")
"""Names of a function and of a module."""
WAYS = (
    "import crossbackend.{0}",
    "from crossbackend import {0}; assert callable({0})",
    "from crossbackend.{0} import __doc__ as words; assert words",
    "import crossbackend.cli; crossbackend.cli.parser()",
)


def test_a_public_name_is_what_it_says():
    assert set(crossbackend.__all__) <= set(dir(crossbackend))
    for name in crossbackend.__all__:
        value = getattr(crossbackend, name)
        assert value is crossbackend.ops if name == "ops" else callable(value), name


def test_no_other_name():
    with pytest.raises(AttributeError, match="module 'crossbackend' has no attribute 'compere'"):
        crossbackend.compere  # noqa: B018


def test_nothing_is_loaded_before_it_is_used():
    code = """
import sys, crossbackend
print(sorted(name for name in sys.modules if name.startswith("crossbackend.")), "numpy" in sys.modules)
crossbackend.Problem
print("crossbackend.problem" in sys.modules, "crossbackend.compare" in sys.modules)
"""
    assert python(code).splitlines() == ["['crossbackend.notebook'] False", "True False"]


@pytest.mark.slow
@pytest.mark.parametrize("order", list(itertools.permutations(range(len(WAYS)), 2)))
def test_functions_stay_functions_in_any_order(order):
    lines = ["import crossbackend, types"]
    for name in BOTH:
        lines += [WAYS[way].format(name) for way in order]
        lines += [
            f"import crossbackend.{name}",
            f"assert isinstance(crossbackend.{name}, types.FunctionType), crossbackend.{name}",
            f"from crossbackend import {name} as found; assert found is crossbackend.{name}",
        ]
    assert python("\n".join(lines)) == ""


def test_a_star_brings_all_names():
    assert python("from crossbackend import *; print(compare.__module__, report.__module__, ops.__name__)").split() == [
        "crossbackend.stored",
        "crossbackend.stored",
        "crossbackend.ops",
    ]


def test_a_name_can_be_replaced(monkeypatch):
    monkeypatch.setattr(crossbackend, "compare", 3)
    assert crossbackend.compare == 3


def test_a_function_that_uses_the_package_travels():
    def used():
        return crossbackend.ops, crossbackend.compare

    assert pickle.loads(pickle.dumps(crossbackend)) is crossbackend
    assert pickle.loads(cloudpickle.dumps(used))() == (crossbackend.ops, crossbackend.compare)


def test_a_result_is_shown_in_a_notebook_that_has_used_no_report():
    code = """
import sys, crossbackend
record = crossbackend.Record("x", {"problem": "p", "backend": "b", "norm": "n", "stepping": "native", "rtol": 1e-6},
                             crossbackend.Status.OK)
print("crossbackend.report" in sys.modules, record._repr_html_().startswith("<div"))
"""
    assert python(code).split() == ["False", "True"]


def test_what_the_command_line_says_by_heart():
    assert cli_stored.BY == advice.BY
    assert tuple(EXPERIMENTS) == cli_train.EXPERIMENTS
