"""What a stored record, training, card, reference and `run.json` must hold, said once: other programs write them too.

Every function returns what is wrong, `FIELD: got VALUE, expected KIND`, or nothing. What a file lacks, or holds as
null, is not known and no mistake, unless something else in the file leans on it; keys that are not named here may hold
anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from crossbackend import ratios
from crossbackend.kinds import (
    COUNT,
    LEAVES,
    LIST,
    NOTHING,
    NUMBER,
    NUMBERS,
    OBJECTS,
    POSITIVE,
    ROUTES,
    SECONDS,
    SHARE,
    SIZE,
    TEXT,
    TIMES,
    WAIT,
    WORDS,
    Said,
    Spec,
    first,
    mistake,
    unwieldy,
    wrong,
)  # fmt: skip

PARTS = ("forward", "reconstruction", "a_y", "a_params")
"""What an error split is made of, as in `record.ERROR_PARTS`: a file's keys are named here and not imported."""
_PASS: Spec = {**dict.fromkeys(("nfe", "accepted", "rejected", "spurious", "masked"), COUNT),
               "t_min": NUMBER, "t_max": NUMBER, "y_max": SIZE,
               "parts": dict.fromkeys(("vjp_y", "vjp_params", "recomputed"), COUNT)}  # fmt: skip
RECORD: Spec = {
    "loss": NUMBER, "forward": _PASS, "backward": _PASS,
    "error": dict.fromkeys(("all", "y0", "params", "floor"), SIZE),
    "reconstruction_error": SIZE, "rounding_floor": SIZE,
    "scaled": {"factor": POSITIVE, "status": TEXT, "message": TEXT, "forward": _PASS, "backward": _PASS,
               "below_atol": SIZE, "error": SIZE},
    "error_split": {"message": TEXT, "whole": SIZE, "parts": dict.fromkeys(PARTS, SIZE),
                    "share": dict.fromkeys(PARTS, NUMBER), "residual": SIZE, "replay": SIZE},
    "time": {**dict.fromkeys(("median_s", "q1_s", "q3_s", "min_s"), SECONDS), "first_s": WAIT, "compile_s": WAIT,
             "repeats": COUNT},
    **dict.fromkeys(("peak_memory_bytes", "memory_rise_bytes", "device_memory_bytes"), COUNT),
    "settings": {"forward": {}, "backward": {}}, "machine": {}, "versions": {},
}  # fmt: skip
CARD: Spec = {
    **dict.fromkeys(("name", "description", "source", "equations", "dtype"), TEXT),
    "ts": TIMES, "breakpoints": NUMBERS, "integrals": WORDS, "tolerances": NUMBERS, "state": {}, "parameters": {},
    **dict.fromkeys(("state_size", "parameter_size", "field_parameter_size"), COUNT),
    "picture": {"t": LIST, "series": LIST, "outputs": LIST},
}  # fmt: skip
REFERENCE: Spec = {"problem": TEXT, "status": TEXT, "floor": SIZE, "check": SIZE, "loss": NUMBER, "leaves": LEAVES,
                   "routes": ROUTES}  # fmt: skip
TRAINING: Spec = {
    **dict.fromkeys(("experiment", "backend", "norm", "metric", "preset", "status"), TEXT), "seed": COUNT,
    "rtol": POSITIVE, "atol": POSITIVE, **dict.fromkeys(("problem", "dtype", "device", "message"), TEXT),
    "settings": {
        **dict.fromkeys(("batch_size", "batches_per_epoch", "epochs", "steps", "train_size", "test_size"), COUNT),
        "loss_scale": POSITIVE, "optimiser": {"name": TEXT, "learning_rate": SIZE, "weight_decay": SIZE},
        "model": {"width": COUNT}, "data": {"name": TEXT},
    },
    "parameters": COUNT, "steps": COUNT, "epochs": OBJECTS, "threads": COUNT, "machine": {}, "versions": {},
    **dict.fromkeys(("forward_nfe_per_batch", "backward_nfe_per_batch"), SIZE),
    **dict.fromkeys(("forward_nfe_total", "backward_nfe_total"), COUNT),
    "time": dict.fromkeys(("compile_s", "total_s", "median_step_s", "median_forward_s", "median_backward_s"), WAIT),
}  # fmt: skip
_NEEDED = tuple(TRAINING)[:9]
"""What a training cannot be without: the cell that it belongs to, and how it ended."""
_EPOCH: Spec = {
    "epoch": COUNT, "train_loss": NUMBER, "test_loss": NUMBER, "seconds": WAIT,
    **dict.fromkeys(("forward_nfe", "backward_nfe", "forward_rejected", "backward_rejected"), COUNT),
}  # fmt: skip
_CONTROL = {"control/t": (1, ()), "control/q": (1, (2,)), "control/velocity": (1, (2,)), "control/u": (0, (2,))}
"""How many more than the controls there are of each, and the shape of one."""
ABOUT: Spec = {"name": TEXT, "created": TEXT, "command": TEXT, "seconds": SIZE, "machine": {},
               "versions": {}}  # fmt: skip


def wrong_record(fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return what keeps a record, one whose plan, status and objects are there, from being used."""
    own = {name: fields[name] for name in RECORD if name in fields}
    return first(unwieldy(own), wrong(own, RECORD), _lacking(own), _arrays(arrays, fields["status"] == "ok"))


def wrong_card(fields: Mapping[str, Any]) -> str:
    """Return what keeps `problems/NAME.json` from being a problem's card."""
    return first(unwieldy(fields), wrong(fields, CARD))


def wrong_reference(fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return what keeps `reference/NAME.json` and its arrays from being a reference."""
    return first(unwieldy(fields), wrong(fields, REFERENCE), _numeric(arrays))


def wrong_training(fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return what keeps `training/NAME.json` and its arrays from being a training."""
    own = {name: fields[name] for name in TRAINING if name in fields}
    missing = (mistake(name, NOTHING, TRAINING[name].words) for name in _NEEDED if own.get(name) is None)
    return first(unwieldy(own), wrong(own, TRAINING), missing, _epochs(own), _trained(arrays, own.get("status")))


def wrong_about(fields: Mapping[str, Any]) -> str:
    """Return what keeps a `run.json` from saying what a run is."""
    if not WORDS.holds(fields.get("problems", [])):
        return "its problems are no list of names"
    if not isinstance(fields.get("declined") or [], list):
        return "its declined plans are no list"
    return first(unwieldy(fields), wrong(fields, ABOUT))


def _lacking(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a record lacks although another part of it leans on that."""
    settings, split, scaled = (fields.get(name) or {} for name in ("settings", "error_split", "scaled"))
    leans = settings.get("forward") or "backward" in settings
    if leans and settings.get("backward") is None:
        yield mistake("settings.backward", NOTHING, "an object, as for `forward`")
    if any(name in split for name in ("whole", "parts", "share", "residual")):  # else it is a failed one's message
        yield from (
            mistake(f"error_split.{name}", NOTHING, "a finite number: the others are there")
            for name, value in _split_numbers(split)
            if value is None
        )
    for name in ("backend", "norm", "stepping", "rtol"):  # a split is shown beside them
        if name in split:
            yield mistake(f"error_split.{name}", split[name], "nothing: the record has it")
    if scaled.get("backward"):
        for name, value in (("factor", scaled.get("factor")), ("backward.nfe", scaled["backward"].get("nfe"))):
            if value is None:
                yield mistake(f"scaled.{name}", NOTHING, "a number: its backward pass is there")


def _split_numbers(split: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what an error split must hold; an object that is missing lacks its numbers."""
    yield from ((name, split.get(name)) for name in ("whole", "residual"))
    for name in ("parts", "share"):
        yield from ((f"{name}.{part}", (split.get(name) or {}).get(part)) for part in PARTS)


def _arrays(arrays: Mapping[str, np.ndarray], ended: bool) -> Iterator[str]:
    """Yield the arrays of a record that are not what they are read as."""
    yield from _numeric(arrays)
    for which in ("forward", "backward"):
        if f"{which}/t0" in arrays:
            yield from _steps(arrays, which, ended)
        for name in (f"{which}/reconstruction_t", f"{which}/reconstruction"):
            if name in arrays and arrays[name].ndim != 1:
                yield mistake(name, Said(f"shape {arrays[name].shape}"), "an array of one dimension")


_READ = {f"{which}/{name}" for which in ("forward", "backward")
         for name in ("t0", "t1", "accepted", "reconstruction_t", "reconstruction", *ratios.SEEN)}  # fmt: skip


def _numeric(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    for name, array in arrays.items():
        read = name in _READ or name.startswith(("gradient/", "scaled/"))
        if read and array.dtype.kind not in "biuf":
            yield mistake(name, Said(f"an array of {array.dtype}"), "an array of real numbers")


def _steps(arrays: Mapping[str, np.ndarray], which: str, ended: bool) -> Iterator[str]:
    """Yield what is wrong with the attempts of a pass; a solve that failed may have attempted a step of any length."""
    shape = arrays[f"{which}/t0"].shape
    for name in (f"{which}/{part}" for part in ("t0", "t1", "accepted")):
        array = arrays.get(name)
        if array is None:
            yield mistake(name, NOTHING, f"an array as long as {which}/t0")
        elif array.ndim != 1 or array.shape != shape:
            yield mistake(name, Said(f"shape {array.shape}"), f"one dimension, as long as {which}/t0")
        elif name.endswith("accepted") and array.dtype.kind != "b":
            if array.dtype.kind == "f" or np.any((array != 0) & (array != 1)):
                yield mistake(name, Said(f"an array of {array.dtype}"), "true and false, or 1 and 0")
        elif ended and not np.isfinite(array).all():
            yield mistake(name, Said("NaN or infinity"), "finite times")


def _epochs(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the rows of a training's epochs."""
    kind = SHARE if fields["metric"] == "accuracy" else NUMBER
    last = -1
    for row, found in enumerate(fields.get("epochs") or []):
        yield from wrong(found, {**_EPOCH, fields["metric"]: kind}, f"epochs[{row}].")
        number = found.get("epoch")
        if number is None or number <= last:
            yield mistake(f"epochs[{row}].epoch", number, "a whole number above the one before")
            return
        last = number


def _trained(arrays: Mapping[str, np.ndarray], status: Any) -> Iterator[str]:
    """Yield the arrays of a training that are not what they are read as."""
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            yield mistake(name, Said(f"an array of {array.dtype}"), "an array of real numbers")
        elif name.startswith("curve/") and array.ndim != 1:
            yield mistake(name, Said(f"shape {array.shape}"), "an array of one dimension")
    yield from _solves(arrays, status == "ok")
    there = [name for name in _CONTROL if name in arrays]
    if there and len(there) < len(_CONTROL):
        lost = next(name for name in _CONTROL if name not in arrays)
        yield mistake(lost, NOTHING, f"an array: {there[0]} is there")
    elif there:
        yield from _control(arrays)


def _solves(arrays: Mapping[str, np.ndarray], ended: bool) -> Iterator[str]:
    """Yield what is wrong with the attempts of a training's last solves, and with how many solves they are of."""
    attempts = 0
    for which in ("solve/forward", "solve/backward"):
        if f"{which}/t0" in arrays:
            yield from _steps(arrays, which, ended)
            attempts += arrays[f"{which}/t0"].size
    count = arrays.get("solve/count")
    if count is None:
        return
    if count.size != 1 or count.dtype.kind not in "iu":
        yield mistake("solve/count", Said(f"an array of {count.dtype}, shape {count.shape}"), "one whole number")
    elif count.item() < (attempts > 0):
        yield mistake("solve/count", count.item(), "how many solves the attempts are of")


def _control(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield the arrays of the controlled pendulum that are not as long as the controls."""
    controls = len(arrays["control/u"]) if arrays["control/u"].ndim else 0
    for name, (more, one) in _CONTROL.items():
        if arrays[name].shape != (controls + more, *one):
            yield mistake(name, Said(f"shape {arrays[name].shape}"), f"shape {(controls + more, *one)}")
