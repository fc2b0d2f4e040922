"""Records on disk: what is written is read back; what is damaged is named, skipped, and never fatal."""

import errno
import json
import math
import os
import pickle
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crossbackend import store
from crossbackend.errors import UserError
from crossbackend.plan import Plan
from crossbackend.record import Record, Status
from crossbackend.store import Damaged, load_run, prepare, read_record, write_json, write_record, write_reference

positive = st.floats(1e-300, 1e300)
maybe = st.none() | st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.fixed_dictionaries({name: st.integers(0, 10**9) for name in ("nfe", "accepted", "rejected")})
array = hnp.arrays(st.sampled_from([np.float64, np.float32, np.bool_]), hnp.array_shapes(min_dims=0, max_side=3))
leaf = st.text("abcdefgh_0123", min_size=1, max_size=8)
plans = st.builds(
    Plan, text, text, text, st.sampled_from(["native", "matched"]), positive, positive,
    first_step=st.none() | positive,
)  # fmt: skip


@st.composite
def records(draw):
    record = Record(draw(st.text("0123456789abcdef", min_size=8, max_size=8)), draw(plans).as_dict(), Status.OK)
    record.status, record.message = draw(st.sampled_from(list(Status))), draw(text)
    record.loss, record.reconstruction_error = draw(maybe), draw(maybe)
    record.forward, record.backward = draw(counts), draw(counts)
    record.error = {name: draw(maybe) for name in ("all", "y0", "params", "floor")}
    record.peak_memory_bytes = draw(st.none() | st.integers(0, 2**60))
    record.settings = {"forward": {draw(text): draw(text)}, "backward": {}}
    record.versions = {draw(text): draw(text)}
    record.arrays = {f"gradient/params/{name}": value for name, value in draw(st.dictionaries(leaf, array)).items()}
    return record


def example(digest="abc", **changes):
    record = Record(digest, Plan("p", "diffrax", "default", "native", 1e-6, 1e-8).as_dict(), Status.OK, loss=0.25)
    record.forward = record.backward = {"nfe": 14, "accepted": 2, "rejected": 0}
    record.arrays = {"gradient/y0": np.linspace(0.0, 1.0, 5), "forward/accepted": np.array([True, False])}
    for name, value in changes.items():
        setattr(record, name, value)
    return record


@pytest.fixture
def run(tmp_path):
    """A run's folder with two records and a reference."""
    folder = tmp_path / "run"
    prepare(folder)
    write_json(folder / "run.json", {"format": 1, "problems": ["p"]})
    write_json(folder / "problems" / "p.json", {"format": 1, "name": "p"})
    for digest in ("abc", "def"):
        write_record(folder, example(digest))
    write_reference(folder, "p", {"status": "ok", "floor": 1e-12}, {"gradient/y0": np.ones(5)})
    return folder


@given(record=records())
@settings(max_examples=40)
def test_round_trip(tmp_path_factory, record):
    folder = tmp_path_factory.mktemp("round")
    write_record(folder, record)
    back = read_record(folder / "records" / f"{record.digest}.json")
    assert back.flat() == record.flat()
    assert back.arrays.keys() == record.arrays.keys()
    for name, value in record.arrays.items():
        assert back.arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(back.arrays[name], value)


def test_equal_records_are_equal_files(tmp_path):
    for name in ("a", "b"):
        write_record(tmp_path / name, example())
    for ending in ("json", "npz"):
        first, second = ((tmp_path / name / "records" / f"abc.{ending}").read_bytes() for name in ("a", "b"))
        assert first == second


def test_whole_run_is_read(run):
    found = load_run(run)
    assert [record.digest for record in found.records] == ["abc", "def"]
    assert found.cards == {"p": {"format": 1, "name": "p"}}
    assert found.references["p"]["floor"] == 1e-12
    np.testing.assert_array_equal(found.references["p"]["arrays"]["gradient/y0"], np.ones(5))
    assert found.damaged == []


@pytest.mark.parametrize("part", ["records/abc.json", "records/abc.npz", "reference/p.json", "reference/p.npz"])
@given(data=st.data())
@settings(max_examples=25)
def test_a_cut_file_is_named_and_skipped(tmp_path_factory, part, data):
    folder = _copy(tmp_path_factory)
    content = (folder / part).read_bytes()
    (folder / part).write_bytes(content[: data.draw(st.integers(0, len(content.rstrip()) - 1))])
    _is_damaged(load_run(folder), part)


@pytest.mark.parametrize("part", ["records/abc.json", "records/abc.npz", "reference/p.json", "reference/p.npz"])
@given(data=st.data())
@settings(max_examples=40)
def test_a_flipped_bit_is_noticed_or_means_nothing(tmp_path_factory, part, data):
    folder = _copy(tmp_path_factory)
    content = bytearray((folder / part).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    (folder / part).write_bytes(content)
    found = load_run(folder)
    try:  # a space turned into a line feed changes no value
        same = part.endswith("json") and json.loads(content) == json.loads(
            (_copy(tmp_path_factory) / part).read_bytes()
        )
    except ValueError:
        same = False
    if same:
        assert found.damaged == []
    else:
        _is_damaged(found, part)


def _copy(factory):
    folder = factory.mktemp("copy")
    prepare(folder)
    write_json(folder / "run.json", {"format": 1})
    write_record(folder, example())
    write_record(folder, example("other"))
    write_reference(folder, "p", {"status": "ok", "floor": 1e-12}, {"gradient/y0": np.ones(5)})
    return folder


def _is_damaged(found, part):
    assert len(found.damaged) == 1
    assert found.damaged[0].startswith(part.replace("npz", "json"))
    assert [r.digest for r in found.records] == (["other"] if part.startswith("records") else ["abc", "other"])
    assert list(found.references) == ([] if part.startswith("reference") else ["p"])


@pytest.mark.parametrize("value", ["1e400", "-1e400", "NaN", '"x"', "[[[[1]]]]", "{}"])
def test_an_odd_value_is_named_and_skipped(run, value):
    path = run / "records" / "abc.json"
    path.write_text(path.read_text().replace('"loss": 0.25', f'"loss": {value}'))
    assert [r.digest for r in load_run(run).records] == ["def"]


def test_nesting_without_end_is_named_and_skipped(run):
    (run / "records" / "abc.json").write_text("[" * 100_000)
    assert load_run(run).damaged[0].startswith("records/abc.json: cannot be read")


def _resealed(path, **changes):
    """Change fields of a record and write a checksum that holds, as another program would."""
    fields = json.loads(path.read_text()) | changes
    fields["checksum"] = store.checksum(fields, path.with_suffix(".npz").read_bytes())
    path.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rtol": "1e-6"}, "missing or of the wrong kind: rtol"),
        ({"rtol": -1.0, "atol": None}, "missing or of the wrong kind: rtol, atol"),
        ({"problem": 3}, "missing or of the wrong kind: problem"),
        ({"status": "fine"}, "missing or of the wrong kind: status"),
        ({"backward": None}, "missing or of the wrong kind: nfe"),
        ({"forward": {"nfe": None}}, "missing or of the wrong kind: nfe"),
        ({"settings": []}, "missing or of the wrong kind: settings"),
        ({"first_step": 0}, "missing or of the wrong kind: first_step"),
        ({"digest": "xyz"}, "its digest is 'xyz': the file was renamed or copied"),
        ({"format": 2}, "format 2, this version reads format 1"),
    ],
)
def test_another_programs_mistake_is_named(run, changes, words):
    _resealed(run / "records" / "abc.json", **changes)
    with pytest.raises(Damaged, match=f"abc.json: {words}"):
        read_record(run / "records" / "abc.json")
    assert load_run(run).damaged == [f"records/abc.json: {words}"]


def test_a_changed_number_is_not_believed(run):
    path = run / "records" / "abc.json"
    path.write_text(path.read_text().replace('"loss": 0.25', '"loss": 0.26'))
    with pytest.raises(Damaged, match="the checksum does not hold: the file was changed or cut short"):
        read_record(path)


def test_nothing_is_unpickled(run):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(run / "boom"),))

    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        part = BytesIO()
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(part, header)
        archive.writestr("gradient/y0.npy", part.getvalue() + pickle.dumps(Bomb()))
    (run / "records" / "abc.npz").write_bytes(content.getvalue())
    _resealed(run / "records" / "abc.json")
    with pytest.raises(Damaged, match="Object arrays cannot be loaded"):
        read_record(run / "records" / "abc.json")
    assert not (run / "boom").exists()
    with pytest.raises(ValueError, match="allow_pickle"):
        store.npz_bytes({"x": np.array([object()])})


def test_a_temporary_name_is_never_left(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full")))
    with pytest.raises(UserError, match=r"x.json: got a disk that takes no more \(disk full\), expected room for"):
        write_json(path, {"a": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    assert json.loads(path.read_text()) == {"a": 1}


class Killed(BaseException):
    """As SIGKILL: nothing of the process happens after it."""


def killed_after(monkeypatch, count):
    """Have the process end before its next rename or removal once it has made so many."""
    left = [count]

    def dying(real):
        def method(*args, **named):
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return real(*args, **named)

        return method

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, dying(getattr(Path, name)))


@pytest.mark.parametrize("old", [True, False], ids=["rewritten", "new"])
@pytest.mark.parametrize(("count", "is_new"), [(0, False), (1, True), (2, True), (3, True)])
def test_killed_between_any_two_steps_a_record_is_the_old_or_the_new_one(run, monkeypatch, count, is_new, old):
    if not old:
        for part in ("abc.json", "abc.npz"):
            (run / "records" / part).unlink()
    with monkeypatch.context() as patched:
        killed_after(patched, count)
        with pytest.raises(Killed, match=r"^$"):
            write_record(run, example(arrays={"gradient/y0": np.zeros(5)}))
    found = load_run(run)
    assert found.damaged == []
    assert {r.digest for r in found.records} <= {"abc", "def"}
    prepare(run)
    arrays = {record.digest: record.arrays["gradient/y0"] for record in load_run(run).records}
    np.testing.assert_array_equal(arrays["abc"], np.zeros(5) if is_new or not old else example().arrays["gradient/y0"])
    assert sorted(arrays) == ["abc", "def"]
    assert list(run.rglob(".*")) == []


def test_of_a_pair_cut_short_nothing_is_put_in_its_place(run):
    """The arrays were whole under their temporary name, the JSON was not."""
    for part in ("abc.json", "abc.npz"):
        (run / "records" / part).rename(run / "records" / f".{part}.77.tmp")
    staged = run / "records" / ".abc.json.77.tmp"
    staged.write_bytes(staged.read_bytes()[:-40])
    prepare(run)
    assert ([r.digest for r in load_run(run).records], list(run.rglob(".*"))) == (["def"], [])


def test_a_full_disk_keeps_the_old_record(run, monkeypatch):
    real = os.fsync
    calls = []

    def full(number):
        calls.append(number)
        if len(calls) == 2:  # the arrays went down, the JSON does not
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="got a disk that takes no more"):
        write_record(run, example(arrays={"gradient/y0": np.zeros(5)}))
    np.testing.assert_array_equal(load_run(run).records[0].arrays["gradient/y0"], np.linspace(0.0, 1.0, 5))
    assert list(run.rglob(".*")) == []


class TestSeals:
    """A card and a `run.json` carry a checksum of their own; those of other programs need none."""

    def test_what_is_written_is_read_back_without_it(self, run):
        store.write_card(run, "q", {"format": 1, "name": "q"})
        store.write_about(run, {"format": 1, "name": "a run"})
        found = load_run(run)
        assert (found.about, found.cards["q"]) == ({"format": 1, "name": "a run"}, {"format": 1, "name": "q"})
        assert "checksum" in json.loads((run / "problems" / "q.json").read_text())

    def test_a_changed_card_is_not_believed(self, run):
        store.write_card(run, "q", {"format": 1, "name": "q", "description": "decay"})
        path = run / "problems" / "q.json"
        path.write_text(path.read_text().replace("decay", "delay"))
        found = load_run(run)
        assert found.damaged == ["problems/q.json: the checksum does not hold: the file was changed or cut short"]
        assert sorted(found.cards) == ["p"]

    def test_a_changed_run_json_is_refused_and_can_be_made_anew(self, run):
        store.write_about(run, {"format": 1, "name": "first"})
        path = run / "run.json"
        path.write_text(path.read_text().replace("first", "fires"))
        for function in (load_run, prepare):
            with pytest.raises(UserError, match=r"where run.json: the checksum does not hold.* or remove that file"):
                function(run)
        path.unlink()
        prepare(run)


def test_what_a_killed_run_left_is_swept(run):
    left = run / "records" / ".abc.json.123.tmp"
    left.write_text("half")
    prepare(run)
    assert not left.exists()


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range float values"):
        write_record(tmp_path, example(loss=math.nan))
    assert not (tmp_path / "records" / "abc.json").exists()


class TestFolder:
    def test_a_file(self, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(UserError, match=r"--out: got .*out, a file, expected a folder for the run\. Write another"):
            prepare(tmp_path / "out")

    def test_other_files(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("")
        with pytest.raises(UserError, match=r"which holds other files, expected an empty folder or a run\."):
            prepare(tmp_path)

    def test_a_run_that_was_killed_before_its_run_json(self, tmp_path):
        prepare(tmp_path)
        (tmp_path / ".run.json.12.tmp").write_text("{")
        (tmp_path / ".lock").write_text("")
        prepare(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "problems", "records", "reference"]

    def test_a_folder_that_looks_like_a_run(self, tmp_path):
        (tmp_path / "records").mkdir()
        (tmp_path / "records" / "patients.csv").write_text("")
        with pytest.raises(UserError, match="which holds other files"):
            prepare(tmp_path)

    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"file/out \(Not a directory\), expected a folder that can be written"):
            prepare(tmp_path / "file" / "out")

    def test_read_only(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
        with pytest.raises(UserError, match=r"\(it is read-only\), expected a folder that can be written"):
            prepare(tmp_path)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ('{"format": 7}', "run.json: format 7, this version reads format 1"),
            ("[]", "run.json: format 'list', this version reads format 1"),
            ("{", "run.json: cannot be read"),
            ("\xff", "run.json: cannot be read"),
        ],
    )
    @pytest.mark.parametrize("function", [prepare, load_run])
    def test_another_format(self, tmp_path, content, words, function):
        (tmp_path / "run.json").write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match=f"{words}.*expected a run of format 1.* Write another folder"):
            function(tmp_path)

    def test_no_run(self, tmp_path):
        with pytest.raises(UserError, match=r"which holds no run.json, expected the folder of a run\. Make one by"):
            load_run(tmp_path)
        with pytest.raises(UserError, match=r"nowhere, which is no folder, expected the folder of a run"):
            load_run(tmp_path / "nowhere")

    def test_reading_writes_nothing(self, run):
        before = sorted(p for p in run.rglob("*"))
        load_run(run)
        assert sorted(p for p in run.rglob("*")) == before
