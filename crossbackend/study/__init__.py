"""Runs many plans: worker processes, resume, progress, timing."""

from crossbackend.study.options import Options
from crossbackend.study.run import run_study

__all__ = ["Options", "run_study"]
