"""Reductions over the last axis that a CPU computes several lanes at a time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Partial results a row: what a vector register of float32 holds.
LANES = 16


def row_max(x: Float[Array, "*rows n"]) -> Float[Array, "*rows 1"]:
    """The largest of each row."""
    return _in_lanes(jnp.max, x)


def row_sum(x: Float[Array, "*rows n"]) -> Float[Array, "*rows 1"]:
    """The sum of each row."""
    return _in_lanes(jnp.sum, x)


def log_sum_exp(x: Float[Array, "*rows n"]) -> Float[Array, "*rows"]:
    """log sum exp of each row; the compilers of accelerators are handed the plain formula."""

    def on_cpu(x):
        top = jax.lax.stop_gradient(row_max(x))
        return (jnp.log(row_sum(jnp.exp(x - top))) + top)[..., 0]

    return jax.lax.platform_dependent(x, cpu=on_cpu, default=lambda x: jax.nn.logsumexp(x, axis=-1))


def _in_lanes(reduce, x):
    # XLA's CPU loops keep the order of a row's additions, and so take its elements one after another: 93 of 130 ms of a
    # step were busy, 9 of them here. Reduced first over rows of LANES, each lane is a sum of its own.
    n = x.shape[-1]
    if n % LANES or n == LANES:
        return reduce(x, -1, keepdims=True)
    lanes = reduce(x.reshape(*x.shape[:-1], n // LANES, LANES), -2)
    # Without the barrier the two reductions are made one again.
    return reduce(jax.lax.optimization_barrier(lanes), -1, keepdims=True)
