"""`odeint_adjoint` of a `torch.nn.Module`, trained by `loss.backward()`: how most who use the library write a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from crossbackend import tree
from crossbackend.problem import Problem


def prepare(problem: Problem, rtol: float, atol: float) -> Callable[[], tuple[float, np.ndarray, list[np.ndarray]]]:
    """Return what takes the gradient once; see the package. Of the problems in `MODELS`."""
    import torch
    from torchdiffeq import odeint_adjoint

    model = MODELS[problem.name](torch, problem)
    ts = torch.tensor(np.asarray(problem.ts), dtype=torch.float64)
    inner = [b for b in problem.inner_breakpoints() if problem.ts[0] < b < problem.ts[-1]]
    options = {"jump_t": torch.tensor(inner, dtype=torch.float64)} if inner else None

    def run() -> tuple[float, np.ndarray, list[np.ndarray]]:
        model.zero_grad()
        y0 = model.initial()
        y0.retain_grad()
        ys = odeint_adjoint(model.func, y0, ts, rtol=rtol, atol=atol, method="dopri5", options=options)
        loss = model.loss(ys)
        loss.backward()
        return float(loss.detach()), y0.grad.numpy(), [leaf.numpy() for leaf in tree.values(model.gradient())]

    return run


def _linear_layer(torch: Any, w: np.ndarray, b: np.ndarray) -> Any:
    """Return an `nn.Linear` with given weights, w of shape (in, out)."""
    layer = torch.nn.Linear(*w.shape, dtype=torch.float64)
    layer.load_state_dict({"weight": torch.tensor(w.T.copy()), "bias": torch.tensor(b)})
    return layer


def _of_layer(layer: Any) -> dict[str, Any]:
    return {"w": layer.weight.grad.T, "b": layer.bias.grad}


def _model(torch: Any, func: Any, initial: Callable[[], Any], loss: Callable[[Any], Any], gradient: Any) -> Any:
    """Return a model: its field `func`, its y(t0), its loss, and its gradient in the layout of the problem."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.func = func

    model: Any = Model()
    model.initial, model.loss, model.gradient = initial, loss, gradient
    return model


def _given(torch: Any, problem: Problem) -> Callable[[], Any]:
    y0 = torch.tensor(problem.initial, dtype=torch.float64)
    return lambda: y0.clone().requires_grad_(True)


def linear(torch: Any, problem: Problem) -> Any:
    """Return the model of `linear`."""

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.A = torch.nn.Parameter(torch.tensor(problem.params["A"]))

        def forward(self, t: Any, y: Any) -> Any:  # noqa: ARG002 - odeint's signature
            return self.A @ y

    func: Any = Field()
    targets = torch.tensor(problem.data["targets"])
    loss = lambda ys: 0.5 * ((ys - targets) ** 2).sum()  # noqa: E731 - one line of mathematics
    return _model(torch, func, _given(torch, problem), loss, lambda: {"A": func.A.grad})


def spiral(torch: Any, problem: Problem) -> Any:
    """Return the model of `spiral`: torchdiffeq's own `ode_demo.py`."""
    p = problem.params

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            first, second = (_linear_layer(torch, p[w], p[b]) for w, b in (("W1", "b1"), ("W2", "b2")))
            self.net = torch.nn.Sequential(first, torch.nn.Tanh(), second)

        def forward(self, t: Any, y: Any) -> Any:  # noqa: ARG002 - odeint's signature
            return self.net(y**3)

    func: Any = Field()
    pieces = torch.tensor(problem.data["pieces"])
    loss = lambda ys: torch.mean((ys - pieces) ** 2)  # noqa: E731 - one line of mathematics
    return _model(torch, func, _given(torch, problem), loss, lambda: _two_layers(func.net[0], func.net[2]))


def _two_layers(first: Any, second: Any) -> dict[str, Any]:
    one, two = _of_layer(first), _of_layer(second)
    return {"W1": one["w"], "b1": one["b"], "W2": two["w"], "b2": two["b"]}


def forced_mlp(torch: Any, problem: Problem) -> Any:
    """Return the model of `forced_mlp`: the forcing is one more input of the first layer."""
    p = problem.params

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = _linear_layer(torch, np.vstack([p["W1"], p["clock"]]), p["b1"])
            self.second = _linear_layer(torch, p["W2"], p["b2"])

        def forward(self, t: Any, y: Any) -> Any:
            clock = torch.sin(5.0 * t).expand(len(y), 1)
            return self.second(torch.tanh(self.first(torch.cat([y, clock], dim=1))))

    func: Any = Field()

    def gradient() -> dict[str, Any]:
        both = _two_layers(func.first, func.second)
        return {**both, "W1": both["W1"][:-1], "clock": both["W1"][-1]}

    return _model(torch, func, _given(torch, problem), lambda ys: (ys[-1] ** 2).mean(), gradient)


def neural_cde(torch: Any, problem: Problem) -> Any:
    """Return the model of `neural_cde`: F(z) dX/dt, X linear between its knots."""
    p, data = problem.params, problem.data
    knots, slopes = torch.tensor(data["knots"][1:-1]), torch.tensor(data["path"][:, 1])
    first, labels = torch.tensor(data["first"]), torch.tensor(data["labels"])
    softplus = torch.nn.functional.softplus

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(_linear_layer(torch, layer["w"], layer["b"]) for layer in p["field"])

        def forward(self, t: Any, z: Any) -> Any:
            found = z
            for layer in self.layers[:-1]:
                found = softplus(layer(found))
            matrix = torch.tanh(self.layers[-1](found)).view(*z.shape, -1)
            slope = slopes[torch.bucketize(t, knots, right=True)]
            return (matrix @ slope.unsqueeze(-1)).squeeze(-1)

    func: Any = Field()
    start, read = (_linear_layer(torch, p[name]["w"], p[name]["b"]) for name in ("start", "read"))

    def gradient() -> dict[str, Any]:
        return {"start": _of_layer(start), "field": list(map(_of_layer, func.layers)), "read": _of_layer(read)}

    loss = lambda ys: torch.nn.functional.cross_entropy(read(ys[-1]), labels)  # noqa: E731 - one line of mathematics
    model = _model(torch, func, lambda: start(first), loss, gradient)
    model.start, model.read = start, read
    return model


MODELS: dict[str, Callable[[Any, Problem], Any]] = {
    "linear": linear, "spiral": spiral, "forced_mlp": forced_mlp, "neural_cde": neural_cde,
}  # fmt: skip
