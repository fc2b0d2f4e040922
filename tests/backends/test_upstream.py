"""What the libraries do today and the project reckons with. A test that turns red here says: upstream changed.

Then read the release notes, mend the settings that `Compiled.settings` states, and the prose that explains them.
"""

from importlib.metadata import version

import numpy as np
import pytest
from scipy.integrate import RK45

SEEN = {"torchdiffeq": "0.2.5", "diffrax": "0.7.2", "scipy": "1.17.1"}


@pytest.mark.parametrize("name", SEEN)
def test_the_versions_that_the_facts_were_seen_with(name):
    assert version(name) == SEEN[name], f"{name} is new: look at every test of this file, then change SEEN"


def test_scipys_estimate_is_minus_one_and_a_half_times_torchdiffeqs():
    from torchdiffeq._impl.dopri5 import _DORMAND_PRINCE_SHAMPINE_TABLEAU

    np.testing.assert_allclose(-RK45.E / 1.5, _DORMAND_PRINCE_SHAMPINE_TABLEAU.c_error.numpy(), atol=1e-16)


def test_scipys_estimate_is_minus_one_and_a_half_times_diffraxs():
    import diffrax

    np.testing.assert_allclose(-RK45.E / 1.5, diffrax.Dopri5.tableau.b_error, atol=1e-16)


def test_diffrax_selects_no_first_step():
    """`dt0=None` gives 0.01, for a term that is wrapped is no ODETerm."""
    import diffrax
    import jax.numpy as jnp

    for rate in (0.1, 1.0):  # any rule that looks at the field would tell them apart
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args, rate=rate: -rate * y), diffrax.Dopri5(), 0.0, 1.0, None, jnp.ones(2),
            stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6), saveat=diffrax.SaveAt(steps=True),
        )  # fmt: skip
        assert float(solution.ts[0]) == pytest.approx(0.01)


def _torch_field(calls):
    import torch

    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def field(t, y):
        calls.append(float(t.detach()))
        return -weight * y + torch.sin(5 * t)

    return weight, field


def test_torchdiffeq_steps_past_the_end():
    import torch
    from torchdiffeq import odeint_adjoint

    calls = []
    weight, field = _torch_field(calls)
    ts = torch.tensor([0.0, 1.0], dtype=torch.float64)
    odeint_adjoint(field, torch.ones(1, dtype=torch.float64), ts, rtol=1e-3, atol=1e-5, adjoint_params=(weight,))
    assert max(calls) > 1.0


def test_torchdiffeq_drops_forward_options_when_adjoint_options_are_given():
    import torch
    from torchdiffeq import odeint_adjoint

    lowest = {}
    for name, options in (("none", None), ("seminorm", {"norm": "seminorm"})):
        calls = []
        weight, field = _torch_field(calls)
        ts = torch.tensor([0.0, 1.0], dtype=torch.float64)
        y0 = torch.ones(1, dtype=torch.float64, requires_grad=True)
        ys = odeint_adjoint(
            field, y0, ts, rtol=1e-3, atol=1e-5, adjoint_params=(weight,), options={"step_t": ts},
            adjoint_options=options,
        )  # fmt: skip
        calls.clear()
        ys[-1].sum().backward()
        lowest[name] = min(calls)
    assert lowest["none"] >= -1e-12  # step_t inherited: the reverse solve stops at 0
    assert lowest["seminorm"] < -1e-3  # and lost: it steps past


def test_torchdiffeqs_norms_see_time():
    """The default adjoint norm is handed a_t of a field that depends on t, though t needs no gradient."""
    import torch
    from torchdiffeq import odeint_adjoint

    seen = []
    weight, field = _torch_field([])
    ts = torch.tensor([0.0, 1.0], dtype=torch.float64)

    def norm(state):
        seen.append(float(state[0].abs()))
        return max(part.abs().max() for part in state)

    y0 = torch.ones(1, dtype=torch.float64, requires_grad=True)
    ys = odeint_adjoint(field, y0, ts, rtol=1e-5, atol=1e-7, adjoint_params=(weight,), adjoint_options={"norm": norm})
    ys[-1].sum().backward()
    assert max(seen) > 0


def test_torchdiffeq_loses_breakpoints_that_a_step_ends_on():
    import torch
    from torchdiffeq import odeint

    errors = {}
    for name, first, second in (("regular", 0.5, 1.0), ("irregular", 0.437, 0.871)):
        jumps = torch.tensor([first, second], dtype=torch.float64)
        y = odeint(
            lambda t, y, at=jumps: (at <= t).sum() * torch.ones_like(y), torch.zeros(1, dtype=torch.float64),
            torch.tensor([0.0, 1.5], dtype=torch.float64), rtol=1e-6, atol=1e-8, method="dopri5",
            options={"jump_t": jumps, "first_step": 0.5 if name == "regular" else 0.3},
        )  # fmt: skip
        errors[name] = abs(float(y[-1, 0]) - (3.0 - first - second))
    assert errors["irregular"] < 1e-9
    assert errors["regular"] > 1e-6
