"""Table 1: a neural CDE that classifies speech, on JapaneseVowels (reduced) and Speech Commands (paper)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from crossbackend import initialise, ops
from crossbackend.backends.training import Optimiser
from crossbackend.errors import Mistake, UserError
from crossbackend.train.experiment import Arrays, Experiment, Preset, Samples


class NeuralCDE(Experiment):
    """dz = F(z) dX on the linear interpolation of a series, whose knots are breakpoints (section 3.1)."""

    name = "neural_cde"
    problem = "neural_cde"
    metric = "accuracy"
    norms = ("default", "mixed-seminorm", "seminorm")
    presets: ClassVar = {
        "reduced": Preset(
            epochs=12, batch_size=45, rtol=1e-3, atol=1e-6, optimiser=Optimiser("adam", 5e-3, 1e-4),
            model={"hidden": 32, "width": 32, "layers": 3}, data={"name": "JapaneseVowels"},
            problem="neural_cde_relu",
        ),
        "paper": Preset(
            epochs=200, batch_size=1024, rtol=1e-3, atol=1e-6, optimiser=Optimiser("adam", 1.6e-3, 0.01),
            model={"hidden": 90, "width": 40, "layers": 4}, data={"name": "Speech Commands"},
            problem="neural_cde_relu",
        ),
    }  # fmt: skip

    def load(self, preset: Preset, folder: Path | None, cache: Path | None) -> Samples:
        """Return series with the time as channel 0, continued by their last value to the longest one's length."""
        from crossbackend import datasets

        if preset.data["name"] == "JapaneseVowels":
            found = datasets.japanese_vowels()
            every = np.concatenate(found.train.inputs)  # Speech Commands comes standardised too
            mean, spread = every.mean(axis=0), every.std(axis=0)
            parts = [
                ([(series - mean) / spread for series in part.inputs], part.labels)
                for part in (found.train, found.test)
            ]
        else:
            if folder is None:
                fix = "Write --data FOLDER, the extracted speech_commands_v0.02 archive (docs/data.md)."
                raise UserError(Mistake("--data", "no folder", "the folder of Speech Commands", fix))
            found = datasets.speech_commands(folder, cache)
            parts = [(list(part.inputs), part.labels) for part in (found.train, found.test)]
        longest = max(len(series) for inputs, _ in parts for series in inputs)
        classes = len(found.classes)
        train, test = ({"values": _padded(inputs, longest), "labels": np.eye(classes)[labels]}
                       for inputs, labels in parts)  # fmt: skip
        times = np.arange(float(longest))
        return Samples(train, test, {"ts": times[[0, -1]], "breakpoints": times[1:-1]})

    def parameters(self, preset: Preset, samples: Samples, rng: np.random.Generator) -> Any:
        """Return start, field and readout as torch draws them."""
        channels, classes = samples.train["values"].shape[2], samples.train["labels"].shape[1]
        hidden, inner = preset.model["hidden"], [preset.model["width"]] * preset.model["layers"]
        return {
            "start": initialise.linear(rng, channels, hidden),
            "field": initialise.mlp(rng, [hidden, *inner, hidden * channels]),
            "read": initialise.linear(rng, hidden, classes),
        }

    def batch(self, preset: Preset, part: Arrays, index: np.ndarray, rng: np.random.Generator) -> Any:
        """Return knots, path, first observation and labels; nothing is random."""
        values = np.moveaxis(part["values"][index], 0, 1)  # (length, batch, channels)
        knots = np.arange(float(len(values)))
        path = ops.linear_coefficients(knots, values)
        return {"knots": knots, "path": path, "first": values[0], "labels": part["labels"][index]}

    def scores(self, ys: Any, params: Any, data: Any) -> Arrays:
        """Return cross-entropy and whether the label is found, for every series."""
        scores = ys[-1] @ params["read"]["w"] + params["read"]["b"]
        loss = -np.sum(ops.log_softmax(scores) * data["labels"], axis=1)
        return {"loss": loss, "accuracy": (scores.argmax(1) == data["labels"].argmax(1)).astype(float)}


def _padded(series: list[np.ndarray], length: int) -> np.ndarray:
    """Return (samples, length, 1 + features): the time, then the features, held from the last observation on."""
    rows = [np.minimum(np.arange(length), len(one) - 1) for one in series]
    timed = [np.column_stack([row, one[row]]) for one, row in zip(series, rows, strict=True)]
    return np.stack(timed)
