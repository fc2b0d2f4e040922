"""`odeint_adjoint` called as its README has it, on the problem's own vector field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.leaves import of_field
from crossbackend import tree
from crossbackend.problem import Problem


def prepare(
    problem: Problem, rtol: float, atol: float, device: str = "cpu"
) -> Callable[[], tuple[float, np.ndarray, list[np.ndarray]]]:
    """Return what takes the gradient once; see the package."""
    import torch
    from torchdiffeq import odeint_adjoint

    def tensor(leaf: Any) -> Any:
        return torch.tensor(np.asarray(leaf), dtype=torch.float64, device=device)

    params = tree.map_leaves(lambda leaf: tensor(leaf).requires_grad_(True), problem.params)
    data = tree.map_leaves(lambda leaf: torch.as_tensor(np.asarray(leaf), device=device), problem.data)
    leaves, ts = tree.values(params), tensor(problem.ts)
    inner = [b for b in problem.inner_breakpoints() if problem.ts[0] < b < problem.ts[-1]]
    options = {"jump_t": tensor(inner)} if inner else None
    field, loss_of = problem.vector_field, problem.loss

    class Field(torch.nn.Module):
        def forward(self, t: Any, y: Any) -> Any:
            return field(t, y, params, data)

    func = Field()
    used = [leaf for leaf, flag in zip(leaves, of_field(problem, "torch"), strict=True) if flag]

    def run() -> tuple[float, np.ndarray, list[np.ndarray]]:
        initial: Any = problem.initial(params, data) if callable(problem.initial) else tensor(problem.initial)
        y0 = initial.detach().requires_grad_(True)
        ys = odeint_adjoint(func, y0, ts, rtol=rtol, atol=atol, method="dopri5", options=options, adjoint_params=used)
        loss = loss_of(ys, params, data)
        of_y0, *of_leaves = torch.autograd.grad(loss, [y0, *leaves], allow_unused=True)
        if initial.requires_grad:
            more = torch.autograd.grad(initial, leaves, of_y0, allow_unused=True)
            of_leaves = [_sum(torch, leaf, a, b) for leaf, a, b in zip(leaves, of_leaves, more, strict=True)]
        return (
            float(loss.detach()),
            of_y0.cpu().numpy(),
            [_sum(torch, leaf, g).cpu().numpy() for leaf, g in zip(leaves, of_leaves, strict=True)],
        )

    return run


def _sum(torch: Any, leaf: Any, *parts: Any) -> Any:
    return sum((part for part in parts if part is not None), torch.zeros_like(leaf))
