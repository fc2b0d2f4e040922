"""A jaxpr as one flat list of equations: calls inlined, values numbered, nothing of jax left in it.

The loops and branches keep their bodies, flat themselves. What is not in the table of known primitives is collected.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossbackend.errors import Mistake
from crossbackend.lowering.unsupported import UnsupportedPrimitive

# Primitives that call one jaxpr, and the parameter that holds it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "custom_lin": "call_jaxpr",
}
BODIES = {"scan": ("jaxpr",), "while": ("cond_jaxpr", "body_jaxpr"), "cond": ("branches",)}
PASSED = {"device_put", "name", "optimization_barrier"}  # each output is the input of the same place
DROPPED = {"debug_callback", "debug_print"}


@dataclass(eq=False)
class Var:
    """One traced array.

    Attributes
    ----------
    shape, dtype
        As traced.
    constant : array or None
        The value where it is known.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    constant: np.ndarray | None = None


@dataclass(eq=False)
class Equation:
    """One primitive applied to variables.

    Attributes
    ----------
    name : str
        Of the primitive.
    params : dict
        As in the jaxpr, without the bodies.
    inputs, outputs : list of Var
    bodies : list of Flat
        Of a loop or the branches.
    """

    name: str
    params: dict[str, Any]
    inputs: list[Var]
    outputs: list[Var]
    bodies: list[Flat] = field(default_factory=list)


@dataclass(eq=False)
class Flat:
    """A flat jaxpr: `inputs`, `equations` in order, `outputs`."""

    inputs: list[Var]
    equations: list[Equation] = field(default_factory=list)
    outputs: list[Var] = field(default_factory=list)


class Flattener:
    """Turns jaxprs into `Flat`, collecting what cannot be printed.

    Parameters
    ----------
    known : collection of str
        Names of the primitives that have a rule.
    """

    def __init__(self, known: Collection[str]) -> None:
        self.known = known
        self.missing: list[Mistake] = []
        self.callers: list[Any] = []

    def run(self, closed: Any) -> Flat:
        """Return a closed jaxpr flat.

        Raises
        ------
        UnsupportedPrimitive
            Names every primitive that has no rule.
        """
        flat = self.body(closed)
        if self.missing:
            raise UnsupportedPrimitive(*dict.fromkeys(self.missing))
        return flat

    def body(self, closed: Any) -> Flat:
        """Return a closed or open jaxpr flat; unknown primitives are collected."""
        jaxpr, consts = (closed.jaxpr, closed.consts) if hasattr(closed, "consts") else (closed, ())
        flat = Flat([variable(v) for v in jaxpr.invars])
        flat.outputs = self.inline(jaxpr, consts, flat.inputs, flat)
        return flat

    def inline(self, jaxpr: Any, consts: Any, inputs: list[Var], flat: Flat) -> list[Var]:
        """Append the equations of a jaxpr to `flat` and return its outputs."""
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            env[var] = constant(const)
        for eqn in jaxpr.eqns:
            read = [constant(a.val, a.aval) if hasattr(a, "val") else env[a] for a in eqn.invars]
            env.update(zip(eqn.outvars, self.equation(eqn, read, flat), strict=True))
        return [constant(a.val, a.aval) if hasattr(a, "val") else env[a] for a in jaxpr.outvars]

    def equation(self, eqn: Any, inputs: list[Var], flat: Flat) -> list[Var]:
        """Append one equation (or what it calls) to `flat`, remembering the call for messages; return its outputs."""
        self.callers.append(eqn)
        try:
            return self.printed(eqn, inputs, flat)
        finally:
            self.callers.pop()

    def printed(self, eqn: Any, inputs: list[Var], flat: Flat) -> list[Var]:
        """Append one equation (or what it calls) to `flat` and return its outputs."""
        name = eqn.primitive.name
        if name in CALLS and CALLS[name] in eqn.params:
            inner = eqn.params[CALLS[name]]
            jaxpr, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
            return self.inline(jaxpr, consts, inputs, flat)
        outputs = [variable(v) for v in eqn.outvars]
        if name in DROPPED:
            return outputs
        if name in PASSED:
            return inputs
        if name == "cond" and inputs[0].constant is not None:
            branches = eqn.params["branches"]
            chosen = branches[min(max(int(inputs[0].constant), 0), len(branches) - 1)]
            return self.inline(chosen.jaxpr, chosen.consts, inputs[1:], flat)
        if name == "platform_index":  # chooses a branch of lax.platform_dependent
            return [constant(platform(eqn.params["platforms"]), eqn.outvars[0].aval)]
        reason = self.refusal(eqn)
        if reason:
            self.missing.append(mistake(self.callers, reason))
            return outputs
        params = {key: value for key, value in eqn.params.items() if key not in BODIES.get(name, ())}
        inner = itertools.chain.from_iterable(
            eqn.params[key] if isinstance(eqn.params[key], tuple) else (eqn.params[key],)
            for key in BODIES.get(name, ())
        )
        flat.equations.append(Equation(name, params, inputs, outputs, [self.body(j) for j in inner]))
        return outputs

    def refusal(self, eqn: Any) -> str:
        """Return why an equation cannot be printed, or nothing."""
        name = eqn.primitive.name
        if name not in self.known:
            return f"the primitive `{name}`"
        kinds = {np.dtype(v.aval.dtype).kind for v in eqn.outvars if hasattr(v.aval, "dtype") and is_numeric(v.aval)}
        if any(not is_numeric(v.aval) for v in (*eqn.invars, *eqn.outvars)) or "c" in kinds:
            return f"the primitive `{name}` on {eqn.outvars[0].aval}"
        if name == "reduce_precision" and (eqn.params["exponent_bits"], eqn.params["mantissa_bits"]) != (11, 52):
            return "the primitive `reduce_precision` to another format than float64"
        return ""


def platform(platforms: Any) -> int:
    """Return the branch of a platform-dependent function that is meant for CPUs (the default comes as None)."""
    for i, names in enumerate(platforms):
        if names is None or "cpu" in names:
            return i
    return len(platforms) - 1


def is_numeric(aval: Any) -> bool:
    """Tell whether an abstract value is an ordinary array of real numbers."""
    try:
        return np.dtype(aval.dtype).kind in "fiub"
    except (TypeError, AttributeError):
        return False


def variable(var: Any) -> Var:
    """Return the `Var` of a jaxpr's variable."""
    if not is_numeric(var.aval):
        return Var((), np.dtype(object))
    return Var(tuple(var.aval.shape), np.dtype(var.aval.dtype))


def constant(value: Any, aval: Any = None) -> Var:
    """Return a known array as a `Var`."""
    if aval is not None and not is_numeric(aval):
        return Var((), np.dtype(object))
    try:
        array = np.asarray(value) if aval is None else np.asarray(value, aval.dtype)
    except TypeError:  # a random key
        return Var((), np.dtype(object))
    return Var(array.shape, array.dtype, array)


def mistake(callers: list[Any], reason: str) -> Mistake:
    """Return the mistake of the last of `callers`, at the innermost one whose line JAX kept.

    JAX traces its own jitted functions (`jnp.sort`) once and keeps no lines of theirs: the call's line counts.
    """
    from jax.extend import source_info_util

    lines = [source_info_util.summarize(eqn.source_info) for eqn in callers]
    return Mistake(
        where=next((line for line in reversed(lines) if line), "a traced function"),
        got=reason,
        expected="operations that can be printed as NumPy",
        fix='Write it with other operations, or run SciPy with engine="jax".',
    )
