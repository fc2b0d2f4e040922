"""Fields out of torch modules and JAX models."""

import pickle
import re
from typing import Any

import cloudpickle
import numpy as np
import pytest

from crossbackend import adapt, ops, tree
from crossbackend.errors import UserError
from crossbackend.problem import Problem
from crossbackend.trial import trial
from tests.problems.cells import compiled, outcome, worst_difference

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
eqx = pytest.importorskip("equinox")
nn = torch.nn


class Timed(nn.Module):
    """Has nested parameters, one tied, a buffer, and takes t."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.outer = nn.Linear(2, 2, bias=False)
        self.outer.weight = self.inner.weight
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, t, y):
        return self.outer(torch.tanh(self.inner(y))) * self.scale * torch.cos(t)


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Timed()


def tensors(params):
    return tree.map_leaves(lambda leaf: torch.tensor(leaf, dtype=torch.float64), params)


def mean_square(ys, params, data):
    return ops.namespace(ys).mean(ys**2)


def problem(field, params, **options):
    y0 = np.random.default_rng(0).normal(size=(3, 2))
    return Problem("adapted", field, mean_square, params, y0, [0.0, 1.0], **options)


def test_parameters_are_named_by_path_and_tied_ones_once(module):
    _, params = adapt.torch(module)
    assert list(tree.flatten(params)) == ["inner/bias", "inner/weight"]
    np.testing.assert_array_equal(params["inner"]["weight"], module.inner.weight.detach().numpy())


def test_the_field_is_the_module_in_any_precision(module):
    field, params = adapt.torch(module)
    y, t = torch.ones(3, 2, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    wanted = module.double()(t, y)
    torch.testing.assert_close(field(t, y, tensors(params), None), wanted)
    single = tree.map_leaves(lambda leaf: leaf.float(), tensors(params))
    assert field(t.float(), y.float(), single, None).dtype == torch.float32
    torch.testing.assert_close(field(t, y, tensors(params), None), wanted)


def test_the_module_given_is_not_changed(module):
    field, params = adapt.torch(module)
    before = module.inner.weight
    field(torch.tensor(0.0), torch.ones(1, 2), tree.map_leaves(lambda leaf: leaf.float(), tensors(params)), None)
    assert module.inner.weight is before
    assert module.scale.dtype == torch.float32


def test_gradients_flow_to_the_parameters_handed_in(module):
    field, params = adapt.torch(module)
    handed = tensors(params)
    leaves = [leaf.requires_grad_() for leaf in tree.values(handed)]
    y, t = torch.ones(3, 2, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    found = torch.autograd.grad(field(t, y, handed, None).sum(), leaves)
    module = module.double()
    wanted = torch.autograd.grad(module(t, y).sum(), [module.inner.bias, module.inner.weight])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_parameters_are_installed_only_when_they_change(module):
    field, params = adapt.torch(module)
    t, y, first, second = torch.tensor(0.0), torch.ones(1, 2, dtype=torch.float64), tensors(params), tensors(params)
    for _ in range(5):
        field(t, y, first, None)
    assert field.installs == 1
    field(t, y, second, None)
    assert field.installs == 2
    second["inner"]["bias"] = second["inner"]["bias"] + 1.0  # a training loop may do so
    moved = field(t, y, second, None)
    assert field.installs == 3
    assert not torch.equal(moved, field(t, y, first, None))


def test_a_solve_installs_a_handful_of_times(module):
    field, params = adapt.torch(module)
    sweep = compiled(problem(field, params), "torchdiffeq")
    before = field.installs
    assert sweep.record(1e-8, 1e-10).backward.nfe > 20
    assert field.installs - before <= 2


def test_a_torch_field_works_under_transforms(module):
    field, params = adapt.torch(module)
    t, y, handed = torch.tensor(0.3, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64), tensors(params)
    dy, pull = ops.vjp(lambda y, params: field(t, y, params, None), y, handed)
    of_y, of_params = pull(torch.ones_like(dy))
    y.requires_grad_()
    leaves = [leaf.requires_grad_() for leaf in tree.values(handed)]
    wanted = torch.autograd.grad(field(t, y, handed, None).sum(), [y, *leaves])
    for a, b in zip([of_y, *tree.values(of_params)], wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_a_recurrent_module_takes_the_parameters_handed_in():
    torch.manual_seed(0)
    encoder = nn.GRU(3, 2).double()
    field, params = adapt.torch(encoder, lambda module, t, y: y)
    x = torch.ones(5, 1, 3, dtype=torch.float64)
    torch.testing.assert_close(field.apply(tensors(params), x)[0], encoder(x)[0])
    zeros = tree.map_leaves(torch.zeros_like, tensors(params))
    assert float(field.apply(zeros, x)[0].abs().max()) == 0.0


def test_a_torch_field_survives_pickling_in_the_middle_of_its_use(module):
    field, params = adapt.torch(module)
    t, y, handed = torch.tensor(0.3, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64), tensors(params)
    wanted = ops.vjp(lambda params: field(t, y, params, None), handed)[0]
    again = pickle.loads(cloudpickle.dumps(field))
    torch.testing.assert_close(again(t, y, handed, None), wanted)
    torch.testing.assert_close(field(t, y, handed, None), wanted)


def test_a_torch_problem_runs_on_both_backends_that_run_torch(module):
    made = problem(*adapt.torch(module))
    assert made.lacks("jax") == ("vector_field",)
    assert trial(made, "torch").mistakes == []
    assert compiled(made, "diffrax") is None
    found = [outcome(made, backend, 1e-4, stepping="matched") for backend in ("torchdiffeq", "scipy:torch")]
    assert worst_difference(found) < 1e-9


def _refused(given, *words, call=None, by=adapt.torch):
    with pytest.raises(UserError, match=re.escape(words[0])) as caught:
        by(given, call)
    for part in words:
        assert part in str(caught.value)
    return caught.value.mistakes


def test_random_modules_are_refused_by_their_path():
    made = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.1), nn.BatchNorm1d(2)))
    words = "Write module.eval() before adapt.torch(module), or take it out."
    mistakes = _refused(made, "got an active Dropout at '1.0', expected", "an active BatchNorm1d at '1.1'", words)
    assert len(mistakes) == 2
    adapt.torch(made.eval())
    adapt.torch(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)))
    _refused(nn.GRU(2, 2, num_layers=2, dropout=0.5), "got an active GRU, expected a field that is the same function")


def test_odd_parameters_are_refused_together():
    made = nn.Module()
    made.a = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    made.b = nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)
    made.forward = lambda y: y
    mistakes = _refused(
        made, "adapt.torch, parameter 'a': got dtype torch.complex64", "'b': got dtype torch.int64, expected a real"
    )
    assert len(mistakes) == 2
    _refused(nn.LazyLinear(2), "parameter 'weight': got one that is not initialised", "Call the module once")


def test_a_forward_of_other_arguments_wants_a_call():
    class Reversed(nn.Module):
        def forward(self, y, t):
            return self.weight * y * t

    made = Reversed()
    made.weight = nn.Parameter(torch.ones(1))
    fix = "Say how to call it: call=lambda module, t, y: module(...)."
    _refused(made, "adapt.torch: got Reversed.forward(y, t), expected (y) or (t, y).", fix)
    field, params = adapt.torch(made, lambda module, t, y: module(y, t))
    assert float(field(torch.tensor(2.0), torch.tensor([3.0]), tensors(params), None)) == 6.0
    _refused("a string", "adapt.torch: got str, expected a torch.nn.Module.")


# JAX.


class Model(eqx.Module):
    layers: list
    shift: float
    activation: Any
    counts: Any

    def __init__(self, key):
        self.layers = [eqx.nn.Linear(2, 4, key=key), eqx.nn.Linear(4, 2, key=key)]
        self.shift, self.activation, self.counts = 0.1, jax.nn.tanh, jax.numpy.arange(2)

    def __call__(self, t, y):
        return self.layers[1](self.activation(self.layers[0](y))) * jax.numpy.cos(t) + self.shift


@pytest.fixture
def model():
    return Model(jax.random.key(0))


def batched(model, t, y):
    return jax.vmap(lambda row: model(t, row))(y)


def test_floating_leaves_are_the_parameters(model):
    _, params = adapt.jax(model)
    assert list(tree.flatten(params)) == ["layers/0/bias", "layers/0/weight", "layers/1/bias", "layers/1/weight"]
    assert all(type(leaf) is np.ndarray for leaf in tree.values(params))


def test_the_field_is_the_model(model):
    field, params = adapt.jax(model)
    y = np.array([0.3, -0.2], dtype=np.float32)
    np.testing.assert_allclose(field(0.5, y, params, None), model(0.5, y), rtol=1e-6)
    np.testing.assert_allclose(field.apply(params, 0.5, y), model(0.5, y), rtol=1e-6)


def test_the_calls_are_told_apart_by_the_signature():
    def scaled(params, *args):
        return params * args[-1]

    one, _ = adapt.jax(jax.tree_util.Partial(lambda w, y: w * y, np.ones(2)))
    assert one(None, 3.0, {"0": {"0": 2.0}}, None) == 6.0
    three, params = adapt.jax(jax.tree_util.Partial(lambda w, t, y, data: w * (y + t + data), np.ones(2)))
    np.testing.assert_array_equal(three(1.0, 2.0, params, 3.0), [6.0, 6.0])
    words = "expected (y) or (t, y). Say how to call it: call=lambda model, t, y: model(...)."
    _refused(jax.tree_util.Partial(scaled, np.ones(2)), words, by=adapt.jax)


def test_gradients_of_a_jax_field_are_the_models(model):
    field, params = adapt.jax(model)
    y = np.array([0.3, -0.2], dtype=np.float32)
    found = jax.grad(lambda params: field(0.5, y, params, None).sum())(params)
    wanted = eqx.filter_grad(lambda model: model(0.5, y).sum())(model)
    np.testing.assert_allclose(found["layers"]["0"]["weight"], wanted.layers[0].weight, rtol=1e-6)


def test_a_jax_field_survives_pickling(model):
    field, params = adapt.jax(model)
    again = pickle.loads(cloudpickle.dumps(field))
    y = np.array([0.3, -0.2], dtype=np.float32)
    np.testing.assert_array_equal(again(0.5, y, params, None), field(0.5, y, params, None))


@pytest.mark.slow
def test_a_jax_problem_runs_on_both_backends_that_run_jax(model):
    made = problem(*adapt.jax(model, batched))
    assert made.lacks("torch") == ("vector_field",)
    assert trial(made, "jax").mistakes == []
    assert compiled(made, "torchdiffeq") is None
    found = [outcome(made, backend, 1e-4, stepping="matched") for backend in ("diffrax", "scipy")]
    assert worst_difference(found) < 1e-9


def test_bad_jax_models_are_refused():
    dropping = eqx.nn.Sequential([eqx.nn.Linear(2, 2, key=jax.random.key(0)), eqx.nn.Dropout(0.5)])
    fix = "Write model = equinox.nn.inference_mode(model) before adapt.jax(model)."
    _refused(dropping, "adapt.jax: got an active Dropout at 'layers/1', expected", fix, by=adapt.jax)
    adapt.jax(eqx.nn.inference_mode(dropping))
    _refused(3, "adapt.jax: got int, expected a callable pytree", by=adapt.jax)
    _refused(lambda y: y, "got function without any, expected a callable pytree with floating array", by=adapt.jax)
    turned = jax.tree_util.Partial(lambda w, y: w * y, np.ones(2, dtype=complex))
    _refused(turned, "adapt.jax, leaf '0/0': got dtype complex128, expected a real dtype.", by=adapt.jax)
