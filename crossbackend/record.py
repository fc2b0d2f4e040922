"""What one plan gave: status, loss, gradient, evaluations, steps, times, versions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from crossbackend import ratios
from crossbackend.notebook import as_html

FORMAT = 1
"""Version of the record format. Readers refuse any other."""

MAX_STEPS = 100_000
"""Step attempts allowed in one solve, in every backend."""


ERROR_PARTS = ("forward", "reconstruction", "a_y", "a_params")
"""What a gradient's error is made of, in the order of computation: see `error_split`."""


class Status(StrEnum):
    """How a plan ended. `advice` says what to do about it."""

    OK = "ok"
    NAN_IN_FIELD = "nan_in_field"
    DIVERGED = "diverged"
    STEP_UNDERFLOW = "step_underflow"
    MAX_STEPS = "max_steps"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    UNSUPPORTED = "unsupported"

    @property
    def advice(self) -> str:
        """What the status means and what to try."""
        return _ADVICE[self]


_ADVICE = {
    Status.OK: "The solve finished.",
    Status.NAN_IN_FIELD: "The vector field returned NaN or infinity at a finite state: look for a log, sqrt or "
    "division outside its domain at the time given.",
    Status.DIVERGED: "The state grew past 1e8 (1 + max|y0|): the solution blows up, or the reverse solve of the "
    "backsolve adjoint is unstable. Shorten the interval, or use another adjoint.",
    Status.STEP_UNDERFLOW: "The step became too small for the time to change: the field is stiff or not continuous. "
    "Declare its breakpoints, loosen the tolerance, or use an implicit method.",
    Status.MAX_STEPS: f"The solve did not finish in {MAX_STEPS} steps: the field is stiff for this method, or the "
    "tolerance is too tight.",
    Status.TIMEOUT: "The worker was stopped after --timeout seconds. Raise it, or loosen the tolerance.",
    Status.OUT_OF_MEMORY: "The worker ran out of memory. Use a smaller batch, or raise --memory.",
    Status.CRASHED: "The worker died or the library raised an error: the message has its words.",
    Status.UNSUPPORTED: "The backend cannot do this plan: the message says why.",
}


@dataclass(frozen=True)
class Steps:
    """Steps attempted in one pass, in the order taken.

    Attributes
    ----------
    t0, t1 : ndarray, shape (n,), float64
        Start and end of each attempt in the problem's time; t1 < t0 in the backward pass.
    accepted : ndarray, shape (n,), bool
    nfe : int
        Evaluations of the vector field (of the augmented field in the backward pass), counted inside the field.
    seen : dict of str to ndarray, shape (n,)
        The error ratio of every attempt and its blocks: see `ratios`. Empty where they were not recorded.
    t_range : tuple of float, or None
        Smallest and largest t at which the field was evaluated.
    y_max : float or None
        Largest |y| at which it was evaluated.
    parts : dict of str to int
        What `nfe` is made of in a backward pass that has evaluations of several kinds: `vjp_y` and `vjp_params`,
        products with df/dy and with df/dparams alone. Beside them, and no part of `nfe`: `recomputed`, evaluations of
        f that were made again on the way back. Empty where there is one kind.
    """

    t0: np.ndarray
    t1: np.ndarray
    accepted: np.ndarray
    nfe: int
    seen: dict[str, np.ndarray] = field(default_factory=dict)
    t_range: tuple[float, float] | None = None
    y_max: float | None = None
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Evaluations, accepted and rejected steps."""
        accepted = int(np.count_nonzero(self.accepted))
        return {"nfe": self.nfe, "accepted": accepted, "rejected": len(self.accepted) - accepted}

    @property
    def evaluated(self) -> dict[str, float | None]:
        """Where the field was evaluated: `t_min`, `t_max` and `y_max`, the largest |y|."""
        low, high = self.t_range or (None, None)
        return {"t_min": _finite(low), "t_max": _finite(high), "y_max": _finite(self.y_max)}

    @property
    def spurious(self) -> np.ndarray | None:
        """Rejected attempts that were good enough for y and a_y, shape (n,); None where no ratios are stored.

        Kidger, Chen, Lyons, ICML 2021, section 2.2.
        """
        state = self.seen.get("ratio_state")
        return None if state is None else ~self.accepted & (state <= 1)

    @property
    def masked(self) -> np.ndarray | None:
        """Accepted attempts that were not: the error of the state was diluted away. None as for `spurious`."""
        state = self.seen.get("ratio_state")
        return None if state is None else self.accepted & (state > 1)

    @property
    def decided(self) -> np.ndarray:
        """Index in `norms.GROUPS` of the group that decided each attempt's ratio, shape (n,); -1 where not known."""
        found = ratios.decided(self.seen)
        return found if len(found) == len(self.t0) else np.full(len(self.t0), -1)


@dataclass(frozen=True)
class Gradient:
    """A loss and its gradient, as NumPy arrays by leaf name.

    Attributes
    ----------
    loss : float
    y0 : dict of str to ndarray
        a_y(t0): the derivative with respect to the initial state, by entry (`""` for a bare array).
    params : dict of str to ndarray
        Total derivative through initial, field and loss, by leaf.
    """

    loss: float
    y0: dict[str, np.ndarray]
    params: dict[str, np.ndarray]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Every leaf by its name in the record: `y0/NAME`, `params/NAME`."""
        named = {("y0", name): array for name, array in self.y0.items()}
        named |= {("params", name): array for name, array in self.params.items()}
        return {(f"{group}/{name}" if name else group): array for (group, name), array in named.items()}


@dataclass(frozen=True)
class Outcome:
    """What a counting run of one plan gave.

    Attributes
    ----------
    status : Status
    message : str
        Words for a status other than ok.
    gradient : Gradient or None
    ys : dict of str to ndarray, or None
        Forward solution at the output times, leading axis len(ts), by entry.
    forward, backward : Steps or None
    reconstruction : dict of float to float
        max|y_back(t_i) - y_i| relative to max|ys| by output time, before the reset; the backward solve's y is
        compared with the stored forward value.
    rounding_floor : float or None
        What moving the stored solution by one ulp does to the gradient (matched stepping).
    """

    status: Status
    message: str = ""
    gradient: Gradient | None = None
    ys: dict[str, np.ndarray] | None = None
    forward: Steps | None = None
    backward: Steps | None = None
    reconstruction: dict[float, float] = field(default_factory=dict)
    rounding_floor: float | None = None

    @property
    def reconstruction_error(self) -> float | None:
        """The largest reconstruction error, None where none was measured."""
        return max(self.reconstruction.values(), default=None)


@dataclass(repr=False)
class Record:
    """One plan's result as stored: format 1 (see `store`).

    `scaled` is what the same plan gives where the adjoint starts at size 1 (see `scaling`), `error_split` where the
    gradient's error comes from (see `error_split`); both are None where they were not asked for.

    `peak_memory_bytes` is the resident memory of the worker's whole process at its highest during a timed solve.
    `memory_rise_bytes` is how far one solve raised it above what the process held before, freed memory given back
    first; `device_memory_bytes` the most that the library held on a GPU in that solve, None on the CPU.
    """

    digest: str
    plan: dict[str, Any]
    status: Status
    message: str = ""
    loss: float | None = None
    forward: dict[str, Any] | None = None
    backward: dict[str, Any] | None = None
    error: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(("all", "y0", "params", "floor")))
    reconstruction_error: float | None = None
    rounding_floor: float | None = None
    scaled: dict[str, Any] | None = None
    error_split: dict[str, Any] | None = None
    time: dict[str, Any] | None = None
    peak_memory_bytes: int | None = None
    memory_rise_bytes: int | None = None
    device_memory_bytes: int | None = None
    settings: dict[str, Any] = field(default_factory=lambda: {"forward": {}, "backward": {}})
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        """Give the plan's entries (`problem`, `backend`, `norm`, `rtol`, ...) as attributes."""
        plan = self.__dict__.get("plan", {})
        if name in plan:
            return plan[name]
        raise AttributeError(name)

    def __repr__(self) -> str:
        cell = [str(self.plan.get(name)) for name in ("problem", "backend", "norm", "stepping")]
        said = f"{', '.join(cell)}, rtol {self.plan.get('rtol')}: {self.status}"
        error = self.error.get("all")
        if isinstance(error, float):
            said += f", gradient error {error:.1e}"
        return f"<Record {repr(said)[1:-1]}>"  # one line, whatever the names hold

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows of the record."""
        return as_html(self)

    def flat(self) -> dict[str, Any]:
        """Return the JSON object of the record without format, checksum and arrays."""
        fields = asdict(self) if not self.arrays else asdict(_without_arrays(self))
        fields.pop("arrays")
        plan = fields.pop("plan")
        digest = fields.pop("digest")
        status = str(fields.pop("status"))
        return {"digest": digest, **plan, "status": status, **fields}

    def steps(self, which: str) -> Steps | None:
        """Return the stored steps of the `forward` or `backward` pass, None where there are none that fit together."""
        t0, t1, accepted = (self.arrays.get(f"{which}/{name}") for name in ("t0", "t1", "accepted"))
        if t0 is None or t1 is None or accepted is None:
            return None
        if t0.ndim != 1 or not t0.shape == t1.shape == accepted.shape:
            return None
        counts = getattr(self, which) or {}
        low, high = counts.get("t_min"), counts.get("t_max")
        seen = {name: self.arrays[f"{which}/{name}"] for name in ratios.SEEN if f"{which}/{name}" in self.arrays}
        return Steps(
            t0,
            t1,
            accepted.astype(bool, copy=False),  # of whole numbers, ~ would give -1 and -2, which are both true
            int(counts.get("nfe") or 0),
            {name: array for name, array in seen.items() if array.shape == t0.shape},
            None if low is None or high is None else (low, high),
            counts.get("y_max"),
        )

    def gradient(self) -> dict[str, np.ndarray]:
        """Return the stored gradient by leaf: `y0/NAME`, `params/NAME`."""
        prefix = "gradient/"
        return {name.removeprefix(prefix): a for name, a in self.arrays.items() if name.startswith(prefix)}


def _without_arrays(record: Record) -> Record:
    bare = Record(**{name: getattr(record, name) for name in record.__dataclass_fields__})
    bare.arrays = {}
    return bare


def from_outcome(digest: str, plan: dict[str, Any], outcome: Outcome, settings: dict[str, Any]) -> Record:
    """Return the record of a counting run, its times, errors and machine still to be filled in."""
    record = Record(digest, plan, outcome.status, outcome.message, settings=settings)
    record.reconstruction_error = _finite(outcome.reconstruction_error)
    record.rounding_floor = _finite(outcome.rounding_floor)
    for which, steps in (("forward", outcome.forward), ("backward", outcome.backward)):
        if steps is None:
            continue
        counts: dict[str, Any] = {**steps.counts, **steps.evaluated}
        if which == "backward":
            counts |= {"spurious": _count(steps.spurious), "masked": _count(steps.masked)}
            counts |= {"parts": steps.parts} if steps.parts else {}
        setattr(record, which, counts)
        own = {"t0": steps.t0, "t1": steps.t1, "accepted": steps.accepted, **steps.seen}
        record.arrays |= {f"{which}/{name}": array for name, array in own.items()}
    if outcome.reconstruction:
        times = sorted(outcome.reconstruction)
        record.arrays["backward/reconstruction_t"] = np.array(times)
        record.arrays["backward/reconstruction"] = np.array([outcome.reconstruction[t] for t in times])
    for name, array in (outcome.ys or {}).items():
        record.arrays[f"forward/ys/{name}" if name else "forward/ys"] = array
    if outcome.gradient is not None:
        record.loss = _finite(outcome.gradient.loss)
        record.arrays |= {f"gradient/{name}": array for name, array in outcome.gradient.arrays.items()}
    return record


def _count(which: np.ndarray | None) -> int | None:
    return None if which is None else int(np.count_nonzero(which))


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def usual_rtol(rtols: Iterable[float]) -> float | None:
    """Return the tolerance that stands for several: 1e-6, or the one nearest to it; None for none."""
    return min({r for r in rtols if r > 0}, key=lambda r: (abs(math.log10(r) + 6), r), default=None)


def relative_error(found: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float | None:
    """Return |g - g_ref| / |g_ref| in the 2-norm over all leaves given; None where a leaf is missing or not finite.

    A reference that is zero throughout gives the absolute error.
    """
    if set(found) != set(reference):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.sqrt(sum(float(np.sum((found[k] - reference[k]) ** 2)) for k in reference))
        size = np.sqrt(sum(float(np.sum(reference[k] ** 2)) for k in reference))
    return _finite(difference / size if size > 0 else difference)


def gradient_difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Return max over leaves of |a - b| / max(|a|, 1e-3 |g|), 2-norms, |g| the whole gradient's.

    A wrong leaf that is small beside the others cannot hide; a leaf that is nothing but rounding does not count.
    Infinite where the leaves or their shapes differ, or a value is not finite.
    """
    if set(a) != set(b) or any(a[name].shape != b[name].shape for name in a):
        return float("inf")
    sizes = {name: float(np.linalg.norm(array)) for name, array in a.items()}
    whole = float(np.sqrt(sum(size**2 for size in sizes.values())))
    worst = 0.0
    for name, size in sizes.items():
        difference = float(np.linalg.norm(a[name].astype(float) - b[name].astype(float)))
        if not np.isfinite(difference):
            return float("inf")
        scale = max(size, 1e-3 * whole)
        worst = max(worst, difference / scale if scale > 0 else difference)
    return worst
