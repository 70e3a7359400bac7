"""Moving rows to experts and back: where each assignment goes, and gathers whose gradients are gathers.

Sizes: n rows, J assignments a row, S slots. A slot is one row of one expert's input; a dropped or absent assignment has
slot S (one past the last), an empty slot has assignment n J.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Route(NamedTuple):
    """A routing of n rows into blocks of slots.

    Attributes:
        slot: the slot of each assignment, S where it is dropped or absent.
        assignment: the assignment (row J + j) each slot serves, n J where it is empty.
        block_expert: the expert of each block of S / blocks consecutive slots.
        load: assignments wanted by each expert, before drops.
        dropped: share of the wanted assignments that found no slot.
    """

    slot: Int[Array, "n J"]
    assignment: Int[Array, " S"]
    block_expert: Int[Array, " blocks"]
    load: Float[Array, " experts"]
    dropped: Float[Array, ""]


@jax.custom_vjp
def gather_rows(
    x: Float[Array, "n width"], index: Int[Array, " m"], inverse: Int[Array, "n j"]
) -> Float[Array, "m width"]:
    """Rows of x by index, zero where index is n. `inverse[i]` lists the outputs that row i feeds (m where none).

    The gradient is gathered through `inverse` as well: a scatter-add of 2,048 rows takes XLA on CPU one thread.
    """
    return _padded(x)[index]


def _padded(x: Float[Array, "n width"]) -> Float[Array, "n+1 width"]:
    return jnp.concatenate([x, jnp.zeros((1, x.shape[1]), x.dtype)])


def _gather_forward(x, index, inverse):
    return gather_rows(x, index, inverse), inverse


def _gather_backward(inverse, cotangent):
    return _padded(cotangent)[inverse].sum(1), None, None


gather_rows.defvjp(_gather_forward, _gather_backward)


def priority_positions(wanted: Bool[Array, "n J experts"], batch: int) -> Int[Array, "n J experts"]:
    """How many earlier assignments want the same expert. Earlier means an earlier position in the window, whichever
    the sequence: what a token is given never depends on later positions, of its own sequence or of another.

    Args:
        wanted: rows in (sequence, position) order.
        batch: sequences.
    """
    rows, choices, experts = wanted.shape
    time = rows // batch
    ordered = wanted.reshape(batch, time, choices, experts).swapaxes(0, 1).reshape(rows * choices, experts)
    before = jnp.cumsum(ordered.astype(jnp.int32), axis=0) - ordered.astype(jnp.int32)
    return before.reshape(time, batch, choices, experts).swapaxes(0, 1).reshape(rows, choices, experts)


def route(wanted: Bool[Array, "n J experts"], batch: int, capacity: int | None, block: int) -> Route:
    """Give every wanted assignment a slot.

    Args:
        wanted: at most one expert an assignment.
        batch: sequences; see `priority_positions`.
        capacity: slots of each expert; later assignments beyond it are dropped. None drops nothing: each expert's
            rows are rounded up to whole blocks.
        block: rows of a block, where nothing is dropped; with a capacity an expert's rows are one block.
    """
    rows, choices, experts = wanted.shape
    load = wanted.sum((0, 1))
    position = jnp.where(wanted, priority_positions(wanted, batch), 0).sum(-1)
    present = wanted.any(-1)
    expert = jnp.argmax(wanted, axis=-1)
    if capacity is not None:
        slots, blocks = experts * capacity, experts
        present = present & (position < capacity)
        start = jnp.arange(experts, dtype=jnp.int32) * capacity
        block_expert = jnp.arange(experts, dtype=jnp.int32)
    else:
        blocks = math.ceil((rows * choices + experts * (block - 1)) / block)
        slots = blocks * block
        ends = jnp.cumsum((load + block - 1) // block)
        start = ((ends - (load + block - 1) // block) * block).astype(jnp.int32)
        block_expert = jnp.searchsorted(ends, jnp.arange(blocks), side="right").clip(0, experts - 1)
    slot = jnp.where(present, start[expert] + position, slots)
    assignments = jnp.arange(rows * choices, dtype=jnp.int32)
    taken = jnp.full(slots + 1, rows * choices, jnp.int32).at[slot.reshape(-1)].set(assignments)
    served = present.sum().astype(jnp.float32)
    total = load.sum().astype(jnp.float32)
    dropped = (total - served) / jnp.maximum(total, 1.0)
    return Route(slot, taken[:slots], block_expert, load.astype(jnp.float32), dropped)


def to_slots(x: Float[Array, "n width"], routing: Route) -> Float[Array, "blocks rows width"]:
    """The rows of x in their slots, grouped in blocks of one expert each."""
    row = routing.assignment // routing.slot.shape[1]
    blocks = routing.block_expert.shape[0]
    return gather_rows(x, row, routing.slot).reshape(blocks, -1, x.shape[1])


def from_slots(
    y: Float[Array, "blocks rows width"], gates: Float[Array, "n J"], routing: Route
) -> Float[Array, "n width"]:
    """Each row's sum over its assignments, weighted by the gates; a dropped assignment adds nothing."""
    rows, choices = routing.slot.shape
    flat = y.reshape(-1, y.shape[-1])
    parts = gather_rows(flat, routing.slot.reshape(-1), routing.assignment[:, None]).reshape(rows, choices, -1)
    return (parts * gates.astype(parts.dtype)[:, :, None]).sum(1)
