"""A run by a real Dask scheduler and two workers: the same records as here, whatever happens to the workers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from crossbackend import machine
from crossbackend.errors import UserError
from crossbackend.load import gallery_folder, load
from crossbackend.record import Status
from crossbackend.store import load_run
from crossbackend.study import Options
from crossbackend.study.crew import Answer, Crew, perform
from crossbackend.study.parcel import opened, sealed
from crossbackend.study.tasks import Request, Terms

from .test_processes import Command, gone

pytest.importorskip("distributed")

from .local_cluster import LocalCluster


@pytest.fixture
def start(lab):
    """Start clusters; they end with the test."""
    made = []

    def start(**how):
        made.append(LocalCluster(lab.folder, **how))
        return made[-1]

    yield start
    for one in made:
        one.end()


@pytest.fixture
def cluster(start):
    return start()


def run(lab, *paths, address, out=None, backends="ab", **options):
    """Start `crossbackend run` on a cluster."""
    given = {"--out": out or lab.out, "--norm": "default", "--stepping": "native", "--scheduler": address}
    given |= {"--no-timing": True, "--no-report": True} | options
    flags = [word for name, value in given.items() if value is not False
             for word in ((name,) if value is True else (name, value))]  # fmt: skip
    return Command(lab, "run", *paths, *(word for name in backends for word in ("--backend", name)), *flags)


def rtols(count):
    return [word for k in range(count) for word in ("--rtol", f"{10 ** (-2 - k / 8):.4g}")]


def same(a, b):
    """Whether two runs' records are the same: digests, statuses, counts, and arrays to the last bit."""
    found, other = ({record.digest: record for record in load_run(folder).records} for folder in (a, b))
    assert set(found) == set(other)
    for digest, record in found.items():
        twin = other[digest]
        for name in ("plan", "status", "loss", "forward", "backward", "error", "settings", "versions", "scaled"):
            assert getattr(record, name) == getattr(twin, name), (record, name)
        assert set(record.arrays) == set(twin.arrays)
        for name, array in record.arrays.items():
            np.testing.assert_array_equal(array, twin.arrays[name], err_msg=f"{record} {name}")
    return True


def spans(lab):
    """When the stubs' orders `span NAME` ran: (name, start, end, parent process)."""
    rows = [line.split() for line in (lab.stub / "spans").read_text().splitlines()]
    return sorted(((name, float(a), float(b), int(parent)) for _, name, a, b, parent in rows), key=lambda row: row[1])


class TestRecords:
    def test_they_are_those_of_a_run_here_whatever_the_backends_do(self, lab, cluster):
        paths = [lab.problem("p"), lab.problem("q", rate=2.0)]
        lab.order("b", "record:p:raise", "record:q:user")
        both = ["--stepping", "matched", "--norm", "seminorm"]  # together declined
        here = lab.folder / "here"
        for out, address in ((here, False), (lab.out, cluster.address)):
            lab.out = out
            lab.reference(*paths)
            assert run(lab, *paths, *both, address=address, backends="abc").end()[0] == 0
        assert same(here, lab.out)
        assert lab.statuses()["p", "b"] == {"crashed", "unsupported"}
        assert lab.statuses()["q", "b"] == "unsupported"
        assert lab.statuses()["p", "a"] == {"ok", "unsupported"}
        assert (
            json.loads((lab.out / "run.json").read_text())["declined"]
            == (json.loads((here / "run.json").read_text())["declined"])
        )
        before = len(lab.calls())
        lab.order("b", "record:p:raise")
        assert run(lab, *paths, address=cluster.address, backends="ac").end()[0] == 0
        assert len(lab.calls()) == before, "what is there is not run again"

    def test_progress_and_json(self, lab, cluster):
        path = lab.problem()
        lab.reference(path)
        _, _, err = run(lab, path, address=cluster.address).end()
        assert "4/4" in err
        code, out, err = run(lab, path, address=cluster.address, **{"--json": True, "--force": True}).end()
        assert code == 0
        about = json.loads((lab.out / "run.json").read_text())
        assert (about["machine"], about["machines"]) == (machine.facts(), 2)
        assert len(json.loads(out)["problems"][0]["records"]) == 4

    def test_a_problem_made_in_memory_travels_by_value(self, lab, cluster):
        script = lab.folder / "script.py"
        script.write_text(
            "import crossbackend\n"
            f"made = crossbackend.load({str(lab.problem())!r}).replace(name='made')\n"
            f"found = crossbackend.run(made, backends='a', norms='default', steppings='native', timing=False,\n"
            f"                         progress=False, rtols=1e-4, scheduler={cluster.address!r})\n"
            "print([str(r.status) for r in found.problems[0].records])\n"
        )
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "['ok']\n"), done.stderr


class TestTravel:
    def test_a_file_is_run_elsewhere_with_the_module_beside_it(self, lab, cluster):
        path = lab.problem()
        (lab.folder / "beside_it.py").write_text("factor = 1.0\n")
        note = (
            "import os, beside_it\n"
            "with open(os.environ['STUB'] + '/files', 'a') as out:\n"
            "    out.write(__file__ + '\\n')\n"
        )
        path.write_text(note + path.read_text().replace("-data", "-beside_it.factor * data"))
        lab.reference(path)
        (lab.stub / "files").unlink()
        code, _, err = run(lab, path, address=cluster.address).end()
        assert code == 0, err
        first, *others = (lab.stub / "files").read_text().splitlines()
        assert first == str(path)
        assert others
        assert str(path) not in others
        assert {r.status for r in lab.stored().records} == {"ok"}

    def test_what_a_file_lacks_elsewhere_is_said_by_its_own_path(self, lab, cluster):
        path = lab.problem()
        (lab.folder / "numbers.txt").write_text("1.0")
        read = "from pathlib import Path\nPath(__file__).with_name('numbers.txt').read_text()\n"
        path.write_text(read + path.read_text())
        lab.reference(path)
        code, _, err = run(lab, path, address=cluster.address).end()
        assert code == 2
        assert f"error: {path}:2: got FileNotFoundError" in err
        assert lab.calls("record") == []

    def test_a_gallery_problem_travels_by_name(self, tmp_path):
        problem = load("linear")
        made = sealed(problem)
        assert (made.gallery, dict(made.files)) == (True, {})
        assert opened(made, tmp_path).path == str(gallery_folder() / "linear.py")
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_another_problem_there_is_a_mistake(self, lab):
        path = lab.problem()
        made = sealed(load(path))
        path.write_text(path.read_text().replace("-data", "-2 * data"))
        assert b"-data" in made.files["p.py"], "what travels is what was loaded, not what the file is by then"
        made = replace(made, files={"p.py": path.read_bytes()})
        terms = Terms("x", Options(lab.out, timeout=30), "cpu", {})
        answer = perform(terms, Request(made, "a", "declines", {"plans": []}))
        Crew.end(sys.modules["crossbackend.study.crew"].crew(), "x")
        assert answer.kind == "user"
        (mistake,) = answer.value
        assert mistake.where == str(path)
        assert mistake.got == "another problem when it is run again"


class TestLostWorkers:
    @pytest.mark.slow
    def test_killed_in_the_middle_of_a_run_nothing_is_lost_and_nothing_differs(self, lab, cluster):
        paths = [lab.problem("p"), lab.problem("q", rate=2.0)]
        here = lab.folder / "here"
        for name in "ab":
            lab.order(name, "record:span counted")
        for out, address in ((here, False), (lab.out, cluster.address)):
            lab.out = out
            lab.reference(*paths)
            (lab.stub / "spans").write_text("")
            command = run(lab, *paths, *rtols(24), address=address)
            if address:
                until(lambda: len(spans(lab)) >= 4)  # of 24 a sweep: none has ended yet
                os.kill(spans(lab)[-1][3], signal.SIGKILL)
            code, _, err = command.end()
            assert code == 0, err
        until(lambda: [worker.poll() for worker in cluster.workers].count(-signal.SIGKILL) == 1)
        assert len(lab.stored().records) == 2 * 2 * 24
        assert same(here, lab.out)
        assert len(lab.calls("record")) > 2 * 2 * 2 * 24, "the lost worker's sweep was done again"

    def test_a_task_that_takes_every_worker_along_is_a_status(self, lab, start):
        cluster = start(nanny=True, failures=1)
        path = lab.problem()
        lab.reference(path)
        lab.order("b", "record:orphan")
        code, _, err = run(lab, path, address=cluster.address, backends="b").end()
        assert code == 0, err
        records = lab.stored().records
        assert {r.status for r in records} == {"crashed"}
        assert len(records) == 2
        assert "the Dask worker that ran it was lost 2 times" in records[0].message
        lab.order("b")
        assert run(lab, path, address=cluster.address, backends="b").end()[0] == 0
        assert {r.status for r in lab.stored().records} == {"ok"}, "it is tried again the next time"

    @pytest.mark.slow
    def test_a_scheduler_that_goes_away_leaves_a_usable_run(self, lab, cluster):
        path = lab.problem()
        lab.reference(path)
        lab.order("b", "record:hang")
        command = run(lab, path, address=cluster.address, **{"--rtol": "1e-4"})
        command.until_calls(2)
        until(lambda: list((lab.out / "records").glob("*.json")))
        cluster.scheduler.kill()
        code, _, err = command.end()
        assert code == 2, err
        assert f"error: --scheduler: got {cluster.address}, which went away" in err
        assert "the same command goes on from there" in err
        assert [(r.backend, r.status) for r in lab.stored().records] == [("a", "ok")]


def until(there):
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ctrl_c_ends_what_is_under_way_and_the_same_command_goes_on(lab, cluster):
    path = lab.problem()
    lab.reference(path)
    lab.order("b", "record:hang")
    command = run(lab, path, address=cluster.address, **{"--rtol": "1e-4"})
    command.until_calls(2)
    until(lambda: list((lab.out / "records").glob("*.json")))
    workers = [child for w in cluster.workers for child in psutil.Process(w.pid).children(recursive=True)]
    assert len(workers) >= 2
    code, out, err = command.end(signal.SIGINT)
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    assert json.loads((lab.out / "run.json").read_text())["interrupted"] is True
    assert [(r.backend, r.status) for r in lab.stored().records] == [("a", "ok")]
    assert gone(workers), "the worker processes end, and the Dask workers stay"
    assert [w.poll() for w in cluster.workers] == [None, None]
    lab.order("b")
    assert run(lab, path, address=cluster.address, **{"--rtol": "1e-4"}).end()[0] == 0
    assert {r.status for r in lab.stored().records} == {"ok"}


class TestTiming:
    def test_nothing_overlaps_on_a_machine_though_it_has_two_dask_workers(self, lab, cluster):
        paths = [lab.problem(f"p{number}") for number in range(4)]
        lab.reference(*paths)
        for name in "ab":
            lab.order(name, "solve:span timed")
        options = {"--no-timing": False, "--repeats": "3", "--rtol": "1e-4"}
        code, _, err = run(lab, *paths, address=cluster.address, **options).end()
        assert code == 0, err
        found = spans(lab)
        assert {parent for *_, parent in found} == {w.pid for w in cluster.workers}, "both of them time"
        assert all(a[2] <= b[1] for a, b in zip(found, found[1:], strict=False))
        assert {record.time["repeats"] for record in lab.stored().records} == {3}
        assert {record.time["compile_s"] for record in lab.stored().records} == {0.25}
        solves = [call[1] for call in lab.calls("solve") if call[2] == "p0"]
        assert solves[:2] == ["a", "b"], "compiled and called once each"
        assert solves[2:] in (list("ababab"), list("abababab")), "in turns"

    @pytest.mark.slow
    def test_nothing_runs_beside_a_timed_solve_not_even_another_run(self, lab, start):
        cluster = start(workers=1)
        timed, many = lab.problem("timed"), [lab.problem(f"p{number}") for number in range(12)]
        for name in "ab":
            lab.order(name, "solve:timed:span timed", *(f"record:{path.stem}:span counted" for path in many))
        other = lab.folder / "other"
        out, lab.out = lab.out, other
        lab.reference(*many)
        counting = run(lab, *many, *rtols(20), address=cluster.address, out=other)
        counting.until_calls(2)
        lab.out = out
        lab.reference(timed)
        options = {"--no-timing": False, "--repeats": "4", "--rtol": "1e-4"}
        code, _, err = run(lab, timed, address=cluster.address, **options).end()
        assert code == 0, err
        counting.until_calls(len(lab.calls("record")) + 4)
        assert counting.end(signal.SIGINT)[0] == 130
        found = spans(lab)
        names = [name for name, *_ in found]
        first, last = names.index("timed"), len(names) - names[::-1].index("timed")
        assert "counted" in names[:first]
        assert "counted" in names[last:], "the other run went on afterwards"
        alone = [row for row in found if row[0] == "timed"]
        others = [row for row in found if row[0] == "counted"]
        assert not [(a, b) for a in alone for b in others if a[1] < b[2] and b[1] < a[2]]
        assert [(a, b) for a in others for b in others if a is not b and a[1] < b[2] and b[1] < a[2]], "two at a time"

    def test_a_crash_in_the_timed_run_is_told(self, lab, cluster):
        path = lab.problem()
        lab.reference(path)
        lab.order("a", "solve:raise")
        options = {"--no-timing": False, "--repeats": "2", "--rtol": "1e-4"}
        assert run(lab, path, address=cluster.address, **options).end()[0] == 0
        a, b = lab.stored().records
        assert (a.status, a.time) == (Status.OK, None)
        assert a.message == "not timed: crashed: ValueError: the library's own words"
        assert b.time["repeats"] == 2


class TestMistakes:
    def refused(self, lab, address, *paths, **options):
        lab.reference(*paths)
        code, out, err = run(lab, *paths, address=address, **options).end()
        assert (code, out) == (2, ""), err
        assert "Traceback" not in err
        assert lab.calls("record", "compile", "declines") == []
        return err

    def test_no_scheduler_there(self, lab):
        err = self.refused(lab, "tcp://127.0.0.1:1", lab.problem())
        assert "error: --scheduler: got tcp://127.0.0.1:1, where no scheduler answers" in err
        assert "expected the address of a Dask scheduler. Start one by `dask scheduler`" in err

    def test_an_address_that_is_none(self, lab):
        assert "error: --scheduler: got ftp://x, where no scheduler" in self.refused(lab, "ftp://x", lab.problem())

    def test_workers_that_do_not_say_how_many_cores_they_have(self, lab, start):
        err = self.refused(lab, start(resources=None).address, lab.problem())
        assert "without the resource `cores`, expected one that says how many cores its machine has." in err
        assert "dask worker ADDRESS --nworkers 1 --nthreads N --resources 'cores=N'" in err

    def test_workers_with_other_versions(self, lab, start):
        older = lab.folder / "older"
        shutil.copytree(lab.stub, older)
        cluster = start(PYTHONPATH=str(older))
        lab.version("2")
        err = self.refused(lab, cluster.address, lab.problem())
        assert err.count("error: --scheduler: got crossbackend-stub 1 on the worker on ") == 2, "once a backend"
        assert "expected crossbackend-stub 2, as here. Install the same packages" in err

    def test_a_mistake_in_the_problem_comes_before_any_solve(self, lab, cluster):
        path = lab.problem()
        path.write_text(path.read_text().replace("* y\n", "* y[:1]\n"))
        lab.reference(path)
        code, _, err = run(lab, path, address=cluster.address).end()
        assert code == 2
        assert err.count("vector_field under numpy: got (1,), expected y's own structure (2,)") == 1
        assert lab.calls("record", "compile") == []

    def test_without_the_extra(self, lab, monkeypatch):
        monkeypatch.setattr("crossbackend.study.options.find_spec", lambda name: None)
        words = r"--scheduler: got 'tcp://x:1' without the package distributed, expected the extra `distributed`\. "
        with pytest.raises(UserError, match=words + r"Run: pip install 'crossbackend\[distributed\]'"):
            lab.run(lab.problem(), scheduler="tcp://x:1")


class FakeFuture:
    """A future that is done at once, as often as it is told."""

    def __init__(self, outcome, times):
        self.outcome, self.times = outcome, times

    def add_done_callback(self, call):
        for _ in range(self.times):
            call(self)

    def result(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def release(self):
        pass

    cancel = release


class FakeClient:
    status = "running"

    def __init__(self, *outcomes, times=1):
        self.outcomes, self.times, self.asked = list(outcomes), times, []

    def submit(self, function, *args, resources, **options):
        self.asked.append(resources["cores"])
        return FakeFuture(self.outcomes.pop(0), self.times)

    def nthreads(self):
        return {"w": 1}


def fake(*outcomes, times=1):
    from crossbackend.study.cluster import Cluster

    found = Cluster(FakeClient(*outcomes, times=times), Terms("run", Options(Path("x")), "cpu", {}))
    found.machines, found.largest = {"w": {"cores": 4.0}}, 4.0
    return found


class TestSpread:
    """What becomes of results that come twice, or do not come."""

    def spread(self, cluster, tasks, **how):
        got = []
        cluster.spread(iter(tasks), lambda task, answer: got.append((task, answer.kind, answer.value)), **how)
        return got

    def test_a_result_that_comes_twice_counts_once(self):
        cluster = fake(Answer("ok", 1), Answer("ok", 2), times=2)
        assert self.spread(cluster, "ab") == [("a", "ok", 1), ("b", "ok", 2)]
        assert cluster.under_way == {}

    def test_a_task_that_the_scheduler_dropped_is_handed_in_again(self):
        cluster = fake(CancelledError("x"), CancelledError("x"), Answer("ok", 1))
        assert self.spread(cluster, "a") == [("a", "ok", 1)]
        assert len(cluster.client.asked) == 3

    def test_but_not_for_ever(self):
        ((_, kind, (status, words)),) = self.spread(fake(*[CancelledError("x")] * 4), "a")
        assert (kind, status, words) == ("failed", Status.CRASHED, "the scheduler dropped it 4 times")

    def test_an_error_of_the_clusters_own_is_a_status(self):
        ((_, kind, (status, words)),) = self.spread(fake(ValueError("no room")), "a")
        assert (kind, status, words) == ("failed", Status.CRASHED, "on the cluster: ValueError: no room")

    def test_a_timing_task_asks_for_a_whole_machine(self):
        one, other = fake(Answer("ok", 1)), fake(Answer("ok", 1))
        self.spread(one, "a")
        self.spread(other, "a", alone=True)
        assert (one.client.asked, other.client.asked) == ([1], [4.0])

    def test_a_task_for_a_machine_that_is_gone_is_meant_for_another(self):
        cluster = fake(Answer("ok", 1))
        lost, answer = FakeFuture(None, times=0), FakeFuture(Answer("ok", 2), times=1)
        outcomes = [lost, answer]

        def submit(function, *args, resources, **options):
            cluster.client.asked.append(resources["cores"])
            return outcomes.pop(0)

        cluster.client.submit = submit
        got, original = [], cluster._watch
        cluster._watch = lambda **how: (original(**how), setattr(cluster, "largest", 2.0))
        cluster.spread(["a"], lambda task, answer: got.append(answer.value), alone=True)
        assert (got, cluster.client.asked) == ([2], [4.0, 2.0])


@pytest.mark.slow
def test_three_libraries_give_the_same_records_here_and_there(tmp_path):
    for name in ("torch", "diffrax"):
        pytest.importorskip(name)
    cluster = LocalCluster(tmp_path)
    backends = [word for name in ("scipy", "torchdiffeq", "diffrax") for word in ("--backend", name)]
    few = ["--rtol", "1e-6", "--norm", "seminorm"]
    command = [sys.executable, "-m", "crossbackend", "run", "linear", *backends, *few, "--no-timing"]
    try:
        for out, where in (("here", []), ("there", ["--scheduler", cluster.address])):
            done = [*command, "--no-report", "--quiet", "--out", tmp_path / out, *where]
            subprocess.run(done, check=True, timeout=200, capture_output=True, env=os.environ)
    finally:
        cluster.end()
    assert same(tmp_path / "here", tmp_path / "there")
    assert {r.status for r in load_run(tmp_path / "there").records} == {"ok"}
    assert len(load_run(tmp_path / "there").records) == 3 * 2
    here, there = (load_run(tmp_path / out).references["linear"] for out in ("here", "there"))
    assert (here["status"], here["digest"]) == (there["status"], there["digest"])
    assert set(here["arrays"]) == set(there["arrays"])
    for name, array in here["arrays"].items():
        np.testing.assert_array_equal(array, there["arrays"][name])
