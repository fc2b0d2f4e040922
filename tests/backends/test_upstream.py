"""What the libraries do today and the project reckons with: one test for each section of `docs/upstream.md`.

A test that fails says which library changed, and which pages and modules of ours to change. The scripts of the page
are run too, each in an interpreter of its own, and must print what the page says.
"""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import RK45, solve_ivp

from crossbackend import ops

ROOT = Path(__file__).parents[2]
PAGE = "docs/upstream.md"
TORCHDIFFEQ, DIFFRAX = "crossbackend/backends/torchdiffeq.py", "crossbackend/backends/diffrax.py"

SEEN = {"torchdiffeq": "0.2.5", "diffrax": "0.7.2", "scipy": "1.17.1"}


@dataclass(frozen=True)
class Behaviour:
    """A behaviour of a library, and what of ours to change, by file, once the library behaves otherwise."""

    library: str
    change: dict[str, str]

    @property
    def seen(self):
        return SEEN[self.library]


BEHAVIOURS = {
    "torchdiffeq-measures-the-adjoint-of-time": Behaviour(
        "torchdiffeq",
        {
            TORCHDIFFEQ: "docstring, backward_norm(), settings()",
            "crossbackend/norms.py": "mixed-t and mixed-seminorm-t",
            "problems/forced_mlp.py": "docstring",
            "README.md": "What it finds out, Norms, Limits",
        },
    ),
    "torchdiffeq-drops-forward-options": Behaviour("torchdiffeq", {TORCHDIFFEQ: "docstring, options()"}),
    "torchdiffeq-hands-adjoint-norms-a-tuple": Behaviour("torchdiffeq", {TORCHDIFFEQ: "backward_norm()"}),
    "torchdiffeq-loses-breakpoints": Behaviour(
        "torchdiffeq", {TORCHDIFFEQ: "options(), settings()", "tests/cases.py": "piecewise()"}
    ),
    "torchdiffeq-steps-past-the-last-output-time": Behaviour(
        "torchdiffeq", {TORCHDIFFEQ: "docstring, options(), settings()"}
    ),
    "torchdiffeq-differentiates-its-own-first-step": Behaviour(
        "torchdiffeq", {TORCHDIFFEQ: "_odeint(), _first_step()", "docs/gradients.md": "direct"}
    ),
    "diffrax-selects-no-first-step": Behaviour(
        "diffrax",
        {
            DIFFRAX: "docstring, settings()",
            "crossbackend/backends/diffrax_recording.py": "Hairer",
            "tests/backends/test_nfe.py": "expected()",
            "README.md": "Limits",
        },
    ),
    "diffrax-dilutes-its-default-adjoint-norm": Behaviour(
        "diffrax",
        {
            DIFFRAX: "docstring, settings()",
            "crossbackend/norms.py": "pooled",
            "README.md": "What it finds out, Norms",
        },
    ),
    "diffrax-documents-a-seminorm-call-that-fails": Behaviour("diffrax", {}),
    "scipy-estimates-a-larger-error": Behaviour(
        "scipy",
        {
            "crossbackend/backends/scipy.py": "docstring, settings()",
            "crossbackend/backends/scipy_solver.py": "MatchedRK45",
        },
    ),
}


@contextmanager
def upstream(anchor):
    """Say, when what is tested inside fails, which library changed and what of ours to change."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        behaviour = BEHAVIOURS[anchor]
        library, seen, now = behaviour.library, behaviour.seen, version(behaviour.library)
        ours = "; ".join([f"{PAGE}#{anchor}", *(f"{path}: {what}" for path, what in behaviour.change.items())])
        if now == seen:
            says = f"{library} {now} does not do this here, though it was seen to: look at the test, then at"
        else:
            says = f"{library} {now} no longer does this (seen with {seen}). If upstream fixed it, change"
        raise AssertionError(f"{says} {ours}. What failed: {error}") from error


def needs(library):
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f"{library} not installed")


def pins(anchor):
    """Mark a test as the one of a behaviour: it is skipped without the library, and fails by `upstream`."""

    def pin(test):
        @functools.wraps(test)
        def pinned(*args, **kwargs):
            with upstream(anchor):
                test(*args, **kwargs)

        marked: Any = needs(BEHAVIOURS[anchor].library)(pinned)
        marked.pins = anchor
        return marked

    return pin


# The page.

SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def sections():
    """Return the text of each section of the page by the anchor of its heading."""
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-"): text
        for heading, text in SECTION.findall(page)
    }


def test_the_page_the_table_and_the_tests_hold_the_same_behaviours():
    assert list(sections()) == list(BEHAVIOURS)
    pinned = [value.pins for value in globals().values() if hasattr(value, "pins")]
    assert sorted(pinned) == sorted(BEHAVIOURS)  # each has one test


@pytest.mark.parametrize("anchor", BEHAVIOURS)
def test_a_section_names_the_version_and_shows_one_script_and_what_it_prints(anchor):
    text = sections()[anchor]
    library, seen = BEHAVIOURS[anchor].library, BEHAVIOURS[anchor].seen
    assert f"Seen with {library} {seen}." in text.replace("SciPy", "scipy").replace("\n", " ")
    assert len(re.findall("```", text)) == 4
    ((script, shown),) = SHOWN.findall(text)
    assert len(script.splitlines()) <= 15
    assert library in script
    assert "crossbackend" not in script
    assert shown.strip()


SLOW = ("diffrax-dilutes-its-default-adjoint-norm",)


@pytest.mark.parametrize(
    "anchor",
    [
        pytest.param(anchor, marks=[needs(of.library), *([pytest.mark.slow] if anchor in SLOW else [])])
        for anchor, of in BEHAVIOURS.items()
    ],
)
def test_a_script_prints_what_the_page_says(anchor, tmp_path):
    ((script, shown),) = SHOWN.findall(sections()[anchor])
    # A fresh interpreter: the scripts set torch's default precision and JAX's, for good.
    run = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=tmp_path, env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    with upstream(anchor):
        assert run.returncode == 0, run.stderr
        assert run.stdout == shown


@pytest.mark.parametrize("anchor", BEHAVIOURS)
def test_what_is_to_be_changed_exists(anchor):
    for path in BEHAVIOURS[anchor].change:
        assert (ROOT / path).is_file(), path


# The helper.


def test_a_behaviour_that_is_gone_names_the_library_and_what_to_change(monkeypatch):
    monkeypatch.setitem(SEEN, "torchdiffeq", "0.0.1")
    wanted = (
        rf"^torchdiffeq {re.escape(version('torchdiffeq'))} no longer does this \(seen with 0\.0\.1\)\. "
        r"If upstream fixed it, change docs/upstream\.md#torchdiffeq-drops-forward-options; "
        r"crossbackend/backends/torchdiffeq\.py: docstring, options\(\)\. What failed: first_step is kept"
    )
    with pytest.raises(AssertionError, match=wanted), upstream("torchdiffeq-drops-forward-options"):
        raise AssertionError("first_step is kept")


def test_a_behaviour_that_is_gone_under_the_version_seen_points_at_the_test():
    with pytest.raises(AssertionError, match=r"^scipy .* does not do this here.*look at the test.*What failed"):
        with upstream("scipy-estimates-a-larger-error"):
            np.testing.assert_allclose(1.0, 1.5)


def test_an_error_that_no_longer_comes_is_a_behaviour_that_is_gone():
    with pytest.raises(AssertionError, match=r"docs/upstream\.md#diffrax-documents-a-seminorm-call-that-fails"):
        with upstream("diffrax-documents-a-seminorm-call-that-fails"), pytest.raises(TypeError):
            pass


def test_a_skip_inside_stays_a_skip():
    with pytest.raises(pytest.skip.Exception), upstream("scipy-estimates-a-larger-error"):
        pytest.skip("no such library")


def test_a_pinned_test_fails_by_the_helper():
    @pins("scipy-estimates-a-larger-error")
    def planted():
        raise AssertionError("planted")

    with pytest.raises(AssertionError, match=r"crossbackend/backends/scipy\.py: docstring.*planted"):
        planted()


# The libraries.


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in SEEN])
def test_the_versions_that_the_facts_were_seen_with(name):
    assert version(name) == SEEN[name], f"{name} is new: look at every test of this file, then change SEEN"


def rms(part):
    return part.square().mean().sqrt()


class TorchSolve:
    """A gradient by `odeint_adjoint`: what the field, the norm and the callbacks of the backward pass see.

    Parameters
    ----------
    field : callable
        `field(t, y, w)`; w is a scalar that requires a gradient.
    ts : sequence of float
    rtol : float
        atol is a hundredth of it.
    y0 : sequence of float, optional
    **kwargs
        `options` and `adjoint_options`, where tuples stand for tensors.
    """

    def __init__(self, field, ts, rtol, y0=(1.0,), **kwargs):
        import torch
        from torchdiffeq import odeint_adjoint

        self.times, self.steps, self.a_t = [], [], []
        w = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

        def called(t, y):
            self.times.append(float(t.detach()))
            return field(t, y, w)

        def accepted(t0, state, dt):
            self.steps.append(float(dt))
            self.a_t.append(abs(float(state[0])))

        watched: Any = called
        watched.callback_accept_step_adjoint = accepted
        converted = {
            which: {k: torch.tensor(v, dtype=torch.float64) if isinstance(v, tuple) else v for k, v in options.items()}
            for which, options in kwargs.items()
        }
        ys = odeint_adjoint(
            watched, torch.tensor(y0, dtype=torch.float64), torch.tensor(ts, dtype=torch.float64), rtol=rtol,
            atol=rtol / 100, method="dopri5", adjoint_params=(w,), **converted,
        )  # fmt: skip
        self.forward_times, self.times[:] = list(self.times), []
        ys[-1].sum().backward()
        self.gradient = float(w.grad)


@pins("torchdiffeq-measures-the-adjoint-of-time")
def test_torchdiffeq_measures_the_adjoint_of_time():
    import torch

    def driven(t, y, w):
        return -w * y * torch.sin(20 * t)

    def autonomous(t, y, w):
        return -w * y.sin()

    norms = {
        "default": {},
        "mixed": {"norm": lambda state: max(rms(part) for part in state[1:])},
        "mixed-t": {"norm": lambda state: max(part.abs() if part.ndim == 0 else rms(part) for part in state)},
        "seminorm": {"norm": "seminorm"},
        "mixed-seminorm": {"norm": lambda state: max(rms(part) for part in state[1:3])},
        "mixed-seminorm-t": {"norm": lambda state: max(state[0].abs(), *(rms(part) for part in state[1:3]))},
    }
    solves = {
        field.__name__: {
            name: TorchSolve(field, [0.0, 2.0], 1e-5, np.linspace(0.5, 1.0, 10), adjoint_options=options)
            for name, options in norms.items()
        }
        for field in (driven, autonomous)
    }
    # a_t is integrated, though the output times need no gradient.
    assert max(solves["driven"]["default"].a_t) > 0.1
    assert max(solves["autonomous"]["default"].a_t) == 0
    # Both of the library's norms measure it: they take the very steps of the norms that do.
    for own, same in (("default", "mixed-t"), ("seminorm", "mixed-seminorm-t")):
        assert solves["driven"][own].steps == solves["driven"][same].steps
        assert solves["driven"][own].steps != solves["driven"][same.removesuffix("-t")].steps
    cost = {name: len(of.times) for name, of in solves["driven"].items()}
    assert cost["seminorm"] > 2 * cost["mixed-seminorm"]
    # That is a_t's doing: without it in the field, "seminorm" is the paper's.
    assert solves["autonomous"]["seminorm"].steps == solves["autonomous"]["mixed-seminorm"].steps


@pins("torchdiffeq-drops-forward-options")
def test_torchdiffeq_drops_forward_options_when_adjoint_options_are_given():
    def decay(t, y, w):
        return -w * y

    def solve(**kwargs):
        return TorchSolve(decay, [0.0, 1.0], 1e-3, **kwargs)

    first, cut = {"first_step": 0.01}, {"step_t": (0.0, 1.0)}
    assert solve(options=first).steps[0] == pytest.approx(0.01)  # inherited
    lost = solve(options=first, adjoint_options={"norm": "seminorm"})
    assert lost.steps[0] > 0.05
    assert lost.steps == solve(adjoint_options={"norm": "seminorm"}).steps
    assert solve(options=first, adjoint_options={"norm": "seminorm", **first}).steps[0] == pytest.approx(0.01)
    # So with step_t: inherited, the reverse solve ends at 0; lost, it steps past.
    assert min(solve(options=cut).times) >= -1e-12
    assert min(solve(options=cut, adjoint_options={"norm": "seminorm"}).times) < -1e-3


@pins("torchdiffeq-hands-adjoint-norms-a-tuple")
def test_torchdiffeq_hands_adjoint_norms_a_tuple():
    import torch
    from torchdiffeq import odeint_adjoint

    w = torch.tensor([0.7, 0.2], dtype=torch.float64, requires_grad=True)
    ts = w.new_tensor([0.0, 1.0])

    def backward(y0, norm):
        def field(t, y):
            return tuple(-w[0] * part for part in y) if isinstance(y, tuple) else -w[0] * y

        ys = odeint_adjoint(field, y0, ts, adjoint_params=(w,), adjoint_options={"norm": norm})
        ys[0].sum().backward()

    def seen(y0):
        states = []

        def norm(state):
            states.append(state)
            return max(part.abs().max() for part in state)

        backward(y0, norm)
        assert all(type(state) is tuple for state in states)
        return {tuple(tuple(part.shape) for part in state) for state in states}

    y, z = w.new_ones(3), w.new_ones(2, 2)
    assert seen(y) == {((), (3,), (3,), (2,))}  # a_t, y, a_y, a_params
    assert seen((y, z)) == {((), (3,), (2, 2), (3,), (2, 2), (2,))}  # a_t, *y, *a_y, a_params
    # A norm that takes the state to be one tensor and slices y out of it, as the paper's code does.
    with pytest.raises(AttributeError, match="'tuple' object has no attribute 'square'"):
        backward(y, lambda state: rms(state[1:4]))


@pins("torchdiffeq-loses-breakpoints")
def test_torchdiffeq_loses_breakpoints_that_a_step_ends_on():
    import torch
    from torchdiffeq import odeint

    def missed(jumps, **options):
        """Return the jumps on which no step ends, and the error of y, whose slope is the number of jumps passed."""
        at, ends = torch.tensor(jumps, dtype=torch.float64), []

        def field(t, y):
            return (at <= t).sum() * torch.ones_like(y)

        watched: Any = field
        watched.callback_accept_step = lambda t0, y0, dt: ends.append(float(t0 + dt))
        ts = torch.tensor([0.0, jumps[-1] + 0.5], dtype=torch.float64)
        y = odeint(
            watched, torch.zeros(1, dtype=torch.float64), ts, rtol=1e-6, atol=1e-8, method="dopri5",
            options={"jump_t": at, **options},
        )  # fmt: skip
        exact = sum(float(ts[-1]) - jump for jump in jumps)
        return [jump for jump in jumps if min(abs(jump - end) for end in ends) > 1e-9], abs(float(y[-1, 0]) - exact)

    lost, error = missed([0.5, 1.0, 1.5, 2.0], first_step=0.5)  # the first step ends on the first jump
    assert lost == [1.0, 1.5, 2.0]
    assert error > 1e-4
    for jumps, first in (([0.5, 1.0, 1.5, 2.0], 0.3), ([0.437, 0.871], 0.5)):
        lost, error = missed(jumps, first_step=first)
        assert lost == []
        assert error < 1e-9


@pins("torchdiffeq-steps-past-the-last-output-time")
def test_torchdiffeq_steps_past_the_last_output_time():
    def field(t, y, w):
        return -w * y + (5 * t).sin()

    free = TorchSolve(field, [0.0, 1.0], 1e-3)
    assert max(free.forward_times) > 1.01
    assert min(free.times) < -0.01
    cut = TorchSolve(
        field, [0.0, 1.0], 1e-3, options={"step_t": (1.0,)}, adjoint_options={"step_t": (0.0, 1.0)}
    )  # fmt: skip
    assert max(cut.forward_times) <= 1
    assert min(cut.times) >= 0


@pins("torchdiffeq-differentiates-its-own-first-step")
def test_torchdiffeq_differentiates_its_own_first_step():
    import torch
    from torchdiffeq import odeint

    rate = torch.tensor(0.7, requires_grad=True, dtype=torch.float64)
    steps = []

    class Field(torch.nn.Module):
        def forward(self, t, y):
            return -rate * y * torch.sin(3 * t + 1)

        def callback_accept_step(self, t, y, dt):
            steps.append(dt)

    def gradient(**options):
        steps.clear()
        ts, y0 = torch.tensor([0.0, 2.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
        y = odeint(Field(), y0, ts, rtol=1e-4, atol=1e-6, method="dopri5", options=options)
        return y[-1].item(), torch.autograd.grad(y[-1].sum(), rate)[0].item(), list(steps)

    y, chosen, sizes = gradient()
    assert sizes[0].requires_grad
    assert not any(size.requires_grad for size in sizes[1:])
    y_given, given, same = gradient(first_step=sizes[0].item())
    assert [size.item() for size in same] == [size.item() for size in sizes]
    assert y_given == y
    assert 1e-4 < abs(chosen / given - 1) < 1e-2


def diffrax_solve(field, ts, args, rtol, options=None):
    """Return the gradient of the sum of y at all of `ts[1:]`, and the times of evaluation of both passes."""
    import diffrax
    import jax
    import jax.numpy as jnp

    passes = [], []
    now = passes[0]

    def loss(args):
        def watched(t, y, args):
            jax.debug.callback(lambda t: now.append(float(t)), t)
            return field(t, y, args)

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(watched), diffrax.Dopri5(), ts[0], ts[-1], None, jnp.array([1.0, 0.5]), args,
            saveat=diffrax.SaveAt(ts=jnp.array(ts[1:])), adjoint=diffrax.BacksolveAdjoint(**(options or {})),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol / 100),
        )  # fmt: skip
        return jnp.sum(solution.ys)

    _, pull = jax.vjp(loss, args)
    jax.effects_barrier()
    now = passes[1]
    (gradient,) = pull(jnp.ones(()))
    jax.block_until_ready(gradient)
    jax.effects_barrier()
    return gradient, passes


@pins("diffrax-selects-no-first-step")
def test_diffrax_selects_no_first_step():
    import diffrax
    import jax.numpy as jnp

    def decay(t, y, rate):
        return -rate * y

    with ops.precision("jax", "float64"):
        rate, term = jnp.array(0.1), diffrax.ODETerm(decay)
        controller, solver = diffrax.PIDController(rtol=1e-3, atol=1e-5), diffrax.Dopri5()
        # The rule is there, and works where it meets an ODETerm that is not wrapped.
        chosen, _ = controller.init(term, 0.0, 2.0, jnp.ones(2), None, rate, solver.func, solver.error_order(term))
        assert float(chosen) > 0.1
        _, (forward, backward) = diffrax_solve(decay, [0.0, 1.0, 2.0], rate, 1e-3)
    # Stage 1 of dopri5 is at a fifth of the step: at the start, and at each output time on the way back.
    for times, stage in ((forward, 0.002), (backward, 1.998), (backward, 0.998)):
        assert min(abs(time - stage) for time in times) < 1e-6


@pins("diffrax-dilutes-its-default-adjoint-norm")
@pytest.mark.slow
def test_diffrax_dilutes_its_default_adjoint_norm():
    import jax.numpy as jnp

    with ops.precision("jax", "float64"):
        w, unused = jnp.array([0.7, 0.2]), jnp.zeros(10_000)

        def solve(args, captured=None):
            def field(t, y, args):
                assert captured is None or captured.size == 10_000
                return args[0] * jnp.sin(3 * y[::-1]) + (0 if captured is None else 0 * captured[0])

            gradient, (forward, backward) = diffrax_solve(field, [0.0, 5.0], args, 1e-5)
            return np.asarray(gradient[0]), len(forward), len(backward)

        alone, beside, captured = solve((w,)), solve((w, unused)), solve((w,), captured=unused)
    assert alone[1:] == (97, 121)
    assert beside[1:] == (97, 61)
    assert captured[1:] == alone[1:]
    # The gradient at rtol 1e-11, by the same script.
    errors = [np.abs(gradient - [4.9222962, -4.1121183]).max() for gradient in (alone[0], beside[0], captured[0])]
    assert errors[0] == pytest.approx(errors[2], rel=1e-6)
    assert errors[1] > 5 * errors[0]


@pins("diffrax-documents-a-seminorm-call-that-fails")
def test_diffrax_documents_a_seminorm_call_that_fails():
    import diffrax

    assert "diffrax.PIDController(norm=diffrax.adjoint_rms_seminorm)" in diffrax.adjoint_rms_seminorm.__doc__
    with pytest.raises(TypeError, match="2 required positional arguments: 'rtol' and 'atol'"):
        diffrax.PIDController(norm=diffrax.adjoint_rms_seminorm)


@pins("scipy-estimates-a-larger-error")
def test_scipy_estimates_a_larger_error():
    fifth = [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0]
    shampine = [1951 / 21600, 0, 22642 / 50085, 451 / 720, -12231 / 42400, 649 / 6300, 1 / 60]
    np.testing.assert_allclose(RK45.E, -1.5 * np.subtract(fifth, shampine), rtol=0, atol=1e-15)

    def steps(method, factor=1.0):
        rtol, atol = factor * 1e-6, factor * 1e-8
        solution = solve_ivp(lambda t, y: [y[1], -y[0]], (0, 100), [1.0, 0.0], method=method, rtol=rtol, atol=atol)
        return solution.t.size - 1

    shampines = type("Shampine", (RK45,), {"E": -RK45.E / 1.5})
    assert steps(RK45) / steps(shampines) == pytest.approx(1.5**0.2, abs=0.02)
    assert steps(RK45, 1.5) == pytest.approx(steps(shampines), abs=2)


@needs("torchdiffeq")
def test_torchdiffeqs_estimate_is_the_one_that_scipys_is_measured_against():
    from torchdiffeq._impl.dopri5 import _DORMAND_PRINCE_SHAMPINE_TABLEAU

    with upstream("scipy-estimates-a-larger-error"):
        estimate = _DORMAND_PRINCE_SHAMPINE_TABLEAU.c_error.numpy()
        np.testing.assert_allclose(-RK45.E / 1.5, estimate, rtol=0, atol=1e-15)


@needs("diffrax")
def test_diffraxs_estimate_is_the_one_that_scipys_is_measured_against():
    import diffrax

    with upstream("scipy-estimates-a-larger-error"):
        np.testing.assert_allclose(-RK45.E / 1.5, diffrax.Dopri5.tableau.b_error, rtol=0, atol=1e-15)
