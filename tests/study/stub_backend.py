"""A backend without a library: it writes every call to a log and does as the plan's norm, or a file, says.

It stands on PYTHONPATH with a distribution of its own, so that the study and its workers find it as they find any
plug-in. `$STUB/calls` is the log; `$STUB/NAME` holds what the backend `NAME` is to do (see `_misbehave`).
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from crossbackend.errors import Mistake, UserError
from crossbackend.record import Gradient, Outcome, Status, Steps

HOME = Path(os.environ.get("STUB", "."))


def log(*words):
    with (HOME / "calls").open("a") as out:
        out.write(" ".join(map(str, words)) + "\n")


def _misbehave(backend, plan, call):
    """Do what `$STUB/BACKEND` says, one line an order: `[CALL:[PROBLEM:]]ORDER`."""
    path = HOME / backend
    for line in path.read_text().split("\n") if path.exists() else ():
        *where, order = line.split(":")
        if where and (where[0] != call or where[1:] not in ([], [plan.problem])):
            continue
        _do(order)


def _do(order):
    if order == "hang":
        time.sleep(1000)
    if order == "exit":
        os._exit(7)
    if order == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "leave":
        raise SystemExit(3)
    if order == "raise":
        raise ValueError("the library's own words")
    if order == "user":
        raise UserError(Mistake("lowering", "the primitive 'fft'", "one it knows"))
    if order == "memory":
        held = []
        while True:
            held.append(np.ones(2**22))
            time.sleep(0.01)
    if order == "memory error":
        raise MemoryError
    if order == "allocator":
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if order == "print":
        sys.stdout.write("\x00\x00 noise on standard output" * 1000)
        sys.stdout.flush()
        os.write(1, b"more noise\n")
        sys.stdin.read()
    if order == "pid":
        log("pid", os.getpid())
    if order == "slow":
        time.sleep(0.2)
    if order == "big":  # 64 MiB that are really written, and given back
        np.ones(2**23).sum()
    if order.startswith("span"):  # `$STUB/spans` says when it ran, and under which process
        started = time.monotonic()
        time.sleep(0.05)
        with (HOME / "spans").open("a") as out:
            out.write(f"{order} {started} {time.monotonic()} {os.getppid()}\n")
    if order == "orphan":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)
    if order == "wait":  # for the test's word, a minute at most
        for _ in range(6000):
            if (HOME / "go").exists():
                break
            time.sleep(0.01)
    if order == "brief":
        time.sleep(0.02)
    if order == "limited memory":  # as `ulimit -v`, or a container, would have it
        import resource

        with open("/proc/self/statm", encoding="ascii") as sizes:
            used = int(sizes.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, resource.RLIM_INFINITY))
        np.ones(2**25)


class Stub:
    library = "numpy"
    distributions = ("crossbackend-stub",)

    def __init__(self, name):
        self.name = name

    def declines(self, problem, plan):
        log("declines", self.name, problem.name)
        _misbehave(self.name, plan, "declines")
        return "it does not do matched seminorms" if (plan.stepping, plan.norm) == ("matched", "seminorm") else None

    def compile(self, problem, plan):
        log("compile", self.name, plan.problem, plan.norm, plan.stepping)
        _misbehave(self.name, plan, "compile")
        return StubCompiled(self.name, problem, plan)


class StubCompiled:
    def __init__(self, name, problem, plan):
        self.name, self.problem, self.plan = name, problem, plan
        self.compile_s = 0.25

    def _gradient(self):
        y0 = np.array(self.problem.data["gradient"])
        if (HOME / self.name).exists() and "nan" in (HOME / self.name).read_text().split("\n"):
            y0 = y0 * np.nan
        return Gradient(1.0, {"": y0}, {})

    def record(self, rtol, atol):
        log("record", self.name, self.plan.problem, self.plan.norm, self.plan.stepping, rtol)
        _misbehave(self.name, self.plan, "record")
        steps = Steps(np.array([0.0]), np.array([1.0]), np.array([True]), 8)
        back = Steps(np.array([1.0]), np.array([0.0]), np.array([True]), 8 if self.plan.norm == "default" else 6)
        return Outcome(Status.OK, "", self._gradient(), {"": np.ones((2, 2))}, steps, back, {0.0: 0.0})

    def solve(self, rtol, atol):
        log("solve", self.name, self.plan.problem, self.plan.norm, self.plan.stepping, rtol)
        _misbehave(self.name, self.plan, "solve")
        return self._gradient()

    def settings(self, rtol, atol):
        return {"forward": {"rtol": rtol}, "backward": {"rtol": rtol}}


stub_a, stub_b, stub_c = Stub("a"), Stub("b"), Stub("c")
