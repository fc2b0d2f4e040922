"""A continuous normalising flow on images of digits: a multi-scale CNN field, the log-density an integral that feeds
back into nothing.

    dz/dt = f_k(t - k, z),    dlogp/dt = -tr(df_k/dz) ~ -v' (df_k/dz) v,    t in [k, k + 1],    k the block
    loss = mean over images of -(log N(z(T); 0, I) - logp(T)) / (D log 2) + offset,    in bits per dimension

The log-density of an image is log N(z(T)) - logp(T), where logp(T) = -integral of the trace. v is one fixed vector
with entries +-1 (Hutchinson's estimator); its product with the Jacobian comes from `ops.vjp`. The field f_k is a stack
of 3x3 convolutions with softplus between them; every layer takes t - k as one more, constant channel. A block whose
first layer takes C 4^s + 1 channels sees the image squeezed s times (space to depth: 2x2 pixels become four channels),
which is undone after it; no dimension is factored out. The field jumps where one block follows another, so the inner
integers are breakpoints.

No derivative depends on logp. Norms ending in `-integrals` leave logp and its adjoint out, on the forward pass and on
the backward one.

Source: Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, *FFJORD*, ICLR 2019, with the dequantisation and the logit
transform of Dinh, Sohl-Dickstein, Bengio, *Density Estimation Using Real NVP*, ICLR 2017; Kidger, Chen, Lyons, ICML
2021, section 3.2. Data: six digits of Alpaydin and Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine
Learning Repository, 1998 (CC BY 4.0); see `digits.csv`. Seed 6.
"""

import math
from pathlib import Path

import numpy as np

from crossbackend import Problem, initialise, ops

SIDE, LEVELS, MARGIN = 8, 17, 0.05
WIDTH, GAIN = 6, 2.0


def squeeze(z):
    """Return (batch, C, H, W) as (batch, 4 C, H / 2, W / 2): every 2x2 square of pixels becomes four channels."""
    xp = ops.namespace(z)
    batch, channels, height, width = (int(n) for n in z.shape)
    parts = xp.reshape(z, (batch, channels, height // 2, 2, width // 2, 2))
    return xp.reshape(xp.permute_dims(parts, (0, 1, 3, 5, 2, 4)), (batch, 4 * channels, height // 2, width // 2))


def unsqueeze(z):
    """Return (batch, 4 C, H, W) as (batch, C, 2 H, 2 W): the inverse of `squeeze`."""
    xp = ops.namespace(z)
    batch, channels, height, width = (int(n) for n in z.shape)
    parts = xp.reshape(z, (batch, channels // 4, 2, 2, height, width))
    return xp.reshape(xp.permute_dims(parts, (0, 1, 4, 2, 5, 3)), (batch, channels // 4, 2 * height, 2 * width))


def network(s, z, layers):
    """Return one block's dz/dt at its own time s, of z's shape (batch, C, H, W)."""
    xp = ops.namespace(z)
    scale, x = 0, z
    while int(x.shape[1]) < int(layers[0]["w"].shape[1]) - 1:
        scale, x = scale + 1, squeeze(x)
    for i, layer in enumerate(layers):
        clock = xp.zeros_like(x[:, :1, :, :]) + s
        padding = int(layer["w"].shape[2]) // 2
        x = ops.conv2d(xp.concat([x, clock], axis=1), layer["w"], padding=padding)
        x = x + xp.reshape(layer["b"], (-1, 1, 1))
        x = ops.softplus(x) if i < len(layers) - 1 else x
    for _ in range(scale):
        x = unsqueeze(x)
    return x


def flow(s, z, v, layers):
    """Return the derivatives of z and of logp in one block, the trace by Hutchinson's estimator."""
    xp = ops.namespace(z)
    dz, pull = ops.vjp(lambda z: network(s, z, layers), z)
    (back,) = pull(v)
    return {"z": dz, "logp": -xp.sum(back * v, axis=(1, 2, 3))}


def vector_field(t, y, params, data):
    """Return the derivatives of z, shape (batch, C, H, W), and of logp, shape (batch,), in the block of time t."""
    xp = ops.namespace(y)
    blocks = params["blocks"]
    if len(blocks) == 1:
        return flow(t, y["z"], data["v"], blocks[0])
    branches = [
        lambda t, z, v, blocks, k=k: flow(t - k, z, v, blocks[k])  # k is bound now, not when the branch runs
        for k in range(len(blocks))
    ]
    return ops.switch(xp.astype(xp.floor(t), xp.int32), branches, t, y["z"], data["v"], blocks)


def initial(params, data):
    """Return the images, and no change of log-density yet."""
    xp = ops.namespace(data["x"])
    return {"z": data["x"], "logp": xp.zeros_like(data["x"][:, 0, 0, 0])}


def loss(ys, params, data):
    """Return the mean over images of the bits per dimension; `offset`, (batch,) or (), is added where data carry it."""
    xp = ops.namespace(ys)
    z, logp = ys["z"][-1, ...], ys["logp"][-1, ...]
    size = math.prod(int(n) for n in z.shape[1:])
    normal = -0.5 * xp.sum(z * z, axis=(1, 2, 3)) - 0.5 * size * math.log(2 * math.pi)
    bits = -(normal - logp) / (size * math.log(2))
    return xp.mean(bits + data["offset"]) if "offset" in data else xp.mean(bits)


def to_real_line(pixels, noise, levels, margin):
    """Return images dequantised and on the real line, and the bits per dimension that this costs.

    With u = (pixel + noise) / levels and w = margin + (1 - 2 margin) u, an entry becomes x = log(w / (1 - w)), and
    log2 p(pixel) = log2 p(x) + log2(dx/du) - log2(levels).

    Parameters
    ----------
    pixels : ndarray of int in 0 ... levels - 1, shape (batch, C, H, W)
    noise : ndarray in [0, 1), shape (batch, C, H, W)
    levels : int
    margin : float

    Returns
    -------
    x : ndarray, shape (batch, C, H, W)
    offset : ndarray, shape (batch,)
        Bits per dimension to be added to those of x.
    """
    w = margin + (1 - 2 * margin) * (pixels + noise) / levels
    slope = np.log2((1 - 2 * margin) / (w * (1 - w)))
    return np.log(w / (1 - w)), math.log2(levels) - np.mean(slope, axis=(1, 2, 3))


def stack(rng, channels, width):
    """Return one block's layers, channels -> width -> width -> channels, each with the time as one more channel."""
    sizes = (channels, width, width, channels)
    layers = [initialise.conv2d(rng, a + 1, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
    return [{"w": GAIN * layer["w"], "b": layer["b"]} for layer in layers]  # as drawn, the field hardly bends


rng = np.random.default_rng(6)
table = np.loadtxt(Path(__file__).with_name("digits.csv"), delimiter=",", dtype=int)
pixels = table[:, 1:].reshape(-1, 1, SIDE, SIDE)
x, offset = to_real_line(pixels, rng.uniform(size=pixels.shape), LEVELS, MARGIN)

problem = Problem(
    name="cnf",
    vector_field=vector_field,
    loss=loss,
    params={"blocks": [stack(rng, 1, WIDTH), stack(rng, 4, WIDTH)]},
    initial=initial,
    ts=[0.0, 2.0],
    data={
        "x": np.round(x, 10),  # the same on every machine
        "v": rng.choice([-1.0, 1.0], size=pixels.shape),
        "offset": np.round(offset, 10),
    },
    breakpoints=[1.0],
    integrals=["logp"],
    source="Grathwohl et al., ICLR 2019 (FFJORD); Kidger, Chen, Lyons, ICML 2021; digits of Alpaydin and Kaynak (UCI)",
)
