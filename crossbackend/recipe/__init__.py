"""The paper's adjoint seminorm, printed for one problem as code for torchdiffeq, diffrax or SciPy.

Kidger, Chen, Lyons, *"Hey, that's not an ODE"*, ICML 2021, section 2.3, give it for torchdiffeq in 12 lines, which
torchdiffeq 0.2.5 no longer runs. What is printed here is tested against crossbackend's own backends with the norm
`mixed-seminorm`: the same gradient in the same number of evaluations.
"""

from __future__ import annotations

from crossbackend.errors import Mistake, UserError
from crossbackend.problem import Problem
from crossbackend.recipe import diffrax, scipy, torchdiffeq
from crossbackend.recipe.facts import Facts, comment, find, listed, plural, row

_PARTS = {
    "torchdiffeq": ("torchdiffeq 0.2.5", ("torch",), torchdiffeq.text),
    "diffrax": ("diffrax 0.7.2", ("jax",), diffrax.text),
    "scipy": ("SciPy 1.17.1", ("jax", "torch"), scipy.text),
}
"""By library: the version that the text is written for, the array libraries of which one must run the problem."""


def recipe(problem: Problem, library: str | None = None) -> str:
    """Return the adjoint seminorm for a problem as Python to paste, with the problem's own shapes.

    Parameters
    ----------
    problem : Problem
    library : {"torchdiffeq", "diffrax", "scipy"}, optional
        All three, under headings, where it is not given.

    Returns
    -------
    str
        Python that defines a norm and a solve by library. A library that the problem has no functions for gets a
        comment in place of code.

    Raises
    ------
    UserError
        An unknown library; a mistake in the problem's functions; neither JAX nor torch to run them.
    """
    if library is not None and library not in _PARTS:
        fix = "Write one of them, or none for all three."
        raise UserError(Mistake("recipe", repr(library), f"one of {', '.join(_PARTS)}", fix))
    facts = find(problem)
    parts = [_part(facts, name) for name in _PARTS if library in (None, name)]
    return "\n\n".join([_head(facts), *parts])


def _part(facts: Facts, name: str) -> str:
    version, needs, text = _PARTS[name]
    heading = f"# ==== {version} ====\n#\n"
    lacking = [facts.problem.lacks(library) for library in needs]
    if all(lacking):
        words = f"Nothing to print: {', '.join(lacking[0])} of {facts.problem.name!r} not given for {needs[0]}."
        return f"{heading}{comment(words)}\n"
    return f"{heading}{text(facts)}"


def _head(facts: Facts) -> str:
    problem, ts = facts.problem, facts.problem.ts
    state = {name or "y": shape for name, shape in zip(facts.layout.names, facts.layout.shapes, strict=True)}
    norm = "mixed-seminorm" + ("-integrals" if problem.integrals else "")
    rows = {
        "state": f"{listed(state)}: {plural(facts.layout.size, 'number')}",
        "in f": f"{listed(facts.used)}: {plural(facts.params_size, 'number')}" if facts.used else "no parameters",
        "not in f": f"{listed(facts.unused)}: in no adjoint state, so in no norm" if facts.unused else "",
        "integrals": f"{', '.join(problem.integrals)}: left out of y and a_y, on both passes"
        if problem.integrals
        else "",
        "f": facts.time,
        "breakpoints": ", ".join(f"{b:g}" for b in facts.breakpoints),
        "ts": f"{len(ts)} output times in [{ts[0]:g}, {ts[-1]:g}]",
    }
    lines = [
        comment(
            f"The adjoint seminorm for {problem.name!r}: the error of a backward step is max(rms y, rms a_y).",
            "a_params and a_t, the adjoints of the parameters and of time, are left out: nothing depends on them.",
            '(Kidger, Chen, Lyons, "Hey, that\'s not an ODE", ICML 2021, sections 2.2 and 2.3)',
        ),
        "#",
        *(row(label, words) for label, words in rows.items() if words),
        "#",
        comment(
            "Yours are field, y0, ts, params, loss, rtol and atol, as each part says.",
            "What the norm saves on this problem, and the gradient error that it costs:",
            f"crossbackend run PROBLEM --norm native:default --norm native:{norm}",
        ),
    ]
    return "\n".join(lines) + "\n"
