"""A disk that is full or read-only: one message, nothing lost, and the same command goes on when there is room."""

import itertools
import os
import subprocess
import sys

import pytest

from crossbackend.errors import UserError
from crossbackend.lock import hold
from crossbackend.store import load_run
from tests.faults.needs import lacking, mount, unmount
from tests.faults.runs import command, content, finished, good, rtols
from tests.study.conftest import Lab
from tests.study.test_processes import Command


def said(err):
    """The lines of a message, without the progress bar."""
    return [line for line in err.splitlines() if line.startswith("error: ")]


@pytest.fixture
def disk(tmp_path):
    """A disk of 400 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=400k", "tmpfs", folder)
    yield folder
    unmount(folder)


def test_a_full_disk(lab, disk, figures):
    path = lab.problem()
    lab.reference(path)
    finished(lab, *command(lab, path, *rtols(60)))
    expected = content(lab.out)
    lab.out = disk / "run"
    lab.reference(path)
    before = {}
    for _ in range(2):  # the second time it is full before the first cell
        code, out, err = Command(lab, *command(lab, path, *rtols(60))).end()
        assert (code, out, "Traceback" in err) == (2, "", False), err
        (line,) = said(err)
        assert f"error: {lab.out}" in line
        assert "got a disk that takes no more (No space left on device), expected room for the file. What was" in line
        assert line.endswith("is still whole: make room, and the same command goes on from there.")
        after = good(lab.out)
        assert before.items() <= after.items()
        assert all(after[digest] == expected[digest]["arrays"] for digest in after)
        before = after
    assert 5 < len(before) < 110
    assert list(lab.out.rglob(".*")) == [], "nothing half written is left in the way"
    mount("-o", "remount,size=16m", disk)
    finished(lab, *command(lab, path, *rtols(60)))
    assert content(lab.out) == expected
    figures(f"disk full after {len(before)} of {len(expected)} records; records lost: 0")


def test_a_report_on_a_full_disk(lab, disk):
    path = lab.problem()
    lab.out = disk / "run"
    lab.reference(path)
    finished(lab, *command(lab, path, "--rtol", "1e-4"))
    with pytest.raises(OSError, match="No space left"), (disk / "filler").open("wb", buffering=0) as filler:
        filler.writelines(itertools.repeat(bytes(4096)))
    code, _, err = Command(lab, "report", lab.out, "--no-pdf").end()
    assert (code, "Traceback" in err) == (2, False), err
    assert "index.html: got a disk that takes no more (No space left on device)" in err
    assert len(load_run(lab.out).records) == 2


def test_a_limit_on_the_size_of_files(lab):
    """As a quota would: `ulimit -f`, of half a kilobyte."""
    path = lab.problem()
    lab.reference(path)
    finished(lab, *command(lab, path, "--rtol", "1e-2"))
    before = {one: one.read_bytes() for one in lab.out.rglob("*") if one.is_file()}
    words = [sys.executable, "-m", "crossbackend", *map(str, command(lab, path, "--rtol", "1e-4"))]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "got a disk that takes no more (File too large)" in done.stderr
    assert {one: one.read_bytes() for one in lab.out.rglob("*") if one.is_file()} == before
    finished(lab, *command(lab, path, "--rtol", "1e-4", "--rtol", "1e-2"))
    assert len(content(lab.out)) == 4


@pytest.fixture
def read_only():
    """Make a folder read-only, for root too."""
    done = []

    def make(folder):
        if os.geteuid() == 0:
            mount("--bind", folder, folder)
            done.append(lambda: unmount(folder))
            mount("-o", "remount,bind,ro", folder)
        else:
            modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
            for path, mode in modes.items():
                path.chmod(mode & ~0o222)
            done.append(lambda: [path.chmod(mode) for path, mode in modes.items()])
        if os.access(folder, os.W_OK):
            lacking("a folder that is read-only")

    yield make
    for undo in done:
        undo()


def test_a_read_only_folder(lab, read_only, tmp_path):
    """Writing says so, reading goes on as ever, and no lock is needed for that."""
    path = lab.problem()
    lab.reference(path)
    finished(lab, *command(lab, path, "--rtol", "1e-4"))
    before = content(lab.out)
    read_only(lab.out)
    for flags in (["--rtol", "1e-4"], ["--rtol", "1e-6"], ["--rtol", "1e-4", "--force"]):
        code, out, err = Command(lab, *command(lab, path, *flags)).end()
        assert (code, out) == (2, "")
        assert err == (
            f"error: --out: got {lab.out} (it is read-only), expected a folder that can be written. "
            "Write another folder.\n"
        )
    code, out, err = Command(lab, "compare", lab.out).end()
    assert (code, err) == (0, "")
    assert out.startswith("\np  (reference: ok")
    assert content(lab.out) == before
    with pytest.raises(UserError, match=r"--out: got .* \(it is read-only\), expected a folder that can be written"):
        with hold(lab.out):
            pass


def test_a_new_folder_where_none_can_be_made(lab, read_only, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    path = lab.problem()
    read_only(closed)
    own = Lab(lab.folder)
    own.out = closed / "run"
    code, _, err = Command(own, *command(own, path, "--rtol", "1e-4")).end()
    assert code == 2
    assert f"error: --out: got {own.out} (" in err
    assert err.endswith("expected a folder that can be written. Write another folder.\n")
