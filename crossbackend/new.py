"""A problem file to start from: it runs as it is, and says what every part is for."""

from __future__ import annotations

import keyword
import os
from pathlib import Path

from crossbackend.errors import Mistake, raise_all

TEMPLATE = '''\
"""A pendulum with friction, fitted to a recording: replace this paragraph by what your problem shows.

    dangle/dt = speed,    dspeed/dt = -(g/l) sin(angle) - friction speed
    loss = mean of (angle(t_i) - recorded_i)^2
"""

import numpy as np

from crossbackend import Problem, ops

TIMES = np.linspace(0.0, 4.0, 9)


# dy/dt. It is called with arrays of torch or of JAX: take functions from `xp`, the namespace of the array given (the
# array API: xp.sin, xp.exp, xp.tanh, xp.stack, xp.sum, @), and what that lacks from `ops` (ops.softplus, ops.relu,
# ops.interpolate, ops.grad, ops.vjp, ops.conv2d, ops.scan). t is a scalar array. Change nothing in place.
def vector_field(t, y, params, data):
    xp = ops.namespace(y)
    angle, speed = y[0], y[1]
    return xp.stack([speed, -data["g_over_l"] * xp.sin(angle) - params["friction"] * speed])


# y(t0): a function, where it depends on parameters (an encoder, or an initial state that is fitted, as here). Where it
# does not, give the array itself: initial=np.array([1.0, 0.0]). A state may be a dict of arrays.
def initial(params, data):
    return params["y0"]


# A scalar. ys is y at the output times, one more axis in front: here of shape (9, 2).
def loss(ys, params, data):
    xp = ops.namespace(ys)
    return xp.mean((ys[:, 0] - data["recorded"]) ** 2)


# A recording made up for the example. Read your own with np.load(Path(__file__).parent / "recording.npy").
def recording():
    noise = np.random.default_rng(0).normal(size=len(TIMES))
    return 1.2 * np.exp(-0.1 * TIMES) * np.cos(3.0 * TIMES) + 0.02 * noise


problem = Problem(
    name="NAME",  # names files: letters, digits, _ and -
    vector_field=vector_field,
    loss=loss,
    # What the gradient is taken for: nested dicts or lists of floating NumPy arrays.
    params={"friction": np.array(0.3), "y0": np.array([1.0, 0.0])},
    initial=initial,
    # Output times, increasing; the first is the initial time.
    ts=TIMES,
    # Constants, in nested dicts or lists; integers and booleans stay what they are.
    data={"g_over_l": np.array(9.81), "recorded": recording()},
    # Relative tolerances of a run, each between 0 and 1; atol is 1e-2 rtol.
    tolerances=(1e-4, 1e-6, 1e-8, 1e-10),
    # Further options:
    #   breakpoints=[1.0]             times at which the field jumps
    #   integrals=["log_density"]     entries of a dict state that feed back into nothing
    #   norms={"light": {"y": 1, "a_y": 1, "a_params": 0.1}}    error norms of your own
    #   exact=function                (params, data) -> {"loss": ..., "y0": ..., "params": ...} in closed form
    #   source="..."                  where the problem comes from, printed in the report
    #   dtype="float32"
)
'''


def new(name: str, folder: str | Path = ".") -> Path:
    """Write `FOLDER/NAME.py`, a problem that runs, and return its path.

    Raises
    ------
    UserError
        A name that cannot be a module's, a folder that is not there, a file that is.
    """
    folder = Path(folder)
    path = folder / f"{name}.py"
    mistakes = []
    stem = name.removesuffix(".py")
    if stem != name and stem.isidentifier():
        mistakes.append(Mistake("new", repr(name), "a name without the ending .py", f"Write {stem!r}."))
    elif not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
        proposal = "".join(c if c.isascii() and c.isalnum() else "_" for c in Path(name).name).strip("_")
        fix = f"Write for example {proposal!r}." if proposal.isidentifier() and not keyword.iskeyword(proposal) else ""
        expected = "letters, digits and '_', not starting with a digit, and no keyword of Python"
        mistakes.append(Mistake("new", repr(name), expected, fix))
    if not folder.is_dir():
        mistakes.append(
            Mistake("new", f"the folder {str(folder)!r}, which does not exist", "a folder", "Make it first.")
        )
    elif not mistakes and path.exists():
        mistakes.append(
            Mistake("new", f"{str(path)!r}, which exists", "a file that is not there yet", "Choose another name.")
        )
    elif not os.access(folder, os.W_OK):
        mistakes.append(Mistake("new", f"the folder {str(folder)!r}, which is read-only", "a folder to write in"))
    raise_all(mistakes)
    path.write_text(TEMPLATE.replace("NAME", name), encoding="utf-8")
    return path
