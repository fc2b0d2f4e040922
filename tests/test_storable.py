"""A stored file of the wrong kind is named, skipped and never fatal, whichever program wrote it."""

import copy
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossbackend import storable, store
from crossbackend.compare import compare
from crossbackend.errors import UserError
from crossbackend.record import ERROR_PARTS, Record, Status
from crossbackend.store import load_run
from tests.report import synthetic

HUGE = 10**400
PROBLEM = "lotka_volterra"
COUNTS = {"nfe": 9, "accepted": 1, "rejected": 0}


def full():
    """Two norms in two backends at two tolerances; the first record says all that a record can say."""
    found = [
        synthetic.record(PROBLEM, backend, "native", norm, rtol)
        for backend in ("scipy", "diffrax")
        for norm in ("default", "seminorm")
        for rtol in (1e-6, 1e-4)
    ]
    first = found[0]
    times = np.array([0.0, 10.0])
    first.arrays |= {"backward/reconstruction_t": times, "backward/reconstruction": times * 1e-9}
    first.arrays["backward/rms_a_y"] = np.zeros_like(first.arrays["backward/t0"])  # so that `scaled` is looked at
    first.rounding_floor = 1e-14
    first.forward |= {"t_min": -0.1, "t_max": 10.5, "y_max": 1.0}
    first.scaled = {"factor": 20.0, "status": "ok", "message": "", "forward": COUNTS, "backward": COUNTS,
                    "below_atol": 0.0, "error": 1e-7}  # fmt: skip
    return found


RECORDS = full()
FIRST = RECORDS[0].digest
REFERENCE = {"status": "ok", "floor": 1e-12, "check": 1e-9, "loss": 0.25, "leaves": {"params/mlp/0/b": 0.1},
             "routes": [{"name": "a", "seconds": 1.0, "message": ""}]}  # fmt: skip


def stored(folder, spoil=lambda record: None):
    """Store the run, its first record spoiled, with a checksum that holds."""
    store.prepare(folder)
    store.write_json(folder / "run.json", {"format": 1, "name": "run", "problems": [PROBLEM], "declined": []})
    store.write_json(folder / "problems" / f"{PROBLEM}.json", synthetic.card(PROBLEM))
    store.write_reference(folder, PROBLEM, REFERENCE, {"gradient/y0": np.ones(2)})
    for record in copy.deepcopy(RECORDS):
        if record.digest == FIRST:
            spoil(record)
        store.write_record(folder, record)
    return folder


def resealed(path, fields):
    """Write a record's or a reference's fields as another program would."""
    fields["checksum"] = store.checksum(fields, path.with_suffix(".npz").read_bytes())
    path.write_text(json.dumps(fields))


def put(fields, name, value):
    """Set `error.all` and the like."""
    *above, last = name.split(".")
    for key in above:
        fields = fields[key]
    fields[last] = value


def usable(run):
    """Everything that compares a run works, and gives JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # infinite error ratios
        found = compare(run)
        json.dumps(found.as_dict(), allow_nan=False)
        return found.summary()


def test_what_is_whole_is_believed(tmp_path):
    run = load_run(stored(tmp_path))
    assert run.damaged == []
    assert len(run.records) == len(RECORDS)
    assert {"adjoint_below_atol", "evaluates_outside_interval"} <= {f.name for f in compare(run).problems[0].flags}
    usable(run)


def test_the_parts_of_a_split_are_those_of_a_record():
    assert storable.PARTS == ERROR_PARTS


NUMBERS = [
    ("loss", "x"), ("loss", HUGE), ("loss", True), ("reconstruction_error", "x"), ("reconstruction_error", -1.0),
    ("rounding_floor", [1]), ("error.all", "x"), ("error.all", -1), ("error.all", HUGE), ("error.floor", {}),
    ("time.median_s", "x"), ("time.median_s", 0), ("time.median_s", 1e300), ("time.compile_s", -1.0),
    ("time.repeats", 1.5), ("peak_memory_bytes", -1), ("peak_memory_bytes", HUGE), ("forward.nfe", True),
    ("backward.nfe", -1), ("backward.nfe", HUGE), ("backward.spurious", "y"), ("backward.t_min", "x"),
    ("backward.y_max", -1.0), ("scaled.factor", "x"), ("scaled.backward", 3), ("scaled.message", 3),
    ("error_split.residual", "x"), ("error_split.parts", [1]), ("error_split.share.a_y", "x"),
    ("error_split.norm", ["x"]), ("settings.forward", "abc"), ("settings.backward", None), ("machine.cores", HUGE),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), NUMBERS)
def test_a_record_with_a_field_of_another_kind(tmp_path, name, value):
    path = stored(tmp_path) / "records" / f"{FIRST}.json"
    fields = json.loads(path.read_text())
    put(fields, name, value)
    resealed(path, fields)
    shown = name.partition(".")[0] if value == HUGE else name  # what no float holds is named by where it is
    _only(load_run(tmp_path), f"records/{FIRST}.json: {shown}: got ", ", expected ")


LACKING = [
    ("settings", {"forward": {"a": 1}}, "settings.backward: got nothing, expected an object"),
    ("error_split", {"whole": 1.0}, "error_split.residual: got nothing, expected a finite number"),
    ("error_split", {"parts": None, "share": None}, "error_split.whole: got nothing"),
    ("error_split", {"whole": 1.0, "residual": 0.0, "parts": {}, "share": {}}, "error_split.parts.forward: got not"),
    ("scaled", {"backward": COUNTS}, "scaled.factor: got nothing, expected a number"),
    ("scaled", {"factor": 2.0, "backward": {"a": 1}}, "scaled.backward.nfe: got nothing"),
    ("machine", {"a": json.loads("[" * 80 + "]" * 80)}, "machine: got an endless nesting, expected at most 50 levels"),
]


@pytest.mark.parametrize(("name", "value", "words"), LACKING)
def test_a_record_without_what_another_part_leans_on(tmp_path, name, value, words):
    _only(load_run(stored(tmp_path, lambda record: setattr(record, name, value))), words)


@pytest.mark.parametrize(
    ("name", "value"),
    [("settings", {}), ("settings", {"forward": {}}), ("error_split", {}), ("error_split", {"message": "why"}),
     ("scaled", {"message": "why"}), ("scaled", {}), ("time", {"median_s": None}), ("time", {}), ("error", {}),
     ("error", {"all": None, "mine": "x"}), ("peak_memory_bytes", None), ("backward", {"nfe": 5})],
)  # fmt: skip
def test_what_is_absent_or_unknown_is_no_mistake(tmp_path, name, value):
    run = load_run(stored(tmp_path, lambda record: setattr(record, name, value)))
    assert run.damaged == []
    usable(run)


def short(a):
    return a[:-1]


def with_nan(a):
    return np.where(np.arange(len(a)) == 0, np.nan, a)


ARRAYS = [
    ("backward/accepted", None, "got nothing, expected an array as long as backward/t0"),
    ("backward/t1", None, "got nothing"),
    ("backward/t1", short, "got shape"),
    ("forward/accepted", short, "got shape"),
    ("backward/t1", lambda a: a[:, None], "got shape"),
    ("backward/t0", with_nan, "got NaN or infinity, expected finite times"),
    ("forward/t0", lambda a: a + np.inf, "got NaN or infinity"),
    ("backward/t0", lambda a: a.astype(str), "got an array of <U32, expected an array of real numbers"),
    ("backward/accepted", lambda a: a.astype(np.int64) + 1, "got an array of int64, expected true and false"),
    ("backward/accepted", lambda a: a.astype(float), "got an array of float64"),
    ("backward/ratio_state", lambda a: a.astype(str), "expected an array of real numbers"),
    ("backward/reconstruction", lambda a: a[:, None], "expected an array of one dimension"),
    ("gradient/y0", lambda a: a.astype(complex), "got an array of complex128"),
    ("gradient/params/mlp/0/w", lambda a: a.astype("M8[s]"), "expected an array of real numbers"),
]


@pytest.mark.parametrize(("name", "spoil", "words"), ARRAYS)
def test_a_record_with_an_array_of_another_kind(tmp_path, name, spoil, words):
    def spoiled(record):
        array = record.arrays.pop(name)
        if spoil is not None:
            record.arrays[name] = spoil(array)

    _only(load_run(stored(tmp_path, spoiled)), f"{name}: got ", words)


def test_a_matrix_of_times_is_no_sequence_of_steps(tmp_path):
    def spoiled(record):
        for name in ("t0", "t1", "accepted"):
            record.arrays[f"backward/{name}"] = record.arrays[f"backward/{name}"][:, None]

    _only(load_run(stored(tmp_path, spoiled)), "backward/t0: got shape", "expected one dimension")


def test_a_failed_solve_may_have_attempted_any_step(tmp_path):
    def failed(record):
        record.status = Status.NAN_IN_FIELD
        record.arrays["backward/t1"] = with_nan(record.arrays["backward/t1"])

    assert load_run(stored(tmp_path, failed)).damaged == []


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_ones_and_zeros_are_true_and_false(tmp_path, dtype):
    def counted(record):
        record.arrays["backward/accepted"] = record.arrays["backward/accepted"].astype(dtype)

    expected = compare(load_run(stored(tmp_path / "a"))).problems[0].rejections
    assert compare(load_run(stored(tmp_path / "b", counted))).problems[0].rejections == expected


@pytest.mark.parametrize("lost", ["t0", "t1", "accepted"])
def test_steps_that_do_not_fit_together_are_none(lost):
    whole = {"forward/t0": np.zeros(3), "forward/t1": np.ones(3), "forward/accepted": np.ones(3, bool)}
    record = Record("a", {}, Status.OK, forward={"nfe": None}, arrays=whole)
    assert record.steps("forward").nfe == 0
    record.arrays = whole | {f"forward/{lost}": whole[f"forward/{lost}"][:2]}
    assert record.steps("forward") is None
    record.arrays = {name: array for name, array in whole.items() if not name.endswith(lost)}
    assert record.steps("forward") is None
    record.arrays = {name: array[:, None] for name, array in whole.items()}
    assert record.steps("forward") is None


def _only(run, *words):
    """One file is damaged, for these reasons; the rest of the run is there and can be compared."""
    assert len(run.damaged) == 1
    for word in words:
        assert word in run.damaged[0]
    assert FIRST not in {record.digest for record in run.records}
    assert len(run.records) == len(RECORDS) - 1
    assert "1 file was damaged and skipped." in usable(run)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ts", "abc"), ("ts", 3), ("ts", ["a", "b"]), ("ts", [1.0, 1.0]), ("ts", [2.0, 1.0]), ("ts", [-1.7e308, 1.7e308]),
     ("ts", [0, HUGE]), ("breakpoints", ["a"]), ("state_size", "x"), ("state_size", 1.5), ("state", 3),
     ("picture", 3), ("picture.series", 3), ("picture.t", 3), ("description", 3)],
)  # fmt: skip
def test_a_card_with_a_field_of_another_kind(tmp_path, name, value):
    path = stored(tmp_path) / "problems" / f"{PROBLEM}.json"
    fields = json.loads(path.read_text())
    put(fields, name, value)
    path.write_text(json.dumps(fields))
    run = load_run(tmp_path)
    assert run.cards == {}
    assert len(run.damaged) == 1
    assert run.damaged[0].startswith(f"problems/{PROBLEM}.json: {name}: got ")
    usable(run)


@pytest.mark.parametrize(
    ("name", "value"),
    [("floor", "x"), ("floor", -1.0), ("check", "x"), ("routes", 5), ("routes", [{"message": ["a"]}]),
     ("leaves", ["a"]), ("leaves", {"params/a": "x"}), ("status", ["a"])],
)  # fmt: skip
def test_a_reference_with_a_field_of_another_kind(tmp_path, name, value):
    path = stored(tmp_path) / "reference" / f"{PROBLEM}.json"
    resealed(path, json.loads(path.read_text()) | {name: value})
    run = load_run(tmp_path)
    assert run.references == {}
    assert len(run.damaged) == 1
    assert run.damaged[0].startswith(f"reference/{PROBLEM}.json: {name}: got ")
    usable(run)


def test_a_reference_gradient_of_words(tmp_path):
    store.write_reference(stored(tmp_path), PROBLEM, REFERENCE, {"gradient/y0": np.array(["a"])})
    assert "gradient/y0: got an array of <U1" in load_run(tmp_path).damaged[0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("problems", 5, "its problems are no list of names"), ("problems", [{}], "its problems are no list of names"),
     ("declined", 5, "its declined plans are no list"), ("machine", [], "machine: got [], expected an object"),
     ("versions", "x", "versions: got 'x', expected an object"), ("name", [1], "name: got [1], expected text"),
     ("seconds", "x", "seconds: got 'x'"), ("machine", {"memory_bytes": HUGE}, "machine: got 1000"),
     ("mine", float("inf"), "mine: got inf")],
)  # fmt: skip
def test_a_run_json_of_another_kind_is_refused(tmp_path, name, value, words):
    path = stored(tmp_path) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    for function in (load_run, store.prepare):
        with pytest.raises(UserError, match=r"expected a run of format 1.* Write another folder") as raised:
            function(tmp_path)
        assert f"where run.json: {words}" in str(raised.value)


def _paths(fields, above=""):
    for name, value in fields.items():
        yield above + name
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{name}.")


FIELDS = sorted(set(_paths(RECORDS[0].flat())) - {"digest"})
numbers = (
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([HUGE, -HUGE, 2**63, 5e-324])
)
names = st.sampled_from([name.rpartition(".")[2] for name in FIELDS]) | st.text(max_size=3)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = stored(tmp_path_factory.mktemp("run"))
    return folder, (folder / "records" / f"{FIRST}.json").read_text()


@given(name=st.sampled_from(FIELDS), value=values)
@settings(max_examples=150, deadline=None)
def test_any_value_in_any_field_is_used_or_named(shared, name, value):
    folder, content = shared
    fields = json.loads(content)
    put(fields, name, value)
    resealed(folder / "records" / f"{FIRST}.json", fields)
    run = load_run(folder)
    assert len(run.records) + len(run.damaged) == len(RECORDS)
    usable(run)
