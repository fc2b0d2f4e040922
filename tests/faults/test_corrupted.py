"""Files cut short and bits turned over: each is named, none is fatal, none is believed."""

import io
import json
import os
import pickle
import random
import zipfile

import numpy as np
import pytest

from crossbackend.compare import compare
from crossbackend.errors import UserError
from crossbackend.plan import Plan
from crossbackend.record import Record, Status
from crossbackend.store import (
    load_run,
    prepare,
    read_training,
    write_about,
    write_card,
    write_record,
    write_reference,
    write_training,
)
from crossbackend.train import checkpoint
from crossbackend.train.checkpoint import Checkpoint
from tests.faults.runs import same
from tests.report import synthetic, synthetic_training

CORRUPTIONS = 400


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of six records, two cards, two references and two trainings."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    prepare(folder)
    write_about(folder, {"format": 1, "name": "run", "problems": ["p", "q"], "machine": {"system": "Linux"}})
    rng = np.random.default_rng(3)
    for problem in "pq":
        write_card(folder, problem, synthetic.card(problem) | {"name": problem})
        about = {"problem": problem, "status": "ok", "floor": 1e-12, "check": 1e-7, "loss": 0.5}
        write_reference(folder, problem, about, {"gradient/y0": rng.normal(size=5)})
        for backend in ("scipy", "diffrax", "torchdiffeq"):
            plan = Plan(problem, backend, "default", "native", 1e-6, 1e-8).as_dict()
            record = Record(f"{problem}{backend}", plan, Status.OK, loss=rng.normal())
            record.forward = record.backward = {"nfe": 14, "accepted": 2, "rejected": 0}
            record.arrays = {"gradient/y0": rng.normal(size=5), "gradient/params/w": rng.normal(size=(8, 8))}
            write_record(folder, record)
    for seed in (0, 1):
        write_training(folder, synthetic_training.training("symoden", "diffrax", "default", seed))
    assert not load_run(folder).damaged
    return folder


def contents(found):
    """Everything that a run's files said, by the file."""
    says = {f"records/{r.digest}": (r.flat(), r.arrays) for r in found.records}
    says |= {f"training/{r.name}": (r.flat(), r.arrays) for r in found.training}
    says |= {f"problems/{name}": (card, {}) for name, card in found.cards.items()}
    for name, about in found.references.items():
        says[f"reference/{name}"] = ({k: v for k, v in about.items() if k != "arrays"}, about["arrays"])
    return says


def corrupt(content, rng):
    """Damage bytes in one of the ways that disks, copies and people do; never return them as they were."""
    at = rng.randrange(len(content))
    end = min(len(content), at + rng.choice((1, 16, 512)))
    way = rng.choice(("cut", "cut", "bit", "bit", "bit", "zeros", "noise", "twice", "more", "empty", "lost"))
    made = {
        "cut": lambda: content[:at],
        "bit": lambda: content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :],
        "zeros": lambda: content[:at] + bytes(end - at) + content[end:],
        "noise": lambda: content[:at] + rng.randbytes(end - at) + content[end:],
        "twice": lambda: content + content,
        "more": lambda: content + rng.randbytes(30),
        "empty": lambda: b"",
        "lost": lambda: content[:at] + content[end:],
    }[way]()
    return made if made != content else corrupt(content, rng)


def means_the_same(path, damaged, whole):
    """Whether damaged JSON says what the whole file said: a space turned into a line feed, 1e-6 into 1E-6.

    Of a card and a `run.json`, which need no checksum, also where the name of the checksum itself is damaged.
    """
    if path.suffix != ".json":
        return False
    try:
        found, true = json.loads(damaged), json.loads(whole)
    except ValueError:
        return False
    if path.parent.name == "problems" or path.name == "run.json":
        if "checksum" not in found:
            true.pop("checksum")
            return true.items() <= found.items()
    return found == true


def test_corrupted_files_are_named_and_not_believed(run, figures):
    rng = random.Random(20211121)
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != "run.json")
    kinds = {(path.parent.name, path.suffix) for path in files}
    assert len(kinds) == 7
    truth, tried = contents(load_run(run)), dict.fromkeys(sorted(kinds), 0)
    named = harmless = believed = 0
    for number in range(CORRUPTIONS):
        parent, suffix = sorted(kinds)[number % len(kinds)]
        path = rng.choice([path for path in files if (path.parent.name, path.suffix) == (parent, suffix)])
        whole = path.read_bytes()
        path.write_bytes(corrupt(whole, rng))
        try:
            found = load_run(run)
            compare(found)
            key = f"{parent}/{path.name.removesuffix(suffix)}"
            tried[parent, suffix] += 1
            if means_the_same(path, path.read_bytes(), whole):
                harmless += 1
                assert found.damaged == []
            else:
                (sentence,) = found.damaged
                named += sentence.startswith(f"{key}.json: ")
            now = contents(found)
            believed += sum(
                not (truth[k][0].items() <= now[k][0].items() and same(now[k][1], truth[k][1])) for k in now
            )
            assert truth.keys() - now.keys() <= {key}, "no other file is lost"
        finally:
            path.write_bytes(whole)
    assert min(tried.values()) > 50
    assert (named + harmless, believed) == (CORRUPTIONS, 0)
    figures(f"{CORRUPTIONS} files corrupted: {named} named, {harmless} without a meaning, {believed} believed")


def test_a_corrupted_run_json_is_said_and_the_records_stay(run, figures):
    rng = random.Random(1)
    path = run / "run.json"
    whole = path.read_bytes()
    refused = 0
    for _ in range(100):
        path.write_bytes(corrupt(whole, rng))
        try:
            if means_the_same(path, path.read_bytes(), whole):
                true = {name: value for name, value in json.loads(whole).items() if name != "checksum"}
                assert true.items() <= load_run(run).about.items()
                continue
            with pytest.raises(UserError, match=r"run: got .*, where run\.json: .*, expected a run of format 1\."):
                load_run(run)
            refused += 1
        finally:
            path.write_bytes(whole)
    path.unlink()
    prepare(run)  # the same command takes the folder again
    path.write_bytes(whole)
    assert len(load_run(run).records) == 6
    figures(f"100 times run.json corrupted: {refused} refused with its name")


def example():
    arrays = {"state/w": np.linspace(0, 1, 30), "curve/loss": np.ones(7), "solve/count": np.array(2)}
    return Checkpoint({"settings": {"seed": 1}, "epochs": [], "seconds": 1.5}, arrays)


def test_corrupted_checkpoints_are_named_and_not_believed(tmp_path, figures):
    rng = random.Random(5)
    path = tmp_path / "training" / "x.checkpoint.npz"
    checkpoint.write(path, example())
    whole, refused = path.read_bytes(), []
    for _ in range(300):
        path.write_bytes(corrupt(whole, rng))
        try:
            found = checkpoint.read(path)
        except UserError as error:
            refused.append(str(error))
        else:  # a date or a flag of the archive, say
            assert found.about == example().about
            assert same(found.arrays, example().arrays)
    assert len(refused) > 200
    fix = "Remove it, or write --force, to begin anew."
    assert all(words.startswith(f"{path}: got a damaged file (") and words.endswith(fix) for words in refused)
    figures(f"300 checkpoints corrupted: {len(refused)} refused with their name, 0 believed")


@pytest.mark.parametrize("about", [b"[]", b"{}", b'{"settings": 1, "epochs": [], "seconds": 1}', b"[" * 100_000])
def test_a_checkpoint_of_another_kind_is_refused(tmp_path, about):
    np.savez(tmp_path / "x.npz", about=np.frombuffer(about, np.uint8))
    with pytest.raises(UserError, match=r"got a damaged file \("):
        checkpoint.read(tmp_path / "x.npz")


class Bomb:
    """What runs when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def armed(folder, name):
    """The bytes of an npz whose array is pickled."""
    content, part = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(part, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{name}.npy", part.getvalue() + pickle.dumps(Bomb(folder)))
        archive.writestr("other.pkl", pickle.dumps(Bomb(folder)))
    return content.getvalue()


def test_nothing_is_unpickled_from_any_file(run, tmp_path):
    """Not from records, references, trainings, nor checkpoints, with checksums that hold."""
    from tests.faults.runs import resealed

    boom = tmp_path / "boom"
    pickle.loads(pickle.dumps(Bomb(boom)))
    assert boom.is_dir(), "the bomb works"
    boom.rmdir()
    (tmp_path / "x.npz").write_bytes(armed(boom, "about"))
    with pytest.raises(UserError, match="Object arrays cannot be loaded"):
        checkpoint.read(tmp_path / "x.npz")
    for part in ("records", "reference", "training"):
        path = min((run / part).glob("*.json"))
        kept = {one: one.read_bytes() for one in (path, path.with_suffix(".npz"))}
        path.with_suffix(".npz").write_bytes(armed(boom, "gradient/y0"))
        resealed(path)
        try:
            (sentence,) = load_run(run).damaged
        finally:
            for one, content in kept.items():
                one.write_bytes(content)
        assert sentence.startswith(f"{part}/{path.name}: ")
        assert "Object arrays cannot be loaded" in sentence
    assert not boom.exists()
    assert read_training(min((run / "training").glob("*.json"))).experiment == "symoden"
