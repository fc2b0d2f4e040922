"""Table 3: Symplectic ODE-Net on windows of the double pendulum, and control by what it learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from crossbackend import initialise
from crossbackend.backends.training import Optimiser
from crossbackend.train import swing_up
from crossbackend.train.experiment import Arrays, Experiment, Preset, Samples


class SymODEN(Experiment):
    """The Hamiltonian of the double pendulum, learned from trajectories under constant torques (section 3.3)."""

    name = "symoden"
    problem = "symoden"
    metric = "test_loss"
    norms = ("default", "mixed-seminorm", "seminorm", "as-released")
    presets: ClassVar = {
        "reduced": Preset(
            epochs=16, batch_size=256, rtol=1e-4, atol=1e-4, optimiser=Optimiser("adamw", 5e-3, 0.01),
            model={"mass": (48, 48, 48), "potential": (48, 48), "push": (32, 32)},
            data={"name": "double pendulum", "trajectories": 32},
        ),
        "paper": Preset(
            epochs=50, batch_size=256, rtol=1e-4, atol=1e-4, optimiser=Optimiser("adamw", 1e-3, 0.01),
            model={"mass": (400, 400, 400), "potential": (300, 300), "push": (300, 300)},
            data={"name": "double pendulum", "trajectories": 128},
        ),
    }  # fmt: skip

    def load(self, preset: Preset, folder: Path | None, cache: Path | None) -> Samples:
        """Return windows of 8 points, shape (windows, 8, 8), simulated once and cached."""
        from crossbackend import datasets

        found = datasets.acrobot(preset.data["trajectories"], cache=cache)
        return Samples({"seen": found.train}, {"seen": found.test}, {"ts": found.times})

    def parameters(self, preset: Preset, samples: Samples, rng: np.random.Generator) -> Any:
        """Return the networks of M^-1, V and g as torch draws them, in this order."""
        model = preset.model
        found = {
            "M": initialise.mlp(rng, (4, *model["mass"], 3)),
            "V": initialise.mlp(rng, (4, *model["potential"], 1)),
            "g": initialise.mlp(rng, (4, *model["push"], 4)),
        }
        del found["V"][-1]["b"]  # a constant in the potential moves nothing
        return found

    def batch(self, preset: Preset, part: Arrays, index: np.ndarray, rng: np.random.Generator) -> Any:
        """Return the windows, shape (8, batch, 8); nothing is random."""
        return {"seen": np.moveaxis(part["seen"][index], 0, 1)}

    def scores(self, ys: Any, params: Any, data: Any) -> Arrays:
        """Return the mean square error of every window."""
        return {"loss": np.mean((ys - data["seen"]) ** 2, axis=(0, 2))}

    def after(self, params: Any) -> Arrays:
        """Return the swing-up of the simulated pendulum by the trained model."""
        return swing_up.simulate(params)
