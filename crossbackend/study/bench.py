"""What running cells takes: worker processes and how the run is done. A study has it, and so has a cluster's worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from crossbackend import registry
from crossbackend.study.options import Options
from crossbackend.study.pool import Handle, WorkerHandle


class Bench(Protocol):
    """Where cells are run; the code that runs them asks for nothing else."""

    @property
    def workers(self) -> Mapping[str, Handle]:
        """Who answers for every backend, by its name."""
        ...

    @property
    def options(self) -> Options:
        """How the run is done."""
        ...

    @property
    def usual(self) -> Mapping[tuple[str, ...], float]:
        """The rtol that stands for a sweep, by its key."""
        ...


UNOPTIMISED = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@dataclass(frozen=True)
class Place:
    """A bench and nothing more: see `Bench`."""

    workers: Mapping[str, Handle]
    options: Options
    usual: Mapping[tuple[str, ...], float]


def worker(name: str, options: Options, device: str) -> WorkerHandle:
    """Return the handle of a worker process, which starts when it is first asked.

    Parameters
    ----------
    name : str
        A backend's, or `reference`.
    options : Options
        With the limits of time and memory.
    device : {"cpu", "cuda"}
    """
    environment = {"JAX_PLATFORMS": "cpu"} if device == "cpu" else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if not options.optimise:
        environment["XLA_FLAGS"] = " ".join(filter(None, (os.environ.get("XLA_FLAGS"), UNOPTIMISED)))
    family = name != "reference" and bool(registry.programs(name))
    return WorkerHandle(name, options.timeout, int(options.memory_gib * 2**30), environment, family=family)
