"""Labelled data in parts: training, test and, where a data set is cut here, validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

Inputs = TypeVar("Inputs", np.ndarray, tuple[np.ndarray, ...])


@dataclass(frozen=True, eq=False)
class Part(Generic[Inputs]):
    """Samples and their classes.

    Attributes
    ----------
    inputs : array of shape (samples, ...), or tuple of arrays where series differ in length
    labels : array of int64, shape (samples,)
        Classes, from 0.
    """

    inputs: Inputs
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Split(Generic[Inputs]):
    """A data set in parts.

    Attributes
    ----------
    train, test : Part
    validation : Part, optional
        None where the data set comes with a training and a test set of its own.
    classes : tuple of str
        What the labels stand for, in their order.
    """

    train: Part[Inputs]
    test: Part[Inputs]
    validation: Part[Inputs] | None
    classes: tuple[str, ...]


def stratified(labels: np.ndarray, shares: Sequence[float], rng: np.random.Generator) -> list[np.ndarray]:
    """Cut samples at random into parts that hold the same share of every class, to one sample.

    Parameters
    ----------
    labels : array of int, shape (samples,)
    shares : sequence of float
        The parts' shares of every class; they sum to 1.
    rng : numpy.random.Generator

    Returns
    -------
    list of arrays of int
        The samples' indices by part, increasing; each sample is in one part.
    """
    ends = np.cumsum(shares)[:-1]
    parts: list[list[np.ndarray]] = [[] for _ in shares]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(ends * len(members)).astype(int)
        for part, chosen in zip(parts, np.split(members, cuts), strict=True):
            part.append(chosen)
    return [np.sort(np.concatenate(part)) for part in parts]
