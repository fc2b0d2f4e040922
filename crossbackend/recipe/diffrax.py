"""The seminorm for diffrax: a controller of its own for `BacksolveAdjoint`."""

from __future__ import annotations

import math
from string import Template

from crossbackend.recipe.facts import Facts, comment

_TEXT = Template('''\
$notes

import diffrax
import jax.numpy as jnp


def jax_rms(*parts):
    return jnp.sqrt(sum(jnp.sum(part * part) for part in parts) / sum(part.size for part in parts))

$forward_norm
def jax_adjoint_norm(state):
    y, a_y, a_args, a_terms = state  # a_args and a_terms are left out
    return jnp.maximum(jax_rms($y), jax_rms($a_y))


def jax_solve(field, y0, ts, params, rtol, atol):
    """Return y at ts: differentiating a loss of it runs the backward solve."""
    forward = diffrax.PIDController(rtol=rtol, atol=atol$own)
    # The backward controller inherits nothing: rtol and atol are said again.
    backward = diffrax.PIDController(rtol=rtol, atol=atol, norm=jax_adjoint_norm)
$clip    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field), diffrax.Dopri5(), t0=ts[0], t1=ts[-1], dt0=None, y0=y0, args=params,
        saveat=diffrax.SaveAt(t0=True, ts=ts[1:]), stepsize_controller=forward,
        adjoint=diffrax.BacksolveAdjoint(stepsize_controller=backward),
    )
    return solution.ys
''')

_FORWARD_NORM = Template("""
def jax_norm(y):  # the forward pass
    return jax_rms($y)

""")

_CLIP = Template("""\
    jumps = jnp.asarray($breakpoints, dtype=ts.dtype)
    forward = diffrax.ClipStepSizeController(forward, jump_ts=jumps)
    backward = diffrax.ClipStepSizeController(backward, jump_ts=jumps)
""")


def text(facts: Facts) -> str:
    """Return the part for diffrax."""
    names = [facts.layout.names[i] for i in facts.seen]
    y = ", ".join(facts.state("y", name) for name in names)
    a_y = ", ".join(facts.state("a_y", name) for name in names)
    own = bool(facts.problem.integrals)  # without integrals rms y is diffrax's forward norm
    return _TEXT.substitute(
        notes=_notes(facts), y=y, a_y=a_y,
        forward_norm=_FORWARD_NORM.substitute(y=y) if own else "",
        own=", norm=jax_norm" if own else "",
        clip=_CLIP.substitute(breakpoints=list(facts.breakpoints)) if facts.breakpoints else "",
    )  # fmt: skip


def _notes(facts: Facts) -> str:
    state, total = 2 * facts.layout.size, 2 * facts.layout.size + facts.params_size
    kind = "an array" if facts.is_array else "a dict of arrays"
    notes = [
        f"The default is one RMS over (y, a_y, a_args, a_terms). Here y and a_y are {state} of its {total} numbers, so "
        f"it is {math.sqrt(state / total):.2f} times their own RMS where a_args has no error. The built-in "
        "adjoint_rms_seminorm is one RMS over (y, a_y), not the larger of two. diffrax integrates no a_t.",
        f"field(t, y, params) -> dy; y0: {kind}; ts: an array; params: the arrays in f, in any structure; loss(ys) -> "
        "a scalar. Data are captured by field, not passed in params, where each float is integrated backwards too.",
        "dt0=None selects no first step in diffrax 0.7.2: it is 0.01, backwards at every output time again. Write a "
        "step of your problem's scale there.",
    ]
    if facts.breakpoints:
        notes.append(
            "But with jump_ts leave it None: from the second output time of the backward pass on, a given dt0 is not "
            "clipped and may step over a breakpoint."
        )
    return comment(*notes)
