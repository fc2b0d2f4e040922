"""The paper's three experiments by name."""

from __future__ import annotations

from difflib import get_close_matches

from crossbackend.errors import Mistake, UserError
from crossbackend.train.experiment import Experiment, Preset
from crossbackend.train.experiments.cnf import Flow
from crossbackend.train.experiments.neural_cde import NeuralCDE
from crossbackend.train.experiments.symoden import SymODEN

EXPERIMENTS: dict[str, Experiment] = {made.name: made for made in (NeuralCDE(), Flow(), SymODEN())}
"""In the order of the paper's tables."""


def named(name: str) -> Experiment:
    """Return an experiment.

    Raises
    ------
    UserError
        No such experiment.
    """
    if name not in EXPERIMENTS:
        raise UserError(_unknown("experiment", name, list(EXPERIMENTS)))
    return EXPERIMENTS[name]


def preset(experiment: Experiment, name: str) -> Preset:
    """Return an experiment's preset.

    Raises
    ------
    UserError
        No such preset.
    """
    if name not in experiment.presets:
        raise UserError(_unknown("--preset", name, list(experiment.presets)))
    return experiment.presets[name]


def _unknown(where: str, got: str, known: list[str]) -> Mistake:
    close = get_close_matches(got, known, n=1)
    return Mistake(where, repr(got), f"one of {', '.join(known)}", f"Did you mean {close[0]!r}?" if close else "")
