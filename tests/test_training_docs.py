"""The pages on training and its records are true: fields, arrays, presets, norms and options are the code's."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossbackend import storable
from crossbackend.cli import parser
from crossbackend.train import checkpoint, loop
from crossbackend.train.experiment import Samples
from crossbackend.train.experiments import EXPERIMENTS
from crossbackend.train.job import Job
from crossbackend.training_record import TrainingRecord
from tests.report import synthetic_training as made

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "training.md").read_text(encoding="utf-8")
RECORDS = (DOCS / "records.md").read_text(encoding="utf-8").partition("\n## Training records\n")[2]
FIELDS, ARRAYS = (
    {name: unit for name, unit, _ in re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+) \|$", part, re.MULTILINE)}
    for part in RECORDS.split("| array | shape | holds |")
)
OPEN = ("settings.model", "settings.data", "machine", "versions")


def leaves(value, path=""):
    """Return the dotted names of a record's fields; objects that may hold anything are not looked into."""
    if isinstance(value, dict) and path not in OPEN:
        return [name for key, item in value.items() for name in leaves(item, f"{path}.{key}" if path else key)]
    if path == "epochs":
        return leaves(value[0], "epochs[]")
    return [path]


def written():
    """Return the names of a record's fields as a training would fill them."""
    job = Job("neural_cde", "reduced", "diffrax", "default")
    samples = Samples({"values": np.zeros((50, 3))}, {"values": np.zeros((10, 3))})
    record = made.training("neural_cde", "diffrax", "default", 0)
    record.settings = job.settings(samples)
    names = ["format", *leaves(record.flat()), "checksum"]
    return {name.replace(f"[].{record.metric}", "[].METRIC") for name in names}


def kind_of(name):
    """Return what a file may hold in a field."""
    fields = storable.TRAINING
    for part in name.split("."):
        fields = fields[part]
    return fields


def test_every_field_is_documented():
    assert set(FIELDS) == written()
    assert all(text.strip() for text in FIELDS.values())


def test_what_is_checked_in_a_file_is_documented():
    """The kinds of a stored training name no field that the page lacks."""
    checked = set(leaves({name: kind for name, kind in storable.TRAINING.items() if name != "epochs"}))
    assert checked <= set(FIELDS)


@pytest.mark.parametrize(("unit", "words"), [
    ("count", "a whole number that is not negative"), ("s", "seconds that are not negative"),
])  # fmt: skip
def test_units_are_the_kinds_that_a_file_may_hold(unit, words):
    looked = 0
    for name, said in FIELDS.items():
        if said == unit and not name.startswith("epochs") and not name.endswith("_per_batch"):
            assert kind_of(name).words.startswith(words), name
            looked += 1
    assert looked >= 5


def test_every_array_is_documented():
    record = made.training("symoden", "diffrax", "default", 0)
    named = {f"curve/{name}" for name in loop.CURVES}
    named |= {name for name in record.arrays if name.startswith(("solve/", "control/"))}
    assert set(ARRAYS) == named | {"params/NAME"}
    assert f"up to {loop.SOLVES};" in RECORDS
    assert all(hasattr(TrainingRecord, name) for name in re.findall(r"`(?:TrainingRecord)?\.(\w+)[`(]", RECORDS))


def test_the_presets_are_the_code_s():
    rows = [row(name, size, preset) for name, one in EXPERIMENTS.items() for size, preset in one.presets.items()]
    found = re.findall(r"^\| `\w+` \| `[\w-]+` \|.*$", PAGE, re.MULTILINE)
    assert found == rows


def row(name, size, preset):
    """Return a preset as the page's table has it."""
    optimiser, model = preset.optimiser, preset.model
    decay = f", weight decay {power(optimiser.weight_decay)}" if optimiser.weight_decay else ""
    said = {"adam": "Adam", "adamw": "AdamW"}[optimiser.name]
    networks = ", ".join(f"{key} {'-'.join(map(str, v)) if isinstance(v, tuple) else v}" for key, v in model.items())
    data = f"{preset.data['name']}" + (f", {preset.data['trajectories']} trajectories a control"
                                       if "trajectories" in preset.data else "")  # fmt: skip
    cells = [f"`{name}`", f"`{size}`", data, preset.epochs, preset.batch_size, power(preset.rtol), power(preset.atol),
             f"{said} {power(optimiser.learning_rate)}{decay}", networks]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def power(value):
    return f"{value:g}" if value >= 0.01 else f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")


def test_the_norms_are_the_code_s():
    rows = re.findall(r"^\| `(\w+)` \| ((?:`[\w-]+`(?:, )?)+) \|$", PAGE, re.MULTILINE)
    assert {name: tuple(norms.replace("`", "").split(", ")) for name, norms in rows} == {
        name: one.norms for name, one in EXPERIMENTS.items()
    }


def test_options_and_commands_exist():
    commands: Any = next(a for a in parser()._actions if a.dest == "command").choices
    for line in re.findall(r"^crossbackend (.+?)(?:  +#.*)?$", PAGE, re.MULTILINE):
        name, *_ = line.split()
        assert name in commands
    known = {option for command in commands.values() for action in command._actions for option in action.option_strings}
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", PAGE))
    assert named <= known
    train = {option for action in commands["train"]._actions for option in action.option_strings}
    assert train - named <= {"-h", "--help", "--no-report", "--quiet"}
    repeated = {a.option_strings[0] for a in commands["train"]._actions if type(a).__name__ == "_AppendAction"}
    assert set(re.findall(r"--\w+", re.search(r"can be repeated \(([^)]*)\)", PAGE)[1])) == repeated


def test_commands_of_the_page_are_understood():
    for line in re.findall(r"^crossbackend (.+?)(?:  +#.*)?$", PAGE, re.MULTILINE):
        parser().parse_args(line.split())


def test_numbers_of_the_page():
    words = " ".join(PAGE.split())
    assert f"at most every {loop.CHECKPOINT_S:g} s" in words
    assert f"The attempts of the last {loop.SOLVES} training steps" in words
    assert str(checkpoint.path(Path("RUN"), "NAME")) == "RUN/training/NAME.checkpoint.npz"
    assert "`training/NAME.checkpoint.npz`" in PAGE
    assert parser().parse_args(["train", "cnf"]).out == Path("reports/training")
    job = Job("neural_cde", "reduced", "diffrax", "default")
    assert job.sizes().atol / job.sizes().rtol * 1e-5 == pytest.approx(1e-8)
