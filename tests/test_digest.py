"""Digests change with everything that a result depends on, and with nothing else."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from crossbackend import registry
from crossbackend.digest import plan_digest, problem_digest
from crossbackend.load import gallery, load
from crossbackend.plan import Plan

ROOT = Path(__file__).resolve().parent.parent
WORKED = sorted((ROOT / "docs" / "worked").glob("*.py"))

FILE = '''
"""A problem."""
import functools
import numpy as np
from crossbackend import Problem, ops

RATE = 0.5

def half(x):
    """Halve."""
    return x / 2  # a half

class Gain:
    """A gain."""
    factor = 2.0

    def __init__(self, power):
        self.power = power

    def __call__(self, y):
        return self.factor * y ** self.power

def scaled(by):
    def inner(y):
        return by * y
    return inner

twice = scaled(2.0)
power = functools.partial(np.power, 2.0)
gain = Gain(1)

def vector_field(t, y, params, data, *, sign=-1.0):
    """Return dy."""
    names = [data["k"] for _ in range(1)]
    return sign * RATE * half(y) + twice(y) * gain(y) + (lambda z: 3.0 * z)(y) + np.tanh(y) * names[0]

def loss(ys, params, data):
    return ops.namespace(ys).sum(ys)

problem = Problem("p", vector_field, loss, {"w": np.ones(2)}, np.zeros(2), [0.0, 1.0],
                  {"k": np.array([1.0]), "j": np.array([1.0])})
'''


@pytest.fixture
def digest(tmp_path):
    """Digest of the problem of a file with some text exchanged."""

    def of(*changes, source=FILE):
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        (tmp_path / "p.py").write_text(source)
        return problem_digest(load(tmp_path / "p.py"))

    return of


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a half", "# one half of it"),
        ('"""Halve."""', '"""Return half of x."""'),
        ('    """Halve."""\n', ""),
        ('    """Return dy."""\n', '    """Return dy.\n\n    At length."""\n    # and so on\n'),
        ('"""A gain."""', '"""A gain, explained."""'),
        ("def loss(ys, params, data):\n", 'def loss(ys, params, data):\n    "The sum."\n\n\n'),
        ('Problem("p"', 'Problem("q"'),
        ('"j": np.array([1.0])}', '"j": np.array([1.0])}, source="a paper", description="words", tolerances=[1e-3]'),
        ("RATE = 0.5", "UNUSED, RATE = 7, 0.5"),
        ("def half", "def never(x):\n    return 3 * x\n\ndef half"),
    ],
)
def test_what_changes_no_result_keeps_it(digest, old, new):
    assert digest((old, new)) == digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sign * RATE", "sign + RATE"),
        ("sign=-1.0", "sign=1.0"),
        ("x / 2", "x / 3"),
        ("RATE = 0.5", "RATE = 0.6"),
        ("scaled(2.0)", "scaled(2.5)"),
        ("by * y", "by + y"),
        ("Gain(1)", "Gain(2)"),
        ("factor = 2.0", "factor = 3.0"),
        ("y ** self.power", "y * self.power"),
        ("3.0 * z", "4.0 * z"),
        ("np.tanh(y)", "np.sin(y)"),
        ('[data["k"] for', '[data["j"] for'),
        (".sum(ys)", ".mean(ys)"),
        ("np.ones(2)", "np.ones(2) * 1.0000000000000002"),
        ("np.ones(2)", "np.ones(2, dtype=np.float32)"),
        ("np.ones(2)", "np.ones((1, 2))"),
        ('{"w": np', '{"v": np'),
        ("np.zeros(2)", "-np.zeros(2)"),
        ("[0.0, 1.0]", "[0.0, 0.5, 1.0]"),
        ('"k": np.array([1.0])', '"k": np.array([1])'),
        ('"j": np.array([1.0])}', '"j": np.array([1.0])}, breakpoints=[0.5]'),
        ('"j": np.array([1.0])}', '"j": np.array([1.0])}, norms={"light": {"y": 1, "a_params": 0.1}}'),
    ],
)
def test_what_changes_a_result_changes_it(digest, old, new):
    assert digest((old, new)) != digest()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("f = np.sin", "f = np.cos"),
        ("f = functools.partial(np.power, 2.0)", "f = functools.partial(np.power, 3.0)"),
        ("f = functools.lru_cache(lambda y: y)", "f = functools.lru_cache(lambda y: 2 * y)"),
        ("f = property(lambda s: 1).fget", "f = property(lambda s: 2).fget"),
        ("f = ops.grad(lambda y: y)", "f = ops.grad(lambda y: 2 * y)"),
        ("f = {1, 2}", "f = {1, 3}"),
        ("f = [half, gain, half]", "f = [half, gain, gain]"),
        ("f = 'text'", "f = b'text'"),
        ("f = 1", "f = True"),
        ("f = types.SimpleNamespace(a=1)", "f = types.SimpleNamespace(a=2)"),
        ("f = Slots(1)", "f = Slots(2)"),
        ("f = gain.__call__", "f = Gain(3).__call__"),
    ],
)
def test_what_a_field_captures_counts(digest, first, second):
    slots = "class Slots:\n    __slots__ = ('a',)\n    def __init__(self, a):\n        self.a = a\n"
    use = "\ndef vector_field(t, y, params, data): return f\nproblem = problem.replace(vector_field=vector_field)\n"

    def of(line):
        return digest(source=f"{FILE}import types\n{slots}{line}\n{use}")

    assert of(first) == of(first)
    assert of(first) != of(second)


def test_a_helper_in_a_module_beside_the_file_counts(tmp_path, digest, monkeypatch):
    source = FILE.replace("import functools", "import functools\nimport beside").replace("half(y)", "beside.half(y)")

    def of(helper):
        monkeypatch.delitem(sys.modules, "beside", raising=False)
        (tmp_path / "beside.py").write_text(helper)
        return digest(source=source)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    base = of("def half(y):\n    return y / 2\n")
    assert of("def half(y):\n    return y / 3\n") != base
    assert of("def half(y):\n    return y / 2  # a half\n\ndef other(y):\n    return 7\n") == base


def _elsewhere(paths):
    code = """
        import sys
        from crossbackend.digest import problem_digest
        from crossbackend.load import load
        for path in sys.argv[1:]:
            print(problem_digest(load(path)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split()


def test_the_gallery_has_the_same_digest_in_another_process():
    here = [problem_digest(load(name)) for name in gallery()]
    assert [problem_digest(load(name)) for name in gallery()] == here
    assert _elsewhere(gallery()) == here
    assert len(set(here)) == len(here)


@pytest.mark.slow
def test_models_have_the_same_digest_in_another_process():
    found = _elsewhere(WORKED)
    assert _elsewhere(WORKED[::-1]) == found[::-1]
    assert len(set(found)) == len(WORKED) > 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "solver"), [("torch_module", "torchdiffeq"), ("equinox_model", "scipy")])
def test_a_model_that_was_used_is_the_same_problem(name, solver):
    code = f"""
        from crossbackend import gradient, load
        from crossbackend.digest import problem_digest
        problem = load({str(ROOT / "docs" / "worked" / f"{name}.py")!r})
        print(problem_digest(problem))
        gradient(problem, {solver!r}, rtol=1e-2)
        print(problem_digest(problem))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split()
    assert found[0] == found[1]


@pytest.mark.slow
def test_the_activation_of_an_equinox_model_counts(tmp_path):
    source = (ROOT / "docs" / "worked" / "equinox_model.py").read_text()
    for name, text in (("a", source), ("b", source.replace("jax.nn.tanh", "jax.nn.softplus"))):
        (tmp_path / f"{name}.py").write_text(text)
    first, second = _elsewhere([tmp_path / "a.py", tmp_path / "b.py"])
    assert first != second


@pytest.mark.slow
def test_the_forward_of_a_torch_module_counts(tmp_path):
    source = (ROOT / "docs" / "worked" / "torch_module.py").read_text()
    assert "tanh" in source.lower()
    changed = source.replace("Tanh", "Softplus").replace("torch.tanh", "torch.sin")
    for name, text in (("a", source), ("b", changed)):
        (tmp_path / f"{name}.py").write_text(text)
    first, second = _elsewhere([tmp_path / "a.py", tmp_path / "b.py"])
    assert first != second


def test_a_script_has_the_same_digest_every_time(tmp_path):
    """A problem made in `__main__`, in two runs of the script, and after a trip by cloudpickle."""
    script = tmp_path / "script.py"
    script.write_text(
        FILE
        + "import cloudpickle, pickle\n"
        + "from crossbackend.digest import problem_digest\n"
        + "print(problem_digest(problem))\n"
        + "print(problem_digest(pickle.loads(cloudpickle.dumps(problem))))\n"
    )
    found = []
    for _ in range(2):
        command = [sys.executable, str(script)]
        found += subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_every_part_of_a_plan_counts():
    base = Plan("p", "scipy", "default", "native", 1e-6, 1e-8)
    others = [
        {"problem": "q"}, {"backend": "diffrax"}, {"norm": "seminorm"}, {"stepping": "matched"}, {"rtol": 1e-5},
        {"atol": 1e-9}, {"gradient": "direct"}, {"dtype": "float32"}, {"device": "cuda"}, {"first_step": 0.1},
    ]  # fmt: skip
    found = {plan_digest(Plan(**(base.as_dict() | change)), "d", {"scipy": "1"}) for change in others}
    found |= {plan_digest(base, "d", {"scipy": "1"}), plan_digest(base, "e", {"scipy": "1"})}
    found |= {plan_digest(base, "d", {"scipy": "2"}), plan_digest(base, "d", {"scipy": "1", "jax": "1"})}
    assert len(found) == len(others) + 4
    assert plan_digest(base, "d", {"scipy": "1"}) in found


def test_a_version_counts_for_the_backends_that_use_it(monkeypatch):
    def digests():
        return {
            name: plan_digest(Plan("p", name, "default", "native", 1e-6, 1e-8), "d", registry.versions(name))
            for name in ("scipy", "diffrax", "torchdiffeq")
        }

    before, true = digests(), registry.version
    monkeypatch.setattr(registry, "version", lambda name: "99" if name == "jax" else true(name))
    after = digests()
    assert {name for name in before if before[name] != after[name]} == {"scipy", "diffrax"}


def test_arrays_of_other_kinds_by_value(rng):
    problem = load("linear")
    moved = problem.replace(params={"A": problem.params["A"] + rng.normal(size=(3, 3))})
    again = problem.replace(params={"A": np.asfortranarray(problem.params["A"])})
    assert problem_digest(moved) != problem_digest(problem)
    assert problem_digest(again) == problem_digest(problem)
