"""The pytest plug-in, in a pytest of its own; the check behind it is made by hand but for the slow tests."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

import crossbackend.check
from crossbackend import pytest_plugin, registry
from crossbackend.check import baseline
from crossbackend.check.findings import Check, Finding
from crossbackend.errors import UserError
from tests.check.cases import WRONG, comparison, record

STUB = """
import sys
sys.path.insert(0, {root!r})
import crossbackend.check
from tests.check.test_pytest_plugin import stub
crossbackend.check.check = stub([])
"""
"""A conftest for a pytest in a process of its own."""


def stub(asked, nfe=100):
    """Return a check that notes what it was asked, and fails for every problem called `wrong`."""

    def check(problems, **options):
        asked.append((problems, options))
        (name,) = problems
        findings = [replace(WRONG, problem=str(name))] if "wrong" in str(name) else [Finding("agreement", str(name))]
        backends = ["scipy"] if name == "alone" else ["scipy", "diffrax"]
        return Check([str(name)], findings, comparison=comparison(*(record(b, nfe=nfe) for b in backends)))

    return check


@pytest.fixture
def asked(monkeypatch):
    """What the checks were asked: (problems, options) of each."""
    found = []
    monkeypatch.setattr(crossbackend.check, "check", stub(found), raising=False)
    monkeypatch.setattr(registry, "installed", lambda: ("scipy", "diffrax"))
    return found


@pytest.fixture
def inner(pytester):
    """A pytest that runs in this process, with warnings as errors and strict markers."""
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error\n"
    )

    def run(body, *args, ini=""):
        if ini:
            path = pytester.path / "tox.ini"
            path.write_text(f"{path.read_text().rstrip()}\n{ini}\n")
        pytester.makepyfile(body)
        return pytester.runpytest_inprocess(*args)

    return run


def said(result):
    return "\n".join(result.outlines)


def test_the_fixture_returns_what_was_found(inner, asked):
    result = inner("""
        def test_port(gradients_agree):
            found = gradients_agree("linear", norms=["seminorm"], rtols=[1e-4])
            assert found.ok
            assert found.problems == ["linear"]
    """)
    result.assert_outcomes(passed=1)
    assert asked == [(["linear"], {"progress": False, "norms": ["seminorm"], "rtols": [1e-4]})]


def test_a_failure_is_the_table_and_no_traceback_of_the_plug_in(inner, asked):
    result = inner("""
        from crossbackend.pytest_plugin import assert_gradients_agree

        def test_port():
            assert_gradients_agree("wrong")
    """)
    result.assert_outcomes(failed=1)
    text = said(result)
    for words in ("AssertionError: crossbackend check: wrong", "problem  question   verdict",
                  "worst leaf params/w: torchdiffeq 0.12345678901234566, diffrax 0.12",
                  "points to: mathematics", "because: the difference is the same at both tolerances",
                  '>       assert_gradients_agree("wrong")'):  # fmt: skip
        assert words in text
    assert "pytest_plugin.py" not in text
    assert "raise AssertionError(" not in text


def test_the_marker_is_checked_before_the_body(inner, asked):
    result = inner("""
        import pytest

        @pytest.mark.crossbackend("linear", norms=["default"])
        def test_fine():
            pass

        @pytest.mark.crossbackend("wrong")
        def test_wrong():
            raise RuntimeError("the body ran")

        @pytest.mark.crossbackend("linear")
        def test_body():
            raise RuntimeError("its own mistake")
    """)
    result.assert_outcomes(passed=1, failed=2)
    text = said(result)
    assert "\ncrossbackend check: wrong\n\nproblem  question" in text
    assert "traceback entries are hidden" not in text
    assert "the body ran" not in text.replace('raise RuntimeError("the body ran")', "")
    assert "RuntimeError: its own mistake" in text
    assert [options.get("norms") for _, options in asked] == [["default"], None, None]


def test_a_bug_behind_a_marker_is_no_pass(inner, asked, monkeypatch):
    def check(problems, **options):
        raise AssertionError

    monkeypatch.setattr(crossbackend.check, "check", check)
    result = inner("""
        import pytest

        @pytest.mark.crossbackend("linear")
        def test_it():
            pass
    """)
    result.assert_outcomes(failed=1)


def test_markers_of_a_class_a_case_of_unittest_and_a_parameter(inner, asked):
    result = inner("""
        import unittest
        import pytest

        @pytest.mark.crossbackend("linear")
        class TestAll:
            def test_one(self):
                pass

            @pytest.mark.crossbackend("cnf")
            def test_two(self):
                pass

        class TestOld(unittest.TestCase):
            @pytest.mark.crossbackend("wrong")
            def test_three(self):
                pass

        @pytest.mark.parametrize("n", [
            pytest.param(1, marks=pytest.mark.crossbackend("spiral")), 2,
        ])
        def test_four(n):
            pass
    """)
    result.assert_outcomes(passed=4, failed=1)
    assert [problems for problems, _ in asked] == [["linear"], ["linear"], ["cnf"], ["wrong"], ["spiral"]]


@pytest.mark.parametrize("given", ["", "'linear', 'cnf'"])
def test_a_marker_without_one_problem(inner, asked, given):
    result = inner(f"import pytest\n\n@pytest.mark.crossbackend({given})\ndef test_it():\n    pass\n")
    result.assert_outcomes(failed=1)
    assert "takes one problem, got" in said(result)
    assert asked == []


def test_a_mistake_in_a_marker_is_its_message(inner, asked):
    result = inner("""
        import pytest

        @pytest.mark.crossbackend("linear", norm="default")
        def test_it():
            pass
    """)
    result.assert_outcomes(failed=1)
    assert "\ngradients_agree: got the option 'norm', expected one of backends" in said(result)


def test_a_mistake_in_a_call_shows_the_users_line_alone(inner, asked):
    result = inner("""
        def test_it(gradients_agree):
            gradients_agree("linear", norm="default")
    """)
    result.assert_outcomes(failed=1)
    assert "UserError: gradients_agree: got the option 'norm'" in said(result)
    assert '>       gradients_agree("linear", norm="default")' in said(result)
    assert "_refuse_unknown" not in said(result)


def test_an_unknown_option_is_refused(asked):
    with pytest.raises(UserError, match=r"got the option 'norm', expected one of backends, norms, .*'norms'\?"):
        pytest_plugin.assert_gradients_agree("linear", norm="default")
    assert asked == []


def test_one_may_be_given_in_place_of_several(asked):
    found = pytest_plugin.assert_gradients_agree("linear", norms="default", rtols=1e-5, fail_on="all", baseline=None)
    assert found.ok
    assert asked[0][1] == {"progress": False, "norms": ["default"], "rtols": [1e-5], "fail_on": ["all"]}


def test_a_path_counts_from_the_root_folder(inner, asked, pytester):
    folder = pytester.mkdir("models")
    (folder / "port.py").write_text("")
    body = """
        import os
        import pytest

        @pytest.mark.crossbackend("models/port.py")
        def test_marked():
            pass

        def test_elsewhere(gradients_agree, monkeypatch, tmp_path):
            monkeypatch.chdir(tmp_path)
            gradients_agree("models/port.py")
            gradients_agree("not/there.py")
    """
    inner(body).assert_outcomes(passed=2)
    assert [problems[0] for problems, _ in asked] == [folder / "port.py", folder / "port.py", "not/there.py"]


def test_the_time_limit_is_a_setting(inner, asked):
    body = """
        from crossbackend.pytest_plugin import assert_gradients_agree

        def test_it(gradients_agree):
            gradients_agree("linear")
            gradients_agree("linear", timeout=3)
            assert_gradients_agree("linear")
    """
    inner(body, ini="crossbackend_timeout = 12.5").assert_outcomes(passed=1)
    assert [options["timeout"] for _, options in asked] == [12.5, 3, 12.5]
    pytest_plugin.assert_gradients_agree("linear", baseline=None)  # that pytest is over
    assert "timeout" not in asked[-1][1]


@pytest.mark.parametrize("value", ["soon", "-1", "0", "inf", "nan"])
def test_a_time_limit_that_is_none(inner, asked, value):
    result = inner("def test_it(): pass", ini=f"crossbackend_timeout = {value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"crossbackend_timeout: got '{value}', expected seconds above 0" in "\n".join(result.errlines)


HELD = """
    def test_it(gradients_agree):
        gradients_agree("linear")
"""
INI = "crossbackend_baseline = checks/baseline.json"


def test_a_baseline_is_written_and_held_to(inner, asked, pytester, monkeypatch):
    path = pytester.path / "checks" / "baseline.json"
    missing = inner(HELD, ini=INI)
    missing.assert_outcomes(failed=1)
    assert re.search(r"baseline.json: got a file that does not exist.* --crossbackend-update-baseline writes it\.",
                     said(missing))  # fmt: skip
    inner(HELD, "--crossbackend-update-baseline").assert_outcomes(passed=1)
    assert list(baseline.read(path)["problems"]) == ["linear"]
    inner(HELD).assert_outcomes(passed=1)
    monkeypatch.setattr(crossbackend.check, "check", stub([], nfe=106))
    changed = inner(HELD)
    changed.assert_outcomes(failed=1)
    assert "forward nfe 100 -> 106, must be the same" in said(changed)
    assert "points to: settings" in said(changed)
    inner(HELD, "--crossbackend-update-baseline").assert_outcomes(passed=1)
    inner(HELD).assert_outcomes(passed=1)


def test_a_failed_check_is_not_recorded(inner, asked, pytester):
    result = inner(HELD.replace("linear", "wrong"), "--crossbackend-update-baseline", ini=INI)
    result.assert_outcomes(failed=1)
    assert "crossbackend check: wrong" in said(result)
    assert not (pytester.path / "checks").exists()


def test_a_baseline_of_one_test_and_none(inner, asked, pytester):
    body = """
        def test_it(gradients_agree):
            gradients_agree("linear", baseline="own.json")
            gradients_agree("linear", baseline=None)
    """
    inner(body, "--crossbackend-update-baseline", ini=INI).assert_outcomes(passed=1)
    assert [path.name for path in pytester.path.glob("**/*.json")] == ["own.json"]


@pytest.mark.parametrize("there", [(), ("scipy",), ("scipy", "julia")])
def test_fewer_than_two_backends_fail_and_never_pass(monkeypatch, asked, there):
    monkeypatch.setattr(registry, "installed", lambda: there)
    monkeypatch.setattr(registry, "missing", lambda name: () if name in there else (f"lib{name}",))
    words = rf"two backends are needed .* installed: {there[0] if there else 'none'}; .*diffrax needs libdiffrax"
    with pytest.raises(AssertionError, match=words):
        pytest_plugin.assert_gradients_agree("linear", baseline=None)
    assert asked == []


@pytest.mark.parametrize("backends", ["scipy", ["scipy"], ["scipy", "scipy"], []])
def test_two_backends_must_be_asked_for(asked, backends):
    with pytest.raises(AssertionError, match="two backends are needed to compare gradients, asked for"):
        pytest_plugin.assert_gradients_agree("linear", backends=backends)
    assert asked == []


def test_a_problem_that_one_backend_alone_can_do_is_no_pass(asked):
    with pytest.raises(AssertionError, match="nothing was compared, a gradient came from scipy alone"):
        pytest_plugin.assert_gradients_agree("alone", baseline=None)


def test_a_check_without_a_run_passes_by_its_agreement_alone(monkeypatch, asked):
    def check(problems, **options):
        return Check(["linear"], [Finding("solved", "linear")])

    monkeypatch.setattr(crossbackend.check, "check", check)
    with pytest.raises(AssertionError, match="nothing was compared, a gradient came from no backend alone"):
        pytest_plugin.assert_gradients_agree("linear", baseline=None)


def test_the_marker_is_known_and_the_option_is_shown(inner):
    assert "@pytest.mark.crossbackend(problem, **options): check a problem" in said(inner("", "--markers"))
    text = said(inner("", "--help"))
    for words in ("--crossbackend-update-baseline", "crossbackend_timeout (string)", "crossbackend_baseline (string)"):
        assert words in text


def in_process(pytester, *args, body=None):
    """Run a pytest in a process of its own whose conftest puts the check made by hand in place."""
    pytester.makeconftest(STUB.format(root=str(pytest_root())))
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(body or """
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_fine(gradients_agree, n):
            gradients_agree("linear", backends=["scipy", "diffrax"])

        @pytest.mark.crossbackend("wrong", backends=["scipy", "diffrax"])
        def test_wrong():
            pass
    """)  # fmt: skip
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *args, timeout=100)


def pytest_root():
    return __file__.rpartition("/tests/")[0]


@pytest.mark.slow
def test_several_processes(pytester):
    result = in_process(pytester, "-n", "2", "--crossbackend-update-baseline", "-o", "crossbackend_baseline=b.json")
    result.assert_outcomes(passed=4, failed=1)
    assert "worst leaf params/w" in said(result)
    assert list(baseline.read(pytester.path / "b.json")["problems"]) == ["linear"]


@pytest.mark.slow
def test_without_other_plug_ins_and_without_this_one(pytester):
    in_process(pytester, "-p", "no:xdist", "-p", "no:hypothesispytest").assert_outcomes(passed=4, failed=1)
    body = """
        from crossbackend.pytest_plugin import assert_gradients_agree

        def test_it():
            assert_gradients_agree("linear", backends=["scipy", "diffrax"])
    """
    in_process(pytester, "-p", "no:crossbackend", body=body).assert_outcomes(passed=1)


def test_pytest_starts_without_the_libraries():
    program = """
import sys
import crossbackend.pytest_plugin
print(sorted({"torch", "jax", "diffrax", "matplotlib", "pandas", "crossbackend.check"} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


PROBLEM = """
import numpy as np
from crossbackend import Problem


def field(t, y, params, data):
    return -params["k"] * y


def port(t, y, params, data):
    return -{wrong} * params["k"] * y


def loss(ys, params, data):
    return (ys**2).sum()


problem = Problem("decay", {{"torch": field, "jax": port}}, loss, {{"k": np.array([1.0])}}, np.array([1.0]),
                  [0.0, 1.0])
"""


@pytest.fixture
def real(pytester):
    """A problem file whose field is ported: right where `wrong` is 1."""

    def write(wrong):
        path = pytester.path / "decay.py"
        path.write_text(PROBLEM.format(wrong=wrong), encoding="utf-8")
        pytester.makepyfile("""
            import pytest

            @pytest.mark.crossbackend("decay.py", backends=["torchdiffeq", "diffrax"], norms=["default"])
            def test_port():
                pass
        """)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider")

    return write


NO_CHECK = not hasattr(crossbackend.check, "check")


@pytest.mark.slow
@pytest.mark.skipif(NO_CHECK, reason="the check itself is not there")
def test_a_real_problem_that_agrees(real):
    real(1.0).assert_outcomes(passed=1)


@pytest.mark.slow
@pytest.mark.skipif(NO_CHECK, reason="the check itself is not there")
def test_a_real_port_that_is_wrong(real):
    result = real(1.01)
    result.assert_outcomes(failed=1)
    assert "crossbackend check: decay" in said(result)
    assert "points to: mathematics" in said(result)
