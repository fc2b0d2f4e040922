"""The seminorm for torchdiffeq: `norm` in `adjoint_options`, beside every forward option."""

from __future__ import annotations

from string import Template

from crossbackend.problem import is_function
from crossbackend.recipe.facts import Facts, comment

_TEXT = Template('''\
$notes

import torch
from torchdiffeq import odeint_adjoint


def torch_rms(*parts):
    return torch.sqrt(sum((part * part).sum() for part in parts) / sum(part.numel() for part in parts))

$norms

def torch_solve(field, y0, ts, params, rtol, atol):
    """Return y at ts: loss(ys).backward() then runs the backward solve."""
    # first_step, step_t, dtype and the like go here, too.
$options
    # Options are dropped from the backward pass once adjoint_options are given: they are all repeated.
    adjoint_options = {**options, "norm": torch_adjoint_norm}
$call
''')

_ARRAY_NORMS = """
def torch_adjoint_norm(state):
    a_t, y, a_y, *a_params = state  # a_t and a_params are left out
    return torch.maximum(torch_rms(y), torch_rms(a_y))
"""

_ARRAY_CALL = """\
    return odeint_adjoint(
        field, y0, ts, rtol=rtol, atol=atol, method="dopri5",
        options=options, adjoint_options=adjoint_options, adjoint_params=params,
    )"""

_TUPLE_NORMS = Template("""
def torch_norm(y):  # the forward pass: torchdiffeq's own is the maximum over entries
    return torch_rms($y)


def torch_adjoint_norm(state):
    y, a_y = state[1:$first_end], state[$first_end:$second_end]  # state[0] is a_t, state[$second_end:] are a_params
    return torch.maximum(torch_rms($y), torch_rms($a_y))
""")

_TUPLE_CALL = Template("""\

    def tuple_field(t, parts):  # torchdiffeq takes a tuple for a dict
        dy = field(t, $literal)
        return ($packed)

    parts = odeint_adjoint(
        tuple_field, ($packed_y0), ts, rtol=rtol, atol=atol, method="dopri5",
        options=options, adjoint_options=adjoint_options, adjoint_params=params,
    )
    return $literal""")


def text(facts: Facts) -> str:
    """Return the part for torchdiffeq."""
    if facts.is_array:
        norms, call = _ARRAY_NORMS, _ARRAY_CALL
    else:
        n, names = len(facts.layout.names), facts.layout.names
        comma = "," if n == 1 else ""
        norms = _TUPLE_NORMS.substitute(
            y=", ".join(f"y[{i}]" for i in facts.seen), a_y=", ".join(f"a_y[{i}]" for i in facts.seen),
            first_end=1 + n, second_end=1 + 2 * n,
        )  # fmt: skip
        call = _TUPLE_CALL.substitute(
            literal=facts.literal([f"parts[{i}]" for i in range(n)]),
            packed=", ".join(facts.state("dy", name) for name in names) + comma,
            packed_y0=", ".join(facts.state("y0", name) for name in names) + comma,
        )
    return _TEXT.substitute(notes=_notes(facts), norms=norms, options=_options(facts), call=call)


def _options(facts: Facts) -> str:
    set_here = [] if facts.is_array else ['"norm": torch_norm']
    if facts.breakpoints:
        set_here.append(f'"jump_t": torch.tensor({list(facts.breakpoints)}, dtype=ts.dtype, device=ts.device)')
    return f"    options = {{{', '.join(set_here)}}}"


def _notes(facts: Facts) -> str:
    if facts.follows_time:
        here = "Since f depends on t, it still measures a_t here, and may save nothing."
    else:
        here = 'Since a_t stays 0 here, {**options, "norm": "seminorm"} measures the same; it would not if a_t moved.'
    kind = "a tensor" if facts.is_array else "a dict of tensors"
    graph = ", with the graph of what it is computed from" if is_function(facts.problem.initial) else ""
    notes = [
        f'The built-in "norm": "seminorm" is max(|a_t|, norm of y, norm of a_y), with the forward norm. {here}',
        f"field(t, y) -> dy; y0: {kind}{graph}; ts: a tensor; params: a tuple of the tensors in f, each requiring its "
        "gradient; loss(ys) -> a scalar.",
    ]
    if facts.breakpoints:
        notes.append(
            "Once a step happens to end exactly on a time of jump_t, torchdiffeq 0.2.5 misses the later ones, as on a "
            "regular grid. Then leave jump_t out and call torch_solve from breakpoint to breakpoint, t kept inside."
        )
    return comment(*notes)
