"""`diffeqsolve` of an `equinox.Module` under `filter_jit` and `filter_value_and_grad`, vmapped over the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from crossbackend import tree
from crossbackend.problem import Problem
from crossbackend.record import MAX_STEPS


def prepare(problem: Problem, rtol: float, atol: float) -> Callable[[], tuple[float, np.ndarray, list[np.ndarray]]]:
    """Return what takes the gradient once, compiled before; see the package. Of the problems in `MODELS`."""
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    model, initial, loss_of, layout = MODELS[problem.name](problem)
    ts = jnp.asarray(problem.ts)
    inner = [b for b in problem.inner_breakpoints() if problem.ts[0] < b < problem.ts[-1]]
    controller: Any = diffrax.PIDController(rtol=rtol, atol=atol)
    if inner:
        controller = diffrax.ClipStepSizeController(controller, jump_ts=jnp.asarray(inner))

    @eqx.filter_value_and_grad
    def loss(model_and_y0: Any) -> Any:
        model, y0 = model_and_y0
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, func: func(t, y)), diffrax.Dopri5(), ts[0], ts[-1], None, y0, model["func"],
            saveat=diffrax.SaveAt(t0=True, ts=ts[1:]), stepsize_controller=controller,
            adjoint=diffrax.BacksolveAdjoint(), max_steps=MAX_STEPS,
        )  # fmt: skip
        return loss_of(model, solution.ys)

    @eqx.filter_jit
    def whole(model: Any) -> Any:
        y0, pull = eqx.filter_vjp(initial, model)
        value, (of_model, of_y0) = loss((model, y0))
        (through_y0,) = pull(of_y0)
        return value, of_y0, eqx.apply_updates(of_model, through_y0)

    whole(model)

    def run() -> tuple[float, np.ndarray, list[np.ndarray]]:
        value, of_y0, of_model = whole(model)
        return float(value), np.asarray(of_y0), [np.asarray(leaf) for leaf in tree.values(layout(of_model))]

    return run


def _layer(w: np.ndarray, b: np.ndarray) -> Any:
    """Return an `eqx.nn.Linear` with given weights, w of shape (in, out)."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    layer = eqx.nn.Linear(*w.shape, key=jax.random.PRNGKey(0))
    return eqx.tree_at(lambda made: (made.weight, made.bias), layer, (jnp.asarray(w.T), jnp.asarray(b)))


def _of_layer(layer: Any) -> dict[str, Any]:
    return {"w": layer.weight.T, "b": layer.bias}


def _two_layers(first: Any, second: Any) -> dict[str, Any]:
    one, two = _of_layer(first), _of_layer(second)
    return {"W1": one["w"], "b1": one["b"], "W2": two["w"], "b2": two["b"]}


Model = tuple[Any, Callable[[Any], Any], Callable[[Any, Any], Any], Callable[[Any], Any]]
"""A model as a pytree, its y(t0), its loss of (model, ys), and its gradient in the layout of the problem."""


def linear(problem: Problem) -> Model:
    """Return the model of `linear`."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    class Field(eqx.Module):
        A: jax.Array

        def __call__(self, t: Any, y: Any) -> Any:  # noqa: ARG002 - diffrax's signature
            return self.A @ y

    y0, targets = jnp.asarray(problem.initial), jnp.asarray(problem.data["targets"])
    model = {"func": Field(jnp.asarray(problem.params["A"]))}
    return (
        model,
        lambda model: y0,  # noqa: ARG005 - of other problems it depends on the model
        lambda model, ys: 0.5 * jnp.sum((ys - targets) ** 2),  # noqa: ARG005
        lambda found: {"A": found["func"].A},
    )


def spiral(problem: Problem) -> Model:
    """Return the model of `spiral`."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    class Field(eqx.Module):
        first: eqx.nn.Linear
        second: eqx.nn.Linear

        def __call__(self, t: Any, y: Any) -> Any:  # noqa: ARG002 - diffrax's signature
            return jax.vmap(lambda y: self.second(jnp.tanh(self.first(y**3))))(y)

    p = problem.params
    y0, pieces = jnp.asarray(problem.initial), jnp.asarray(problem.data["pieces"])
    return (
        {"func": Field(_layer(p["W1"], p["b1"]), _layer(p["W2"], p["b2"]))},
        lambda model: y0,  # noqa: ARG005
        lambda model, ys: jnp.mean((ys - pieces) ** 2),  # noqa: ARG005
        lambda found: _two_layers(found["func"].first, found["func"].second),
    )


def forced_mlp(problem: Problem) -> Model:
    """Return the model of `forced_mlp`: the forcing is one more input of the first layer."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    class Field(eqx.Module):
        first: eqx.nn.Linear
        second: eqx.nn.Linear

        def __call__(self, t: Any, y: Any) -> Any:
            clock = jnp.sin(5.0 * t)
            return jax.vmap(lambda y: self.second(jnp.tanh(self.first(jnp.append(y, clock)))))(y)

    p = problem.params
    y0 = jnp.asarray(problem.initial)

    def layout(found: Any) -> dict[str, Any]:
        both = _two_layers(found["func"].first, found["func"].second)
        return {**both, "W1": both["W1"][:-1], "clock": both["W1"][-1]}

    first = _layer(np.vstack([p["W1"], p["clock"]]), p["b1"])
    return (
        {"func": Field(first, _layer(p["W2"], p["b2"]))},
        lambda model: y0,  # noqa: ARG005
        lambda model, ys: jnp.mean(ys[-1] ** 2),  # noqa: ARG005
        layout,
    )


def neural_cde(problem: Problem) -> Model:
    """Return the model of `neural_cde`: F(z) dX/dt, X a `diffrax.LinearInterpolation`, which is no parameter."""
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    p, data = problem.params, problem.data
    knots, path = data["knots"], data["path"]
    values = np.concatenate([path[:, 0], path[-1:, 0] + path[-1:, 1] * (knots[-1] - knots[-2])])
    control = diffrax.LinearInterpolation(jnp.asarray(knots), jnp.asarray(values))
    first, labels = jnp.asarray(data["first"]), jnp.asarray(data["labels"])

    class Field(eqx.Module):
        layers: list[eqx.nn.Linear]

        def __call__(self, t: Any, z: Any) -> Any:
            def one(z: Any, slope: Any) -> Any:
                found = z
                for layer in self.layers[:-1]:
                    found = jax.nn.softplus(layer(found))
                return jnp.tanh(self.layers[-1](found)).reshape(z.size, -1) @ slope

            return jax.vmap(one)(z, control.derivative(t))

    def loss(model: Any, ys: Any) -> Any:
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(jax.vmap(model["read"])(ys[-1])) * labels, axis=-1))

    layers = [_layer(layer["w"], layer["b"]) for layer in p["field"]]
    start, read = (_layer(p[name]["w"], p[name]["b"]) for name in ("start", "read"))
    return (
        {"func": Field(layers), "start": start, "read": read},
        lambda model: jax.vmap(model["start"])(first),
        loss,
        lambda found: {
            "field": [_of_layer(layer) for layer in found["func"].layers],
            "start": _of_layer(found["start"]),
            "read": _of_layer(found["read"]),
        },
    )


MODELS: dict[str, Callable[[Problem], Model]] = {
    "linear": linear, "spiral": spiral, "forced_mlp": forced_mlp, "neural_cde": neural_cde,
}  # fmt: skip
