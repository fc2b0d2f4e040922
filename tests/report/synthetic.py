"""Made-up runs for the tests of the report: plausible numbers, every status, hostile strings."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from crossbackend.compare import Comparison, compare
from crossbackend.record import Record, Status
from crossbackend.report.view import View, build
from crossbackend.store import Run

HOSTILE = (
    '</script><b onmouseover=alert(1)>"bold"</b> <!-- #set page(fill: red) $x$ #panic() @ref *a* _b_ \\\\ '
    "'&amp;' é ß Ω Ж 漢字 😀 \x07"
)
BACKENDS = ("diffrax", "scipy", "torchdiffeq")
CELLS = (
    ("native", "default"), ("native", "seminorm"), ("native", "mixed-seminorm"),
    ("matched", "default"), ("matched", "seminorm"),
)  # fmt: skip
RTOLS = (1e-4, 1e-6, 1e-8, 1e-10)
GRADIENTS = {"scipy": ("interpolating", "quadrature"), "torchdiffeq": ("direct",), "diffrax": ("direct",)}
CHEAPER = {"interpolating": 1.25, "quadrature": 2.0, "direct": 4.0}
"""How many times fewer evaluations than backsolve under default a gradient takes for the same error in `mixed`."""
PROBLEMS = ("double_pendulum", "flow_on_the_plane", "lotka_volterra", "neural_cde", "neural_ode", "stiff_relaxation")
UNSTABLE = "stiff_relaxation"
NO_REFERENCE = "neural_cde"
SPEED = {"diffrax": 4e-6, "scipy": 7e-5, "torchdiffeq": 3e-4}
STATES = {"flow_on_the_plane": {"z": [2], "logp": []}, "double_pendulum": {"angle": [2], "velocity": [2]}}


def card(name: str, *, hostile: bool = False) -> dict[str, Any]:
    t = np.linspace(0.0, 10.0, 101)
    state = STATES.get(name, {"": [2]})
    size = int(sum(np.prod(shape) for shape in state.values()))
    series = [{"label": f"y{i}", "y": (np.sin(t + i) * np.exp(-0.1 * t * i)).tolist()} for i in range(size)]
    words = HOSTILE if hostile else "Lotka and Volterra's predators and prey, with a loss on where they end."
    return {
        "format": 1, "name": name, "description": words, "source": "Kidger, Chen, Lyons 2021, https://arxiv.org/abs/2009.09457",
        "ts": [0.0, 2.5, 5.0, 10.0], "breakpoints": [5.0] if name == "neural_cde" else [], "dtype": "float64",
        "integrals": ["logp"] if "logp" in state else [], "tolerances": list(RTOLS),
        "state": state, "state_size": size, "parameters": {"mlp/0/w": [2, 16], "mlp/0/b": [16]},
        "parameter_size": 48, "field_parameter_size": 48,
        "picture": {"t": t.tolist(), "series": series, "outputs": [0.0, 2.5, 5.0, 10.0]},
        "equations": "dx/dt = a x - b x y\n" + words,
    }  # fmt: skip


def steps(rng: np.random.Generator, count: int, rejected: int, *, back: bool) -> dict[str, np.ndarray]:
    ends = np.sort(rng.beta(2, 3, size=count + 1)) * 10.0
    ends[0], ends[-1] = 0.0, 10.0
    t0, t1 = ends[:-1], ends[1:]
    accepted = np.ones(count, dtype=bool)
    where = np.sort(rng.integers(0, count, size=rejected))
    t0, t1 = np.insert(t0, where, t0[where]), np.insert(t1, where, t1[where] + 0.05)
    accepted = np.insert(accepted, where, False)
    if back:
        t0, t1, accepted = t1[::-1].copy(), t0[::-1].copy(), accepted[::-1].copy()
    side = "backward" if back else "forward"
    return {f"{side}/t0": t0, f"{side}/t1": t1, f"{side}/accepted": accepted}


def ratios(rng: np.random.Generator, accepted: np.ndarray, *, time: bool) -> dict[str, np.ndarray]:
    """Return what a step may carry: a maximum norm over blocks, whose largest decides."""
    names = ("y", "a_y", "a_params", *(("a_t",) if time else ()))
    blocks = {name: np.where(accepted, 0.9, 2.5) * rng.uniform(0.1, 1.0, len(accepted)) for name in names}
    whole = np.max(list(blocks.values()), axis=0)
    scale = np.where(accepted, 1.0, np.maximum(1.01 / whole, 1.0))
    found = {f"backward/ratio_{name}": block * scale for name, block in blocks.items()}
    found |= {f"backward/share_{name}": (block / whole).astype(np.float32) for name, block in blocks.items()}
    found["backward/ratio"] = whole * scale
    found["backward/ratio_state"] = np.maximum(found["backward/ratio_y"], found["backward/ratio_a_y"])
    found["backward/rms_a_y"] = np.full(len(accepted), 0.1)
    return found


def split(rng: np.random.Generator, error: float, *, additive: bool) -> dict[str, Any]:
    """Return where a record's error comes from."""
    share = rng.dirichlet([6, 1, 2, 1])
    names = ("forward", "reconstruction", "a_y", "a_params")
    return {
        "whole": error, "parts": dict(zip(names, (share * error).tolist(), strict=True)),
        "share": dict(zip(names, share.tolist(), strict=True)), "residual": 1e-5 if additive else 0.4, "replay": 0.0,
    }  # fmt: skip


def record(problem: str, backend: str, stepping: str, norm: str, rtol: float) -> Record:
    """Return one plausible record that finished."""
    shared = stepping == "matched"
    who = 0 if shared else BACKENDS.index(backend) + 1 if backend in BACKENDS else 9
    rng = np.random.default_rng([len(problem), ord(problem[0]), who, len(norm), round(-np.log10(rtol))])
    scale = (1e-4 / rtol) ** 0.2 * (1 + 0.3 * (len(problem) % 5))
    forward, backward = round(12 * scale), round((16 if norm == "default" else 11) * scale * (1 + 0.05 * who))
    rejected = (2, max(1, backward // (4 if norm == "default" else 9)))
    plan = {
        "problem": problem, "backend": backend, "norm": norm, "stepping": stepping, "rtol": rtol, "atol": rtol * 1e-2,
        "gradient": "backsolve", "dtype": "float64", "device": "cpu", "first_step": None,
    }  # fmt: skip
    found = Record(f"{problem}-{backend}-{stepping}-{norm}-{rtol:g}", plan, Status.OK, loss=0.25)
    found.arrays = steps(rng, forward, rejected[0], back=False) | steps(rng, backward, rejected[1], back=True)
    own = np.random.default_rng([len(problem), who, len(norm), round(-np.log10(rtol))])
    found.arrays |= ratios(own, found.arrays["backward/accepted"], time=backend == "torchdiffeq" and not shared)
    steps_back = found.steps("backward")
    assert steps_back is not None
    found.forward = {"nfe": 6 * (forward + rejected[0]) + 2, "accepted": forward, "rejected": rejected[0]}
    found.backward = {
        "nfe": 6 * (backward + rejected[1]) + 2, "accepted": backward, "rejected": rejected[1],
        "spurious": int(np.sum(steps_back.spurious)), "masked": int(np.sum(steps_back.masked)),
        "t_min": -0.3 if backend == "torchdiffeq" and not shared else 0.0, "t_max": 10.0, "y_max": 1.2,
    }  # fmt: skip
    unstable = problem == UNSTABLE
    error = float(rng.uniform(0.4, 1.4)) if unstable else float(rtol * rng.uniform(2, 30))
    noise = 1e-13 if shared else error
    for name, shape in STATES.get(problem, {"": [2]}).items():
        found.arrays[f"gradient/y0/{name}" if name else "gradient/y0"] = np.ones(shape) * (1 + noise * (len(backend)))
    for name, shape in (("mlp/0/w", (2, 16)), ("mlp/0/b", (16,))):
        found.arrays[f"gradient/params/{name}"] = np.ones(shape) * (1 + noise * len(backend))
    if problem != NO_REFERENCE:
        found.error = {"all": error, "y0": error / 2, "params": error, "floor": 3e-13}
    found.reconstruction_error = rtol * 1e5 if unstable else rtol * float(rng.uniform(0.5, 20))
    found.rounding_floor = 2e-14 if shared else None
    if backend == "scipy" and not shared and rtol == 1e-6 and problem != NO_REFERENCE:
        found.error_split = split(own, error, additive=not unstable)
    total = found.forward["nfe"] + found.backward["nfe"]
    if not shared:
        base = total * SPEED.get(backend, 1e-4)
        found.time = {
            "compile_s": 2.3 if backend == "diffrax" else 0.0, "first_s": base * 3, "min_s": base,
            "median_s": base * 1.1, "q1_s": base * 1.05, "q3_s": base * 1.3, "repeats": 5,
        }  # fmt: skip
    found.peak_memory_bytes = 400_000_000
    first = "Hairer" if shared or backend != "diffrax" else "0.01, at every restart"
    norms = {"diffrax": "rms(y, a_y, a_params)", "scipy": "rms(y, a_y, a_params)"}.get(backend, "max(|a_t|, rms y)")
    common = {"solver": backend, "rtol": rtol, "atol": rtol * 1e-2, "first_step": first, "ratio_snapped": shared}
    found.settings = {
        "forward": {**common, "accept": "ratio <= 1" if backend == "torchdiffeq" else "ratio < 1"},
        "backward": {
            **common,
            "norm": "mixed" if shared else norms,
            "a_t": backend == "torchdiffeq",
            "across": "max" if shared or backend == "torchdiffeq" else "pooled",
        },
    }
    found.versions = {"numpy": "2.4.1", backend: "1.2.3"}
    return found


def otherwise(problem: str, backend: str, gradient: str, rtol: float) -> Record:
    """Return the record of another gradient: backsolve's under default, so many times cheaper at the same error."""
    found = record(problem, backend, "native", "default", rtol)
    found.plan["gradient"], found.digest = gradient, f"{found.digest}-{gradient}"
    assert found.backward is not None
    assert found.time is not None
    found.backward |= {"nfe": round(found.backward["nfe"] / CHEAPER[gradient])}
    found.time = {k: v if k == "repeats" else v / CHEAPER[gradient] for k, v in found.time.items()}
    found.reconstruction_error, found.error_split = None, None
    if problem == UNSTABLE:
        found.error |= dict.fromkeys(("all", "y0", "params"), 10 * rtol)
    found.settings["backward"] = {"solver": backend, "rtol": rtol}
    if gradient == "quadrature":
        nfe = found.backward["nfe"]
        found.backward["parts"] = {"vjp_y": nfe - nfe // 3, "vjp_params": nfe // 3}
    if gradient == "direct":
        found.backward |= {"accepted": 0, "rejected": 0, "spurious": 0, "masked": 0}
        found.arrays |= {name: a[:0] for name, a in found.arrays.items() if name.startswith("backward/")}
    return found


def mixed() -> Comparison:
    """Return a run of every gradient beside backsolve, on two problems and on one that is unstable backwards."""
    problems = ("lotka_volterra", "neural_ode", UNSTABLE)
    found = Run(Path("."), about("gradients", problems=list(problems), planned=216))
    found.about["declined"] = [
        {"problem": "neural_ode", "backend": "diffrax", "gradient": "quadrature", "norm": "default",
         "stepping": "native", "reason": "diffrax has no dense output to integrate along"},
    ]  # fmt: skip
    for problem in problems:
        found.cards[problem], found.references[problem] = card(problem), reference(problem)
        for backend, rtol in product(BACKENDS, RTOLS):
            own = [record(problem, backend, stepping, norm, rtol) for stepping, norm in CELLS]
            own += [otherwise(problem, backend, gradient, rtol) for gradient in GRADIENTS[backend]]
            for one in own:
                steps = (one.forward or {}).get("accepted", 0) + (one.backward or {}).get("accepted", 0)
                one.memory_rise_bytes = 20_000 * steps if one.stepping == "native" else None
            found.records += own
    return compare(found)


def fail(found: Record, status: Status, message: str) -> Record:
    """Turn a record into a failed one that keeps its forward pass."""
    found.status, found.message, found.loss, found.time, found.reconstruction_error = status, message, None, None, None
    found.error = dict.fromkeys(found.error)
    found.arrays = {k: v for k, v in found.arrays.items() if k.startswith("forward/")}
    found.backward = None
    if status in (Status.UNSUPPORTED, Status.CRASHED):
        found.forward, found.arrays, found.settings = None, {}, {"forward": {}, "backward": {}}
    return found


def about(name: str = "latest", **more: Any) -> dict[str, Any]:
    return {
        "format": 1, "name": name, "created": "2026-03-04T15:06:07+00:00", "command": "crossbackend run problems/*.py",
        "problems": list(PROBLEMS), "planned": 372, "timing": True, "seconds": 812.5,
        "declined": [{"problem": "neural_ode", "backend": "diffrax", "norm": "mixed-t", "stepping": "matched",
                      "reason": "diffrax has no a_t"}],
        "machine": {"system": "Linux", "release": "6.1", "architecture": "x86_64", "processor": "Example CPU @ 2.0 GHz",
                    "cores": 2, "memory_bytes": 16_000_000_000, "python": "3.11.7"},
        "versions": {"crossbackend": "0.1.0", "numpy": "2.4.1", "torch": "2.9.0", "jax": "0.8.0"}, **more,
    }  # fmt: skip


def reference(name: str) -> dict[str, Any]:
    if name == NO_REFERENCE:
        return {"status": "uncertain", "floor": 3e-4, "check": 2e-3, "routes": [], "arrays": {}}
    routes = [
        {"name": "scipy DOP853", "seconds": 2.1, "message": ""},
        {"name": "diffrax Dopri8", "seconds": 3.4, "message": ""},
    ]
    status = "exact" if name == "lotka_volterra" else "ok"
    return {"status": status, "floor": 3e-13, "check": 2e-9, "routes": routes, "arrays": {}}


def run(*, hostile: bool = False) -> Run:
    """Return 6 problems x 3 backends x 4 tolerances x 5 (norm, stepping): 360 records."""
    found = Run(Path("."), about())
    for problem in PROBLEMS:
        found.cards[problem] = card(problem, hostile=hostile)
        if problem != "flow_on_the_plane":
            found.references[problem] = reference(problem)
        for backend in BACKENDS:
            for stepping, norm in CELLS:
                found.records += [_spoiled(record(problem, backend, stepping, norm, r), hostile) for r in RTOLS]
    found.damaged = ["records/0123.json: the checksum does not hold" + (HOSTILE if hostile else "")]
    if hostile:
        found.about |= {"name": HOSTILE, "command": HOSTILE, "machine": {"processor": HOSTILE, HOSTILE: 1}}
    return found


def _spoiled(found: Record, hostile: bool) -> Record:
    words = HOSTILE if hostile else "max|y| reached 4e8 at t = 7.1"
    cell = (found.problem, found.backend, found.norm, found.stepping, found.rtol)
    if cell[0] == UNSTABLE and cell[1] == "torchdiffeq" and found.rtol == 1e-4:
        return fail(found, Status.DIVERGED, words)
    if cell == ("neural_ode", "scipy", "seminorm", "native", 1e-10):
        return fail(found, Status.TIMEOUT, words)
    if cell == ("lotka_volterra", "torchdiffeq", "default", "native", 1e-8):
        return fail(found, Status.CRASHED, words)
    if cell[:3] == ("double_pendulum", "diffrax", "mixed-seminorm"):
        return fail(found, Status.UNSUPPORTED, words)
    if cell == ("lotka_volterra", "scipy", "default", "matched", 1e-6):
        found.arrays["gradient/y0"] = found.arrays["gradient/y0"] * 1.01
    if cell == ("lotka_volterra", "scipy", "seminorm", "native", 1e-6):
        found.time = None
    return found


def every_status() -> Comparison:
    """Return a run whose cells end in every way that a cell can end, backend by backend."""
    found = Run(Path("."), about("statuses"))
    problems = ("lotka_volterra", "neural_ode")
    found.about |= {"problems": list(problems), "planned": 48, "declined": []}
    statuses = list(Status)
    for problem in problems:
        found.cards[problem], found.references[problem] = card(problem), reference(problem)
        for index, (backend, (stepping, norm), rtol) in enumerate(product(BACKENDS, CELLS[:4], RTOLS[:2])):
            one = record(problem, backend, stepping, norm, rtol)
            status = statuses[index % len(statuses)]
            found.records.append(one if status == Status.OK else fail(one, status, f"it ended as {status}"))
    return compare(found)


def untimed() -> Comparison:
    """Return a run that measured no times."""
    found = run()
    found.about["timing"] = False
    for one in found.records:
        one.time = None
    return compare(found)


def large(records: int) -> Comparison:
    """Return a run of so many records or a few more: of six problems, or of as many as there are sixties of records."""
    found = Run(Path("."), about("large"))
    names = [f"{PROBLEMS[i % len(PROBLEMS)]}_{i}" for i in range(max(6, -(-records // 60)))]
    cells = CELLS[: -(-records // (len(BACKENDS) * len(RTOLS) * len(names)))]
    found.about |= {"problems": names, "planned": len(names) * len(BACKENDS) * len(RTOLS) * len(cells)}
    for name in names:
        found.cards[name], found.references[name] = card(name), reference(name)
        for backend in BACKENDS:
            for stepping, norm in cells:
                found.records += [record(name, backend, stepping, norm, rtol) for rtol in RTOLS]
    return compare(found)


def hostile_name_run() -> Run:
    """Return a run whose problem, backend, norm and every text is hostile."""
    found = Run(run().folder, about())
    for backend in (HOSTILE, "my-solver", "other-solver"):
        one = record("x", backend, "native", "default", 1e-6)
        one.plan |= {"problem": HOSTILE, "norm": HOSTILE}
        one.message, one.settings["forward"][HOSTILE] = HOSTILE, HOSTILE + backend
        found.records.append(one)
    found.cards[HOSTILE] = card(HOSTILE, hostile=True)
    found.cards[HOSTILE]["picture"]["series"][0]["label"] = HOSTILE
    found.cards[HOSTILE]["state"] = {HOSTILE: [2]}
    found.references[HOSTILE] = {"status": HOSTILE, "floor": None, "check": None, "routes": [{"name": HOSTILE}]}
    return found


def full() -> Comparison:
    return compare(run())


def empty() -> Comparison:
    return compare(Run(Path(".")))


def single() -> Comparison:
    found = Run(Path("."), {"format": 1, "name": "one"})
    found.records = [record("lotka_volterra", "diffrax", "native", "default", 1e-6)]
    return compare(found)


MADE = {
    "full": full, "empty": empty, "single": single, "hostile": lambda: compare(run(hostile=True)),
    "names": lambda: compare(hostile_name_run()), "statuses": every_status, "untimed": untimed,
    "mixed": mixed,
}  # fmt: skip


@cache
def shown(name: str) -> View:
    """Return the view of a made-up run, built once a session."""
    return build(MADE[name]())
