"""Training the paper's experiments on torchdiffeq and diffrax, step by step, with evaluations and times.

    experiment, experiments/   what is trained: a gallery problem, data, sizes, scores
    swing_up                   the double pendulum controlled by a trained model
    job, checkpoint            one training's settings and files; what it goes on from
    loop                       the epochs of one training
    worker, run                a process for each backend and norm, and the run that starts them

Each backend's own step is in `backends/torchdiffeq_training` and `backends/diffrax_training`.
"""

from __future__ import annotations

from crossbackend.train.run import Options, run_training

__all__ = ["Options", "run_training"]
