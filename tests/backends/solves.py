"""Solves shared between tests: a plan is compiled and recorded once in a session."""

from functools import cache

from crossbackend import registry
from crossbackend.plan import Plan
from tests import cases


@cache
def problem(name, *args):
    """Return a case by the name of its function."""
    return getattr(cases, name)(*args)


@cache
def compiled(name, backend, norm, stepping, dtype="float64", first_step=None, gradient="backsolve"):
    """Return a case's Compiled; a name may carry one argument after a colon."""
    case, _, argument = name.partition(":")
    made = problem(case, int(argument)) if argument else problem(case)
    plan = Plan(made.name, backend, norm, stepping, 1.0, 1.0, gradient, dtype, first_step=first_step)
    assert registry.get(backend).declines(made, plan) is None
    return registry.get(backend).compile(made, plan)


@cache
def record(name, backend, norm, stepping, rtol, dtype="float64", first_step=None, gradient="backsolve"):
    """Return a case's Outcome."""
    return compiled(name, backend, norm, stepping, dtype, first_step, gradient).record(rtol, 1e-2 * rtol)
