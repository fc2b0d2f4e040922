"""Our gradient beside the same one taken by hand, and our SciPy beside our torchdiffeq: ratios of times in turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.figure import Figure, Measure, Options, figure
from benchmarks.turns import ratios

RTOL = 1e-6

SHORT: tuple[str, ...] = ("linear", "spiral", "forced_mlp", "neural_cde")
"""Problems whose solves are so short that a fixed cost beside them shows."""

NETWORKS: tuple[str, ...] = ("forced_mlp", "spiral", "cnf_density", "neural_cde_hermite", "symoden", "cnf")
"""Problems whose field is a network, so that the by-hand peer's jitted field is at its best."""


def pair(
    name: str, sides: tuple[str, str], problems: Mapping[str, float | None], *, cuda: bool = False
) -> tuple[str, Measure]:
    """Return a figure that is the first side's time over the second's.

    Parameters
    ----------
    name : str
    sides : pair of str
        As `child` has them.
    problems : mapping of str to float or None
        The goal on every problem.
    cuda : bool
        Whether both sides run on a GPU too.
    """

    def measure(options: Options) -> Iterator[Figure]:
        if options.device != "cpu" and not cuda:
            return
        for problem in options.chosen(tuple(problems)):
            found, _ = ratios(sides, problem, RTOL, options.repeats, options.device)
            yield figure(name, problem, problems[problem], found)

    return name, measure


def _each(problems: Sequence[str], goal: float | None) -> dict[str, float | None]:
    return dict.fromkeys(problems, goal)


def overheads() -> dict[str, Measure]:
    """Return these figures by name."""
    same, told = _each(SHORT, 1.03), _each(SHORT, None)
    by_hand = _each(("linear", "hudson_bay", "van_der_pol"), 0.5) | _each(NETWORKS, 1.1)
    over_torch: dict[str, float | None] = {"hudson_bay": 0.05, "van_der_pol": 0.05, "linear": 0.1}
    return dict(
        (
            pair("overhead.torchdiffeq", ("ours:torchdiffeq", "peer:torchdiffeq_direct"), same, cuda=True),
            pair("overhead.torchdiffeq.module", ("ours:torchdiffeq", "peer:torchdiffeq_module"), told),
            pair("overhead.diffrax", ("ours:diffrax", "peer:diffrax_direct"), same, cuda=True),
            pair("overhead.diffrax.equinox", ("ours:diffrax", "peer:diffrax_equinox"), told),
            pair("scipy_vs_handwritten", ("ours:scipy", "peer:scipy_by_hand"), by_hand),
            pair("scipy_vs_torchdiffeq", ("ours:scipy", "ours:torchdiffeq"), over_torch),
        )
    )
