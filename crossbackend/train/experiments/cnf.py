"""Table 2: a continuous normalising flow on images: 8x8 digits (reduced), MNIST and CIFAR-10 (paper)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from crossbackend import initialise
from crossbackend.backends.training import Optimiser
from crossbackend.errors import Mistake, UserError
from crossbackend.train.experiment import Arrays, Experiment, Preset, Samples

MARGIN = 0.05
"""Keeps a pixel's logit finite: Dinh, Sohl-Dickstein, Bengio, *Real NVP*, ICLR 2017."""


class Flow(Experiment):
    """FFJORD's flow with Hutchinson's estimator, one vector a solve (section 3.2)."""

    name = "cnf"
    problem = "cnf"
    metric = "bits_per_dim"
    norms = ("default", "mixed-seminorm", "seminorm")
    presets: ClassVar = {
        "reduced": Preset(
            epochs=3, batch_size=96, rtol=1e-5, atol=1e-5, optimiser=Optimiser("adam", 5e-3),
            model={"width": 8, "scales": (0, 1)}, data={"name": "digits", "levels": 17},
        ),
        "paper": Preset(
            epochs=100, batch_size=256, rtol=1e-5, atol=1e-5, optimiser=Optimiser("adam", 1e-3),
            model={"width": 64, "scales": (0, 0, 1, 2)}, data={"name": "MNIST", "levels": 256},
        ),
        "paper-cifar10": Preset(
            epochs=100, batch_size=256, rtol=1e-5, atol=1e-5, optimiser=Optimiser("adam", 1e-3),
            model={"width": 64, "scales": (0, 0, 1, 2)}, data={"name": "CIFAR-10", "levels": 256},
        ),
    }  # fmt: skip

    def load(self, preset: Preset, folder: Path | None, cache: Path | None) -> Samples:
        """Return images of integer levels, shape (samples, channels, height, width)."""
        from crossbackend import datasets

        name = preset.data["name"]
        if name == "digits":
            found = datasets.digits()
        elif folder is None:
            fix = "Write --data FOLDER (docs/data.md says what it holds)."
            raise UserError(Mistake("--data", "no folder", f"the folder of {name}", fix))
        else:
            found = datasets.mnist(folder) if name == "MNIST" else datasets.cifar10(folder)
        train, test = ({"pixels": _images(part.inputs)} for part in (found.train, found.test))
        return Samples(train, test, {"ts": [0.0, float(len(preset.model["scales"]))],
                                     "breakpoints": np.arange(1.0, len(preset.model["scales"]))})  # fmt: skip

    def parameters(self, preset: Preset, samples: Samples, rng: np.random.Generator) -> Any:
        """Return a stack of convolutions a block, as torch draws them."""
        channels, width = samples.train["pixels"].shape[1], preset.model["width"]
        blocks = []
        for scale in preset.model["scales"]:
            inside = channels * 4**scale
            sizes = (inside, width, width, inside)
            layers = [initialise.conv2d(rng, a + 1, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
            blocks.append(layers)
        return {"blocks": blocks}

    def batch(self, preset: Preset, part: Arrays, index: np.ndarray, rng: np.random.Generator) -> Any:
        """Return images with fresh noise on the real line, what that costs in bits, and Hutchinson's vector."""
        pixels = part["pixels"][index]
        levels = preset.data["levels"]
        w = MARGIN + (1 - 2 * MARGIN) * (pixels + rng.uniform(size=pixels.shape)) / levels
        slope = np.log2((1 - 2 * MARGIN) / (w * (1 - w)))
        offset = math.log2(levels) - slope.mean(axis=(1, 2, 3))
        return {"x": np.log(w / (1 - w)), "v": rng.choice([-1.0, 1.0], size=pixels.shape), "offset": offset}

    def scores(self, ys: Any, params: Any, data: Any) -> Arrays:
        """Return bits per dimension of every image."""
        z, logp = ys["z"][-1], ys["logp"][-1]
        entries = math.prod(z.shape[1:])
        normal = -0.5 * np.sum(z * z, axis=(1, 2, 3)) - 0.5 * entries * math.log(2 * math.pi)
        return {"loss": -(normal - logp) / (entries * math.log(2)) + data["offset"]}


def _images(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 4 else pixels[:, None]
