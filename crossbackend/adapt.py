"""Fields and parameters out of models that exist: `adapt.torch(module)` and `adapt.jax(model)`.

Both return `(field, params)`: a callable `field(t, y, params, data)` for `Problem.vector_field`, and the model's
parameters as nested dicts of NumPy arrays named by path. `field.apply(params, *args)` calls the same model with other
arguments, for an encoder or a read-out. The model itself is what runs; torch and jax are imported only when needed.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossbackend.errors import Mistake, UserError, raise_all


def torch(module: Any, call: Callable[..., Any] | None = None) -> tuple[TorchField, dict[str, Any]]:
    """Return the field of an `nn.Module` and its parameters.

    Parameters
    ----------
    module : torch.nn.Module
        Its `forward` is `forward(t, y)` or `forward(y)`. It is copied, and not changed. Buffers are constants.
    call : callable, optional
        `call(module, t, y)`, where `forward` takes something else.

    Raises
    ------
    UserError
        Active dropout or batch normalisation, parameters that are not real floating tensors, a `forward` of other
        arguments.
    """
    import torch as library

    if not isinstance(module, library.nn.Module):
        raise UserError(Mistake("adapt.torch", type(module).__name__, "a torch.nn.Module"))
    raise_all([*_random_modules(module), *_odd_parameters(module)])
    names = _parameter_names(module)
    params: dict[str, Any] = {}
    for name, places in names.items():
        owner, key = places[0]
        leaf = module.get_submodule(owner)._parameters[key]
        assert leaf is not None
        _put(params, name.split("."), leaf.detach().cpu().numpy().copy())
    call = call or _torch_call(module)
    return TorchField(copy.deepcopy(module), call, names), params


class TorchField:
    """A torch module as a vector field, its parameters installed only when others are handed in.

    Installing puts the tensors straight into the modules, so that an evaluation costs what the module costs:
    `torch.func.functional_call` for every one would add a fifth.

    Attributes
    ----------
    installs : int
        How often parameters were installed.
    """

    library = "torch"

    def __init__(self, module: Any, call: Callable[..., Any], names: dict[str, list[tuple[str, str]]]) -> None:
        self.module, self.call, self.names = module, call, names
        self.installs = 0
        self._originals = self._parameters()
        self._buffers = [
            (part, name, buffer)
            for part in module.modules()
            for name, buffer in part._buffers.items()
            if buffer is not None
        ]
        self._tree: Any = None
        self._seen: list[tuple[Any, Any, Any]] = []
        self._like: tuple[Any, Any] | None = None

    def __call__(self, t: Any, y: Any, params: Any, data: Any) -> Any:
        """Return dy/dt."""
        del data
        self._use(params)
        return self.call(self.module, t, y)

    def apply(self, params: Any, *args: Any) -> Any:
        """Return `module(*args)` with these parameters."""
        self._use(params)
        return self.module(*args)

    def _use(self, params: Any) -> None:
        # The leaves too are compared by identity: a training loop may have exchanged them inside the same dicts.
        if params is self._tree and all(holder[key] is leaf for holder, key, leaf in self._seen):
            return
        seen = []
        for name in self.names:
            *path, key = name.split(".")
            holder = params
            for part in path:
                holder = holder[part]
            seen.append((holder, key, holder[key]))
        self._install([leaf for _, _, leaf in seen])
        self._tree, self._seen = params, seen
        self.installs += 1

    def _install(self, leaves: Sequence[Any]) -> None:
        for places, leaf in zip(self.names.values(), leaves, strict=True):
            for owner, key in places:
                self.module.get_submodule(owner)._parameters[key] = leaf
        for part in self.module.modules():  # nn.RNN, nn.LSTM and nn.GRU keep a list of their weights
            if hasattr(part, "_flat_weights_names"):
                part._flat_weights = [getattr(part, name) for name in part._flat_weights_names]
        like = (leaves[0].dtype, leaves[0].device) if leaves else None
        if like != self._like and like is not None:
            for part, name, buffer in self._buffers:
                dtype = like[0] if buffer.is_floating_point() else buffer.dtype
                part._buffers[name] = buffer.to(device=like[1], dtype=dtype)
            self._like = like

    def _parameters(self) -> list[Any]:
        found = (places[0] for places in self.names.values())
        return [self.module.get_submodule(owner)._parameters[key] for owner, key in found]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was installed: the module travels with its own parameters."""
        self._install(self._originals)
        self._tree, self._seen = None, []
        return self.__dict__.copy()


def _parameter_names(module: Any) -> dict[str, list[tuple[str, str]]]:
    """Return the (submodule, name) places of every parameter, by its first name: a tied one has several."""
    first: dict[int, str] = {}
    names: dict[str, list[tuple[str, str]]] = {}
    for name, leaf in module.named_parameters(remove_duplicate=False):
        owner, _, key = name.rpartition(".")
        names.setdefault(first.setdefault(id(leaf), name), []).append((owner, key))
    return names


def _put(params: dict[str, Any], path: Sequence[str], leaf: np.ndarray) -> None:
    for part in path[:-1]:
        params = params.setdefault(part, {})
    params[path[-1]] = leaf


def _random_modules(module: Any) -> list[Mistake]:
    """Name the submodules whose result would change from one evaluation to the next, or with the batch."""
    from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
    from torch.nn.modules.dropout import _DropoutNd

    found = []
    for name, part in module.named_modules():
        if not part.training:
            continue
        drops = part.p if isinstance(part, _DropoutNd) else getattr(part, "dropout", 0.0)
        drops = isinstance(drops, float) and drops > 0
        norms = isinstance(part, _BatchNorm) or (isinstance(part, _NormBase) and part.track_running_stats)
        if drops or norms:
            what = f"an active {type(part).__name__}" + (f" at {name!r}" if name else "")
            fix = "Write module.eval() before adapt.torch(module), or take it out."
            expected = "a field that is the same function at every evaluation"
            found.append(Mistake("adapt.torch", what, expected, fix))
    return found


def _odd_parameters(module: Any) -> list[Mistake]:
    from torch.nn.parameter import UninitializedParameter

    found = []
    for name, leaf in module.named_parameters():
        where = f"adapt.torch, parameter {name!r}"
        if isinstance(leaf, UninitializedParameter):
            fix = "Call the module once before adapt.torch(module)."
            found.append(Mistake(where, "one that is not initialised", "a tensor of numbers", fix))
        elif not leaf.is_floating_point():
            fix = "Make it a buffer: module.register_buffer(...)."
            found.append(Mistake(where, f"dtype {leaf.dtype}", "a real floating dtype", fix))
    return found


def _torch_call(module: Any) -> Callable[..., Any]:
    required = _required(module.forward)
    if required == 1:
        return _call_y
    if required == 2 and not _time_last(module.forward):
        return _call_t_y
    raise UserError(_odd_signature("adapt.torch", f"{type(module).__name__}.forward", module.forward, "module"))


def _call_y(model: Any, t: Any, y: Any) -> Any:
    del t
    return model(y)


def _call_t_y(model: Any, t: Any, y: Any) -> Any:
    return model(t, y)


def _positional(function: Callable[..., Any]) -> list[str] | None:
    """Return the names of the positional arguments without a default, None for a function that hides them."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds and p.default is p.empty]


def _required(function: Callable[..., Any]) -> int | None:
    names = _positional(function)
    return None if names is None else len(names)


def _time_last(function: Callable[..., Any]) -> bool:
    names = _positional(function) or [""]
    return names[-1] in ("t", "time") and names[0] not in ("t", "time")


def _odd_signature(where: str, what: str, function: Callable[..., Any], argument: str) -> Mistake:
    try:
        got = f"{what}{inspect.signature(function)}"
    except (TypeError, ValueError):
        got = f"{what} of unknown arguments"
    fix = f"Say how to call it: call=lambda {argument}, t, y: {argument}(...)."
    return Mistake(where, got, "(y) or (t, y)", fix)


def jax(model: Any, call: Callable[..., Any] | None = None) -> tuple[JaxField, dict[str, Any]]:
    """Return the field of a callable pytree, such as an equinox module, and its parameters.

    Parameters
    ----------
    model : callable pytree
        Called as `model(y)`, `model(t, y)` or `model(t, y, data)`, by its signature. Its floating array leaves are the
        parameters; everything else is static.
    call : callable, optional
        `call(model, t, y)`, where it takes something else: `lambda model, t, y: jax.vmap(model)(y)` for a batch.

    Raises
    ------
    UserError
        Not a callable pytree with floating leaves, active dropout, a complex leaf, other arguments.
    """
    import jax as library

    if not callable(model):
        raise UserError(Mistake("adapt.jax", type(model).__name__, "a callable pytree, such as an equinox.Module"))
    raise_all(_active_dropout(model, library))
    pairs, structure = library.tree_util.tree_flatten_with_path(model)
    params: dict[str, Any] = {}
    static, mistakes = [], []
    for path, leaf in pairs:
        parts = [_part(key) for key in path]
        kind = np.dtype(leaf.dtype).kind if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else ""
        if kind == "c":
            where = f"adapt.jax, leaf {'/'.join(parts)!r}"
            mistakes.append(Mistake(where, f"dtype {leaf.dtype}", "a real dtype", "Split it into two real arrays."))
        is_param = bool(kind) and library.numpy.issubdtype(leaf.dtype, library.numpy.floating)
        static.append(Place(tuple(parts)) if is_param else np.asarray(leaf) if kind in ("i", "u", "b") else leaf)
        if is_param:
            # bfloat16 and its kin are no NumPy floats
            _put(params, parts, np.asarray(leaf, dtype=None if kind == "f" else np.float32).copy())
    raise_all(mistakes)
    if not params:
        expected = "a callable pytree with floating array leaves, such as an equinox.Module"
        fix = "A plain function is a vector field as it is: pass it to Problem."
        raise UserError(Mistake("adapt.jax", f"{type(model).__name__} without any", expected, fix))
    # A parameter's place is held by its name; the whole travels as a model, whose structure is found anew.
    template = library.tree_util.tree_unflatten(structure, static)
    return JaxField(template, call or _jax_call(model)), params


@dataclass(frozen=True)
class Place:
    """Where a parameter stands in `params`, in the place of that leaf of a model."""

    path: tuple[str, ...]


class JaxField:
    """A callable pytree as a vector field: put together from its parameters wherever it is traced."""

    library = "jax"

    def __init__(self, template: Any, call: Callable[..., Any]) -> None:
        import jax as library

        self.template, self.call = template, call
        self._leaves, self._structure = library.tree_util.tree_flatten(template)

    def __reduce__(self) -> tuple[type[JaxField], tuple[Any, Callable[..., Any]]]:
        """Leave out the structure: equinox's does not survive pickling."""
        return type(self), (self.template, self.call)

    def model(self, params: Any) -> Any:
        """Return the model with these parameters."""
        import jax as library

        leaves = []
        for leaf in self._leaves:
            found = leaf
            if isinstance(leaf, Place):
                found = params
                for part in leaf.path:
                    found = found[part]
            leaves.append(found)
        return library.tree_util.tree_unflatten(self._structure, leaves)

    def __call__(self, t: Any, y: Any, params: Any, data: Any) -> Any:
        """Return dy/dt."""
        model = self.model(params)
        return self.call(model, t, y, data) if self.call is _call_t_y_data else self.call(model, t, y)

    def apply(self, params: Any, *args: Any) -> Any:
        """Return `model(*args)` with these parameters."""
        return self.model(params)(*args)


def _part(key: Any) -> str:
    """Return one step of a path: an attribute's, an index, or a dict's key."""
    for attribute in ("name", "idx", "key"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _active_dropout(model: Any, library: Any) -> list[Mistake]:
    equinox = sys.modules.get("equinox")
    if equinox is None:
        return []
    kinds = equinox.nn.Dropout
    parts = library.tree_util.tree_flatten_with_path(model, is_leaf=lambda part: isinstance(part, kinds))[0]
    return [
        Mistake(
            "adapt.jax",
            f"an active Dropout at {'/'.join(map(_part, path))!r}",
            "a field that is the same function at every evaluation",
            "Write model = equinox.nn.inference_mode(model) before adapt.jax(model).",
        )
        for path, part in parts
        if isinstance(part, kinds) and not part.inference and part.p > 0
    ]


def _jax_call(model: Any) -> Callable[..., Any]:
    required = _required(model)
    calls = {1: _call_y, 2: _call_t_y, 3: _call_t_y_data}
    if required not in calls or (required > 1 and _time_last(model)):
        raise UserError(_odd_signature("adapt.jax", type(model).__name__, model, "model"))
    return calls[required]


def _call_t_y_data(model: Any, t: Any, y: Any, data: Any) -> Any:
    return model(t, y, data)
