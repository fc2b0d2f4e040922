"""The seminorm for SciPy: a subclass of RK45 over the flat augmented state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import Template

from crossbackend.problem import is_function
from crossbackend.recipe.facts import Facts, comment

_TEXT = Template('''\
$notes

import numpy as np
from scipy.integrate import RK45, solve_ivp


class NormRK45(RK45):
    """RK45 that measures by `norm`. _estimate_error_norm and h_abs are private to SciPy and may change."""

    def __init__(self, fun, t0, y0, t_bound, norm, **options):
        length = abs(t_bound - t0)
        super().__init__(fun, t0, y0, t_bound, first_step=length, **options)  # replaced by Hairer's, under the norm
        self.norm = norm
        scale = self.atol + np.abs(self.y) * self.rtol
        d0, d1 = norm(self.y / scale), norm(self.f / scale)
        h0 = min(1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1, length)
        step = self.direction * h0
        d2 = norm((self.fun(t0 + step, self.y + step * self.f) - self.f) / scale) / h0
        largest = max(d1, d2)
        h1 = max(1e-6, h0 * 1e-3) if largest <= 1e-15 else (0.01 / largest) ** 0.2
        self.h_abs = min(100 * h0, h1, length)

    def _estimate_error_norm(self, K, h, scale):
        return self.norm(self._estimate_error(K, h) / scale)


def scipy_rms(*parts):
    return np.sqrt(sum(np.dot(part, part) for part in parts) / sum(part.size for part in parts))


def scipy_norm(y):  # the forward pass
    return scipy_rms($y)


def scipy_adjoint_norm(z):
    return np.maximum(scipy_rms($y_of_z), scipy_rms($a_y_of_z))


def scipy_run(fun, t0, t1, y0, norm, rtol, atol, t_eval=None):
    solution = solve_ivp(fun, (t0, t1), y0, method=NormRK45, t_eval=t_eval, rtol=rtol, atol=atol, norm=norm)
    if not solution.success:
        raise RuntimeError(solution.message)
    return solution.y.T.copy()


def scipy_solve(field, adjoint, loss_gradient, y0, ts, rtol, atol):
    """Return (ys, a_y(ts[0]), a_params), shapes (len(ts), $n), ($n,), ($params,)."""
    ys = scipy_run(field, ts[0], ts[-1], y0, scipy_norm, rtol, atol, t_eval=ts)
    of_ys = loss_gradient(ys)
    z = np.zeros($size)
    z[$n:$n2] = of_ys[-1]
    for i in range(len(ts) - 1, 0, -1):
        z[:$n] = ys[i]  # y starts anew from the forward solution at every output time
        z = scipy_run(adjoint, ts[i], ts[i - 1], z, scipy_adjoint_norm, rtol, atol)[-1]
        z[$n:$n2] += of_ys[i - 1]
    return ys, z[$n:$n2], z[$n2:]
''')


def text(facts: Facts) -> str:
    """Return the part for SciPy."""
    n = facts.layout.size
    slices = _merged([facts.layout.slices[i] for i in facts.seen])
    return _TEXT.substitute(
        notes=_notes(facts), n=n, n2=2 * n, params=facts.params_size, size=2 * n + facts.params_size,
        y=_sliced("y", slices, 0), y_of_z=_sliced("z", slices, 0), a_y_of_z=_sliced("z", slices, n),
    )  # fmt: skip


def _sliced(vector: str, slices: Sequence[slice], start: int) -> str:
    return ", ".join(f"{vector}[{start + at.start}:{start + at.stop}]" for at in slices)


def _merged(slices: Sequence[slice]) -> list[slice]:
    """Return the slices with neighbours put together."""
    merged: list[slice] = []
    for at in slices:
        if merged and merged[-1].stop == at.start:
            merged[-1] = slice(merged[-1].start, at.stop)
        else:
            merged.append(at)
    return merged


def _notes(facts: Facts) -> str:
    lowered = (
        f"`crossbackend lower` prints them for {facts.problem.name!r} (bind_field, bind_adjoint and bind_loss, whose "
        "second result is dloss/dys)."
        if not facts.problem.lacks("jax")
        else "They may call torch inside."
    )
    notes = [
        "SciPy has no adjoint. RK45's own norm is one RMS over all of the augmented state, which is flat:",
        "  z = (y, a_y, a_params), dy/dt = f, da_y/dt = -a_y . df/dy, da_params/dt = -a_y . df/dparams",
    ]
    layout = "\n".join(f"#   z[{start}:{stop}]".ljust(18) + words for start, stop, words in _rows(facts))
    last = [
        "field(t, y) -> dy and adjoint(t, z) -> dz, over flat arrays; loss_gradient(ys) -> dloss/dys, shape "
        f"({len(facts.problem.ts)}, {facts.layout.size}); y0: flat; ts: floats. {lowered}",
    ]
    if is_function(facts.problem.initial):
        last.append("y0 depends on parameters: the total gradient adds a_y(ts[0]) . dy0/dparams and dloss/dparams.")
    if facts.breakpoints:
        last.append(
            "RK45 has no option for breakpoints and finds them by rejecting steps. To step onto them, call scipy_run "
            "from one to the next, on both passes."
        )
    return "\n".join([comment(*notes), layout, comment(*last)])


def _rows(facts: Facts) -> list[tuple[int, int, str]]:
    """Return (start, stop, what stands there) for every block of z."""
    rows, start = [], 0
    for group in ("y", "a_y"):
        for name, shape in zip(facts.layout.names, facts.layout.shapes, strict=True):
            rows.append((f"{group}/{name}" if name else group, shape))
    rows += [(f"a_params/{name}" if name else "a_params", shape) for name, shape in facts.used.items()]
    placed = []
    for name, shape in rows:
        size = math.prod(shape)
        placed.append((start, start + size, f"{name} {shape}"))
        start += size
    return placed
