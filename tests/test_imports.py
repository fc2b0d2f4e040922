"""Nothing heavy is loaded before it is needed; a stored run is compared and reported without torch and jax."""

import os
import subprocess
import sys

import numpy as np
import pytest

from crossbackend.plan import Plan
from crossbackend.record import Record, Status
from crossbackend.store import prepare, write_json, write_record


def python(code, *args):
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def stored(tmp_path):
    """A run of two backends that agree, with the records alone."""
    prepare(tmp_path / "run")
    write_json(tmp_path / "run" / "run.json", {"format": 1, "name": "run", "problems": ["p"]})
    steps = {"t0": np.array([0.0]), "t1": np.array([1.0]), "accepted": np.array([True])}
    arrays = {f"{which}/{name}": array for which in ("forward", "backward") for name, array in steps.items()}
    for backend in ("torchdiffeq", "diffrax"):
        record = Record(backend, Plan("p", backend, "default", "matched", 1e-6, 1e-8).as_dict(), Status.OK, loss=1.0)
        record.forward = record.backward = {"nfe": 8, "accepted": 1, "rejected": 0}
        record.arrays = arrays | {"gradient/y0": np.array([1.0, 2.0])}
        write_record(tmp_path / "run", record)
    return tmp_path / "run"


@pytest.mark.parametrize("module", ["crossbackend", "crossbackend.cli", "crossbackend.study", "crossbackend.reference"])
def test_import_loads_no_heavy_library(module):
    heavy = python(
        f"import sys, {module}; print(sorted({{m.partition('.')[0] for m in sys.modules}} & "
        "{'torch', 'jax', 'jaxlib', 'matplotlib', 'torchdiffeq', 'diffrax', 'equinox', 'jinja2', 'typst'}))"
    )
    assert heavy.strip() == "[]"


WITHOUT = "import sys; sys.modules['torch'] = sys.modules['jax'] = None; from crossbackend.cli import main; "


def test_compare_needs_neither_torch_nor_jax(stored):
    said = python(WITHOUT + "main(['compare', sys.argv[1]])", str(stored))
    assert "matched default         rtol 1e-06   pass" in said


@pytest.mark.parametrize("command", [["explain"], ["advise", "--error", "1e-4"]])
def test_explanations_need_neither_torch_nor_jax(stored, command):
    said = python(WITHOUT + f"main([*{command!r}, sys.argv[1]])", str(stored))
    assert said.startswith("p")


@pytest.mark.slow
def test_report_needs_neither_torch_nor_jax(stored):
    said = python(WITHOUT + "main(['report', sys.argv[1]])", str(stored))
    assert said.splitlines() == [f"wrote {stored / 'index.html'}", f"wrote {stored / 'report.pdf'}"]
    assert os.path.getsize(stored / "index.html") > 1000
    assert (stored / "report.pdf").read_bytes().startswith(b"%PDF")


def test_list_needs_neither_torch_nor_jax():
    said = python(WITHOUT + "main(['list'])")
    assert "linear" in said
    assert "mixed-seminorm" in said
