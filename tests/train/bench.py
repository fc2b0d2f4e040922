"""What counting costs in training: a counted step without its optimiser against the bare solve of the same plan.

Run as `python -m tests.train.bench`; one process a backend, so that torch and jax never meet.
"""

import statistics
import subprocess
import sys
import time

import numpy as np

REPEATS = 15


def measure(backend, name):
    """Print the ratio of the medians, taken in turns."""
    from crossbackend import registry
    from crossbackend.load import load
    from crossbackend.train.experiments import named
    from crossbackend.train.job import Job

    job, experiment = Job(name, "reduced", backend, "default"), named(name)
    sizes, rng = job.sizes(), np.random.default_rng(0)
    samples = experiment.load(sizes, None, None)
    data = experiment.batch(sizes, samples.train, np.arange(sizes.batch_size), rng)
    params = experiment.parameters(sizes, samples, rng)
    problem = load(job.problem()).replace(**samples.changes, params=params, data=data, dtype=sizes.dtype)
    bare = registry.get(backend).compile(problem, job.plan())
    stepper = registry.get(backend).stepper(problem, job.plan(), sizes.optimiser)
    counted, plain, nfe = [], [], 0
    for turn in range(REPEATS + 1):
        stepper.start(params)  # so that both solve the same
        step = stepper.step(data)
        began = time.perf_counter()
        bare.solve(sizes.rtol, sizes.atol)
        nfe = sum(step.nfe)
        if turn:  # the first compiles
            counted.append(step.seconds[0] + step.seconds[1])
            plain.append(time.perf_counter() - began)
    ratio = statistics.median(counted) / statistics.median(plain)
    print(f"{name:12}{backend:13}{nfe:5} evaluations: counted takes {ratio:.2f} times the bare solve")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(*sys.argv[1:])
    else:
        for backend in ("torchdiffeq", "diffrax"):
            for name in ("neural_cde", "cnf", "symoden"):
                subprocess.run([sys.executable, "-m", "tests.train.bench", backend, name], check=True)
