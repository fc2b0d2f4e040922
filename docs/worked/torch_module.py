"""A neural ODE out of a torch `nn.Module`: it runs on torchdiffeq, and on SciPy by torch."""

import numpy as np
import torch

from crossbackend import Problem, adapt, ops


class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))

    def forward(self, t, y):  # or forward(y)
        return self.net(torch.cat([y, t.expand(y.shape[0], 1)], dim=1))


def loss(ys, params, data):
    xp = ops.namespace(ys)
    return xp.mean((ys[-1, ...] - data["target"]) ** 2)


torch.manual_seed(0)
field, params = adapt.torch(Field())
rng = np.random.default_rng(0)

problem = Problem(
    name="torch_module",
    vector_field=field,
    loss=loss,
    params=params,  # {"net": {"0": {"bias": ..., "weight": ...}, "2": ...}}
    initial=rng.normal(size=(4, 2)),
    ts=[0.0, 1.0],
    data={"target": rng.normal(size=(4, 2))},
)
