"""Compiled programs of the fits: in float64, on the CPU, with little optimisation, since compiling takes longest."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Compute in float64 on the CPU inside the block, whatever the process uses otherwise."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        yield


@functools.cache
def _compiler_options() -> dict[str, Any]:
    """Options without XLA's fusion emitters: a fit's program compiles in 1.0 s instead of 3.3 s and runs as fast.

    The option is XLA's and not part of JAX's interface; a version that does not know it compiles with its defaults.
    """
    options = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


CHUNK = 32  # points that a compiled program takes at once; other numbers of points would each compile it again


def in_chunks(function: Callable, points: np.ndarray) -> Any:
    """`function` of many points (one per row), `CHUNK` at a time; what it returns has a row per point."""
    parts = []
    for begin in range(0, len(points), CHUNK):
        part = points[begin : begin + CHUNK]
        full = np.concatenate([part, np.repeat(part[-1:], CHUNK - len(part), axis=0)])
        parts.append(function(full))
    return jax.tree.map(lambda *values: np.concatenate(values)[: len(points)], *parts)


def program(function: Callable) -> Callable:
    """Compile `function(law, *arrays)` once per law and shapes, in float64; the results are numpy arrays."""

    @functools.cache
    def compiled() -> Callable:
        return jax.jit(function, static_argnums=0, compiler_options=_compiler_options())

    @functools.wraps(function)
    def run(law, *arrays):
        with float64():
            return jax.tree.map(np.asarray, compiled()(law, *arrays))

    return run
