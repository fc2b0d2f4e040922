"""An idle core gets another process for the backend that has most to do; what is timed stays with its own."""

import threading

import psutil
import pytest

from crossbackend import machine
from crossbackend.study.line import Line

from .conftest import of

NAMES = "pqrstuvw"


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 4)


def run(lab, **options):
    lab.order("a", "record:pid", "record:slow")
    return lab.run(*map(lab.problem, NAMES), backends="a", rtols=[1e-4], repeats=1, **options)


def processes(calls):
    return {row[0] for row in of(calls, "pid")}


def test_an_idle_core_helps_and_every_cell_is_counted_once(lab, four_cores):
    calls = run(lab)
    assert len(processes(calls)) >= 2
    assert sorted(row[1] for row in of(calls, "record")) == list(NAMES)
    assert set(lab.statuses().values()) == {"ok"}


def test_what_is_timed_is_compiled_and_timed_by_the_backends_own_process(lab, four_cores):
    lab.order("a", "solve:pid", "record:slow")
    calls = lab.run(*map(lab.problem, NAMES), backends="a", rtols=[1e-4], timing=True, repeats=1)
    assert len(processes(calls)) == 1
    assert all(record.time is not None for record in lab.stored().records)


@pytest.mark.parametrize("lacking", ["cores", "memory"])
def test_no_process_more_than_there_is_room_for(lab, monkeypatch, lacking):
    monkeypatch.setattr(machine, "cores", lambda: 1 if lacking == "cores" else 4)
    if lacking == "memory":
        monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Full", (), {"available": 2**20, "total": 2**33}))
    assert len(processes(run(lab))) == 1


def test_a_process_that_dies_while_it_helps_costs_its_cell(lab, four_cores):
    lab.order("a", "record:slow", "record:w:exit")
    lab.run(*map(lab.problem, NAMES), backends="a", rtols=[1e-4])
    assert lab.statuses() == {(name, "a"): "crashed" if name == "w" else "ok" for name in NAMES}


class TestLine:
    def test_a_sweep_is_given_out_once_and_then_to_be_compiled(self):
        line = Line("a", [[1], [2]])  # type: ignore[list-item]
        assert line.share == 2
        with line.hand(), line.to_count() as first, line.to_count() as second, line.to_count() as none:
            assert (first, second, none) == ([1], [2], None)
            assert line.share == 0
            assert line.counted() is None
        assert line.wait()
        assert [line.counted(), line.counted()] == [[2], [1]]
        assert not line.wait()

    def test_who_waits_goes_on_when_another_has_counted_even_if_it_failed(self):
        line = Line("a", [[1]])  # type: ignore[list-item]
        found, at_work = [], threading.Event()

        def count():
            try:
                with line.to_count():
                    at_work.set()
                    raise ValueError
            except ValueError:
                found.append("failed")

        other = threading.Thread(target=count)
        other.start()
        at_work.wait()
        assert line.wait()
        other.join()
        assert (found, line.counted()) == (["failed"], [1])
