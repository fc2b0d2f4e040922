"""What the lowering tests share: run a function through the printed program and through JAX, and compare."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossbackend.lowering import lower, trace


def run_both(function, args, static=()):
    """Return (flat results of the program, flat results of JAX) as lists of arrays."""
    traced = trace(function, args, static=static)
    program = lower({"f": traced})
    bound = program.bind("f", **{name: args[name] for name in static})
    before = jax.tree_util.tree_map(np.array, args)
    got = bound(*(value for name, value in args.items() if name not in static))
    again = bound(*(value for name, value in args.items() if name not in static))
    for a, z in zip(jax.tree_util.tree_leaves(before), jax.tree_util.tree_leaves(args), strict=True):
        np.testing.assert_array_equal(a, z, err_msg="an argument was changed")
    with jax.enable_x64(True):
        double = jax.tree_util.tree_map(jnp.asarray, args)
        want = jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(**double)
        want = jax.tree_util.tree_map(np.asarray, want)
    assert jax.tree_util.tree_structure(got) == jax.tree_util.tree_structure(want)
    for a, z in zip(jax.tree_util.tree_leaves(got), jax.tree_util.tree_leaves(again), strict=True):
        np.testing.assert_array_equal(a, z, err_msg="the second call differs")
    return program, jax.tree_util.tree_leaves(got), jax.tree_util.tree_leaves(want)


def assert_same(function, args, static=(), rtol=1e-12):
    """Assert that the printed program gives what JAX gives: values, shapes and dtypes."""
    program, got, want = run_both(function, args, static)
    for g, w in zip(got, want, strict=True):
        assert isinstance(g, np.ndarray | np.generic), program.source
        g: Any = np.asarray(g)
        assert g.shape == w.shape, program.source
        assert g.dtype == w.dtype, program.source
        if w.dtype.kind == "f":
            scale = max(1.0, np.max(np.abs(w), initial=0.0, where=np.isfinite(w)))
            np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol * scale, err_msg=program.source)
        else:
            np.testing.assert_array_equal(g, w, err_msg=program.source)
    return program
