"""Which Julia is taken, and what is said where there is none, an old one, or one without an engine's package."""

import json
import os
import re

import pytest

import crossbackend
from crossbackend import UserError, julia_program, registry
from crossbackend.plan import Plan
from tests import cases
from tests.command import call


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Write a program that stands for Julia, and have `$JULIA` name it."""

    def write(*lines):
        path = tmp_path / "julia"
        path.write_text("\n".join(["#!/bin/sh", *lines]))
        path.chmod(0o755)
        monkeypatch.setenv("JULIA", str(path))
        return path

    return write


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.delenv("JULIA", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def plan(**changes):
    return Plan("decay", "julia", **({"norm": "default", "stepping": "native", "rtol": 1e-6, "atol": 1e-8} | changes))


GET = r"install Julia 1\.5 or newer \(https://julialang\.org/downloads\), or set JULIA to the path of its program"


def test_on_path(script, monkeypatch):
    path = script('echo "julia version 1.11.2"')
    monkeypatch.delenv("JULIA")
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    assert julia_program.program() == julia_program.JuliaProgram(str(path), "1.11.2")
    assert registry.missing("julia") == ()
    assert registry.versions("julia")["julia"] == "1.11.2"
    assert "julia" in registry.installed()


def test_julia_wins_over_path(script, monkeypatch):
    path = script('echo "julia version 2.0.0-DEV.12"')
    monkeypatch.setenv("PATH", "/nowhere")
    assert julia_program.program() == julia_program.JuliaProgram(str(path), "2.0.0-DEV.12")


def test_a_version_is_part_of_the_digest_that_a_resume_compares(script, monkeypatch, tmp_path):
    found = []
    for number in ("1.6.0", "1.7.0"):
        folder = tmp_path / number
        folder.mkdir()
        (folder / "julia").write_text(f"#!/bin/sh\necho 'julia version {number}'\n")
        (folder / "julia").chmod(0o755)
        monkeypatch.setenv("JULIA", str(folder / "julia"))
        found.append(registry.versions("julia")["julia"])
    assert found == ["1.6.0", "1.7.0"]


class TestNoJulia:
    def test_it_is_not_installed(self, nowhere):
        assert registry.missing("julia") == ("julia",)
        assert "julia" not in registry.installed()
        assert "julia" not in registry.versions("julia")
        assert re.fullmatch(rf"No julia on PATH, and JULIA is not set: {GET}\.", registry.advice("julia"))

    def test_a_plan_is_declined(self, nowhere, capsys):
        reason = registry.get("julia").declines(cases.decay(), plan())
        assert re.fullmatch(rf"no julia on PATH, and JULIA is not set: {GET}", reason)
        code, out, _ = call(capsys, "plan", "linear", "--backend", "julia", "--rtol", "1e-4", "--json")
        assert code == 0
        said = {row["declined"] for row in json.loads(out)["plans"]}
        assert len(said) == 1
        assert re.fullmatch(rf"not installed: julia\. No julia on PATH, and JULIA is not set: {GET}\.", said.pop())

    def test_a_run_is_refused_in_one_message(self, nowhere, capsys, tmp_path):
        code, _, err = call(capsys, "run", "linear", "--backend", "julia", "--out", tmp_path / "out")
        assert code == 2
        assert re.fullmatch(
            rf"error: --backend: got 'julia', which needs julia, expected a backend whose libraries are installed\. "
            rf"No julia on PATH, and JULIA is not set: {GET}\. Or name other backends\.\n", err,
        )  # fmt: skip

    def test_so_is_a_gradient(self, nowhere):
        with pytest.raises(UserError, match=rf"got a backend without julia, .* not set: {GET}\."):
            crossbackend.gradient("linear", "julia")

    def test_the_list_says_what_is_needed(self, nowhere, capsys):
        assert re.search(r"^  julia +needs julia$", call(capsys, "list")[1], re.MULTILINE)

    def test_what_julia_names_must_be_a_program(self, monkeypatch, tmp_path):
        monkeypatch.setenv("JULIA", str(tmp_path / "julia"))
        assert re.fullmatch(rf"JULIA is '{tmp_path}/julia', which is no program: {GET}", julia_program.program().reason)


def test_a_julia_that_is_too_old(script, capsys):
    path = script('echo "julia version 1.4.2"')
    assert registry.missing("julia") == ("julia",)
    words = rf"{path} is Julia 1\.4\.2, which is too old: {GET}"
    assert re.fullmatch(words, registry.get("julia").declines(cases.decay(), plan()))
    code, _, err = call(capsys, "run", "linear", "--backend", "julia")
    assert code == 2
    assert re.search(words, err, re.IGNORECASE)


def test_a_program_that_is_no_julia(script):
    path = script('echo "GNU bash, version 5.2"')
    assert re.fullmatch(
        rf"{path} does not say which Julia it is \('GNU bash, version 5\.2'\): {GET}", julia_program.program().reason
    )


def test_the_program_is_asked_for_its_version_once(script, tmp_path):
    script(f"echo called >> {tmp_path}/calls", 'echo "julia version 1.9.0"')
    for _ in range(5):
        registry.versions("julia")
        registry.missing("julia")
    assert (tmp_path / "calls").read_text() == "called\n"


class TestDeclines:
    @pytest.fixture(autouse=True)
    def julia(self, script, tmp_path):
        """A Julia that finds OrdinaryDiffEq 6.1.0 and nothing else."""
        package = tmp_path / "packages" / "OrdinaryDiffEq"
        (package / "src").mkdir(parents=True)
        (package / "Project.toml").write_text('name = "OrdinaryDiffEq"\nversion = "6.1.0"\n')
        self.path = script(
            'if [ "$1" = --version ]; then echo "julia version 1.10.4"; exit; fi',
            "shift 3",
            'for name in "$@"; do',
            f'  case "$name" in OrdinaryDiffEq) echo "found {package}/src/$name.jl";; *) echo "found ";; esac',
            "done",
        )

    def reason(self, name, **changes):
        return registry.get(name).declines(cases.decay(), plan(**changes))

    def test_the_default_engine_needs_no_package(self):
        assert self.reason("julia") is None
        assert self.reason("julia:base", stepping="matched") is None

    def test_an_engine_whose_package_is_there(self):
        assert self.reason("julia:ordinarydiffeq") is None
        assert self.reason("julia:ordinarydiffeq:Tsit5") is None
        versions = registry.versions("julia:ordinarydiffeq:Vern7")
        assert (versions["julia"], versions["OrdinaryDiffEq"]) == ("1.10.4", "6.1.0")

    def test_an_engine_whose_package_is_not_there(self):
        assert self.reason("julia:sciml") == (
            f'{self.path} finds no SciMLSensitivity: in Julia, import Pkg; Pkg.add(["SciMLSensitivity"])'
        )

    def test_matched_stepping_is_the_base_engines(self):
        assert "matched stepping is julia:base's" in self.reason("julia:ordinarydiffeq", stepping="matched")

    def test_norms_are_not_scimls(self):
        assert self.reason("julia:sciml", norm="seminorm").endswith("has a norm of its own: use the norm default")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [({"dtype": "float32"}, "float64 alone"), ({"device": "cuda"}, "CPU alone"),
         ({"gradient": "interpolating"}, "use backsolve"), ({"norm": "mixed-t", "stepping": "matched"}, "sees a_t")],
    )  # fmt: skip
    def test_what_no_engine_does(self, changes, words):
        assert words in self.reason("julia", **changes)

    def test_a_problem_for_torch_alone(self):
        problem = cases.decay().replace(loss={"torch": lambda ys, params, data: ys.sum()})
        assert "loss given for torch alone: add a 'jax' entry" in registry.get("julia").declines(problem, plan())

    @pytest.mark.parametrize("name", ["julia:fortran", "julia:base:DP5", "julia:ordinarydiffeq:RK4"])
    def test_an_unknown_engine_is_a_mistake(self, name):
        words = r"expected julia:ENGINE with one of base, ordinarydiffeq\[:DP5\|Tsit5\|Vern7\], sciml\[:backsolve\|"
        with pytest.raises(UserError, match=rf"got '{name}', {words}"):
            registry.get(name)
