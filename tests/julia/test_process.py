"""The Julia process: replies that are none, a Julia that dies, one that outlives nobody."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from crossbackend import machine, registry
from crossbackend.digest import problem_digest
from crossbackend.julia_process import SHARED, JuliaDied, JuliaError, JuliaProcess
from crossbackend.load import load
from crossbackend.plan import Choice, Plan
from crossbackend.record import Status
from crossbackend.store import load_run, prepare, write_json, write_reference
from crossbackend.study import Options, run_study
from crossbackend.study.references import MADE_BY
from crossbackend.study.state import Study
from tests import cases

SLOW = Path(__file__).parent / "slow.py"


@pytest.fixture
def process():
    made = JuliaProcess()
    yield made
    made.end()


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Have `$JULIA` name a program that says `hello` properly and then does as it is told."""

    def write(*lines):
        path = tmp_path / "julia"
        hello = """printf '{"ok": true, "arrays": []}\\n'"""
        start = ["#!/bin/sh", '[ "$1" = --version ] && echo "julia version 1.9.0" && exit', f"read line; {hello}"]
        path.write_text("\n".join([*start, *lines]))
        path.chmod(0o755)
        monkeypatch.setenv("JULIA", str(path))

    return write


def ended(pid):
    """Whether a process is gone, or nobody's to wait for, within some seconds."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


class TestReplies:
    """A program stands for Julia and answers wrongly."""

    def test_no_reply(self, script, process):
        script("read line; echo 'ERROR: it broke' >&2; echo '  at line 3' >&2; exit 4")
        with pytest.raises(JuliaDied, match=r"^Julia ended with exit code 4: ERROR: it broke / at line 3$"):
            process.ask("load", "p", "folder")

    def test_half_a_first_line(self, script, process):
        script("""read line; printf '{"ok": true, "arr'; exit 1""")
        with pytest.raises(JuliaDied, match=r"^Julia ended with exit code 1: it left no words$"):
            process.ask("load", "p", "folder")

    def test_half_an_array(self, script, process):
        script("""read line; printf '{"ok": true, "arrays": [["y", "<f8", [4]]]}\\nabcdefgh'; exit""")
        with pytest.raises(JuliaDied, match=r"^Julia ended with exit code 0: it left no words$"):
            process.ask("load", "p", "folder")

    def test_half_an_array_and_then_silence(self, script, process):
        script("""read line; printf '{"ok": true, "arrays": [["y", "<f8", [4]]]}\\nabcdefgh'; exec >&-; sleep 1000""")
        with pytest.raises(JuliaDied, match=r"^Julia closed its pipes in the middle of a reply: it left no words$"):
            process.ask("load", "p", "folder")
        assert process.pid is None

    @pytest.mark.parametrize(
        "line",
        ["hello there", "[1, 2]", '{"ok": true}', '{"ok": 1, "arrays": []}',
         '{"ok": true, "arrays": [["y", "|O", [1]]]}',
         '{"ok": true, "arrays": [["y", "<f8", [-1]]]}', '{"ok": true, "arrays": [["y", "<f8", 3]]}'],
    )  # fmt: skip
    def test_garbled(self, script, process, line):
        script(f"read line; echo '{line}'; read line")
        with pytest.raises(JuliaDied, match=r"^Julia's reply is none that can be read: b'"):
            process.ask("load", "p", "folder")
        assert process.pid is None, "what else it says would be taken for the next reply"

    def test_the_next_request_starts_it_again(self, script, process):
        script(
            """read line; case "$line" in load*) exit 1;; *) printf '{"ok": true, "arrays": []}\\n'; read line;; esac"""
        )
        with pytest.raises(JuliaDied):
            process.ask("load", "p", "folder")
        assert process.ask("quit").header == {"ok": True, "arrays": []}
        assert process.generation == 2

    def test_no_memory(self, script, process):
        script("""read line; printf '{"ok": false, "error": "OutOfMemoryError()", "arrays": []}\\n'; read line""")
        with pytest.raises(MemoryError, match="OutOfMemoryError"):
            process.ask("load", "p", "folder")

    def test_a_word_that_would_be_two(self, process):
        with pytest.raises(JuliaError, match="tabs and line ends cannot be part of a request"):
            process.ask("load", "p", "a\tb")


def test_the_memory_of_what_a_worker_starts_counts_with_it():
    hold = "x = bytearray(300 * 2**20); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        me = psutil.Process()
        alone, family = machine.memory_in_use(me), machine.memory_in_use(me, family=True)
        assert family > alone + 300 * 2**20
        assert machine.peak_memory_bytes([child.pid]) > machine.peak_memory_bytes() + 300 * 2**20
    finally:
        child.communicate(b"\n")
    assert machine.peak_memory_bytes([child.pid]) is None, "it is gone"


def test_a_run_counts_julia_with_its_worker(tmp_path):
    choice = Choice(("julia", "scipy"))
    study = Study((), choice, Options(tmp_path, progress=False), [], set(), set(), [], {}, {}, {})
    study.start()
    assert {name: handle.family for name, handle in study.workers.items()} == {
        "julia": True, "scipy": False, "reference": False,
    }  # fmt: skip
    study.end()


@pytest.mark.julia
class TestJulia:
    def test_an_error_is_told_and_the_process_lives_on(self):
        SHARED.start()
        before = SHARED.generation
        with pytest.raises(JuliaError, match=r"problem \"nobody\" is not loaded"):
            SHARED.ask("solve", "nobody", "base", "default", "native", "1e-6", "1e-8", "-")
        assert SHARED.ask("hello").header["engines"][0] == "base"
        assert SHARED.generation == before

    def test_killed_between_two_solves_it_is_started_again(self):
        problem = cases.decay()
        made = registry.get("julia").compile(problem, Plan("decay", "julia", "default", "native", 1e-6, 1e-8))
        before, price = made.solve(1e-6, 1e-8), made.compile_s
        os.kill(SHARED.pid, signal.SIGKILL)
        while SHARED.pid is not None:
            time.sleep(0.01)
        assert made.solve(1e-6, 1e-8).loss == before.loss
        assert made.compile_s > price, "the second start is no part of a solve"

    def test_killed_in_a_solve_its_words_are_the_error_and_the_next_one_works(self):
        problem = load(SLOW)
        made = registry.get("julia").compile(problem, Plan("slow", "julia", "default", "native", 1e-3, 1e-5))
        threading.Timer(0.5, lambda: os.kill(SHARED.pid, signal.SIGKILL)).start()
        with pytest.raises(
            JuliaDied, match=r"^Julia was killed by signal 9 \(often the system's out-of-memory killer\): "
        ):
            made.solve(1e-12, 1e-14)
        assert made.record(1e-3, 1e-5).status == Status.OK

    def test_it_ends_with_python_also_in_a_solve(self):
        script = (
            "import sys, threading\nfrom crossbackend import load, registry\nfrom crossbackend.plan import Plan\n"
            "from crossbackend.julia_process import SHARED\n"
            f"problem = load({str(SLOW)!r})\nplan = Plan('slow', 'julia', 'default', 'native', 1e-3, 1e-5)\n"
            "made = registry.get('julia').compile(problem, plan)\nprint(SHARED.pid, flush=True)\n"
            "made.solve(1e-12, 1e-14)\n"
        )
        python = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        pid = int(python.stdout.readline())
        time.sleep(0.3)
        assert psutil.pid_exists(pid)
        python.kill()
        python.communicate()
        assert ended(pid)


@pytest.mark.julia
@pytest.mark.slow
class TestStudy:
    """What the study makes of it: workers, limits, statuses."""

    def run(self, tmp_path, rtols, meanwhile=None, **options):
        """Run the slow problem by Julia, its reference given; return statuses and messages by rtol."""
        out, problem = tmp_path / "out", load(SLOW)
        prepare(out)
        write_json(out / "run.json", {"format": 1})
        write_json(out / "problems" / "slow.json", {"format": 1, "name": "slow"})
        write_reference(out, "slow", {"status": "ok", "digest": problem_digest(problem), "made_by": MADE_BY}, {})
        given = {"timing": False, "progress": False, "explain": False, "timeout": 300.0} | options
        watcher = threading.Thread(target=meanwhile, args=(out,)) if meanwhile else None
        if watcher is not None:
            watcher.start()
        choice = Choice(("julia",), ("default",), ("native",), rtols)
        run_study([problem], choice, Options(out, **given))
        if watcher is not None:
            watcher.join()
        return {record.rtol: (str(record.status), record.message) for record in load_run(out).records}

    def test_killed_in_a_cell(self, tmp_path):
        pids = []

        def kill(out):
            until(lambda: list(out.glob("records/*.json")))
            time.sleep(0.5)
            pids.append(_julia())
            os.kill(pids[0], signal.SIGKILL)

        found = self.run(tmp_path, (1e-3, 1e-12, 1e-4), kill)
        assert found[1e-3][0] == found[1e-4][0] == "ok"
        assert found[1e-12][0] == "crashed"
        assert "Julia was killed by signal 9" in found[1e-12][1]
        assert ended(pids[0])

    def test_a_timeout_takes_julia_along(self, tmp_path):
        pids = []

        def note(out):
            pids.append(until(_julia))

        # Long enough for a busy machine to start Python and Julia in.
        found = self.run(tmp_path, (1e-12,), note, timeout=25.0)
        assert found[1e-12] == ("timeout", "no answer in 25 s")
        assert ended(pids[0])


def until(look):
    """Return what `look` finds, asked again and again for a minute."""
    end = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def _julia():
    """Return the number of a Julia process among this one's descendants, but for its own."""
    for child in psutil.Process().children(recursive=True):
        try:
            if "worker.jl" in " ".join(child.cmdline()) and child.pid != SHARED.pid:
                return child.pid
        except psutil.Error:
            continue
    return None
