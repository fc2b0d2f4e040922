"""What an experiment is: a gallery problem, the data it is trained on, and how the result is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from crossbackend.backends.training import Optimiser

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Preset:
    """The size of an experiment.

    Attributes
    ----------
    epochs, batch_size : int
    rtol, atol : float
    optimiser : Optimiser
    model : mapping
        Sizes of the networks; `width` is what `--width` changes.
    data : mapping
        `name` of the data set, and how much of it.
    dtype : {"float32", "float64"}
    problem : str
        Another gallery problem than the experiment's first one.
    """

    epochs: int
    batch_size: int
    rtol: float
    atol: float
    optimiser: Optimiser
    model: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    problem: str = ""

    def with_width(self, width: int | None) -> Preset:
        """Return the preset with another width."""
        return self if width is None else replace(self, model={**self.model, "width": width})


@dataclass(frozen=True)
class Samples:
    """A data set ready for batches.

    Attributes
    ----------
    train, test : dict of str to ndarray
        Arrays with a leading axis of samples.
    changes : dict
        What they change in the gallery's problem: `ts`, `breakpoints`.
    """

    train: Arrays
    test: Arrays
    changes: Mapping[str, Any] = field(default_factory=dict)


def size(part: Mapping[str, np.ndarray]) -> int:
    """Return the number of samples of a part."""
    return len(next(iter(part.values())))


class Experiment(ABC):
    """One experiment of the paper.

    Attributes
    ----------
    name, problem : str
        Its own, and the gallery's problem that it trains.
    metric : {"accuracy", "bits_per_dim", "test_loss"}
    norms : tuple of str
        What `crossbackend train` compares by default.
    presets : mapping of str to Preset
    """

    name: ClassVar[str]
    problem: ClassVar[str]
    metric: ClassVar[str]
    norms: ClassVar[tuple[str, ...]]
    presets: ClassVar[Mapping[str, Preset]]

    @abstractmethod
    def load(self, preset: Preset, folder: Path | None, cache: Path | None) -> Samples:
        """Return the data set.

        Parameters
        ----------
        preset : Preset
        folder : Path, optional
            Where a data set lies that is not installed with a package.
        cache : Path, optional
            Where what was computed from it is kept.

        Raises
        ------
        UserError
            A missing package, folder or file, a damaged file.
        """

    @abstractmethod
    def parameters(self, preset: Preset, samples: Samples, rng: np.random.Generator) -> Any:
        """Return initial parameters."""

    @abstractmethod
    def batch(self, preset: Preset, part: Arrays, index: np.ndarray, rng: np.random.Generator) -> Any:
        """Return the problem's data for some samples; what is random in it comes from `rng`."""

    @abstractmethod
    def scores(self, ys: Any, params: Any, data: Any) -> Arrays:
        """Return `loss`, and the metric where it is another, of every sample, from ys as NumPy arrays."""

    def after(self, params: Any) -> Arrays:
        """Return what else is worth keeping of a trained model, by the name of the record's array: nothing."""
        del params
        return {}
