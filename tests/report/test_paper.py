"""The Paper part of the report: means against hand computation, damaged trainings named, pages, PDF, browser."""

import copy
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossbackend import storable, store, training_summary
from crossbackend.compare import compare
from crossbackend.published import PUBLISHED, saved
from crossbackend.report import figures, html, index, paper_histograms, paper_tables, pdf, pendulum, view, write
from crossbackend.report.names import names_of, training_names
from crossbackend.spread import Spread, spread
from crossbackend.store import load_run, read_training, write_training
from crossbackend.training_record import TrainingRecord
from crossbackend.training_summary import trainings
from tests.report import synthetic
from tests.report import synthetic_training as made
from tests.report.test_browser import visit  # noqa: F401 - a fixture
from tests.report.test_html import Page
from tests.report.test_pdf import MARGIN, boxes, pages  # noqa: F401 - boxes is a fixture

MADE = tuple(made.MADE)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Path of a made-up run's `index.html` or `report.pdf`, each made once."""
    folder = tmp_path_factory.mktemp("papers")
    makers = {".html": html.render, ".pdf": pdf.render}

    def path(name, suffix):
        found = folder / f"{name}{suffix}"
        if not found.exists():
            found.write_bytes(makers[suffix](made.shown(name)))
        return found

    return path


def stored(folder, records):
    store.prepare(folder)
    store.write_json(folder / "run.json", {"format": 1, "name": "paper"})
    return [write_training(folder, record) for record in records]


def simple(norm="default", seed=0, nfe=100.0, final=0.9, **more):
    """A training of two epochs with the numbers that are asked for."""
    rows = [{"epoch": 1, "accuracy": 0.5, "backward_nfe": 10}, {"epoch": 2, "accuracy": final, "backward_nfe": 20}]
    own = {"problem": "neural_cde", "epochs": rows, "steps": 4, "backward_nfe_per_batch": nfe}
    return TrainingRecord(
        "neural_cde", more.pop("backend", "diffrax"), norm, seed, 1e-3, 1e-6, "accuracy", **own | more
    )


class TestStored:
    def test_what_is_written_is_read(self, tmp_path):
        records = made.records()[::9]
        stored(tmp_path, records)
        run = load_run(tmp_path)
        assert run.damaged == []
        assert {r.name: r.flat() for r in run.training} == {r.name: r.flat() for r in records}
        by_name = {r.name: r for r in records}
        for found in run.training:
            assert set(found.arrays) == set(by_name[found.name].arrays)
            assert all(np.array_equal(found.arrays[k], by_name[found.name].arrays[k]) for k in found.arrays)
        order = [(r.experiment, r.backend, r.norm, r.seed) for r in run.training if r.width is None]
        assert order == sorted(order)

    def test_a_folder_may_hold_trainings_alone(self, tmp_path):
        store.write_json(tmp_path / "run.json", {"format": 1})
        write_training(tmp_path, simple())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "training"]
        assert len(compare(load_run(tmp_path)).training) == 1

    def test_equal_records_give_equal_bytes(self, tmp_path):
        for folder in ("a", "b"):
            stored(tmp_path / folder, [made.training("symoden", "diffrax", "default", 0)])
        one, two = (sorted((tmp_path / folder / "training").iterdir()) for folder in ("a", "b"))
        assert [(p.name, p.read_bytes()) for p in one] == [(p.name, p.read_bytes()) for p in two]

    def test_the_order_of_writing_has_no_part_in_it(self, tmp_path):
        records = made.records()[::7]
        stored(tmp_path / "a", records)
        stored(tmp_path / "b", records[::-1])
        one, two = ([r.name for r in load_run(tmp_path / folder).training] for folder in "ab")
        assert one == two

    def test_nan_becomes_null(self, tmp_path):
        record = simple(time={"median_step_s": float("inf")})
        record.epochs[1]["train_loss"] = float("nan")
        (path,) = stored(tmp_path, [record])
        found = read_training(path)
        assert (found.epochs[1]["train_loss"], found.time["median_step_s"]) == (None, None)

    @pytest.mark.parametrize("name", ["a/b", "a b", "é", ".."])
    def test_a_name_of_other_characters(self, tmp_path, name):
        record = simple()
        record.name = name + "/" if name == ".." else name
        with pytest.raises(ValueError, match=r"is no name of a training: letters, digits and _\.=- only"):
            write_training(tmp_path, record)

    def test_names_tell_trainings_apart(self):
        names = [record.name for record in made.records()]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[A-Za-z0-9_.=-]+", name) for name in names)


WRONG = [
    ("experiment", None, "experiment: got nothing"), ("norm", 3, "norm: got 3, expected text"),
    ("seed", -1, "seed: got -1"), ("seed", 1.5, "seed: got 1.5"), ("seed", None, "seed: got nothing"),
    ("rtol", 0, "rtol: got 0"), ("rtol", "x", "rtol: got 'x'"), ("atol", 10**400, "atol: got 1000"),
    ("metric", [], "metric: got []"), ("status", None, "status: got nothing"), ("settings", 3, "settings: got 3"),
    ("settings.model", "x", "settings.model: got 'x'"), ("settings.model.width", "x", "settings.model.width: got 'x'"),
    ("settings.data", [], "settings.data: got []"), ("settings.data.name", 5, "settings.data.name: got 5"),
    ("epochs", 3, "epochs: got 3"), ("epochs", [3], "epochs: got [3]"),
    ("epochs", [{}], "epochs[0].epoch: got None"), ("epochs", [{"epoch": 2}, {"epoch": 2}], "epochs[1].epoch: got 2"),
    ("epochs", [{"epoch": 1, "accuracy": 95.0}], "epochs[0].accuracy: got 95.0, expected a share, 0 to 1"),
    ("epochs", [{"epoch": 1, "backward_nfe": -1}], "epochs[0].backward_nfe: got -1"),
    ("backward_nfe_per_batch", "x", "backward_nfe_per_batch: got 'x'"), ("backward_nfe_total", 1.5, "got 1.5"),
    ("time", [], "time: got []"), ("time.median_step_s", -1, "time.median_step_s: got -1"),
    ("steps", "x", "steps: got"), ("settings.loss_scale", 0, "settings.loss_scale: got 0"),
    ("settings.loss_scale", "x", "settings.loss_scale: got 'x'"),
]  # fmt: skip
BAD_ARRAYS = [
    ("curve/loss", np.array(["a"]), "an array of <U1"), ("curve/loss", np.ones((2, 2)), "curve/loss: got shape (2, 2)"),
    ("solve/backward/t1", np.ones(3), "solve/backward/t1: got shape (3,)"), ("solve/backward/t1", None, "got nothing"),
    ("solve/count", np.array(0), "solve/count: got 0, expected how many solves"),
    ("solve/count", np.array([2, 2]), "solve/count: got an array of int64, shape (2,), expected one whole number"),
    ("solve/count", np.array(3.0), "solve/count: got an array of float64"),
    ("control/q", np.ones((401, 3)), "control/q: got shape (401, 3), expected shape (401, 2)"),
    ("control/u", None, "control/u: got nothing"), ("control/t", np.ones((2, 2)), "control/t: got shape (2, 2)"),
    ("control/u", np.ones((5, 2)), "control/t: got shape (401,), expected shape (6,)"),
]  # fmt: skip


def put(fields, name, value):
    *parents, last = name.split(".")
    for parent in parents:
        fields = fields[parent]
    fields[last] = value


class TestDamaged:
    @pytest.mark.parametrize(("name", "value", "words"), WRONG)
    def test_a_field_of_another_kind(self, tmp_path, name, value, words):
        _, path = stored(tmp_path, [simple(seed=1), made.training("neural_cde", "diffrax", "default", 0)])
        fields = json.loads(path.read_text())
        put(fields, name, value)
        fields["checksum"] = store.checksum(fields, path.with_suffix(".npz").read_bytes())
        path.write_text(json.dumps(fields))
        self.only(load_run(tmp_path), path, words)

    @pytest.mark.parametrize(("name", "value", "words"), BAD_ARRAYS)
    def test_an_array_of_another_kind(self, tmp_path, name, value, words):
        record = made.training("symoden", "diffrax", "default", 0)
        record.arrays[name] = value
        if value is None:
            del record.arrays[name]
        path, _ = stored(tmp_path, [record, simple(seed=1)])
        self.only(load_run(tmp_path), path, words)

    @pytest.mark.parametrize("spoil", [
        lambda path: path.write_text("{"), lambda path: path.write_text('{"format": 2}'),
        lambda path: path.write_text("3"), lambda path: path.with_suffix(".npz").unlink(),
        lambda path: path.with_suffix(".npz").write_bytes(b"PK"),
        lambda path: path.write_text(path.read_text().replace('"seed": 0', '"seed": 5')),
    ])  # fmt: skip
    def test_a_file_that_cannot_be_believed(self, tmp_path, spoil):
        path, _ = stored(tmp_path, [simple(), simple(seed=1)])
        spoil(path)
        self.only(load_run(tmp_path), path, "")

    def only(self, run, path, words):
        assert len(run.damaged) == 1
        assert run.damaged[0].startswith(f"training/{path.name}: ")
        assert words in run.damaged[0]
        assert [record.seed for record in run.training] == [1]
        assert "1 file was damaged and skipped." in compare(run).summary()

    @pytest.mark.slow
    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_whatever_stands_in_a_field_is_refused_or_can_be_shown(self, data):
        """Refused by a sentence, or summed up, written as JSON and set into tables without a warning."""
        fields = made.training("symoden", "diffrax", "seminorm", 0).flat()
        paths = [
            *fields,
            *(f"{key}.{name}" for key in ("settings", "time") for name in fields[key]),
            "settings.data.name",
        ]
        leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        deep = st.recursive(
            leaves, lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=3), s, max_size=3)
        )
        fields = copy.deepcopy(fields)
        put(fields, data.draw(st.sampled_from(paths)), data.draw(deep))
        arrays = made.training("symoden", "diffrax", "seminorm", 0).arrays
        wrong = storable.wrong_training(fields, arrays)
        if wrong:
            assert ": got " in wrong
            return
        record = store.from_fields(fields, arrays, "x")
        found = compare(made.run([record, made.training("symoden", "diffrax", "default", 0)]))
        json.dumps(found.as_dict(), allow_nan=False)
        assert found.summary() is not None
        shown = trainings(found.training)
        titles = {id(r): item.title for item in shown for r in item.records}
        for table in (*(t for _, t in paper_tables.tables(shown)), paper_tables.times(shown), pendulum.table(shown),
                      paper_tables.every(found.training, titles)):  # fmt: skip
            assert all(isinstance(cell.text, str) for row in table.rows for cell in row)


class TestNumbers:
    def test_means_and_spreads_are_those_of_the_textbook(self):
        found = [
            simple("default", seed, nfe, final) for seed, nfe, final in ((0, 100, 0.90), (1, 110, 0.92), (2, 120, 0.97))
        ]
        found += [
            simple("seminorm", seed, nfe, final) for seed, nfe, final in ((0, 50, 0.91), (1, 66, 0.90), (3, 1, 0.2))
        ]
        (item,) = trainings(found)
        base, own = item.cells
        assert (base.norm, own.norm) == ("default", "seminorm")
        assert base.backward_nfe_per_batch == Spread(110.0, pytest.approx(10.0), 3)
        assert base.final.mean == pytest.approx(0.93)
        assert base.final.std == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2))
        assert own.saved == Spread(
            pytest.approx(0.45), pytest.approx(0.05 * math.sqrt(2)), 2
        )  # 0.5 and 0.4; seed 3 alone
        assert own.changed.mean == pytest.approx((0.01 - 0.02) / 2)
        assert own.final.n == 3
        assert base.saved == Spread()

    def test_the_table_shows_them(self):
        found = [simple("default", s, n, f) for s, n, f in ((0, 100, 0.90), (1, 110, 0.92), (2, 120, 0.97))]
        found += [simple("seminorm", 0, 50.0, 0.91)]
        ((title, table),) = paper_tables.tables(trainings(found))
        assert title == "Neural CDE (the paper's Table 1)"
        ours = [[cell.text for cell in row[-5:]] for row in table.rows[:2]]
        assert ours == [["93.0 ± 3.6", "110 ± 10", "–", "–", "–"], ["91", "50", "–", "–", "50\u202f%"]]
        assert [row[3].text for row in table.rows[:2]] == ["3", "1"]

    def test_a_failed_training_counts_in_no_mean_and_is_said(self):
        found = [simple("default", s, 100.0) for s in range(3)]
        found[1].backward_nfe_per_batch = 1e6
        made.fail(found[1], "nan_loss", "the loss is NaN", 7)
        (cell,) = trainings(found)[0].cells
        assert cell.backward_nfe_per_batch == Spread(100.0, 0.0, 2)
        assert cell.seeds == [0, 2]
        assert cell.failed == [{"seed": 1, "status": "nan_loss", "steps": 7, "message": "the loss is NaN"}]
        ((_, table),) = paper_tables.tables(trainings(found))
        assert table.rows[0][3].note == "seed 1: nan loss after step 7"
        assert "1 of 3 trainings did not end: nan loss." in compare(made.run(found)).summary()

    def test_trainings_that_are_no_repeats_stand_apart(self):
        found = [simple(seed=s, settings={"model": {"width": w}, "batch_size": b})
                 for s in (0, 1) for w, b in ((8, 32), (16, 32), (16, 64))]  # fmt: skip
        shown = trainings(found)
        assert [(item.setting.width, len(item.records)) for item in shown] == [(8, 2), (16, 2), (16, 2)]
        assert len({item.title for item in shown}) == 3

    def test_another_loss_scale_stands_apart_and_is_said(self):
        one = [simple(seed=s, settings={"loss_scale": 1.0} if s else {}) for s in (0, 1)]  # older records lack it
        other = [simple(norm, s, n, settings={"loss_scale": 128}) for s in (0, 1)
                 for norm, n in (("default", 90.0), ("seminorm", 45.0))]  # fmt: skip
        shown = trainings([*one, *other])
        assert [(item.title, item.setting.loss_scale, len(item.records)) for item in shown] == [
            ("neural_cde", 1.0, 2), ("neural_cde, loss scale 128", 128.0, 4)
        ]  # fmt: skip
        assert shown[1].words == "reduced preset, rtol 1e-3, atol 1e-6, loss scale 128"
        assert trainings(other)[0].title == "neural_cde, loss scale 128"  # also where all have it
        assert [text for text in compare(made.run([*one, *other])).summary() if "128" in text] == [
            "neural_cde, reduced preset, loss scale 128: backward evaluations under seminorm, against default: "
            "50.0 % fewer (± 0.0, 2 seeds) in diffrax. Accuracy: 90 ± 0 % against 90 ± 0 % in diffrax (within the "
            "spread of the seeds)."
        ]  # fmt: skip

    @given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8), st.floats(-1e3, 1e3))
    def test_a_shift_moves_the_mean_and_not_the_spread(self, values, shift):
        one, two = spread(values), spread([value + shift for value in values])
        assert two.mean == pytest.approx(one.mean + shift, rel=1e-9, abs=1e-6)
        assert two.std == pytest.approx(one.std, rel=1e-6, abs=1e-5)

    def test_one_seed_has_no_spread(self):
        assert spread([3.0, None, float("nan")]) == Spread(3.0, None, 1)
        assert spread([]) == Spread()
        assert spread([1.7e308, 1.7e308]).mean is None  # no float holds it

    @pytest.mark.parametrize(("mean", "std", "text"), [
        (0.926, 0.004, "0.9260 ± 0.0040"), (98.0, 0.0, "98 ± 0"), (98.0, None, "98"),
        (1.247e-4, 5.2e-5, "(1.25 ± 0.52)×10⁻⁴"),
        (14.36e6, 1.09e6, "(1.44 ± 0.11)×10⁷"), (12345.5, 20.0, "12\u202f346 ± 20"), (0.0, 0.0, "0 ± 0"),
        (-0.5, 0.1, "−0.50 ± 0.10"), (0.4, 12.0, "0 ± 12"), (None, None, "–"),
    ])  # fmt: skip
    def test_mean_and_spread_in_figures(self, mean, std, text):
        assert paper_tables.plus_minus(Spread(mean, std, 3)) == text

    def test_the_ratio_of_times_is_default_to_norm(self):
        times = {"default": (2.0, 4.0, 3.0), "seminorm": (1.0, 2.0, 3.0)}
        found = [simple(n, s, time={"median_step_s": t}) for n, ts in times.items() for s, t in enumerate(ts)]
        base, own = trainings(found)[0].cells
        assert (base.time["median_step_s"], own.time["median_step_s"]) == (3.0, 2.0)
        assert training_summary.time_ratio(own, base) == 1.5
        assert any("1.5 in diffrax" in line for line in compare(made.run(found)).summary())

    def test_the_published_savings_are_the_abstract_s(self):
        """The paper's text: 40 % to 62 % fewer for neural CDEs, a median of about 40 % there; Table 3's 43 %."""
        shares = {row.rtol: saved(row) for row in PUBLISHED if row.table == 1 and row.norm != "default"}
        assert [round(100 * shares[rtol]) for rtol in (1e-3, 1e-4, 1e-5)] == [40, 58, 62]
        assert [round(100 * saved(row)) for row in PUBLISHED if row.norm == "as-released"] == [43]
        assert [row.table for row in PUBLISHED].count(2) == 8
        assert 79 * 60 * 98 == pytest.approx(46.45e4, rel=1e-3)  # what Table 3's totals are made of
        last = next(row for row in PUBLISHED if row.table == 3)
        assert last.backward_nfe_total[0] == pytest.approx(46.45e4)

    @pytest.mark.parametrize(("finals", "words"), [
        ((0.90, 0.92, 0.91), "within the spread of the seeds"), ((0.96, 0.97, 0.98), "better by more than the spread"),
        ((0.80, 0.81, 0.82), "worse by more than the spread"),
    ])  # fmt: skip
    def test_a_change_is_judged_by_the_spread(self, finals, words):
        found = [simple("default", s, 100.0, f) for s, f in enumerate((0.90, 0.91, 0.92))]
        found += [simple("mixed-seminorm", s, 60.0 + s, f) for s, f in enumerate(finals)]
        (line,) = [text for text in compare(made.run(found)).summary() if "Accuracy" in text]
        assert words in line
        assert "39.0 % fewer (± 1.0, 3 seeds) in diffrax" in line

    def test_more_evaluations_are_said_to_be_more(self):
        found = [simple("default", s, 100.0) for s in range(2)] + [
            simple("seminorm", s, 130.0 + 80 * s) for s in range(2)
        ]
        assert any("70.0 % more (± 56.6, 2 seeds) in diffrax" in line for line in compare(made.run(found)).summary())
        found = [simple("default", s, 100.0) for s in range(2)] + [
            simple("seminorm", s, 98.0 + 6 * s) for s in range(2)
        ]
        assert any(
            "1.0 % more (± 4.2, 2 seeds, within the spread)" in line for line in compare(made.run(found)).summary()
        )

    def test_a_loss_is_better_where_it_is_lower(self):
        found = [made.training("symoden", "diffrax", norm, s) for norm in ("default", "seminorm") for s in range(3)]
        for record in found:
            record.epochs[-1]["test_loss"] = (1.0 if record.norm == "default" else 0.5) + 0.01 * record.seed
        assert any("better by more than the spread" in line for line in compare(made.run(found)).summary())

    def test_json_has_mean_spread_and_n_of_every_cell(self):
        found = json.loads(json.dumps(made.paper().as_dict(), allow_nan=False))["training"]
        assert len(found) == 2 * (2 * 3 + 2 * 3 + 4)
        assert {"experiment", "rtol", "width", "backend", "norm", "final", "saved", "failed", "time"} <= set(found[0])
        assert set(found[0]["final"]) == {"mean", "std", "n"}
        assert synthetic.single().as_dict()["training"] == []

    def test_records_and_their_table_know_nothing_of_trainings(self):
        assert len(made.paper().to_pandas()) == 0
        assert repr(made.mixed()).count("24 trainings") == 1


def long(epochs, norm="default", backend="diffrax", steps=None, final=0.9, step_s=1.0, seed=0):
    """A training of so many epochs of 10 batches."""
    settings = {"epochs": epochs, "batches_per_epoch": 10, "steps": 10 * epochs if steps is None else steps}
    time = {"median_step_s": step_s}
    return simple(norm, seed, 50.0, final, backend=backend, settings=settings, time=time)


class TestLengths:
    """Trainings of another number of epochs: their times can be compared, their metrics cannot."""

    FOUND = (long(12, step_s=2.0), long(12, "seminorm", step_s=1.0), long(2, backend="torchdiffeq", step_s=8.0),
             long(2, "seminorm", "torchdiffeq", final=0.4, step_s=5.0))  # fmt: skip

    def test_every_table_says_how_long(self):
        found = trainings(self.FOUND)
        assert [item.title for item in found] == ["neural_cde, 12 epochs", "neural_cde, 2 epochs"]
        ((_, table),) = paper_tables.tables(found)
        ours = [row[0].text for row in table.rows if row[0].head and "published" not in row[0].text]
        assert [text.rpartition(", ")[2] for text in ours] == ["12 epochs"] * 2 + ["2 epochs"] * 2
        assert "Trainings of different lengths are here" in table.caption
        assert "different lengths" not in paper_tables.tables(found[:1])[0][1].caption
        titles = {id(r): item.title for item in found for r in item.records}
        every = paper_tables.every(self.FOUND, titles)
        assert {row[0].text for row in every.rows} == {"neural_cde, 12 epochs", "neural_cde, 2 epochs"}

    def test_times_of_a_step_stand_side_by_side(self):
        table = paper_tables.times(trainings(self.FOUND))
        assert [cell.text for cell in table.rows[0]] == [
            "neural_cde, 12 epochs in diffrax and 2 epochs in torchdiffeq", "default", "2 s", "–", "–", "8 s", "–", "–",
            "4×",
        ]  # fmt: skip
        assert [cell.text for cell in table.rows[1]][-7:] == ["1 s", "2×", "–", "5 s", "1.6×", "–", "5×"]
        assert len(table.rows) == 2
        assert "trained for different lengths" in table.caption

    def test_what_has_a_backend_in_common_or_differs_in_more_stays_apart(self):
        both = [*self.FOUND, long(2)]
        assert [len(row) for row in training_summary.side_by_side(trainings(both))] == [1, 1]
        other = [self.FOUND[0], long(2, backend="torchdiffeq")]
        other[1].rtol = 1e-5
        assert [len(row) for row in training_summary.side_by_side(trainings(other))] == [1, 1]
        three = [*self.FOUND, long(5, backend="mine")]
        assert [len(row) for row in training_summary.side_by_side(trainings(three))] == [3]
        assert "different lengths" not in paper_tables.times(trainings(both)).caption

    def test_a_sentence_compares_norms_of_one_length(self):
        (line,) = [text for text in compare(made.run(list(self.FOUND))).summary() if "Accuracy" in text]
        assert "90 % against 90 % in diffrax after 12 epochs" in line
        assert "40 % against 90 % in torchdiffeq after 2 epochs" in line
        assert "after" not in next(t for t in compare(made.run(list(self.FOUND[:2]))).summary() if "Accuracy" in t)
        lone = [long(12), long(2, "seminorm")]  # nothing to compare with
        assert not [text for text in compare(made.run(lone)).summary() if "Accuracy" in text]

    def test_a_training_cut_short_says_its_steps(self):
        found = trainings([long(12), long(12, steps=6), long(40, steps=6, seed=1)])
        assert [(item.title, len(item.records)) for item in found] == [
            ("neural_cde, 12 epochs", 1), ("neural_cde, 6 steps", 2)
        ]  # fmt: skip
        assert (found[1].setting.epochs, found[1].setting.steps) == (None, 6)
        assert long(1, steps=1).settings["steps"] == 1
        assert trainings([long(1, steps=1), long(1)])[0].setting.length == "1 step"


def solved(t0, t1, accepted=None, count=None, seed=0, norm="default"):
    """A training whose last backward solves made these attempts."""
    record = simple(norm, seed)
    accepted = np.ones(len(t0), bool) if accepted is None else np.array(accepted)
    record.arrays |= {"solve/backward/t0": np.array(t0), "solve/backward/t1": np.array(t1),
                      "solve/backward/accepted": accepted}  # fmt: skip
    if count is not None:
        record.arrays["solve/count"] = np.array(count)
    return record


class TestHistograms:
    """Two solves from t = 1 to 0: one step of 1, and two of 0.5."""

    T0, T1 = [1.0, 1.0, 0.5], [0.0, 0.5, 0.0]
    QUARTERS = np.linspace(0.0, 1.0, 5)

    def test_evaluations_per_solve(self):
        """By hand: 0.8, 0.7, 0.2, 1/9, 0, 0; 0.9, 0.85, 0.6, 5/9, 0.5, 0.5; 0.4, 0.35, 0.1, 1/18, 0, 0."""
        record = solved(self.T0, self.T1, count=2)
        found = paper_histograms.per_solve([record], paper_histograms.evaluated, self.QUARTERS)
        assert found.tolist() == [8 / 2, 2 / 2, 5 / 2, 3 / 2]

    @pytest.mark.parametrize("count", [None, 1, [1]])
    def test_without_a_count_there_is_one_solve(self, count):
        record = solved(self.T0, self.T1, count=count)
        found = paper_histograms.per_solve([record], paper_histograms.evaluated, self.QUARTERS)
        assert found.tolist() == [8, 2, 5, 3]

    def test_rejected_steps_per_solve_of_all_seeds(self):
        """Middles 0.5, 0.75 and 0.25, over 2 + 3 solves; the second seed rejected its last one alone."""
        records = [solved(self.T0, self.T1, [False, False, True], 2), solved(self.T0, self.T1, [True, True, False], 3)]
        found = paper_histograms.per_solve(records, paper_histograms.rejected, self.QUARTERS)
        assert found.tolist() == [0, 1 / 5, 1 / 5, 1 / 5]

    def test_single_precision_moves_nothing_over_an_edge_and_loses_nothing(self):
        """A step of 20 from t = 28 to 8 and one of 8 to 0, in units whose bars end at 8; the last bar has the end."""
        edges = np.linspace(0.0, 28.0, 8)  # bars of 4
        exact = paper_histograms.per_solve([solved([28.0, 8.0], [8.0, 0.0])], paper_histograms.evaluated, edges)
        below, above = np.nextafter(np.float32(8), [np.float32(0), np.float32(9)]).astype(float)
        tiny = -1e-7
        for t in (below, above):
            record = solved([28.000001, t], [t, tiny])
            found = paper_histograms.per_solve([record], paper_histograms.evaluated, edges)
            assert found.tolist() == exact.tolist()
            assert found.sum() == 12

    def test_a_first_step_too_small_to_see_is_counted(self):
        record = solved([1.0, 1.0 - 1e-7], [1.0 - 1e-7, 0.0])
        found = paper_histograms.per_solve([record], paper_histograms.evaluated, self.QUARTERS)
        assert found.sum() == 12
        assert found[-1] == 6 + 1  # and the second step's at 0.8

    @pytest.mark.parametrize(("count", "words"), [
        (2, "mean of the last 2 training steps"), (None, "one solve of each training"),
    ])  # fmt: skip
    def test_a_chart_says_what_it_is_the_mean_of(self, count, words):
        shown = view.build(compare(made.run([solved(self.T0, self.T1, [True, False, False], count)]))).paper
        (chart,) = shown.groups["paper-evaluations"].charts
        assert chart.label.startswith(f"neural_cde: evaluations per backward solve against t, {words}, a row")
        assert chart.note == f"reduced preset, seed 0, {words}"
        total = {2: 9, None: 18}[count]
        assert f"<title>diffrax, default: {total} evaluations per backward solve</title>" in chart.svg
        assert f">{total} per solve<" in chart.svg
        heights = re.search(r'data-counts="([\d. ]+)"', chart.svg)[1].split()
        assert len(heights) == paper_histograms.BINS
        assert sum(map(float, heights)) == total
        (chart,) = shown.groups["paper-rejections"].charts
        assert f"<title>diffrax, default: {2 / (count or 1):g} rejected steps per backward solve</title>" in chart.svg

    def test_counts_that_differ_are_a_range(self):
        found = [solved(self.T0, self.T1, count=n, seed=s) for s, n in ((0, 2), (1, 20))]
        (chart,) = view.build(compare(made.run(found))).paper.groups["paper-evaluations"].charts
        assert chart.note == "reduced preset, seeds 0 and 1, mean of the last 2 to 20 training steps"

    @pytest.mark.parametrize(("value", "text"), [
        (0.0, "0"), (0.05, "0.05"), (1 / 3, "0.333"), (2.5, "2.5"), (12.34, "12.3"), (120.0, "120"), (1234.4, "1234"),
    ])  # fmt: skip
    def test_a_mean_in_few_digits(self, value, text):
        assert paper_histograms.few(value) == text


class TestPendulum:
    def end(self, q1, q2):
        record = made.training("symoden", "diffrax", "default", 0)
        record.arrays["control/q"][-1] = q1, q2
        return record

    @pytest.mark.parametrize(("q1", "q2", "far"), [
        (math.pi, 0, 0), (-math.pi, 2 * math.pi, 0), (0, 0, math.pi), (3 * math.pi + 0.1, 0.2, 0.2),
        (math.pi - 0.4, 0.1, 0.4),
    ])  # fmt: skip
    def test_the_distance_from_upright_knows_full_turns(self, q1, q2, far):
        assert pendulum.distance(self.end(q1, q2)) == pytest.approx(far, abs=1e-12)

    def test_the_caption_says_where_it_ended(self):
        shown = made.shown("paper").paper.groups["paper-frames"].charts[0]
        record = next(
            r for r in made.records() if (r.experiment, r.backend, r.norm) == ("symoden", "diffrax", "default")
        )
        assert f"default (seed 0) ends {pendulum.distance(record):.2g} rad from upright" in shown.note

    def test_what_left_the_numbers_is_said_and_drawn_with_gaps(self):
        record = self.end(np.nan, 0.0)
        record.arrays["control/q"][200:] = np.nan
        record.arrays["control/u"][200:] = 1e300
        shown = view.build(compare(made.run([record])))
        assert "the angles left the numbers" in shown.paper.groups["paper-traces"].charts[0].note
        assert shown.paper.tables["pendulum"].rows[0][4].text == "0 of 1"


@pytest.fixture(scope="module")
def rendered(written):
    return {name: written(name, ".html").read_text(encoding="utf-8") for name in MADE}


class TestPage:
    @pytest.mark.parametrize("name", MADE)
    def test_every_element_is_closed_every_id_is_there_once_and_drawings_are_named(self, rendered, name):
        page = Page(rendered[name])
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        labels = re.findall(r'<svg class="chart" viewBox="[^"]*" role="img" aria-label="([^"]+)"', rendered[name])
        assert len(set(labels)) == len(labels) == rendered[name].count('<svg class="chart"')
        drawings = re.findall(r'<svg class="chart".*?</svg>', rendered[name], re.DOTALL)
        assert not [d for d in drawings if re.search(r"#[0-9a-f]{6}\b", d)]
        links = [attrs["href"] for attrs in page.all("a") if attrs.get("href", "").startswith("#")]
        assert {link[1:] for link in links} <= set(ids)
        assert "#paper" in links

    def test_a_run_of_trainings_has_no_parts_on_gradients(self, rendered):
        sections = {name: [a["id"] for a in Page(rendered[name]).all("section")] for name in ("paper", "mixed")}
        assert sections["paper"] == ["summary", "paper", "records", "environment"]
        assert sections["mixed"] == ["summary", "verdict", "cost", "why", "paper", "problems", "records", "environment"]
        assert "<h1>The paper's experiments</h1>" in rendered["paper"].replace("&#39;", "'")

    def test_a_run_without_trainings_has_no_paper_part(self):
        text = html.render(synthetic.shown("single")).decode()
        assert 'href="#paper"' not in text
        assert 'id="paper"' not in text

    def test_published_numbers_stand_beside_ours(self, rendered):
        text = rendered["paper"]
        for row in PUBLISHED:
            assert row.metric_text in text
            assert row.nfe_text in text
        assert text.count("published, paper preset: ") == 3 + 4 + 1
        assert "the code built its norm from the whole trajectory" in text.replace("its code", "the code")

    def test_every_cell_and_every_failure_is_there(self, rendered):
        text = rendered["paper"]
        table = text.partition('id="table-paper-all"')[2].partition("</table>")[0]
        assert table.count("<tr") == 1 + len(made.records())
        assert "the loss is NaN at step 17" in text
        assert "seed 1: nan loss after step 17" in text
        assert "2 of 2 trainings did not end" in rendered["all_failed"]

    def test_every_chart_says_values(self):
        for name in ("paper", "one_seed"):
            charts = [c for group in made.shown(name).paper.groups.values() for c in group.charts]
            assert charts
            assert [chart.name for chart in charts if "<title>" not in chart.svg] == []
        titles = re.findall(r"<title>([^<]*)</title>", made.shown("paper").paper.groups["paper-curves"].charts[0].svg)
        cell = next(c for c in trainings(made.records())[0].cells if (c.backend, c.norm) == ("diffrax", "default"))
        said = f"{100 * cell.final.mean:.3g} ± {100 * cell.final.std:.3g}"
        assert f"diffrax, default: {said} accuracy, % at epoch 6" in titles

    def test_a_histogram_means_six_evaluations_an_attempt(self):
        chart = made.shown("paper").paper.groups["paper-evaluations"].charts[0]
        records = [
            r
            for r in made.records()
            if (r.experiment, r.backend, r.norm, r.rtol) == ("neural_cde", "diffrax", "default", 1e-3)
        ]
        mean = 6 * sum(len(r.solved("backward")[0]) for r in records) / (made.SOLVES * len(records))
        assert f"<title>diffrax, default: {mean:.3g} evaluations per backward solve</title>" in chart.svg
        counts = re.findall(r'data-counts="([\d. ]+)"', chart.svg)
        assert any(sum(map(float, each.split())) == pytest.approx(mean, rel=1e-2) for each in counts)
        assert chart.note == "reduced preset, seeds 0, 1 and 2, mean of the last 3 training steps"

    def test_names_have_the_same_number_everywhere_on_a_page(self):
        """Or a switch of one part would hide another's curves."""
        comparison = made.mixed()
        names = names_of(comparison)
        both = training_names(comparison, names)
        assert names.backends == ["scipy", "torchdiffeq"]
        assert both.backends == ["scipy", "torchdiffeq", "diffrax"]
        assert both.series[: len(names.series)] == names.series
        assert set(both.backends) == set(names.colours)

    def test_hostile_words_are_shown_and_nothing_more(self, rendered):
        page = Page(rendered["hostile"])
        assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]
        assert "\x07" not in rendered["hostile"]
        assert any(synthetic.HOSTILE.replace("\x07", "\ufffd") in words for words in page.words)

    @pytest.mark.slow
    def test_same_records_same_bytes(self, rendered, written):
        shown = view.build(made.paper())
        assert html.render(shown).decode() == rendered["paper"]
        assert pdf.render(shown) == written("paper", ".pdf").read_bytes()


class TestFigures:
    def test_every_chart_is_a_file(self):
        shown = made.shown("paper")
        files = dict(figures.figures(shown))
        charts = [chart for group in shown.paper.groups.values() for chart in group.charts]
        assert len(files) == len(charts) > 15
        assert {
            "paper-curves-neural_cde-rtol-10-3.svg",
            "paper-width-cnf.svg",
            "paper-frames-symoden-diffrax.svg",
        } <= set(files)
        for content in files.values():
            text = content.decode()
            assert "var(" not in text
            assert not re.search(r"#0[1-8]0[0-9a-f]{3}\b", text)

    def test_hostile_names_make_no_folders(self):
        assert all(re.fullmatch(r"[\w%.=~-]+\.svg", name) for name, _ in figures.figures(made.shown("hostile")))


class TestIndex:
    def test_runs_of_trainings_are_listed(self, tmp_path):
        stored(tmp_path / "trained", [simple(seed=s) for s in (0, 1)])
        written = index.write_all(tmp_path, pdf=False)
        text = (tmp_path / "index.html").read_text(encoding="utf-8")
        assert tmp_path / "trained" / "index.html" in written
        assert "<dt>trainings</dt><dd>2</dd>" in text
        assert "<dt>backends</dt><dd>diffrax</dd>" in text
        assert "no records yet" not in text
        assert "of 2 trainings did not end" in text

    def test_write_gives_all_files(self, tmp_path):
        paths = write(made.one_seed(), tmp_path, figures=True)
        assert [path.name for path in paths[:2]] == ["index.html", "report.pdf"]
        assert all(path.name.startswith("paper-") for path in paths[2:])


class TestPaper:
    """On paper, that is."""

    @pytest.mark.parametrize("name", MADE)
    def test_any_run_gives_a_tagged_document_without_a_warning(self, written, name):
        content = written(name, ".pdf").read_bytes()
        assert pages(content) >= 1
        assert b"<pdfuaid:part>1</pdfuaid:part>" in content

    @pytest.mark.parametrize("name", MADE)
    def test_every_word_lies_inside_the_margins(self, boxes, name):  # noqa: F811
        slack = 15 if name == "hostile" else 6
        for width, height, words in boxes(name):
            assert np.all(words[:, 0] >= MARGIN - slack)
            assert np.all(words[:, 2] <= width - MARGIN + slack)
            assert np.all((words[:, 1] >= 20) & (words[:, 3] <= height - 20))

    def test_the_tables_are_in_it(self, written, poppler):
        text = poppler("pdftotext", "-layout", written("paper", ".pdf"), "-")
        for words in ("(14.36 ± 1.09)×10⁶", "3.3492 ± 0.0059", "the loss is NaN at step 17", "Every training"):
            assert words in text


@pytest.mark.slow
class TestInABrowser:
    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("name", ["paper", "mixed", "hostile"])
    def test_the_rules_of_accessibility_hold(self, visit, name, theme):  # noqa: F811
        from axe_playwright_python.sync_playwright import Axe

        tab = visit(name, color_scheme=theme)
        tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        found = Axe().run(tab).response
        assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []

    @pytest.mark.parametrize("name", MADE)
    def test_a_phone_does_not_scroll_sideways(self, visit, name):  # noqa: F811
        tab = visit(name, viewport={"width": 390, "height": 844}, is_mobile=True)
        assert tab.evaluate("document.documentElement.scrollWidth") == 390

    def test_switches_hide_a_norm_in_every_part(self, visit):  # noqa: F811
        tab = visit("mixed")
        script = "all => all.filter((mark) => getComputedStyle(mark).display !== 'none').length"
        number = made.shown("mixed").paper.names.series.index("seminorm")
        marks = tab.locator(f".mark[data-n='{number}']")
        in_paper = tab.locator(f"#paper .mark[data-n='{number}']")
        assert in_paper.evaluate_all(script) > 5
        tab.locator("#paper .switches").get_by_label("seminorm", exact=True).uncheck()
        assert marks.evaluate_all(script) == 0
        assert not tab.locator("#cost .switches").get_by_label("seminorm", exact=True).is_checked()

    def test_a_pointer_near_a_point_and_on_a_bar_shows_its_value(self, visit):  # noqa: F811
        tab = visit("paper")
        chart = tab.locator("#paper-curves + p + .figures .chart").first
        chart.scroll_into_view_if_needed()
        point = chart.locator(".mark use").nth(3).bounding_box()
        tab.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
        assert re.fullmatch(r".*: \S+ ± \S+ accuracy, % at epoch \d", tab.locator("#tip").text_content())
        chart = tab.locator("#paper-evaluations + p + .figures .chart").first
        chart.scroll_into_view_if_needed()
        box = chart.locator(".mark[data-counts]").first.bounding_box()
        tab.mouse.move(box["x"] + box["width"] * 0.35, box["y"] + box["height"] - 2)
        assert re.fullmatch(
            r"diffrax, default: [\d.]+ evaluations per backward solve, t from \S+ to \S+ \([\d.]+ in all\)",
            tab.locator("#tip").text_content(),
        )


def test_what_is_missing_is_said():
    shown = made.shown("all_failed").paper
    assert shown.groups["paper-curves"].absent == ["symoden: no training ended with a whole epoch."]
    bare = simple()
    bare.epochs = []
    shown = view.build(compare(made.run([bare]))).paper
    assert shown.groups["paper-evaluations"].absent == ["neural_cde: no backward solve is stored."]
    assert "paper-rejections" not in shown.groups  # nobody knows
    quiet = made.training("symoden", "diffrax", "seminorm", 0)
    shown = view.build(compare(made.run([quiet]))).paper
    assert shown.groups["paper-rejections"].absent == ["symoden: no backward step was rejected."]


def test_a_notebook_shows_a_run_of_trainings():
    assert "paper" in made.one_seed()._repr_html_()
