"""`check` on real problems and backends: what is right passes, what is wrong fails, and says why."""

import json
import subprocess
import sys

import numpy as np
import pytest

from crossbackend import UserError, registry
from crossbackend.check import WHAT, Cause, Verdict, check
from crossbackend.check import run as check_run
from crossbackend.check.run import judged
from crossbackend.check.specimen import loss, specimen, vector_field
from crossbackend.cli import main, parser

pytestmark = pytest.mark.slow
PAIR = ("scipy", "torchdiffeq")


@pytest.fixture(scope="module")
def sound():
    return check(specimen(), backends=PAIR)


def test_a_sound_problem_passes_every_question(sound):
    assert sound.ok
    assert {finding.what for finding in sound.findings} == set(WHAT) - {"baseline"}
    assert {finding.verdict for finding in sound.findings} == {Verdict.PASS}
    assert sound.problems == ["specimen"]


def test_its_figures(sound):
    by_what = {what: [f for f in sound.findings if f.what == what] for what in WHAT}
    assert [f.rtol for f in by_what["agreement"]] == [1e-4, 1e-6]
    assert all(f.value < f.limit == 1e-9 for f in by_what["agreement"])
    assert all("the same steps" in f.text for f in by_what["agreement"])
    assert {f.backend for f in by_what["convergence"]} == set(PAIR)
    assert all(0 < f.value < 1e-4 for f in by_what["convergence"])
    assert all(0 < f.value < 1e-3 and "4 leaves" not in f.text and "5 leaves" in f.text for f in by_what["derivative"])


def test_the_default_backends_need_nothing_beside_python():
    found = check("linear", rtols=(1e-4,), seeds=1)
    assert {record.backend for record in found.comparison.records} == {"scipy", "torchdiffeq", "diffrax"}
    assert found.ok
    assert all(record.error["all"] is not None for record in found.comparison.records)


def test_one_backend_compares_nothing_and_fails(sound):
    alone = judged(sound, ["scipy"])
    (failure,) = alone.failures()
    assert failure.what == "agreement"
    assert failure.text == "nothing was compared: backends with a gradient: scipy; two are needed"


def ported(change):
    """Return the specimen, its field given twice, the one for torch with a mistake."""
    return specimen().replace(
        vector_field={"jax": vector_field, "torch": lambda t, y, p, d: change(vector_field(t, y, p, d))}
    )


def test_a_field_given_twice_that_differs():
    found = check(ported(lambda dy: 1.02 * dy), backends=PAIR)
    assert not found.ok
    (failure,) = found.failures()
    assert (failure.what, failure.cause) == ("ports", Cause.MATHEMATICS)
    assert "vector_field under jax and torch" in failure.text
    assert "values that differ by 0.0" in failure.text


def test_a_folder_that_was_checked_before_is_checked_again(tmp_path):
    for _ in range(2):
        found = check(ported(lambda dy: 1.02 * dy), backends=PAIR, rtols=(1e-4,), seeds=1, out=tmp_path / "out")
        assert [failure.what for failure in found.failures()] == ["ports"]
    fine = [check(specimen(), backends=PAIR, rtols=(1e-4,), seeds=1, out=tmp_path / "fine") for _ in range(2)]
    texts = [next(f.text for f in one.findings if f.what == "ports") for one in fine]
    assert texts[0] == texts[1] == "field, y(t0) and loss ran under jax, torch"


def test_two_ports_that_are_alike_pass():
    assert check(ported(lambda dy: dy + 0), backends=PAIR, rtols=(1e-4,), seeds=1).ok


def test_a_mistaken_problem_costs_itself_alone():
    wrong = specimen().replace(name="wrong", vector_field=lambda t, y, p, d: y[:1])
    found = check([wrong, specimen()], backends=PAIR, rtols=(1e-4,), seeds=1)
    assert {finding.problem for finding in found.failures()} == {"wrong"}
    assert "shape" in found.failures()[0].text
    assert all(finding.verdict == Verdict.PASS for finding in found.of("specimen"))


def test_a_gradient_that_a_problem_cuts_off():
    """A detach is a mistake that all backends share: only finite differences of the loss can see it."""

    def cut(t, y, params, data):
        import jax

        still = {**params, "clock": jax.lax.stop_gradient(params["clock"])} if hasattr(y, "aval") else {
            **params, "clock": params["clock"].detach()}  # fmt: skip
        return vector_field(t, y, still, data) + 0 * params["clock"].sum()

    found = check(specimen().replace(vector_field=cut), backends=PAIR, rtols=(1e-4, 1e-6))
    failed = {finding.what for finding in found.failures()}
    assert "derivative" in failed or "convergence" in failed
    assert any("clock" in finding.leaf + finding.evidence + finding.text for finding in found.failures())


def test_flags_warn_or_fail_as_is_asked():
    small = specimen().replace(loss=lambda ys, p, d: 1e-9 * loss(ys, p, d))
    warned = check(small, backends=PAIR, rtols=(1e-4,), seeds=1)
    flagged = [f for f in warned.findings if f.what == "flag" and f.text.startswith("adjoint_below_atol")]
    assert {f.verdict for f in flagged} == {Verdict.WARN}
    failed = check(small, backends=PAIR, rtols=(1e-4,), seeds=1, fail_on=("adjoint_below_atol",))
    assert any(f.what == "flag" for f in failed.failures())


def test_native_stepping_within_what_tolerance_explains():
    assert check(specimen(), backends=PAIR, norms=("default",), steppings=("native",)).ok
    strict = check(specimen(), backends=PAIR, norms=("default",), steppings=("native",), within=1e-12)
    failures = strict.failures()
    assert {f.what for f in failures} == {"agreement"}
    assert {f.cause for f in failures} == {Cause.TOLERANCE}
    assert all("a smaller rtol brings them together" in f.evidence for f in failures)


def test_an_unstable_reverse_solve_warns():
    found = check("dissipative", backends=PAIR, rtols=(1e-4,), seeds=1)
    assert found.ok
    assert {f.what for f in found.findings if f.verdict == Verdict.WARN} >= {"convergence", "flag"}


def test_a_solve_that_does_not_end():
    blown = specimen().replace(
        name="blown", vector_field=lambda t, y, p, d: vector_field(t, y, p, d) + 40 * y * y * y, initial=np.ones((4, 2))
    )
    found = check(blown, backends=PAIR, rtols=(1e-4,), seeds=1)
    assert {f.cause for f in found.failures() if f.what == "solved"} == {Cause.MATHEMATICS}


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"fail_on": ("unstable",)}, r"--fail-on: got 'unstable'.*backsolve_unstable"),
            ({"within": -1.0}, r"--within: got -1"),
            ({"seeds": 0}, r"--seeds: got 0"),
            ({"backends": ("euler",)}, r"--backend: got 'euler'"),
            ({"rtols": (2.0,)}, r"--rtol: got 2"),
        ],
    )
    def test_options(self, options, words):
        with pytest.raises(UserError, match=words):
            check(specimen(), **options)

    def test_a_report_that_cannot_be_written(self, tmp_path, capsys):
        command = ["check", "linear", "--backend", "scipy", "--backend", "torchdiffeq", "--quiet", "--rtol", "1e-4",
                   "--seeds", "1", "--junit", str(tmp_path)]  # fmt: skip
        with pytest.raises(SystemExit, match="2"):
            main(command)
        assert "--junit: got " in capsys.readouterr().err

    def test_a_baseline_without_a_file(self, capsys):
        with pytest.raises(SystemExit, match="2"):
            main(["check", "linear", "--update-baseline"])
        assert "--baseline FILE" in capsys.readouterr().err


class TestCommand:
    def test_help_says_what_the_check_does(self):
        args = parser().parse_args(["check"])
        assert (args.seeds, args.timeout) == (check_run.SEEDS, check_run.TIMEOUT)
        from crossbackend import cli_check

        assert (cli_check.RTOLS, cli_check.NORMS) == (check_run.RTOLS, check_run.NORMS)

    def test_exit_code_json_and_files(self, tmp_path):
        (tmp_path / ".git").mkdir()  # annotations name files of a repository
        problem = tmp_path / "wrong.py"
        problem.write_text(
            "import crossbackend.check.specimen as s\n"
            "def torch_field(t, y, params, data):\n    return 1.01 * s.vector_field(t, y, params, data)\n"
            "problem = s.specimen().replace(vector_field={'jax': s.vector_field, 'torch': torch_field})\n"
        )
        junit = tmp_path / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "crossbackend", "check", str(problem), "--backend", "scipy", "--backend",
             "torchdiffeq", "--json", "--github", "--junit", str(junit)],
            capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        found = json.loads(done.stdout)
        assert not found["ok"]
        assert "::error file=" in done.stderr
        assert "wrong.py,line=" in done.stderr
        assert "<failure" in junit.read_text()

    def test_a_baseline_is_kept_and_held(self, tmp_path, capsys):
        path = tmp_path / "baseline.json"
        command = ["check", "linear", "--backend", "scipy", "--backend", "torchdiffeq", "--quiet", "--rtol", "1e-4",
                   "--baseline", str(path)]  # fmt: skip
        main([*command, "--update-baseline"])
        main(command)
        text = path.read_text()
        assert '"nfe"' in text
        path.write_text(text.replace('"accepted": ', '"accepted": 1'))
        with pytest.raises(SystemExit, match="1"):
            main(command)
        assert "baseline" in capsys.readouterr().out


def test_julia_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(registry, "programs", lambda name: {"julia": "1.5"} if name == "julia" else {})
    asked = []
    monkeypatch.setattr(check_run, "conduct", lambda problems, choice, options: asked.append(choice.backends) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        check(specimen())
    assert "julia" not in asked[0]
