"""The files of an exported problem that are text: `problem.jl`, `run.jl` and `README.md`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from crossbackend import tree
from crossbackend.backends import contract
from crossbackend.digest import problem_digest
from crossbackend.julia_functions import Functions, PlanNorm

FORMAT = 1
"""Version of the exported folder and of the results that its program writes."""

RUN = """\
# Loss and gradient of {name} by Julia alone: `julia run.jl`; `julia run.jl --help` shows the options.

include(joinpath(@__DIR__, "CrossBackend", "CrossBackend.jl"))
CrossBackend.main(@__DIR__, ["--out", joinpath(@__DIR__, "results"), ARGS...])
"""

README = """\
# {name}, as a Julia program

{description}Written by `crossbackend export` (crossbackend {version}). It needs Julia 1.5 or newer and no package:

    julia run.jl

solves the problem and its adjoint at every tolerance, under the norms `default` and `seminorm`, with native and with
matched stepping, and writes one record each into `results/`; `julia run.jl --help` shows what else it can do. Then

    crossbackend import results RUN
    crossbackend report RUN

puts the records into the folder of a run, beside those of other backends.

| file | holds |
|---|---|
| `field.jl` | the vector field, its vector-Jacobian products, the loss and its gradient, the initial state |
| `problem.jl` | times, tolerances, norms, names and shapes |
| `arrays/` | parameters, data and constants, as `.npy` |
| `card.json` | what a report says about the problem |
| `CrossBackend/` | the solver, the same for every problem |

Shapes are NumPy's. In Julia an array of shape (a, b) has the size (b, a): the same numbers in the same order in memory.

{shapes}
"""


def run_text(name: str) -> str:
    """Return `run.jl`."""
    return RUN.format(name=name)


def readme_text(functions: Functions) -> str:
    """Return `README.md`."""
    problem = functions.problem
    description = f"{problem.description}\n\n" if problem.description else ""
    if problem.source:
        description += f"Source: {problem.source}\n\n"
    groups = {
        "state": _shapes(zip(functions.flat.layout.names, functions.flat.layout.shapes, strict=True)),
        "parameter": _shapes(zip(functions.flat.names, functions.flat.params_layout.shapes, strict=True)),
        "data": _shapes((name, leaf.shape) for name, leaf in tree.leaves(functions.constants["data"])),
    }
    rows = ["| array | shape |", "|---|---|"]
    rows += [f"| {group}{f' `{name}`' if name else ''} | {shape} |" for group, all_ in groups.items()
             for name, shape in all_]  # fmt: skip
    return README.format(
        name=problem.name, description=description, version=version("crossbackend"), shapes="\n".join(rows)
    )


def problem_text(functions: Functions, constants: Sequence[str]) -> str:
    """Return `problem.jl`: one NamedTuple.

    Parameters
    ----------
    functions : Functions
    constants : sequence of str
        Names of the big constants of `field.jl`.
    """
    problem, flat = functions.problem, functions.flat
    data = [(name, leaf.shape) for name, leaf in tree.leaves(functions.constants["data"])]
    fields = {
        "format": str(FORMAT),
        "crossbackend": text(version("crossbackend")),
        "name": text(problem.name),
        "digest": text(problem_digest(problem)),
        "ts": _floats(problem.ts),
        "breakpoints": _floats(problem.inner_breakpoints()),
        "tolerances": _floats(problem.tolerances),
        "state": _named(zip(flat.layout.names, flat.layout.shapes, strict=True)),
        "params": _named(zip(flat.names, flat.params_layout.shapes, strict=True)),
        "used": _texts(flat.used),
        "data": _named(data),
        "constants": _texts(constants),
        "integrals": _texts(problem.integrals),
        "max_steps": str(contract.MAX_STEPS),
        "norms": _list((_norm(item) for item in functions.norms), "NamedTuple", apart=True),
    }
    head = f"# What {problem.name} is beside its functions, which are in field.jl. Shapes are NumPy's.\n"
    return head + "(\n" + "".join(f"    {name} = {value},\n" for name, value in fields.items()) + ")\n"


def _norm(item: PlanNorm) -> str:
    norm = item.norm
    weights = _list((f"({text(name)}, {float(w)!r})" for name, w in norm.weights.items()), "Tuple{String,Float64}")
    fields = {
        "name": text(item.name), "stepping": text(item.stepping), "across": text(norm.across_blocks),
        "weights": weights, "without_integrals": _bool(norm.without_integrals), "per_entry": _bool(norm.per_entry),
        "callable": str(item.callable), "sees_time": _bool(norm.sees_time), "text": text(norm.describe()),
        "forward_text": text(norm.forward().describe()),
    }  # fmt: skip
    return "(" + ", ".join(f"{name} = {value}" for name, value in fields.items()) + ")"


def text(value: str) -> str:
    """Return a string as Julia writes it: `$` and what cannot be seen are escaped."""
    out = []
    for character in value:
        code = ord(character)
        if character in '"\\$':
            out.append("\\" + character)
        elif code < 32 or code == 127 or 0xD800 <= code < 0xE000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(character)
    return '"' + "".join(out) + '"'


def _bool(value: Any) -> str:
    return "true" if value else "false"


def _list(items: Iterable[str], kind: str, *, apart: bool = False) -> str:
    """Return a vector; an empty one says what it would hold."""
    found = list(items)
    if not found:
        return f"{kind}[]"
    if apart:
        return "[\n" + "".join(f"        {item},\n" for item in found) + "    ]"
    return "[" + ", ".join(found) + "]"


def _floats(values: Sequence[float]) -> str:
    return _list((repr(float(value)) for value in values), "Float64")


def _texts(values: Iterable[str]) -> str:
    return _list(map(text, values), "String")


def _named(shapes: Iterable[tuple[str, Sequence[int]]]) -> str:
    rows = (f"({text(name)}, {_list(map(str, shape), 'Int')})" for name, shape in shapes)
    return _list(rows, "Tuple{String,Vector{Int}}")


def _shapes(shapes: Iterable[tuple[str, Sequence[int]]]) -> list[tuple[str, str]]:
    """Return names and shapes as the README shows them."""
    return [(name, "scalar" if not shape else " x ".join(map(str, shape))) for name, shape in shapes]
