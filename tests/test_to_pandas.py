"""Records as a table: the columns that docs/records.md names, whatever the records hold."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crossbackend.compare import Comparison, ProblemComparison, compare
from crossbackend.error_split import _compared
from crossbackend.frame import COLUMNS
from crossbackend.plan import Plan
from crossbackend.record import ERROR_PARTS, Gradient, Outcome, Record, Status, Steps, from_outcome
from crossbackend.store import Run, prepare, write_json, write_record
from crossbackend.study.explained import _scale
from crossbackend.study.timing import statistics
from tests.report import synthetic

PAGE = (Path(__file__).parents[1] / "docs" / "records.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COUNTED = {name for name, dtype in COLUMNS.items() if dtype == "Int64"}


def of(*records):
    return compare(Run(None, records=list(records)))


def outcome():
    """Return what a counting run gives, with error ratios and all that is measured on the way."""
    blocks = {f"ratio_{name}": np.array([0.5, 2.0]) for name in ("y", "a_y", "a_params", "state")}
    seen = blocks | {"ratio": np.array([0.5, 2.0]), "rms_a_y": np.array([1e-9, 1e-9])}
    there = Steps(np.array([0.0, 0.5]), np.array([0.5, 1.0]), np.array([True, True]), 14, {}, (0.0, 1.0), 2.0)
    back = Steps(np.array([1.0, 1.0]), np.array([0.0, 0.5]), np.array([True, False]), 13, seen, (0.0, 1.0), 2.0)
    gradient = Gradient(1.5, {"": np.array([1.0, 2.0])}, {"w": np.array(3.0)})
    return Outcome(Status.OK, "", gradient, {"": np.ones((2, 2))}, there, back, {1.0: 0.0, 0.0: 1e-7}, 1e-14)


def measured():
    """Return a record that holds everything that is ever measured, by the functions that measure it."""
    plan = Plan("p", "scipy", "default", "native", 1e-6, 1e-8, first_step=0.01)
    found = outcome()
    record = from_outcome("0" * 64, plan.as_dict(), found, {})
    exact = Gradient(1.5, {"": np.array([1.0, 2.1])}, {"w": np.array(3.0)})
    record.error = dict.fromkeys(record.error, 1e-5)
    record.error_split = _compared(exact, found.gradient, dict.fromkeys(ERROR_PARTS, found.gradient), found.gradient)
    record.time = statistics([0.1, 0.2, 0.4], {"compile_s": 2.0, "first_s": 0.5})
    record.peak_memory_bytes, record.memory_rise_bytes, record.device_memory_bytes = 400_000_000, 90_000, 1_000
    assert record.backward is not None
    record.backward["parts"] = {"vjp_y": 9, "vjp_params": 4, "recomputed": 2}
    worker = SimpleNamespace(ask=lambda *args, **options: (1e6, found))
    study = SimpleNamespace(workers={"scipy": worker})
    _scale(study, SimpleNamespace(plan=plan, problem=None), record, found)
    return record


def bare(record):
    """Return the row of a record that need not make sense to a comparison."""
    (row,) = Comparison({}, [ProblemComparison("p", {}, {}, records=[record])], []).to_pandas().to_dict("records")
    return row


def leaves(value, path=""):
    """Return the names of all that a nested dict holds."""
    if isinstance(value, dict):
        return [name for key, item in value.items() for name in leaves(item, f"{path}.{key}" if path else key)]
    return [path]


def test_every_column_is_documented_in_order():
    assert [name for name, *_ in ROWS] == list(COLUMNS)
    assert all(text.strip() for row in ROWS for text in row)


def test_the_documented_units_are_the_columns_types():
    units = {name: unit for name, unit, *_ in ROWS}
    assert {name for name, unit in units.items() if unit in ("count", "bytes")} == COUNTED
    assert all(units[name] == "s" for name in COLUMNS if name.startswith("time.") and name.endswith("_s"))
    words = {name for name, unit in units.items() if unit in ("name", "text", "as `status`") or unit.startswith("`")}
    assert words | {"digest"} == {name for name, dtype in COLUMNS.items() if dtype == "string"}
    for status in Status:
        assert f"`{status}`" in units["status"]


@pytest.mark.parametrize("made", [*synthetic.MADE, "measured"])
def test_every_comparison_has_the_same_columns(made):
    comparison = of(measured()) if made == "measured" else synthetic.MADE[made]()
    table = comparison.to_pandas()
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == COLUMNS
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == len(comparison.records)
    assert list(table["digest"]) == [record.digest for record in comparison.records]
    assert not any(name.startswith(("settings", "machine", "versions")) for name in table.columns)


def test_nothing_that_is_measured_is_left_out():
    record = measured()
    fields = record.flat()
    for name in ("settings", "machine", "versions"):
        del fields[name]
    assert set(leaves(fields)) | {"error_split.message"} == set(COLUMNS)
    (row,) = of(record).to_pandas().to_dict("records")
    missing = {name for name, value in row.items() if pd.isna(value)}
    assert missing == {"error_split.message", "scaled.error"}


def test_the_numbers_are_the_records():
    (row,) = of(measured()).to_pandas().to_dict("records")
    expected = {
        "rtol": 1e-6, "first_step": 0.01, "loss": 1.5, "forward.nfe": 14, "backward.accepted": 1, "status": "ok",
        "backward.spurious": 0, "backward.rejected": 1, "time.median_s": 0.2, "time.repeats": 3, "scaled.factor": 1e6,
        "scaled.below_atol": 1.0, "scaled.backward.nfe": 13, "reconstruction_error": 1e-7,
        "peak_memory_bytes": 400_000_000, "memory_rise_bytes": 90_000, "backward.parts.vjp_params": 4,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


def test_an_empty_comparison_has_every_column_and_joins_another():
    empty = Comparison({}, [], []).to_pandas()
    assert (len(empty), {name: str(dtype) for name, dtype in empty.dtypes.items()}) == (0, COLUMNS)
    both = pd.concat([empty, of(measured()).to_pandas()], ignore_index=True)
    assert {name: str(dtype) for name, dtype in both.dtypes.items()} == COLUMNS


@pytest.mark.parametrize(
    ("value", "count", "number"),
    [
        (8, 8, 8.0), (8.0, 8, 8.0), (np.int64(8), 8, 8.0), (8.5, None, 8.5), (True, None, None), ("8", None, None),
        ([8], None, None), (10**400, None, None), (2**70, None, float(2**70)), (float("nan"), None, None),
        (float("inf"), None, float("inf")), (None, None, None), ({"nfe": 8}, None, None),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_missing_not_an_error(value, count, number):
    """Other programs write records too, and only what a comparison rests on is checked when they are read."""
    record = measured()
    record.time, record.peak_memory_bytes = {"median_s": value, "repeats": value}, value
    row = bare(record)
    for name in ("peak_memory_bytes", "time.repeats"):
        assert (None if pd.isna(row[name]) else row[name]) == count
    assert (None if pd.isna(row["time.median_s"]) else row["time.median_s"]) == number


def test_parts_that_are_no_objects_are_missing():
    record = measured()
    record.forward, record.scaled, record.error = None, "soon", {}
    row = bare(record)
    assert pd.isna(row["forward.nfe"])
    assert pd.isna(row["scaled.forward.nfe"])
    assert pd.isna(row["error.all"])
    assert row["backward.nfe"] == 13


def test_a_failed_plan_keeps_its_words():
    plan = Plan("p", "diffrax", "default", "native", 1e-6, 1e-8).as_dict()
    (row,) = of(Record("x", plan, Status.DIVERGED, "max|y| reached 4e8")).to_pandas().to_dict("records")
    assert (row["status"], row["message"]) == ("diverged", "max|y| reached 4e8")
    assert all(pd.isna(row[name]) for name in ("loss", "forward.nfe", "time.median_s", "first_step"))


def test_what_the_page_shows_runs_as_it_stands(tmp_path, monkeypatch):
    folder = tmp_path / "reports" / "latest"
    prepare(folder)
    write_json(folder / "run.json", {"format": 1, "name": "latest"})
    for backend in synthetic.BACKENDS:
        write_record(folder, synthetic.record("lotka_volterra", backend, "native", "default", 1e-6))
    monkeypatch.chdir(tmp_path)
    known = {}
    for block in BLOCKS:
        exec(compile(block, "records.md", "exec"), known)
    assert len(BLOCKS) == 3
    assert len(known["native"]) == 3
    pivot = known["native"].pivot_table("backward.nfe", ["problem", "norm"], "backend")
    assert list(pivot.columns) == list(synthetic.BACKENDS)
    assert pivot.notna().all(axis=None)
