"""Whatever bytes a record's files hold, and whatever words the command line is given: never a traceback."""

import contextlib
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossbackend import api, cli, stored
from crossbackend.compare import compare
from crossbackend.errors import UserError
from crossbackend.load import load
from crossbackend.plan import Plan
from crossbackend.record import Record, Status
from crossbackend.store import (
    Damaged,
    checksum,
    load_run,
    npz_bytes,
    prepare,
    read_record,
    write_json,
    write_record,
)
from crossbackend.train import run as training
from tests.faults.runs import same

EXAMPLES = settings(max_examples=1000)


def example():
    """A record with all that a record may have."""
    record = Record("abc", Plan("p", "diffrax", "default", "native", 1e-6, 1e-8).as_dict(), Status.OK, loss=0.25)
    record.forward = {"nfe": 14, "accepted": 2, "rejected": 0}
    record.backward = record.forward | {"spurious": 0, "masked": 0}
    record.settings = {"forward": {"rtol": 1e-6}, "backward": {"rtol": 1e-6}}
    steps = {"t0": np.array([0.0, 0.5]), "t1": np.array([0.5, 1.0]), "accepted": np.array([True, True])}
    record.arrays = {f"forward/{name}": array for name, array in steps.items()}
    record.arrays |= {"gradient/y0": np.linspace(0.0, 1.0, 5), "gradient/params/w": np.ones((2, 3))}
    return record


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    prepare(folder)
    write_json(folder / "run.json", {"format": 1, "problems": ["p"]})
    write_record(folder, example())
    return folder


FIELDS = {"format": 1, **example().flat()}
NPZ = npz_bytes(example().arrays)
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 1e308, 10**400, -0.0, 2**63])
leaves = st.none() | st.booleans() | numbers | st.text(max_size=12)
values = st.recursive(leaves, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=8), v, max_size=4))
text_of_json = values.map(lambda value: json.dumps(value).encode())


def paths(fields, above=()):
    """Every place in nested objects."""
    for name, value in fields.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from paths(value, (*above, name))


PLACES = sorted(paths(FIELDS), key=str)


@st.composite
def changed_json(draw):
    """The record's own JSON, some of its fields lost, replaced or added; its checksum holds, or not."""
    fields = json.loads(json.dumps(FIELDS))
    for place in draw(st.lists(st.sampled_from(PLACES), max_size=3)):
        inner = fields
        for name in place[:-1]:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            if draw(st.booleans()):
                inner.pop(place[-1], None)
            else:
                inner[place[-1]] = draw(values)
    if draw(st.booleans()):
        fields[draw(st.text(max_size=8))] = draw(values)
    return fields


NAMED = [*example().arrays, "x", "gradient/", "é"]


@st.composite
def members(draw):
    """A zip of arrays, and of what is none."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for name in draw(st.lists(st.sampled_from(NAMED), unique=True, max_size=4)):
            archive.writestr(f"{name}.npy", draw(arrays() | headers() | st.binary(max_size=60)))
    return content.getvalue()


@st.composite
def arrays(draw):
    kind = draw(st.sampled_from(["f8", "f4", "i8", "?", "c16", "U3", "S4", "M8[s]", "V8", "f8,i4"]))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    part = io.BytesIO()
    np.lib.format.write_array(part, np.zeros(shape, kind), allow_pickle=False)
    return part.getvalue()


@st.composite
def headers(draw):
    """An array's header that says what is not so: a shape of exabytes, a type that is none, a word of Python 2."""
    shape = draw(st.sampled_from(["(10**18,)", "(1000000000000000,)", "(-1,)", "(3L,)", "(2,", "()", "(True,)", "'x'"]))
    kind = draw(st.sampled_from(["'<f8'", "'|O'", "'nonsense'", "[('a', '<f8')]", "None", "'<f8", "'<U999999999'"]))
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    version = draw(st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"]))
    length = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + length + text + draw(st.binary(max_size=40))


def flipped(content):
    """The bytes with some of them changed."""
    spots = st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=4)

    def change(at):
        made = bytearray(content)
        for place, byte in at:
            made[place] = byte
        return bytes(made)

    return spots.map(change)


SEEN = {"believed": 0, "refused": 0}


raw = st.tuples(
    st.binary(max_size=200) | text_of_json | flipped(json.dumps(FIELDS).encode()), st.just(NPZ) | flipped(NPZ)
)
made = st.tuples(changed_json(), st.just(NPZ) | members() | st.binary(max_size=100) | flipped(NPZ))


@given(pair=raw | made | made | made, holds=st.integers(0, 5).map(bool))
@EXAMPLES
def _read(run, pair, holds):
    path = run / "records" / "abc.json"
    fields, npz = pair
    if isinstance(fields, dict):
        if holds:
            with contextlib.suppress(ValueError):  # what is no JSON has no checksum either
                fields["checksum"] = checksum(fields, npz)
        fields = json.dumps(fields).encode()
    path.write_bytes(fields)
    path.with_suffix(".npz").write_bytes(npz)
    try:
        record = read_record(path)
    except Damaged as error:
        SEEN["refused"] += 1
        said = str(error)
    else:
        said = "abc.json: "
        SEEN["believed"] += 1
        fields = json.loads(fields)
        assert fields["checksum"] == checksum(fields, npz), "never without a checksum that holds"
        if npz == NPZ:
            assert same(record.arrays, example().arrays)
    assert said.startswith("abc.json: ")
    found = load_run(run)
    compare(found)
    assert len(found.records) + len(found.damaged) == 1


def test_the_reader_of_records(run, figures):
    """1 000 examples: it raises nothing but Damaged, and what it believes has a checksum that holds."""
    SEEN.update(believed=0, refused=0)
    _read(run)
    assert min(SEEN.values()) > 10, "both happened"
    figures(f"{sum(SEEN.values())} made-up records: {SEEN['refused']} refused, the rest with a checksum that holds")


COMMANDS = ["list", "plan", "run", "train", "compare", "explain", "advise", "diff", "report", "export", "import",
            "lower", "recipe", "new", "check", "nonsense"]  # fmt: skip
FLAGS = ["--problem", "--backend", "--norm", "--stepping", "--rtol", "--atol-factor", "--dtype", "--device", "--json",
         "--first-step", "--out", "--repeats", "--seconds", "--no-timing", "--no-report", "--force", "--timeout",
         "--memory", "--quiet", "--no-explain", "--error", "--by", "--page", "--all", "--no-pdf", "--figures",
         "--julia", "--card", "--library", "--folder", "--seeds", "--seed", "--width", "--preset", "--epochs",
         "--steps", "--jobs", "--loss-scale", "--data", "--cache", "--version", "--help", "-h", "--", "-",
         "--rt"]  # fmt: skip
NAMES = ["linear", "hudson_bay", "scipy", "scipy:jax", "scipy:", "torchdiffeq", "diffrax", "julia", "default", "pooled",
         "seminorm", "native", "matched", "native:pooled", "matched:", ":", "float32", "float64", "cpu", "cuda", "time",
         "nfe", "neural_cde", "cnf", "symoden", "reduced", "paper", "lin.py", "nowhere/run", "~", "~x", ".", "..", "/",
         "/dev/null", "*", "--"]  # fmt: skip
words = (
    st.sampled_from(FLAGS)
    | st.sampled_from(NAMES)
    | numbers.map(str)
    | st.sampled_from(["nan", "inf", "-inf", "1e-6", "1e400", "0x1", "1_0", "", " ", "é", "٣", "x" * 5000])
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
)
junk = st.tuples(st.sampled_from(COMMANDS) | words, st.lists(words, max_size=7)).map(lambda line: [line[0], *line[1]])
TAKES = {
    "--problem": ["linear", "nowhere.py"], "--backend": ["scipy", "scipy:jax", "torchdiffeq", "diffrax", "none"],
    "--norm": ["default", "pooled", "native:pooled", "matched:", "none"], "--stepping": ["native", "matched", ""],
    "--rtol": ["1e-4", "1e-6", "0", "-1", "nan", "inf"], "--atol-factor": ["0.1", "0", "nan"],
    "--dtype": ["float64", "float32", "int"], "--device": ["cpu", "cuda", "tpu"], "--first-step": ["0.1", "0", "inf"],
    "--out": ["run", "/dev/null", "."], "--repeats": ["1", "0"], "--seconds": ["1", "-1", "nan"],
    "--timeout": ["5", "0", "inf"], "--memory": ["1", "nan"],
}  # fmt: skip
flags = st.one_of([st.tuples(st.just(flag), st.sampled_from(taken)) for flag, taken in TAKES.items()])
some = flags | flags | st.sampled_from([("--no-timing",), ("--force",), ("--quiet",), ("--json",), ("linear",), ()])
plausible = st.tuples(
    st.sampled_from(["plan", "run"]), st.sampled_from(["linear", "hudson_bay"]), st.lists(some, max_size=4)
).map(lambda line: [line[0], line[1], *(word for part in line[2] for word in part)])
lines = junk | plausible


class Ran(Exception):
    """The command was understood, and would now begin its work."""


@pytest.fixture
def idle(tmp_path, monkeypatch):
    """Have every command stop where its work begins."""

    def ran(*_, **__):
        raise Ran

    from crossbackend.study import cells, run

    loaded = {name: load(name) for name in ("linear", "hudson_bay")}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "load", lambda name: loaded.get(name) or load(name))
    monkeypatch.setattr(cli, "gallery", lambda: tuple(loaded))
    monkeypatch.setattr(run, "hold", ran)
    monkeypatch.setattr(training, "hold", ran)
    monkeypatch.setattr(cells, "declines", ran)
    monkeypatch.setattr(api, "trial", ran)
    monkeypatch.setattr(api, "_need_tracer", ran)
    for name in ("report_all", "write_report"):
        monkeypatch.setattr(stored, name, ran)


ENDS = {"mistakes": 0, "understood": 0}


@given(line=lines)
@EXAMPLES
def _call(capsys, line):
    try:
        cli.main(line)
        code = 0
    except SystemExit as ended:
        code = ended.code
    except Ran:
        code = 0
    said = capsys.readouterr()
    assert code in (0, 2)
    assert "Traceback" not in said.err
    if code == 2:
        assert "error: " in said.err
    ENDS["mistakes" if code else "understood"] += 1


@pytest.mark.filterwarnings("default")
def test_the_command_line(idle, capsys, figures):
    """1 000 lines of flags, names, numbers and junk: understood, or a message and exit code 2."""
    ENDS.update(mistakes=0, understood=0)
    _call(capsys)
    assert min(ENDS.values()) > 40, "both happened"
    figures(f"{sum(ENDS.values())} made-up command lines: {ENDS['understood']} understood, the rest with a message")


def test_a_mistake_of_a_file_is_one_too(tmp_path):
    (tmp_path / "x.py").write_text("1 / 0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        load(tmp_path / "x.py")
