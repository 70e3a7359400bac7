"""Replicas: several copies of a model train on parts of each batch, and are averaged only once in many steps (DiLoCo).

Charles et al. 2025 (arXiv 2503.09799) fit its scaling laws. The step of the outer optimizer is along the difference of
the parameters at the last average and the mean of the replicas, with Nesterov's momentum (Douillard et al. 2023, arXiv
2311.08105).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Interval

from models.intervention import Intervention, Moment

if TYPE_CHECKING:
    from jaxtyping import Array, Int, Key


@dataclass(frozen=True)
class Replicas:
    """The fields.

    Attributes:
        count: the number of replicas; 0 is training as usual, and 1 one replica with the outer optimizer.
        every: steps from one average to the next; there is one after the last step, too.
        lr: the outer learning rate.
        momentum: of the outer optimizer.
    """

    count: Annotated[int, Ge(0)] = 0
    every: Annotated[int, Ge(1)] = 30
    lr: Annotated[float, Interval(ge=0)] = 0.7
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9


def _begin(fields: Replicas, state: Any, key: Key[Array, ""]) -> Any:
    """(The states of the replicas along a leading axis, the momentum of the outer optimizer)."""
    import jax
    import jax.numpy as jnp

    replicas = jax.tree.map(lambda leaf: jnp.stack([leaf] * fields.count), state)
    return replicas, jax.tree.map(jnp.zeros_like, state.params)


def _around(
    fields: Replicas, own: Any, state: Any, tokens: Int[Array, "m T+1"], moment: Moment, turn: Callable
) -> tuple[Any, Any, Any]:
    import jax
    import jax.numpy as jnp

    before, velocity = own
    replicas, metrics = jax.vmap(turn)(before, tokens.reshape(fields.count, -1, tokens.shape[-1]))
    step = replicas.step[0]
    due = (step != moment.step) & ((step % fields.every == 0) | (step == moment.steps))
    mean, biases = (jax.tree.map(lambda leaf: leaf.mean(0), tree) for tree in (replicas.params, replicas.biases))
    moved = jax.tree.map(jnp.subtract, state.params, mean)
    faster = jax.tree.map(lambda old, new: fields.momentum * old + new, velocity, moved)

    def outer(mean: Array, moved: Array, faster: Array) -> Array:
        # Written from the mean, so that one replica, averaged each step without momentum, is training as usual.
        return mean + (moved - fields.lr * (moved + fields.momentum * faster))

    def where_due(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda new, old: jnp.where(due, new, old), new, old)

    params = where_due(jax.tree.map(outer, mean, moved, faster), state.params)
    shared = jax.tree.map(lambda leaf: jnp.stack([leaf] * fields.count), params)
    replicas = replicas._replace(params=where_due(shared, replicas.params))
    moments = jax.tree.map(lambda leaf: leaf[0], replicas.moments)  # those of the first one, to be kept at the end
    alive = replicas.alive.all()
    state = state._replace(params=params, biases=biases, moments=moments, step=step, alive=alive)
    return state, (replicas, where_due(faster, velocity)), jax.tree.map(lambda leaf: leaf.mean(0), metrics)


REPLICAS = Intervention(
    Replicas,
    begin=_begin,
    around=_around,
    parts=lambda fields: max(1, fields.count),
    copies=lambda fields: 1.0 + 4.0 * fields.count,
    cost=lambda _: 0.13,
)
