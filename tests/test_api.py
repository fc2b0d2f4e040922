"""crossbackend from Python: mistakes are `UserError`s, one value stands for a sequence of one."""

import pickle

import numpy as np
import pytest

import crossbackend
from crossbackend import Problem, UserError, registry
from crossbackend.api import lower
from crossbackend.errors import Mistake

needs_scipy = pytest.mark.skipif("scipy" not in registry.installed(), reason="scipy's libraries are not installed")


def field(t, y, params, data):
    return -params["rate"] * y


def loss(ys, params, data):
    return (ys[-1, ...] ** 2).sum()


def problem(**changes):
    given = {"vector_field": field, "loss": loss, "params": {"rate": np.array(0.5)}} | changes
    return Problem("decay", initial=np.array([1.0, 2.0]), ts=[0.0, 1.0], **given)


class TestGradient:
    @needs_scipy
    def test_value(self):
        found = crossbackend.gradient(problem(), rtol=1e-10)
        assert found.loss == pytest.approx(5.0 * np.exp(-1.0), rel=1e-8)
        assert found.params["rate"] == pytest.approx(-10.0 * np.exp(-1.0), rel=1e-7)
        np.testing.assert_allclose(found.y0[""], 2 * np.exp(-1.0) * np.array([1.0, 2.0]), rtol=1e-7)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"backend": "scipi"}, r"--backend: got 'scipi', expected one of .*Did you mean 'scipy'\?"),
            ({"norm": "none"}, r"--norm: got 'none', expected one of"),
            ({"stepping": "own"}, r"--stepping: got 'own', expected one of native, matched\."),
            ({"rtol": 0.0}, r"--rtol: got 0, expected a number between 0 and 1"),
            ({"rtol": float("nan")}, r"--rtol: got nan, expected"),
            ({"atol": -1.0}, r"gradient\('decay', 'scipy'\): got atol = -1, expected a positive number\."),
            ({"dtype": "float32"}, r"got a plan that it declines, expected another plan\. SciPy integrates in float64"),
        ],
    )
    def test_mistakes(self, changes, words):
        with pytest.raises(UserError, match=words):
            crossbackend.gradient(problem(), **changes)

    @needs_scipy
    def test_a_mistake_in_a_function_is_no_traceback(self):
        wrong = problem(vector_field=lambda t, y, params, data: -params["rate"] * y[:1])
        with pytest.raises(UserError, match=r"vector_field under jax: got \(1,\), expected y's own structure \(2,\)\."):
            crossbackend.gradient(wrong)

    def test_without_its_libraries(self, monkeypatch):
        monkeypatch.setattr(registry, "missing", lambda name: ("jax",))
        with pytest.raises(
            UserError, match=r"without jax, expected its libraries installed\. Install crossbackend\[sci"
        ):
            crossbackend.gradient(problem())

    def test_a_problem_for_the_other_library_alone(self):
        with pytest.raises(UserError, match=r"vector_field given for torch alone: add a 'jax' entry\."):
            crossbackend.gradient(problem(vector_field={"torch": field}), "scipy:jax")


class TestRun:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"backends": "scipi"}, r"--backend: got 'scipi'"),
            ({"norms": "semi"}, r"--norm: got 'semi'"),
            ({"rtols": 2.0}, r"--rtol: got 2, expected a number between 0 and 1"),
            ({"rtols": "1e-6"}, r"--rtol: got '1e-6', expected a number between 0 and 1"),
            ({"repeats": 0}, r"--repeats: got 0, expected a whole number of 1 or more\."),
            ({"first_step": 0.0}, r"--first-step: got 0, expected a positive number"),
        ],
    )
    def test_mistakes(self, changes, words, tmp_path):
        with pytest.raises(UserError, match=words):
            crossbackend.run(problem(), out=tmp_path / "out", **changes)
        assert not (tmp_path / "out").exists()

    def test_two_problems_of_one_name(self):
        with pytest.raises(UserError, match=r"problems: got the name 'decay' twice"):
            crossbackend.run([problem(), problem()])


class TestStored:
    def run(self):
        from crossbackend.compare import compare
        from crossbackend.plan import Plan
        from crossbackend.record import Record, Status
        from crossbackend.store import Run

        made = Record("x", Plan("p", "scipy", "default", "native", 1e-6, 1e-8).as_dict(), Status.OK)
        made.error, made.time = {"all": 1e-5}, {"median_s": 0.25}
        made.forward = made.backward = {"nfe": 8}
        return compare(Run(None, records=[made], references={"p": {"status": "ok", "floor": 1e-12}}))  # type: ignore[arg-type]

    def test_a_comparison_in_memory_will_do(self):
        found = crossbackend.explain(self.run())
        assert repr(found).startswith("p at rtol 1e-06\n")
        assert found.as_dict()["problem"] == "p"
        (advice,) = crossbackend.advise(self.run(), 1e-4)
        assert [(c.backend, c.cost) for c in advice.choices] == [("scipy", 0.25)]

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (
                lambda run: crossbackend.explain(run, "q"),
                r"problem: got 'q', which the run does not hold, expected one",
            ),
            (lambda run: crossbackend.explain(run, rtol=1e-3), r"--rtol: got 0\.001, expected one of 1e-06\."),
            (lambda run: crossbackend.advise(run, "small"), r"--error: got 'small', expected a positive number\."),
            (lambda run: crossbackend.advise(run, 1e-4, by="luck"), r"--by: got 'luck', expected one of time, nfe\."),
        ],
    )
    def test_mistakes(self, call, words):
        with pytest.raises(UserError, match=words):
            call(self.run())


@needs_scipy
def test_a_recipe_from_python():
    said = crossbackend.recipe(problem(), "scipy")
    assert "decay" in said
    compile(said, "recipe", "exec")


def test_lower_without_jax(monkeypatch):
    monkeypatch.setattr(registry, "missing", lambda name: ("jax", "jaxlib"))
    with pytest.raises(
        UserError, match=r"lower: got no jax, jaxlib, expected the libraries that trace a problem\. Inst"
    ):
        lower(problem())


def test_a_user_error_keeps_its_mistakes_when_it_travels():
    mistakes = (Mistake("here", "1", "2", "Write 2."), Mistake("there", "a", "b"))
    back = pickle.loads(pickle.dumps(UserError(*mistakes)))
    assert back.mistakes == mistakes
    assert str(back) == "here: got 1, expected 2. Write 2.\nthere: got a, expected b."
