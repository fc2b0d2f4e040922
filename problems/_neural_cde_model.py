"""The neural CDE that three gallery files share: dz = F(z) dX, X the path through a time series, classified at the end.

    z(0) = X(0) W + b,    dz/dt = F(z) dX/dt,    loss = mean cross-entropy of z(T) V + c

F is a network whose last layer ends in tanh; its output is read as a matrix, hidden x channels. Every size is that of
the arrays, so that the same functions serve other batches, paths and widths. X is given by its polynomial pieces:

    data["knots"]   (L,)                                         times of the observations
    data["path"]    (L - 1, degree + 1, batch, channels)         coefficients, as of `ops.linear_coefficients`
    data["first"]   (batch, channels)                            X(0)
    data["labels"]  (batch, classes)                             one-hot

Source: Kidger, Morrill, Foster, Lyons, *Neural Controlled Differential Equations for Irregular Time Series*, NeurIPS
2020; the model of Kidger, Chen, Lyons, *"Hey, that's not an ODE": Faster ODE Adjoints via Seminorms*, ICML 2021.
"""

from pathlib import Path

import numpy as np

from crossbackend import initialise, ops

SPEECH = Path(__file__).with_name("japanese_vowels.csv")
SOURCE = (
    "Kidger, Morrill, Foster, Lyons, NeurIPS 2020; Kidger, Chen, Lyons, ICML 2021; data: Kudo, Toyama, Shimbo, "
    "Japanese Vowels, UCI, CC BY 4.0"
)


def field(t, z, params, data, activation):
    """Return F(z) dX/dt, shape (batch, hidden); `activation` stands between F's layers."""
    xp = ops.namespace(z)
    *inner, last = params["field"]
    found = z
    for layer in inner:
        found = activation(found @ layer["w"] + layer["b"])
    slope = ops.interpolate(t, data["knots"], data["path"], derivative=1)  # (batch, channels)
    matrix = xp.reshape(xp.tanh(found @ last["w"] + last["b"]), (*z.shape, slope.shape[-1]))
    return xp.sum(matrix * slope[:, None, :], axis=-1)


def initial(params, data):
    """Return z(0), linear in the first observation, shape (batch, hidden)."""
    return data["first"] @ params["start"]["w"] + params["start"]["b"]


def loss(ys, params, data):
    """Return the mean cross-entropy of the labels, the scores linear in z(T)."""
    xp = ops.namespace(ys)
    scores = ops.log_softmax(ys[-1, ...] @ params["read"]["w"] + params["read"]["b"])
    return -xp.mean(xp.sum(scores * data["labels"], axis=-1))


def parameters(rng, channels, hidden, width, layers, classes):
    """Return parameters as torch draws them: the start, F with `layers` hidden layers of `width`, the readout."""
    return {
        "start": initialise.linear(rng, channels, hidden),
        "field": initialise.mlp(rng, [hidden, *[width] * layers, hidden * channels]),
        "read": initialise.linear(rng, hidden, classes),
    }


def speech():
    """Return the shipped utterances, each of shape (frames, 12), and their speakers, one-hot, shape (6, 9)."""
    table = np.loadtxt(SPEECH, delimiter=",", skiprows=8)
    series, starts = np.unique(table[:, 0], return_index=True)
    speakers = table[starts, 1].astype(int)
    return [table[table[:, 0] == number, 3:] for number in series], np.eye(9)[speakers - 1]


def control(utterances, labels, coefficients):
    """Return the data of a minibatch: time is channel 0, counted in frames from 0.

    Parameters
    ----------
    utterances : list of arrays, each of shape (frames, features)
    labels : array, shape (batch, classes)
        One-hot.
    coefficients : callable
        `ops.linear_coefficients` or `ops.hermite_coefficients`. They are taken of each utterance alone, and its path
        stands still after its end: a spline through repeated last values would overshoot there.
    """
    longest = max(len(x) for x in utterances)
    paths = []
    for x in utterances:
        values = np.column_stack([np.arange(len(x)), x])
        path = coefficients(np.arange(len(x)), values)
        rest = np.zeros((longest - len(x), *path.shape[1:]))
        rest[:, 0] = values[-1]
        paths.append(np.concatenate([path, rest]))
    return {
        "knots": np.arange(float(longest)),
        "path": np.stack(paths, axis=2),
        "first": np.stack([np.r_[0.0, x[0]] for x in utterances]),
        "labels": labels,
    }
