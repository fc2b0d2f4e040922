"""Runs many plans: worker processes, resume, progress, timing."""

from crossbackend.study.run import Options, run_study

__all__ = ["Options", "run_study"]
