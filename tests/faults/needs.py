"""What a fault needs of the system; without it the test is skipped, or fails (REQUIRE_FAULTS)."""

import os
import subprocess

import pytest


def lacking(reason):
    """Skip for want of something, or fail where faults must be tried."""
    if os.environ.get("REQUIRE_FAULTS", "") not in ("", "0"):
        pytest.fail(f"REQUIRE_FAULTS: {reason}")
    pytest.skip(reason)


def mount(*words):
    """Mount something, or say why that cannot be done here."""
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        lacking(f"mount {' '.join(map(str, words))}: {done.stderr.strip()}")


def unmount(folder):
    """Undo it."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)
