"""Small problems that each show one thing, for the contract suite."""

import numpy as np

from crossbackend import ops
from crossbackend.problem import Problem


def _mlp(seed, width=8, inputs=3, outputs=2):
    rng = np.random.default_rng(seed)
    return {
        "w1": 0.6 * rng.standard_normal((inputs, width)),
        "b1": 0.1 * rng.standard_normal(width),
        "w2": 0.6 * rng.standard_normal((width, outputs)),
    }


def _forced_field(t, y, params, data):
    xp = ops.namespace(y)
    forcing = xp.sin(3 * t) * xp.ones_like(y[:, :1])
    hidden = xp.tanh(xp.matmul(xp.concat([y, forcing], axis=1), params["w1"]) + params["b1"])
    return xp.matmul(hidden, params["w2"])


def _mean_square(ys, params, data):
    return ops.namespace(ys).mean(ys**2)


def forced(outputs):
    """A time-dependent MLP on a batch of 4, with so many output times."""
    y0 = np.random.default_rng(1).standard_normal((4, 2))
    return Problem(f"forced{outputs}", _forced_field, _mean_square, _mlp(2), y0, np.linspace(0.0, 2.0, outputs))


def _rate_field(t, y, params, data):
    xp = ops.namespace(y)
    knots = data["knots"]
    index = xp.sum(xp.astype(knots <= t, xp.int32), axis=0)
    rate = xp.take(params["rates"], xp.reshape(index, (1,)))[0]
    return -rate * y + params["drive"] * xp.flip(y)


def piecewise(ts=(0.0, 1.7, 4.0)):
    """A piecewise-constant field that jumps on a regular grid, where `jump_t` loses breakpoints."""
    params = {"rates": np.array([0.5, -0.3, 0.9, 0.1]), "drive": np.array(0.4)}
    data = {"knots": np.array([1.0, 2.0, 3.0])}
    return Problem(
        "piecewise", _rate_field, _mean_square, params, np.array([1.0, -0.5]), ts, data, breakpoints=(1.0, 2.0, 3.0)
    )


def output_on_breakpoint():
    """The same with output times on two of the breakpoints."""
    return piecewise((0.0, 1.0, 2.5, 3.0, 4.0)).replace(name="output_on_breakpoint")


def _flow_field(t, y, params, data):
    xp = ops.namespace(y)
    z = y["z"]
    hidden = xp.tanh(xp.matmul(z, params["w"]))
    dz = xp.matmul(hidden, params["v"])
    # The exact trace of the Jacobian of a one-hidden-layer field.
    trace = xp.matmul(1 - hidden**2, xp.sum(xp.matrix_transpose(params["w"]) * params["v"], axis=1))
    return {"z": dz, "logp": -trace}


def _flow_loss(ys, params, data):
    xp = ops.namespace(ys)
    return xp.mean(0.5 * xp.sum(ys["z"][-1, ...] ** 2, axis=-1) - ys["logp"][-1, ...])


def flow():
    """A dict state whose log-density is an integral."""
    rng = np.random.default_rng(3)
    params = {"w": 0.7 * rng.standard_normal((2, 6)), "v": 0.7 * rng.standard_normal((6, 2))}
    y0 = {"z": rng.standard_normal((5, 2)), "logp": np.zeros(5)}
    return Problem("flow", _flow_field, _flow_loss, params, y0, (0.0, 0.5, 1.0), integrals=("logp",))


def _encode(params, data):
    xp = ops.namespace(params)
    return xp.tanh(xp.matmul(data["x"], params["encoder"]))


def _latent_field(t, y, params, data):
    xp = ops.namespace(y)
    return xp.matmul(xp.tanh(y), params["field"])


def _read_out(ys, params, data):
    xp = ops.namespace(ys)
    return xp.mean((xp.matmul(ys, params["decoder"]) - data["target"]) ** 2) + 0.1 * xp.sum(params["encoder"] ** 2)


def latent():
    """An encoder in `initial`, and a decoder that only the loss uses."""
    rng = np.random.default_rng(4)
    params = {
        "encoder": rng.standard_normal((5, 3)), "field": 0.8 * rng.standard_normal((3, 3)),
        "decoder": rng.standard_normal((3, 2)),
    }  # fmt: skip
    data = {"x": rng.standard_normal((4, 5)), "target": rng.standard_normal((3, 4, 2))}
    return Problem("latent", _latent_field, _read_out, params, _encode, (0.0, 0.4, 1.5), data)


def _decay_field(t, y, params, data):
    xp = ops.namespace(y)
    return -params["rate"] * y + xp.cos(t)


def decay():
    """dy/dt = -rate y + cos t, whose solution is known."""

    def exact(params, data):
        (rate,) = params["rate"]
        y0, t = 2.0, 3.0
        # y(t) = a cos t + b sin t + c exp(-rate t), c = y0 - a
        q = 1 + rate**2
        a, b = rate / q, 1 / q
        da, db = (1 - rate**2) / q**2, -2 * rate / q**2
        decayed = np.exp(-rate * t)
        y = a * np.cos(t) + b * np.sin(t) + (y0 - a) * decayed
        dy = da * np.cos(t) + db * np.sin(t) - da * decayed - t * (y0 - a) * decayed
        return {"loss": (y0**2 + y**2) / 2, "y0": np.array([y0 + y * decayed]), "params": {"rate": np.array([y * dy])}}

    return Problem(
        "decay", _decay_field, _mean_square, {"rate": np.array([0.6])}, np.array([2.0]), (0.0, 3.0), exact=exact
    )


MATCHED = {
    "two output times": lambda: forced(2),
    "eight output times": lambda: forced(8),
    "breakpoints on a regular grid": piecewise,
    "an output time on a breakpoint": output_on_breakpoint,
    "a dict state with an integral": flow,
    "an encoder, and parameters of the loss alone": latent,
}


# Problems that fail, each in its own way.


def _log_field(t, y, params, data):
    xp = ops.namespace(y)
    return -params["rate"] + 0 * xp.log(y)  # y reaches 0 at t = 1


def nan_in_field():
    """A field that is NaN once y is negative."""
    return Problem("nan_in_field", _log_field, _mean_square, {"rate": np.array([1.0])}, np.array([1.0]), (0.0, 2.0))


def _square_field(t, y, params, data):
    return params["rate"] * y**2  # y = 1 / (1 - t)


def blow_up():
    """A solution that reaches infinity at t = 1."""
    return Problem("blow_up", _square_field, _mean_square, {"rate": np.array([1.0])}, np.array([1.0]), (0.0, 2.0))


def _sink_field(t, y, params, data):
    xp = ops.namespace(y)
    return -params["rate"] / xp.sqrt(xp.abs(y))  # y = (1 - 1.5 t)^(2/3): the slope is infinite at y = 0


def underflow():
    """A field with a pole on the solution: the step shrinks without end while y stays small."""
    return Problem("underflow", _sink_field, _mean_square, {"rate": np.array([1.0])}, np.array([1.0]), (0.0, 2.0))
