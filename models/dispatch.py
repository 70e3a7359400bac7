"""Moves rows to the experts that they are assigned to, and the experts' outputs back.

Sizes: n rows, J assignments per row, S slots. A slot is one row of one expert's input. An assignment that is dropped or
absent has the slot number S (one past the last); an empty slot has the assignment number n J.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.cpu.row_ops import gather_rows, sum_rows


class Route(NamedTuple):
    """Which slot serves which assignment. Consecutive slots form blocks of equal size; each block has one expert.

    Attributes:
        slot: the slot of each assignment; S if the assignment is dropped or absent.
        assignment: the assignment (numbered row J + j) that each slot serves; n J if the slot is empty.
        block_expert: the expert of each block; E for the blocks without rows, which come last.
        load: number of assignments that want each expert, before any is dropped; of all devices that share a batch.
        dropped: share of these assignments that have no slot.
    """

    slot: Int[Array, "n J"]
    assignment: Int[Array, " S"]
    block_expert: Int[Array, " blocks"]
    load: Float[Array, " experts"]
    dropped: Float[Array, ""]


def priority_positions(
    wanted: Bool[Array, "n J experts"], batch: int, batch_axis: str | None = None
) -> Float[Array, "n J experts"]:
    """For each assignment the number of earlier ones that want the same expert; rows are ordered (sequence, position).

    Earlier means at an earlier position in the window, in any of the `batch` sequences. So no token depends on later
    positions of its own or another sequence. With `batch_axis` the sequences of the other devices count, too.
    """
    rows, choices, experts = wanted.shape
    counts = wanted.astype(jnp.float32)
    of_row = counts.sum(1).reshape(batch, -1, experts)
    at_time, earlier_devices = of_row.sum(0), 0.0
    if batch_axis is not None:
        everywhere = jax.lax.all_gather(at_time, batch_axis)
        device = jnp.arange(everywhere.shape[0])[:, None, None]
        at_time = everywhere.sum(0)
        earlier_devices = jnp.where(device < jax.lax.axis_index(batch_axis), everywhere, 0.0).sum(0)
    earlier = _sums_before(of_row) + (_sums_before(at_time) + earlier_devices)[None]
    within_row = [counts[:, :choice].sum(1) for choice in range(choices)]
    return earlier.reshape(rows, 1, experts) + jnp.stack(within_row, 1)


def _sums_before(x: Float[Array, "n *rest"]) -> Float[Array, "n *rest"]:
    """For each index of the first axis the sum over all smaller ones; exact for whole numbers below 2^24."""
    return jnp.cumsum(x, axis=0) - x


def block_rows(mean_load: float, looped: bool) -> int:
    """The number of rows per block if no token is dropped: a quarter of an expert's mean load, or less if looped.

    An expert's last block is half empty on average, so that about an eighth of the work is wasted. The loop takes an
    eighth of the load, but at least 32 rows if a quarter has as many. A step of top2 with 4 layers of 128 x 256 took
    117 ms with blocks of 32 rows and 122 with 64; a step with 64 small experts took 126 ms with 16 and 124 with 32.
    """
    quarter = max(8, 8 * round(mean_load / 32))
    return max(min(32, quarter), 8 * round(mean_load / 64)) if looped else quarter


def route(
    wanted: Bool[Array, "n J experts"], batch: int, capacity: int | None, block: int, batch_axis: str | None = None
) -> Route:
    """Give every assignment a slot; `wanted` marks at most one expert per assignment.

    Each expert's rows are rounded up to whole blocks of `block` rows. With a capacity, assignments that come when their
    expert has so many drop out; a `block` of the capacity or more gives each expert one block of that many slots. With
    `batch_axis` the capacity is that of an expert for the rows of all devices, each of which routes its own.
    """
    rows, choices, experts = wanted.shape

    def of_wanted(values):
        return jnp.where(wanted, values, 0.0).sum(-1)

    expert = of_wanted(jnp.arange(experts, dtype=jnp.float32)[None, None]).astype(jnp.int32)
    position = of_wanted(priority_positions(wanted, batch))
    present = of_wanted(1.0) > 0.0
    load = served = wanted.astype(jnp.float32).sum(1).sum(0)
    if capacity is not None:
        place = position
        if batch_axis is not None:
            place = of_wanted(priority_positions(wanted, batch, batch_axis))
        # What is dropped comes last, so that the others keep their positions.
        present = present & (place < capacity)
        served = (wanted & present[:, :, None]).astype(jnp.float32).sum(1).sum(0)
    if capacity is not None and block >= capacity:
        slots, blocks = experts * capacity, experts
        start = jnp.arange(experts, dtype=jnp.int32) * capacity
        block_expert = jnp.arange(experts, dtype=jnp.int32)
    else:
        blocks = math.ceil((rows * choices + experts * (block - 1)) / block)
        if capacity is not None:
            blocks = min(blocks, experts * math.ceil(capacity / block))
        slots = blocks * block
        filled = (served.astype(jnp.int32) + block - 1) // block
        ends = jnp.cumsum(filled)
        start = (ends - filled) * block
        block_expert = jnp.searchsorted(ends, jnp.arange(blocks), side="right")
    slot = jnp.where(present, start[expert] + position.astype(jnp.int32), slots)
    assignments = jnp.arange(rows * choices, dtype=jnp.int32)
    assignment = jnp.full(slots + 1, rows * choices, jnp.int32).at[slot.reshape(-1)].set(assignments)
    if batch_axis is not None:
        load, served = jax.lax.psum((load, served), batch_axis)
    dropped = (load - served).sum() / jnp.maximum(load.sum(), 1.0)
    return Route(slot, assignment[:slots], block_expert, load, dropped)


def to_slots(x: Float[Array, "n width"], routing: Route) -> Float[Array, "blocks rows width"]:
    """Copy the rows of x into their slots, grouped in blocks of one expert each."""
    blocks = routing.block_expert.shape[0]
    return gather_rows(x, _row_of_slot(routing), routing.slot).reshape(blocks, -1, x.shape[1])


def from_slots(
    y: Float[Array, "blocks rows width"], gates: Float[Array, "n J"], routing: Route
) -> Float[Array, "n width"]:
    """For each row the gate-weighted sum of its experts' outputs; a dropped assignment adds nothing."""
    gate = gather_rows(gates.reshape(-1, 1), routing.assignment, routing.slot.reshape(-1, 1))
    return sum_rows(y.reshape(-1, y.shape[-1]) * gate.astype(y.dtype), _row_of_slot(routing), routing.slot)


def _row_of_slot(routing: Route) -> Int[Array, " S"]:
    return routing.assignment // routing.slot.shape[1]
