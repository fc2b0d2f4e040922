"""The command line: every mistake of a user's is one message and exit code 2; what it prints is true."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from crossbackend import registry
from crossbackend.cli import parser
from crossbackend.load import gallery
from crossbackend.plan import Plan
from crossbackend.record import Record, Status
from crossbackend.store import load_run, prepare, write_json, write_record
from tests.command import call
from tests.report import synthetic
from tests.report.bench import store

needs_scipy = pytest.mark.skipif("scipy" not in registry.installed(), reason="scipy's libraries are not installed")

FILE = """
import numpy as np
from crossbackend import Problem, ops

def vector_field(t, y, params, data):
    return -params["rate"] * y

def loss(ys, params, data):
    return ops.namespace(ys).sum(ys ** 2)

problem = Problem("{name}", vector_field, loss, {{"rate": np.array(0.5)}}, np.array([1.0, 2.0]), [0.0, 1.0],
                  data={{"k": np.array([1.0])}}, tolerances=[1e-5])
"""


@pytest.fixture
def write(tmp_path):
    """Write the problem with some text exchanged, and return the file's path."""

    def of(*changes, name="p"):
        source = FILE.format(name=name)
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return path

    return of


@pytest.fixture
def run(tmp_path):
    """A stored run of two records."""
    folder = tmp_path / "run"
    prepare(folder)
    write_json(folder / "run.json", {"format": 1, "problems": ["p"]})
    steps = {"t0": np.array([0.0]), "t1": np.array([1.0]), "accepted": np.array([True])}
    for backend in ("scipy", "diffrax"):
        record = Record(backend, Plan("p", backend, "default", "matched", 1e-6, 1e-8).as_dict(), Status.OK, loss=1.0)
        record.forward = record.backward = {"nfe": 8, "accepted": 1, "rejected": 0}
        record.arrays = {f"{side}/{name}": array for side in ("forward", "backward") for name, array in steps.items()}
        record.arrays |= {"gradient/y0": np.array([1.0, 2.0])}
        write_record(folder, record)
    return folder


def is_a_mistake(found, words):
    code, out, err = found
    assert (code, out) == (2, "")
    assert re.search(words, err), err
    assert "Traceback" not in err
    assert all(line.startswith("error: ") for line in err.splitlines())


class TestMistakes:
    @pytest.mark.parametrize("command", ["run", "plan", "lower"])
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("spirall", r"problem: got 'spirall', expected one of linear, .*\. Did you mean 'spiral'\?"),
            ("nowhere/p.py", r"problem: got 'nowhere/p.py', which does not exist, expected the path of a .py file\."),
            ("./", r"problem: got the folder '\./', expected a gallery name or one .py file\."),
        ],
    )
    def test_no_such_problem(self, capsys, command, name, words):
        is_a_mistake(call(capsys, command, name), words)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (("import Problem,", "import Problem as Given,"), r"p\.py:11: got NameError: name 'Problem'"),
            (("import numpy", "import nunpy"), r"p\.py:2: got ModuleNotFoundError: No module named 'nunpy'.* Install"),
            (("def loss", "1 / 0\n\ndef loss"), r"p\.py:8: got ZeroDivisionError: division by zero, expected a file"),
            (("return -params", "return return"), r"p\.py:6: got SyntaxError: invalid syntax, expected a file"),
            (("np.array(0.5)", "np.array(1)"), r"params\['rate'\]: got dtype int64, expected a floating dtype\. Write"),
            (("np.array(0.5)", "np.array(np.nan)"), r"params\['rate'\]: got 1 entry that is NaN or infinite"),
            (("{\"k\": np.array([1.0])}", "{\"k\": np.array([np.inf])}"), r"data\['k'\]: got 1 entry that is NaN"),
            (("np.array([1.0, 2.0])", "np.array([1.0, np.nan])"), r"initial: got 1 entry that is NaN or infinite"),
            (("[0.0, 1.0]", "[0.0, 1.0, 1.0]"), r"ts: got ts\[1\] = 1, ts\[2\] = 1, expected strictly increasing"),
            (("[0.0, 1.0]", "[1.0, 0.0]"), r"ts: got ts\[0\] = 1, ts\[1\] = 0, expected strictly increasing.*t -> -t"),
            (("[0.0, 1.0]", "[0.0]"), r"ts: got 1 times, expected at least the initial and the final time\. Write ts="),
            (("[1e-5]", "[0.0]"), r"tolerances: got 0, expected values of rtol between 0 and 1\."),
            (('"p"', '"a/b"'), r"Problem\.name: got 'a/b', expected letters, digits, '_' and '-'"),
        ],
        ids=lambda value: value[1][:24] if isinstance(value, tuple) else "",
    )  # fmt: skip
    def test_a_problem_file(self, capsys, tmp_path, write, change, words):
        is_a_mistake(call(capsys, "run", write(change), "--out", tmp_path / "out"), words)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            (
                "problem = 3",
                r"p\.py: got `problem` of type int, expected one Problem, called `problem`\. Write problem",
            ),
            ("", r"p\.py: got no Problem, expected one Problem, called `problem`\. Write problem = Problem"),
        ],
    )
    def test_a_file_without_a_problem(self, capsys, tmp_path, line, words):
        (tmp_path / "p.py").write_text(f"import numpy\n{line}\n")
        is_a_mistake(call(capsys, "plan", tmp_path / "p.py"), words)

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--backend", "difrax"], r"--backend: got 'difrax', expected one of .*Did you mean 'diffrax'\?"),
            (["--backend", "scipy:tensorflow"], r"backend: got 'scipy:tensorflow', expected scipy:ENGINE with one of"),
            (["--backend", "diffrax:jax"], r"backend: got 'diffrax:jax', expected 'diffrax', which has no engines"),
            (["--norm", "seminrom"], r"--norm: got 'seminrom', expected one of .*Did you mean 'seminorm'\?"),
            (["--gradient", "quadratur"], r"--gradient: got 'quadratur', expected one of .*mean 'quadrature'\?"),
            (["--stepping", "mached"], r"--stepping: got 'mached', expected one of native, matched\. Did you mean"),
            (["--rtol", "0"], r"--rtol: got 0, expected a number between 0 and 1\. Write for example --rtol 1e-6\."),
            (["--rtol", "-1"], r"--rtol: got -1, expected"),
            (["--rtol", "nan"], r"--rtol: got nan, expected"),
            (["--atol-factor", "0"], r"--atol-factor: got 0, expected a positive number"),
            (["--dtype", "float16"], r"--dtype: got 'float16', expected one of float64, float32\."),
            (["--device", "tpu"], r"--device: got 'tpu', expected one of cpu, cuda\."),
            (["--first-step", "0"], r"--first-step: got 0, expected a positive number\."),
            (["--repeats", "0"], r"--repeats: got 0, expected a whole number of 1 or more\."),
            (["--seconds", "0"], r"--seconds: got 0, expected a positive number\."),
            (["--timeout", "-1"], r"--timeout: got -1, expected a positive number\."),
            (["--memory", "nan"], r"--memory: got nan, expected a positive number\."),
        ],
        ids=lambda value: "".join(value) if isinstance(value, list) else "",
    )
    def test_an_option(self, capsys, tmp_path, args, words):
        is_a_mistake(call(capsys, "run", "linear", *args, "--out", tmp_path / "out"), words)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("args", [["--rtol", "tight"], ["--repeats", "2.5"], ["--nonsense"]])
    def test_an_option_that_cannot_be_read(self, capsys, args):
        code, out, err = call(capsys, "run", "linear", *args)
        assert (code, out) == (2, "")
        assert re.search(r"^crossbackend( run)?: error: ", err, re.MULTILINE)

    def test_an_output_folder(self, capsys, tmp_path):
        (tmp_path / "file").write_text("")
        is_a_mistake(call(capsys, "run", "linear", "--out", tmp_path / "file"), r"--out: got .*file, a file, expected")
        is_a_mistake(call(capsys, "run", "linear", "--out", tmp_path), r"--out: got .*, which holds other files, expec")
        (tmp_path / "run.json").write_text('{"format": 2}')
        words = r"run: got .*, where run.json: format 2, this version reads format 1, expected a run of format 1\."
        stored = [["compare"], ["report"], ["explain"], ["advise", "--error", "1e-4"]]
        for command in (["run", "linear", "--out", tmp_path], *([*words, tmp_path] for words in stored)):
            is_a_mistake(call(capsys, *command), words)

    @pytest.mark.parametrize("command", [["compare"], ["report"], ["explain"], ["advise", "--error", "1e-4"]])
    def test_no_run(self, capsys, tmp_path, command):
        is_a_mistake(
            call(capsys, *command, tmp_path), r"run: got .*, which holds no run.json, expected the folder of a"
        )

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["explain", "q"], r"problem: got 'q', which the run does not hold, expected one of p\."),
            (["explain", "p", "--rtol", "1e-7"], r"--rtol: got 1e-07, expected one of 1e-06\."),
            (["advise", "--error", "0"], r"--error: got 0\.0, expected a positive number\. Write for example --error"),
            (["advise", "--error", "nan"], r"--error: got nan, expected a positive number\."),
        ],
    )
    def test_what_a_run_is_asked(self, capsys, run, args, words):
        command, *rest = args
        is_a_mistake(call(capsys, command, run, *rest), words)

    def test_a_run_of_two_problems_must_be_told_which(self, capsys, run):
        other = Record("q", Plan("q", "scipy", "default", "native", 1e-6, 1e-8).as_dict(), Status.TIMEOUT)
        write_record(run, other)
        is_a_mistake(call(capsys, "explain", run), r"problem: got none, expected one of p, q\.")

    def test_an_unknown_library_for_a_recipe(self, capsys):
        is_a_mistake(
            call(capsys, "recipe", "linear", "--library", "julia"),
            r"recipe: got 'julia', expected one of torchdiffeq, diffrax, scipy\. Write one of them",
        )

    def test_two_problems_of_one_name(self, capsys, tmp_path, write):
        path = write()
        is_a_mistake(
            call(capsys, "run", path, shutil.copy(path, tmp_path / "q.py")), r"problems: got the name 'p' twice"
        )

    @needs_scipy
    @pytest.mark.slow
    def test_functions(self, capsys, tmp_path, write):
        """All of them in one go, before any solve."""
        mistakes = {
            "short": (("* y\n", "* y[:1]\n"), r"vector_field under jax: got \(1,\), expected y's own"),
            "dict": (("-params[\"rate\"] * y", "{'y': -params[\"rate\"] * y}"), r"got \{y: \(2,\)\}, expected y's own"),
            "none": (("return -params", "-params"), r"'none'\)\.vector_field under jax: got None, expected dy, of y's"),
            "vector": (("return ops.namespace(ys).sum(ys ** 2)", "return ys[0]"), r"loss under jax: got shape \(2,\)"),
            "infinite": (("sum(ys ** 2)", "sum(ys) / 0.0"), r"loss under jax: got inf on y held at y0"),
            "unused": (('{"rate": np.array(0.5)}', '{"rate": np.array(0.5), "w": np.ones(2)}'),
                       r"params\['w'\]: got one that reaches none of them, expected .*\. Use it or drop it\."),
            "raises": (("    return -params", "    y.nothing\n    return -params"),
                       r"'raises'\)\.vector_field under jax: got AttributeError: .*raises\.py:6\), expected a value"),
        }  # fmt: skip
        paths = [write(change, name=name) for name, (change, _) in mistakes.items()]
        code, out, err = call(capsys, "run", *paths, "--backend", "scipy", "--out", tmp_path / "out", "--quiet")
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == len(mistakes)
        for line, (name, (_, words)) in zip(err.splitlines(), mistakes.items(), strict=True):
            assert line.startswith(f"error: Problem({name!r})")
            assert re.search(words, line), line
        assert load_run(tmp_path / "out").records == []

    @needs_scipy
    def test_lower_says_what_is_wrong_with_a_function(self, capsys, write):
        is_a_mistake(
            call(capsys, "lower", write(("* y\n", "* y[:1]\n"))), r"vector_field under jax: got \(1,\), expected"
        )


class TestStored:
    def test_compare(self, capsys, run):
        code, out, err = call(capsys, "compare", run)
        assert (code, err) == (0, "")
        assert out == (
            "\np  (reference: missing)\n"
            "  matched default         rtol 1e-06   pass        0.0e+00  same steps\n"
            "\nOn 1 of 1 problems diffrax and scipy give the same gradient, to 0.0e+00 relative, at every tolerance "
            "when they take the same steps.\n"
        )

    def test_json(self, capsys, run):
        code, out, err = call(capsys, "compare", run, "--json")
        assert (code, err) == (0, "")
        assert [cell["verdict"] for cell in json.loads(out)["problems"][0]["matched"]] == ["pass"]

    def test_explain(self, capsys, run):
        for args in ([], ["p"]):
            code, out, err = call(capsys, "explain", run, *args)
            assert (code, err) == (0, "")
            assert out == (
                "p at rtol 1e-06\n\n"
                "Whose error rejected the backward steps\n  not recorded\n\n"
                "Where the gradient's error comes from (SciPy, native)\n"
                "  not measured: it takes a native SciPy record and `crossbackend run` without --no-explain\n\n"
                "Flags\n  none\n"
            )

    def test_explain_json(self, capsys, run):
        code, out, err = call(capsys, "explain", run, "p", "--json")
        assert (code, err) == (0, "")
        assert set(json.loads(out)) == {
            "problem", "reference", "rejections", "splits", "speedups", "gradients", "savings", "flags",
            "settings_differ",
        }  # fmt: skip

    def test_advise(self, capsys, run):
        code, out, err = call(capsys, "advise", run, "--error", "1e-4", "--by", "nfe")
        assert (code, err) == (0, "")
        assert out == (
            "p, gradient error at most 0.0001, by nfe\n"
            "  no plan of this run is known to reach it\n"
            "  Not known: the run has no native plan; no reference gradient (missing), so no error is known.\n\n"
        )
        found = json.loads(call(capsys, "advise", run, "--error", "1e-4", "--json")[1])
        assert (found["wanted"], found["by"], found["problems"][0]["choices"]) == (1e-4, "time", [])

    def test_a_corrupt_record_is_named_and_skipped(self, capsys, run):
        path = run / "records" / "scipy.json"
        path.write_text(path.read_text()[:50])
        code, out, err = call(capsys, "compare", run)
        assert code == 0
        assert "missing" in out
        assert "1 file was damaged and skipped." in out
        assert re.fullmatch(r"skipped records/scipy\.json: cannot be read \(.*\)\n", err)

    def test_nothing_but_the_run_is_needed(self, capsys, run):
        shutil.rmtree(run / "records")
        code, out, err = call(capsys, "compare", run)
        assert (code, out.strip(), err) == (0, "", "")

    def test_names_of_another_program_cannot_reach_the_terminal(self, capsys, run):
        """A name may hold an escape sequence that colours, moves or clears what stands there."""
        name = "p\x1b[2J\u202e"
        for backend in ("scipy", "diffrax"):
            record = Record(
                f"x{backend}", Plan(name, backend, "default", "matched", 1e-6, 1e-8).as_dict(), Status.TIMEOUT
            )
            write_record(run, record)
        for words in (["compare", run], ["diff", run, run], ["explain", run, name], ["advise", run, "--error", "1e-4"]):
            code, out, err = call(capsys, *words)
            assert code == 0
            assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", out + err), words
            assert words[0] == "diff" or "p\ufffd[2J\ufffd" in out

    def test_a_report_with_its_figures(self, capsys, tmp_path):
        run = tmp_path / "one"
        store(synthetic.single(), run)
        code, out, err = call(capsys, "report", run, "--no-pdf", "--figures")
        assert (code, err) == (0, "")
        assert out.splitlines()[0] == f"wrote {run / 'index.html'}"
        figures = sorted((run / "figures").iterdir())
        assert sorted(out.splitlines()[1:]) == [f"wrote {path}" for path in figures] != []
        assert all(path.name.endswith("-lotka_volterra.svg") for path in figures)

    def test_the_reports_of_all_runs_of_a_folder(self, capsys, run, tmp_path, monkeypatch):
        shutil.copytree(run, tmp_path / "reports/one")
        shutil.copytree(run, tmp_path / "reports/two")
        monkeypatch.chdir(tmp_path)
        code, out, err = call(capsys, "report", "--all")
        assert (code, err) == (0, "")
        names = ["one/index.html", "one/report.pdf", "two/index.html", "two/report.pdf", "index.html"]
        assert out.splitlines() == [f"wrote reports/{name}" for name in names]
        assert all((tmp_path / "reports" / name).stat().st_size > 1000 for name in names)
        assert call(capsys, "report", "--all", "reports", "--no-pdf")[1].splitlines() == [
            f"wrote reports/{name}" for name in names if name.endswith(".html")
        ]
        is_a_mistake(call(capsys, "report", "--all", "reports/one"), r"folder: got reports/one, which is a run itself")


class TestWords:
    def test_list(self, capsys):
        code, out, err = call(capsys, "list")
        assert (code, err) == (0, "")
        assert [line.split()[0] for line in out.splitlines() if re.match(r"  \w", line)][: len(gallery())] == list(
            gallery()
        )
        assert all(len(line) <= 115 for line in out.split("Norms")[0].splitlines())

    def test_list_json(self, capsys):
        found = json.loads(call(capsys, "list", "--json")[1])
        assert [p["name"] for p in found["problems"]] == list(gallery())
        assert set(found["backends"]) == set(registry.names())
        assert found["norms"][:2] == ["default", "seminorm"]

    def test_every_command_has_help(self, capsys):
        top = call(capsys, "--help")
        assert top[0] == 0
        for command in (
            "list",
            "plan",
            "run",
            "compare",
            "explain",
            "advise",
            "diff",
            "report",
            "export",
            "import",
            "lower",
            "recipe",
            "new",
        ):
            assert f"\n    {command} " in top[1]
            code, out, _ = call(capsys, command, "--help")
            assert code == 0
            assert f"usage: crossbackend {command}" in out

    def test_the_defaults_that_help_names_are_those_of_the_options(self, tmp_path):
        from crossbackend.study import Options

        args, options = parser().parse_args(["run"]), Options(tmp_path)
        assert (args.repeats, args.seconds, args.timeout, args.memory) == (
            options.repeats, options.seconds, options.timeout, options.memory_gib,
        )  # fmt: skip

    def test_new_writes_a_file_that_runs(self, capsys, tmp_path):
        code, out, _ = call(capsys, "new", "pendulum", "--folder", tmp_path)
        path = tmp_path / "pendulum.py"
        assert (code, out) == (0, f"wrote {path}; run it by `crossbackend run {path}`\n")
        code, out, _ = call(capsys, "plan", path, "--backend", "scipy", "--rtol", "1e-4")
        assert out.endswith("4 cells, 0 declined\n")
        is_a_mistake(
            call(capsys, "new", "pendulum", "--folder", tmp_path), r"which exists, expected a file that is not"
        )

    @needs_scipy
    def test_lower_prints_a_program(self, capsys, write):
        code, out, err = call(capsys, "lower", write())
        assert (code, err) == (0, "")
        compile(out, "program", "exec")
        assert "rate" in out

    @needs_scipy
    def test_recipe_prints_code(self, capsys, write):
        code, out, err = call(capsys, "recipe", write(), "--library", "torchdiffeq")
        assert (code, err) == (0, "")
        compile(out, "recipe", "exec")
        assert "rate ()" in out

    @needs_scipy
    def test_a_closed_pipe_is_no_error(self):
        command = f"{sys.executable} -m crossbackend lower linear | head -n 1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
        assert done.stderr == ""
        assert done.stdout.splitlines()[-1] in ("0", "141")  # all was written before the pipe closed, or not


class TestReal:
    @pytest.mark.slow
    def test_run_on_every_installed_backend(self, tmp_path, write):
        out = tmp_path / "out"
        command = [
            sys.executable,
            "-m",
            "crossbackend",
            "run",
            write(),
            "--norm",
            "default",
            "--out",
            out,
            "--repeats",
            "2",
        ]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert f"wrote {out / 'index.html'}" in done.stdout
        found = load_run(out)
        backends = registry.installed()
        assert sorted((r.backend, r.stepping, r.status) for r in found.records) == sorted(
            (b, stepping, "ok") for b in backends for stepping in ("native", "matched")
        )
        assert all(0 < r.error["all"] < 1e-3 for r in found.records)
        assert {r.stepping: r.time is not None for r in found.records} == {"native": True, "matched": False}
        # loss = |y0|^2 (1 + exp(-2 rate)), so d/d rate = -2 |y0|^2 exp(-2 rate)
        truth = found.references["p"]["arrays"]["gradient/params/rate"]
        assert truth == pytest.approx(-10.0 * np.exp(-1.0), rel=1e-10)
        if len(backends) > 1:
            assert "matched default         rtol 1e-05   pass" in done.stdout

    @pytest.mark.slow
    def test_from_a_script_without_a_guard(self, tmp_path, write):
        backend = registry.installed()[0]
        script = tmp_path / "script.py"
        script.write_text(
            write().read_text()
            + f"""
from crossbackend import gradient, run
g = gradient(problem, "{backend}", rtol=1e-8)
print(g.loss, g.params["rate"])
options = dict(timing=False, progress=False)
found = run(problem, backends="{backend}", norms="default", steppings="native", rtols=1e-8, **options)
(record,) = found.records
print(record.status, abs(record.loss - g.loss) <= 1e-12 * g.loss, record.error["all"] < 1e-5)
"""
        )
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        loss, rate = map(float, first.split())
        assert loss == pytest.approx(5.0 * (1 + np.exp(-1.0)), rel=1e-6)
        assert rate == pytest.approx(-10.0 * np.exp(-1.0), rel=1e-5)
        assert second == "ok True True"
