"""Packs of small networks: runs that differ in learning rate, seed and data train side by side in one program.

A pack of R runs reads S streams of data, R/S runs per stream: what is costly about a batch (the answers of a teacher)
is computed once for the runs that share it. Every leaf of the state begins with the axes S, R/S. A step is one update
of Adam, whose rate falls to zero by a cosine over the `steps` of the pack. A batch depends on (stream, step) alone, so
the result is the same to the bit however many steps a dispatch takes. A run trained beside others and the same run
trained alone differ only in the last digit of float32 (5e-7 after 512 steps): sums are taken in another order.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

ADAM = optax.scale_by_adam()
# Steps per dispatch, so many that its cost does not matter: a dispatch costs the host 0.15 ms, more than one step of
# small networks (0.09 ms).
DISPATCH = 64


@dataclass(frozen=True)
class Task:
    """What a pack learns. Each function handles a single run; a program is compiled once per task and shapes.

    Attributes:
        loss: (params, batch) -> (scalar loss, values to record, computed before the update).
        sample: (stream, step) -> batch; the same arguments give the same batch.
    """

    loss: Callable[[Any, Any], tuple[Float[Array, ""], PyTree]]
    sample: Callable[[Any, Int[Array, ""]], Any]


class NetworkState(NamedTuple):
    """The state of a pack between two steps.

    Attributes:
        params, moments: the networks and Adam's moments; their leaves begin with the axes S, R/S.
        step: number of updates so far, the same for all runs.
        alive: per run, false once a loss or a gradient was not finite; the run then stays as it was before that step.
    """

    params: PyTree
    moments: PyTree
    step: Int[Array, ""]
    alive: Bool[Array, "S runs"]


def initial_state(params: PyTree) -> NetworkState:
    """The state before the first step of the networks `params`, whose leaves begin with the axes S, R/S."""
    runs = jax.tree.leaves(params)[0].shape[:2]
    moments = jax.vmap(jax.vmap(ADAM.init))(params)
    # A dispatch reuses the memory of its state (donation); the copy leaves the caller's arrays intact.
    return NetworkState(jax.tree.map(jnp.copy, params), moments, jnp.int32(0), jnp.ones(runs, bool))


def advance(
    task: Task, count: int, state: NetworkState, streams: PyTree, peak: Float[Array, "S runs"], steps: Int[Array, ""]
) -> tuple[NetworkState, PyTree]:
    """Take `count` steps of a pack; steps beyond the pack's `steps` change nothing.

    Args:
        streams: leaves with the leading axis S.
        peak: learning rate of each run at the first step.

    Returns:
        the new state, and what `loss` recorded; its leaves begin with the axes count, S, R/S.
    """

    def step(state: NetworkState, _):
        batches = jax.vmap(task.sample, (0, None))(streams, state.step)
        rate = peak * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(state.step / steps, 1.0)))
        update = jax.vmap(jax.vmap(functools.partial(_update, task), (0, 0, 0, 0, None)))
        alive = state.alive & (state.step < steps)
        params, moments, finite, recorded = update(state.params, state.moments, alive, rate, batches)
        return NetworkState(params, moments, state.step + 1, state.alive & (finite | ~alive)), recorded

    return jax.lax.scan(step, state, length=count)


def _update(task: Task, params: PyTree, moments: PyTree, alive: Bool[Array, ""], rate: Float[Array, ""], batch: Any):
    """One step of one run, which stays as it was if it is not alive or its loss or gradient is not finite."""
    (loss, recorded), gradient = jax.value_and_grad(task.loss, has_aux=True)(params, batch)
    direction, after = ADAM.update(gradient, moments)
    finite = jnp.isfinite(loss + optax.tree.norm(gradient, squared=True))
    taken = alive & finite
    moved = jax.tree.map(lambda p, d: p - rate * d, params, direction)
    params, moments = jax.tree.map(lambda new, old: jnp.where(taken, new, old), (moved, after), (params, moments))
    return params, moments, finite, recorded


_advance = jax.jit(advance, static_argnums=(0, 1), donate_argnums=2)


def train_networks(
    task: Task, params: PyTree, streams: PyTree, peak: Float[Array, "S runs"], steps: int, *, count: int = DISPATCH
) -> tuple[NetworkState, PyTree]:
    """Train a pack for all its `steps`.

    Returns:
        the final state, and for each run the mean over the steps of what `loss` recorded.
    """
    state, total = initial_state(params), None
    for first in range(0, steps, count):
        state, recorded = _advance(task, min(count, steps - first), state, streams, peak, jnp.int32(steps))
        summed = jax.tree.map(lambda leaf: leaf.sum(axis=0), recorded)
        total = summed if total is None else jax.tree.map(jnp.add, total, summed)
    return state, jax.tree.map(lambda leaf: leaf / steps, total)
