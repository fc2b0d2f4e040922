"""Workers and whole runs that are killed at random moments: what is stored stays, the same command does the rest."""

import contextlib
import random
import signal
import time

import psutil
import pytest

from crossbackend import study
from crossbackend.load import load
from crossbackend.plan import Choice
from crossbackend.store import load_run
from crossbackend.study import Options
from tests.faults.runs import command, content, finished, good, rtols, until, workers
from tests.study.conftest import Lab
from tests.study.test_processes import Command

KILLS = 50


@pytest.fixture
def undisturbed(lab):
    """Run a command into a folder of its own and return what an undisturbed run's records say."""

    def of(path, *flags, **how):
        own = Lab(lab.folder)
        own.out = lab.folder / "undisturbed"
        own.reference(path)
        finished(own, *command(own, path, *flags, **how))
        return content(own.out)

    return of


def _kill_one(process, rng):
    """Kill one of a run's workers; False where the run is over before there is one."""
    while process.poll() is None:
        found = [child for child in workers(process) if _answers(child)]
        if found:
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(found).kill()
                return True
        time.sleep(0.005)
    return False


def _wait_for_calls(lab, process, count):
    """Wait until a run has made so many more calls, or has ended."""
    kinds = ("record", "solve")
    target = len(lab.calls(*kinds)) + count
    until(lambda: process.poll() is not None or len(lab.calls(*kinds)) >= target)


def _answers(child):
    """Whether a child is a worker by now: before, it is a copy of the run itself."""
    with contextlib.suppress(psutil.Error):
        return "crossbackend.study.worker" in child.cmdline()
    return False


@pytest.mark.slow
@pytest.mark.parametrize("timed", [False, True], ids=["counted", "timed"])
def test_workers_killed_at_random_moments(lab, undisturbed, figures, timed):
    """25 kills each, 50 in all. Only cells under way are lost, they say so, and the same command runs them again."""
    rng = random.Random(20211121 + timed)
    path = lab.problem()
    flags = rtols(30)
    expected = undisturbed(path, *flags, timed=timed)
    for backend in "ab":
        lab.order(backend, "record:brief", "solve:brief")
    kills, crashed, lost = 0, 0, 0
    while kills < KILLS // 2:
        lab.out = lab.folder / f"out-{kills}"
        lab.reference(path)
        run = Command(lab, *command(lab, path, *flags, timed=timed))
        for number in range(min(7, KILLS // 2 - kills)):
            if number or rng.random() < 0.6:  # else in its trials, or before
                _wait_for_calls(lab, run.process, rng.randrange(1, 7))
            time.sleep(rng.uniform(0, 0.04))
            kills += _kill_one(run.process, rng)
        code, _, err = run.end()
        assert (code, "Traceback" in err) == (0, False), err
        records = load_run(lab.out).records
        assert {record.status for record in records} <= {"ok", "crashed"}
        assert len(records) == len(expected), "a lost cell is a record too"
        crashed += sum(record.status == "crashed" for record in records)
        before = good(lab.out)
        finished(lab, *command(lab, path, *flags, timed=timed))
        after = good(lab.out)
        assert before.items() <= after.items(), "what was there stays as it was"
        assert content(lab.out) == expected
        lost += len(expected) - len(after)
    figures(f"{kills} workers killed, {crashed} cells crashed and run again; records lost: {lost}")


def test_ended_before_its_run_json_it_can_be_run_again(lab, monkeypatch):
    """The folder is there and the run is not: the same command takes it for its own."""
    path = lab.problem()
    choice = Choice(("a", "b"), ("default",), ("native",), (1e-4,))
    options = Options(lab.out, timing=False, progress=False)
    with monkeypatch.context() as patched:
        patched.setattr(study.run, "_study", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            study.run_study([load(path)], choice, options)
    assert sorted(path.name for path in lab.out.iterdir()) == ["problems", "records", "reference"]
    lab.reference(path)
    study.run_study([load(path)], choice, options)
    assert len(content(lab.out)) == 2


@pytest.mark.slow
def test_runs_killed_at_random_moments(lab, undisturbed, figures):
    """The study's own process, 8 times: no record is half there, none that was there is lost."""
    rng = random.Random(7)
    path = lab.problem()
    lab.reference(path)
    flags = rtols(60)
    expected = undisturbed(path, *flags)
    before, kills = {}, 0
    while kills < 8:
        had = len(lab.calls("record"))
        run = Command(lab, *command(lab, path, *flags))
        with contextlib.suppress(AssertionError):  # it may end before it has made so many
            run.until_calls(had + rng.randrange(1, 14))
        time.sleep(rng.uniform(0, 0.02))
        kills += run.end(signal.SIGKILL)[0] == -signal.SIGKILL
        after = good(lab.out)
        assert before.items() <= after.items()
        before = after
    finished(lab, *command(lab, path, *flags))
    assert content(lab.out) == expected
    assert list(lab.out.rglob(".*")) == [], "the next run sweeps what a killed one left"
    figures(f"{kills} runs killed; records lost: {len(expected) - len(content(lab.out))}")


@pytest.mark.slow
def test_a_thousand_cells_interrupted_at_random_moments(lab, undisturbed, figures):
    """Ctrl-C: each time a usable run, in the end the records of an undisturbed one, each cell run once."""
    rng = random.Random(11)
    path = lab.problem()
    lab.reference(path)
    flags = rtols(500)
    expected = undisturbed(path, *flags)
    (lab.stub / "calls").unlink()
    before, stops = {}, 0
    for share in (rng.randrange(5, 130) for _ in range(5)):
        had = len(lab.calls("record"))
        run = Command(lab, *command(lab, path, *flags))
        run.until_calls(had + share)
        time.sleep(rng.uniform(0, 0.02))
        code, out, err = run.end(signal.SIGINT)
        assert (code, out) == (130, ""), err
        assert "interrupted: what is stored is a usable run, and the same command goes on from there\n" in err
        assert "Traceback" not in err
        stops += 1
        after = good(lab.out)
        assert before.items() <= after.items()
        before = after
    finished(lab, *command(lab, path, *flags))
    assert content(lab.out) == expected
    assert len(expected) == 1000
    calls = len(lab.calls("record"))
    assert 1000 <= calls <= 1000 + 2 * stops, "what was stored is not run again"
    figures(f"{stops} times Ctrl-C, {calls} cells run; records lost: {len(expected) - len(content(lab.out))}")
