"""Moves rows to the experts that they are assigned to, and the experts' outputs back.

Sizes: n rows, J assignments per row, S slots. A slot is one row of one expert's input. An assignment that is dropped or
absent has the slot number S (one past the last); an empty slot has the assignment number n J.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.cpu.row_ops import gather_rows


class Route(NamedTuple):
    """Which slot serves which assignment. Consecutive slots form blocks of equal size; each block has one expert.

    Attributes:
        slot: the slot of each assignment; S if the assignment is dropped or absent.
        assignment: the assignment (numbered row J + j) that each slot serves; n J if the slot is empty.
        block_expert: the expert of each block.
        load: number of assignments that want each expert, before any is dropped.
        dropped: share of these assignments that have no slot.
    """

    slot: Int[Array, "n J"]
    assignment: Int[Array, " S"]
    block_expert: Int[Array, " blocks"]
    load: Float[Array, " experts"]
    dropped: Float[Array, ""]


def priority_positions(wanted: Bool[Array, "n J experts"], batch: int) -> Int[Array, "n J experts"]:
    """For each assignment the number of earlier ones that want the same expert; rows are ordered (sequence, position).

    Earlier means at an earlier position in the window, in any of the `batch` sequences. So no token depends on later
    positions of its own or another sequence.
    """
    rows, choices, experts = wanted.shape
    time = rows // batch
    ordered = wanted.reshape(batch, time, choices, experts).swapaxes(0, 1).reshape(rows * choices, experts)
    before = jnp.cumsum(ordered.astype(jnp.int32), axis=0) - ordered.astype(jnp.int32)
    return before.reshape(time, batch, choices, experts).swapaxes(0, 1).reshape(rows, choices, experts)


def block_rows(mean_load: float, looped: bool) -> int:
    """The number of rows per block if no token is dropped: a quarter of an expert's mean load, or less if looped.

    An expert's last block is half empty on average, so that about an eighth of the work is wasted. The loop takes an
    eighth of the load, but at least 32 rows if a quarter has as many. A step of top2 with 4 layers of 128 x 256 took
    117 ms with blocks of 32 rows and 122 with 64; a step with 64 small experts took 126 ms with 16 and 124 with 32.
    """
    quarter = max(8, 8 * round(mean_load / 32))
    return max(min(32, quarter), 8 * round(mean_load / 64)) if looped else quarter


def route(wanted: Bool[Array, "n J experts"], batch: int, capacity: int | None, block: int) -> Route:
    """Give every assignment a slot; `wanted` marks at most one expert per assignment.

    With a capacity, each expert has one block of that many slots, and assignments that come when it is full drop out.
    Without a capacity nothing is dropped: each expert's rows are rounded up to whole blocks of `block` rows.
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
    assignment = jnp.full(slots + 1, rows * choices, jnp.int32).at[slot.reshape(-1)].set(assignments)
    served = present.sum().astype(jnp.float32)
    total = load.sum().astype(jnp.float32)
    dropped = (total - served) / jnp.maximum(total, 1.0)
    return Route(slot, assignment[:slots], block_expert, load.astype(jnp.float32), dropped)


def to_slots(x: Float[Array, "n width"], routing: Route) -> Float[Array, "blocks rows width"]:
    """Copy the rows of x into their slots, grouped in blocks of one expert each."""
    row = routing.assignment // routing.slot.shape[1]
    blocks = routing.block_expert.shape[0]
    return gather_rows(x, row, routing.slot).reshape(blocks, -1, x.shape[1])


def from_slots(
    y: Float[Array, "blocks rows width"], gates: Float[Array, "n J"], routing: Route
) -> Float[Array, "n width"]:
    """For each row the gate-weighted sum of its experts' outputs; a dropped assignment adds nothing."""
    rows, choices = routing.slot.shape
    flat = y.reshape(-1, y.shape[-1])
    served = gather_rows(flat, routing.slot.reshape(-1), routing.assignment[:, None]).reshape(rows, choices, -1)
    return (served * gates.astype(served.dtype)[:, :, None]).sum(1)
