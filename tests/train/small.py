"""A problem small enough to be trained in a test, whose batches enter the field, y(0) and the loss."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from crossbackend import ops
from crossbackend.backends.training import Optimiser
from crossbackend.plan import Plan
from crossbackend.problem import Problem
from crossbackend.train.experiment import Experiment, Preset, Samples

BATCH = 3
ADAM = Optimiser("adam", 1e-2)


def _field(t, y, params, data):
    xp = ops.namespace(y)
    late = xp.astype(t >= data["knot"], y.dtype)
    drive = (1 - late) * data["drive"][0, ...] + late * data["drive"][1, ...]
    rate = xp.reshape(xp.take(params["rates"], data["kind"], axis=0), (-1, 1))
    return xp.tanh(xp.matmul(y, params["w"])) * xp.cos(2 * t) - rate * y + drive


def _initial(params, data):
    return ops.namespace(data["x"]).matmul(data["x"], params["start"])


def _loss(ys, params, data):
    xp = ops.namespace(ys)
    off = xp.sum(ys * params["read"], axis=2) - data["target"]
    return data["size"] * xp.mean(off**2) + xp.sqrt(data["kink"] * xp.mean(ys**2))


def batch(rng):
    """Return data of one batch: floats, integers, arrays of no axes; with kink = 0 the loss has no derivative."""
    return {
        "x": rng.normal(size=(BATCH, 2)), "drive": rng.normal(size=(2, BATCH, 2)), "knot": np.array(0.4),
        "kind": rng.integers(0, 2, BATCH), "target": rng.normal(size=(3, BATCH)), "size": np.array(1.5),
        "kink": np.array(0.5),
    }  # fmt: skip


def driven(dtype="float64") -> Problem:
    """A small network forced by its data, with a jump at t = 0.4."""
    rng = np.random.default_rng(5)
    params = {
        "w": rng.normal(size=(2, 2)), "rates": np.array([0.3, -0.4]), "start": rng.normal(size=(2, 2)),
        "read": rng.normal(size=2),
    }  # fmt: skip
    return Problem(
        "driven", _field, _loss, params, _initial, (0.0, 0.7, 1.2), batch(rng), breakpoints=(0.4,), dtype=dtype
    )


def plan(backend, norm="default", stepping="native", rtol=1e-5, dtype="float64") -> Plan:
    """Return a plan of the problem, atol = 1e-2 rtol."""
    return Plan("driven", backend, norm, stepping, rtol, 1e-2 * rtol, dtype=dtype)


class Tiny(Experiment):
    """Seven samples for training, four for the test: three batches an epoch, the last one filled up."""

    name = "tiny"
    problem = "driven"
    metric = "accuracy"
    norms = ("default",)
    presets: ClassVar = {
        "reduced": Preset(
            2, BATCH, 1e-3, 1e-5, Optimiser("adamw", 1e-2, 0.1), {"width": 2}, {"name": "noise", "parts": (7, 4)}
        )
    }

    def __init__(self, noise=0.1):
        self.noise = noise
        self.seen: list[Any] = []
        rng = np.random.default_rng(7)
        self.samples = Samples(*(self._part(rng, count) for count in self.presets["reduced"].data["parts"]))

    @staticmethod
    def _part(rng, count):
        return {
            "x": rng.normal(size=(count, 2)), "drive": rng.normal(size=(count, 2, 2)),
            "kind": rng.integers(0, 2, count), "target": rng.normal(size=(count, 3)),
        }  # fmt: skip

    def load(self, preset, folder, cache):
        return self.samples

    def parameters(self, preset, samples, rng):
        return {"w": rng.normal(size=(2, 2)), "rates": rng.normal(size=2), "start": rng.normal(size=(2, 2)),
                "read": rng.normal(size=2)}  # fmt: skip

    def batch(self, preset, part, index, rng):
        drive = part["drive"][index] + self.noise * rng.normal(size=(len(index), 2, 2))
        found = {
            "x": part["x"][index], "drive": np.moveaxis(drive, 0, 1), "knot": np.array(0.4),
            "kind": part["kind"][index], "target": part["target"][index].T, "size": np.array(1.0),
            "kink": np.array(0.5),
        }  # fmt: skip
        self.seen.append((index, found))
        return found

    def scores(self, ys, params, data):
        off = np.sum(ys * params["read"], axis=2) - data["target"]
        return {"loss": np.mean(off**2, axis=0), "accuracy": (off[-1] > 0).astype(float)}

    def changed(self, **changes):
        """Return one with another preset."""
        made = type(self)(self.noise)
        made.presets = {"reduced": replace(self.presets["reduced"], **changes)}  # type: ignore[misc]
        return made
