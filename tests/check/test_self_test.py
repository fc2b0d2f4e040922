"""Every fault that is planted is seen and its cause named; a check that is blind to one says so."""

import json
import subprocess
import sys

import pytest

from crossbackend import registry
from crossbackend.check import self_test as module
from crossbackend.check.findings import Cause
from crossbackend.check.mutants import FAULTS, planted
from crossbackend.check.run import check
from crossbackend.check.specimen import specimen

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plants():
    return {plant.fault: plant for plant in module.self_test()}


def test_without_a_fault_nothing_is_seen(plants):
    assert plants[""].seen, plants[""].said


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_turns_the_check_red_and_is_named(plants, fault):
    plant = plants[fault.name]
    assert plant.seen, "the check stayed green"
    assert plant.named, plant.said
    assert fault.says in plant.said


def test_both_causes_are_planted():
    assert {fault.cause for fault in FAULTS} == {Cause.MATHEMATICS, Cause.SETTINGS}


def test_a_blind_check_is_found_out(plants, monkeypatch):
    """Agreement alone does not see a fault that a limit of 10 lets pass: the self-test has to notice."""
    monkeypatch.setattr("crossbackend.check.judge.MATCHED_TOLERANCE", 1e9)
    monkeypatch.setattr("crossbackend.check.judge.DERIVATIVE", 1e9)
    monkeypatch.setattr("crossbackend.check.evidence.GOOD", 1e12)
    monkeypatch.setattr("crossbackend.check.judge._solved", lambda _: [])
    monkeypatch.setattr("crossbackend.check.judge._agreement", lambda *_: [])
    with planted():
        whole = check(specimen(), backends=["scipy", "torchdiffeq", "mutant:gradient-scaled"], rtols=(1e-4,), seeds=1)
        plant = module._plant(whole, ["scipy", "torchdiffeq"], FAULTS[0])
    assert not plant.seen
    assert not module.passed([plants[""], plant])
    assert "NOT SEEN" in "\n".join(module.lines([plant]))


def test_the_faults_are_gone_afterwards():
    with planted():
        assert "mutant" in registry.names()
    assert "mutant" not in registry.names()


def test_the_command_shows_each_and_exits_0():
    done = subprocess.run([sys.executable, "-m", "crossbackend", "check", "--self-test", "--json"],
                          capture_output=True, text=True, check=False, timeout=240)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    assert [plant["fault"] for plant in found["plants"]] == ["", *(fault.name for fault in FAULTS)]
