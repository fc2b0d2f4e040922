"""Checks made by hand, and a run of two backends that solved nothing."""

from pathlib import Path

from crossbackend.check.findings import Cause, Check, Finding, Verdict
from crossbackend.compare import compare
from crossbackend.record import Record, Status
from crossbackend.store import Run

WRONG = Finding(
    "agreement", "port", "torchdiffeq,diffrax", "seminorm", "matched", 1e-6, Verdict.FAIL,
    "the gradients differ by 3.1e-2", 3.1e-2, 1e-9, "params/w", (0.12345678901234567, 0.12), ("torchdiffeq", "diffrax"),
    Cause.MATHEMATICS, "the difference is the same at both tolerances",
)  # fmt: skip
FLAG = Finding("flag", "port", "diffrax", "default", "native", 1e-4, Verdict.WARN, "norm_diluted: 12 of 13 entries")


def check():
    """Return a check of two problems: one passes everything, the other fails one question and warns at one."""
    fine = [Finding("solved", "linear"), Finding("agreement", "linear", "scipy,diffrax", value=1e-14, limit=1e-9)]
    return Check(["linear", "port"], [*fine, Finding("solved", "port"), WRONG, FLAG], {"linear": 1.5, "port": 90}, 92.3)


def record(backend="scipy", *, problem="linear", stepping="matched", rtol=1e-6, nfe=100, error=1e-7, status="ok",
           rejected=2, versions=None):  # fmt: skip
    """Return a record with these counts, the same in both passes, a floor of 1e-14 and no arrays."""
    plan = {"problem": problem, "backend": backend, "norm": "default", "stepping": stepping, "rtol": rtol,
            "atol": rtol / 100, "gradient": "backsolve", "dtype": "float64", "device": "cpu",
            "first_step": None}  # fmt: skip
    counts = {"nfe": nfe, "accepted": nfe // 6, "rejected": rejected} if status == "ok" else None
    found = Record(f"{backend}{stepping}{rtol}", plan, Status(status), forward=counts, backward=counts)
    found.error = {"all": error, "y0": error, "params": error, "floor": 1e-14}
    found.versions = versions or {"crossbackend": "0.4.0", backend: "1.0"}
    return found


def comparison(*records):
    """Return the comparison of these records."""
    run = Run(Path(), {"problems": list(dict.fromkeys(r.problem for r in records))}, list(records))
    return compare(run)
