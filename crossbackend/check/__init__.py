"""Pass or fail: whether the gradients of a problem are the same everywhere, and right."""

from crossbackend.check.findings import WHAT, Cause, Check, Finding, Verdict
from crossbackend.check.run import check

__all__ = ["WHAT", "Cause", "Check", "Finding", "Verdict", "check"]
