"""What a run's phases took: in `run.json`, from what every answer says of its own CPU time."""

import time

from crossbackend import machine
from crossbackend.study.worker import Worker, answer


def test_an_answer_says_what_it_took():
    class Busy(Worker):
        def work(self):
            end = time.process_time() + 0.05
            while time.process_time() < end:
                pass
            return "done"

        def idle(self):
            time.sleep(0.2)

    kind, value, cpu_s = answer(Busy(), {"do": "work"})
    assert (kind, value) == ("ok", "done")
    assert cpu_s >= 0.05
    assert answer(Busy(), {"do": "idle"})[2] < 0.2


def test_the_time_of_a_process_that_was_waited_for_counts():
    import subprocess
    import sys

    before = machine.cpu_seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True)
    assert machine.cpu_seconds() - before >= 0.1  # the system counts in hundredths


def test_a_helper_counts_and_one_that_is_gone_does_not_stop_the_count():
    import os

    assert machine.cpu_seconds([os.getpid()]) > machine.cpu_seconds([2**22 + 1]) > 0


def test_the_run_says_what_its_phases_took(lab):
    path = lab.problem()
    lab.run(path, timing=True, seconds=1e-3)
    phases = lab.stored().about["phases"]
    assert sorted(phases) == ["side_by_side", "timed"]
    for phase in phases.values():
        assert phase["cores"] == machine.cores()
        assert 0 <= phase["solver_cpu_s"]
        assert 0 < phase["wall_s"] < 60
    assert phases["side_by_side"]["solver_cpu_s"] > 0


def test_a_run_that_has_nothing_to_do_keeps_them(lab):
    path = lab.problem()
    lab.run(path)
    before = lab.stored().about["phases"]
    assert lab.run(path) == []
    assert lab.stored().about["phases"] == before


def test_processes_beside_the_backends_own_count(lab):
    paths = [lab.problem(name) for name in ("p", "q", "r")]
    lab.run(*paths, backends="a", jobs=3)
    assert lab.stored().about["phases"]["side_by_side"]["solver_cpu_s"] > 0
