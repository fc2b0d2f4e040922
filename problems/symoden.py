"""Symplectic ODE-Net on the fully actuated double pendulum: the Hamiltonian is learned, and its gradient taken inside
the field. The loss is a mean over every output, so a_y lies far below an ordinary atol, and the error control on the
adjoint is asleep: scale the loss, and the steps change.

    M(q)^-1 = L(q) L(q)^T + 0.1 I,    H = p^T M^-1 p / 2 + V(q),    p = M q',    all of (cos q, sin q)
    dq = dH/dp,    dp = -dH/dq + g(q) u,    q'' = M^-1 dp + d(M^-1)/dt p,    u constant
    y = (cos q1, cos q2, sin q1, sin q2, q1', q2', u1, u2),    t in [0, 0.35],    8 outputs
    loss = mean over outputs, windows and channels of (y - seen)^2

L, V and g are networks with softplus, seed 0. The norm `as-released` is what the published code computed: built from
the shape of the whole trajectory where the state's was meant, it pools y, a_y and most of a_params into one RMS.

Source: Zhong, Dey, Chakraborty, *Symplectic ODE-Net*, ICLR 2020; Kidger, Chen, Lyons, *"Hey, that's not an ODE"*,
ICML 2021, section 3.3 and Table 3. Windows: a simulated double pendulum, `symoden.csv`.
"""

from pathlib import Path

import numpy as np

from crossbackend import Problem, initialise, ops

OUTPUTS = 8
"""Output times of a window, which the released norm took for a part of the state's shape."""


def network(layers, x):
    """Return the network of dense layers with softplus between them, shape (batch, outputs)."""
    for layer in layers[:-1]:
        x = ops.softplus(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1].get("b", 0.0)


def along(layers, x, dx):
    """Return the network's derivative at x along dx, by the chain rule layer by layer."""
    for layer in layers[:-1]:
        before = x @ layer["w"] + layer["b"]
        x, dx = ops.softplus(before), ops.sigmoid(before) * (dx @ layer["w"])
    return dx @ layers[-1]["w"]


def inverse_mass(factor):
    """Return M^-1 = L L^T + 0.1 I from L's entries (11, 21, 22): its entries (11, 12, 22), shape (batch, 3)."""
    xp = ops.namespace(factor)
    a, b, c = factor[:, 0], factor[:, 1], factor[:, 2]
    return xp.stack([a * a + 0.1, a * b, b * b + c * c + 0.1], axis=1)


def slope_of(factor, d):
    """Return the derivative of M^-1 where L's entries change by d, shape (batch, 3)."""
    xp = ops.namespace(factor)
    a, b, c = factor[:, 0], factor[:, 1], factor[:, 2]
    return xp.stack([2 * a * d[:, 0], a * d[:, 1] + b * d[:, 0], 2 * (b * d[:, 1] + c * d[:, 2])], axis=1)


def times(m, v):
    """Return the symmetric 2x2 matrices of entries (11, 12, 22) times vectors, shape (batch, 2)."""
    xp = ops.namespace(v)
    return xp.stack([m[:, 0] * v[:, 0] + m[:, 1] * v[:, 1], m[:, 1] * v[:, 0] + m[:, 2] * v[:, 1]], axis=1)


def energy(x, p, params):
    """Return the Hamiltonian, summed over the batch."""
    xp = ops.namespace(x)
    kinetic = 0.5 * xp.sum(p * times(inverse_mass(network(params["M"], x)), p))
    return kinetic + xp.sum(network(params["V"], x))


def vector_field(t, y, params, data):
    """Return dy/dt of the windows, shape (batch, 8)."""
    xp = ops.namespace(y)
    x, v, u = y[:, :4], y[:, 4:6], y[:, 6:]
    cos, sin = x[:, :2], x[:, 2:]
    dx = xp.concat([-sin * v, cos * v], axis=1)
    factor = network(params["M"], x)
    inverse, slope = inverse_mass(factor), slope_of(factor, along(params["M"], x, dx))
    determinant = inverse[:, 0] * inverse[:, 2] - inverse[:, 1] ** 2
    mass = xp.stack([inverse[:, 2], -inverse[:, 1], inverse[:, 0]], axis=1) / determinant[:, None]
    p = times(mass, v)
    of_x = ops.grad(energy)(x, p, params)
    push = xp.reshape(network(params["g"], x), (-1, 2, 2))
    dp = sin * of_x[:, :2] - cos * of_x[:, 2:] + xp.sum(push * u[:, None, :], axis=2)
    return xp.concat([dx, times(inverse, dp) + times(slope, p), xp.zeros_like(u)], axis=1)


def initial(params, data):
    """Return the first point of every window."""
    return data["seen"][0, ...]


def loss(ys, params, data):
    """Return the mean square over all outputs, windows and channels."""
    xp = ops.namespace(ys)
    return xp.mean((ys - data["seen"]) ** 2)


def as_released(blocks):
    """Return the norm of the published code, which took the trajectory's size S for the state's.

    Over the vector (y, a_y, a_params in the order M, V, g): max(rms of the first S entries, rms of the next S).
    """
    xp = ops.namespace(blocks["y"])
    names = [name for part in ("M", "V", "g") for name in _in_order(blocks, part)]
    flat = xp.concat([xp.reshape(blocks[name], (-1,)) for name in ("y", "a_y", *names)])
    size = OUTPUTS * int(np.prod(blocks["y"].shape))
    parts = [part for part in (flat[:size], flat[size : 2 * size]) if part.shape[0]]
    values = [xp.sqrt(xp.mean(part**2)) for part in parts]
    return values[0] if len(values) == 1 else xp.maximum(*values)


def _in_order(blocks, part):
    """Return a network's leaves as torch lists them: layer by layer, weight before bias."""
    layers = sorted({int(name.split("/")[2]) for name in blocks if name.startswith(f"a_params/{part}/")})
    names = [f"a_params/{part}/{layer}/{leaf}" for layer in layers for leaf in ("w", "b")]
    return [name for name in names if name in blocks]


def parameters(rng, mass, potential, push):
    """Return the three networks for widths of their hidden layers, as torch.nn.Linear draws them."""
    found = {
        "M": initialise.mlp(rng, (4, *mass, 3)),
        "V": initialise.mlp(rng, (4, *potential, 1)),
        "g": initialise.mlp(rng, (4, *push, 4)),
    }
    del found["V"][-1]["b"]  # a constant in the potential moves nothing
    return found


table = np.loadtxt(Path(__file__).with_suffix(".csv"), delimiter=",", skiprows=4)
seen = table[:, 2:].reshape(-1, OUTPUTS, 8).transpose(1, 0, 2)

problem = Problem(
    name="symoden",
    vector_field=vector_field,
    loss=loss,
    params=parameters(np.random.default_rng(0), (16, 16, 16), (16, 16), (16, 16)),
    initial=initial,
    ts=table[:OUTPUTS, 1],
    data={"seen": seen},
    norms={"as-released": as_released},
    source="Zhong, Dey, Chakraborty, ICLR 2020; Kidger, Chen, Lyons, ICML 2021, Table 3; windows simulated",
)
