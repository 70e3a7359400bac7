"""Evaluating the runs of a pack: which windows are computed together, the program, and how runs share its calls.

Sizes: R slots on D devices along `run`; W windows of one run; T context. A call computes at most P chunks one after
another. A chunk has C = D U units, U on each device, which are computed together: n windows of one run.

On accelerators each device evaluates the runs in its own slots, many at once: a run of a few thousand parameters does
not fill an accelerator. On CPUs all devices share the windows of one run at a time (U = 1), because they may have
nothing else to do, and because several runs at once gain little: one after the other took 5 % more time at width 20 and
1 % at width 64 with two runs on two devices, and no more with four runs on one device.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Int32

from harness.train.accelerators import Accelerator, accelerator_of
from harness.train.interventions import evaluation_taps
from models.compute import Compute
from models.count import flops
from models.transformer import token_losses
from sweeps.shape import Shape, run_bytes, state_bytes

# The fewest tokens of a unit where several are computed at once: each needs its run's parameters, whose copying is then
# little beside multiplying them.
UNIT_TOKENS = 2048


class Layout(NamedTuple):
    """How the program takes windows.

    Attributes:
        chunks, units, windows, devices: P, U, n and D.
        slots: R / D, the slots of one device.
        shared: whether the devices share the windows of one run at a time; otherwise each evaluates its own slots.
    """

    chunks: int
    units: int
    windows: int
    devices: int
    slots: int
    shared: bool


def layout_of(shape: Shape, slots: int, mesh: Mesh) -> Layout:
    """The layout for a pack of R = `slots`; one call is enough for the largest evaluation of one run."""
    accelerator = accelerator_of(mesh.devices.flat[0])
    context, devices, shared = shape.model.context, mesh.shape["run"], accelerator is None
    together = min(shape.probe_windows, max(1, evaluation_tokens(shape, accelerator) // context))
    units = 1 if shared else min(slots // devices, max(1, together * context // UNIT_TOKENS))
    windows = -(-together // units)
    windows += -windows % mesh.shape["data"]
    of_run = -(-shape.probe_windows // windows)
    chunks = -(-of_run // (units * devices if shared else units))
    return Layout(chunks, units, windows, devices, slots // devices, shared)


def evaluation_tokens(shape: Shape, accelerator: Accelerator | None) -> int:
    """The most tokens that one device computes at once.

    On CPUs (None) they are 1,024: 8 to 10 % less time than 4,096 at widths 32 to 128. An accelerator is given a
    millisecond of work at its peak, and at least 4,096 tokens, but no more than fit into a twentieth of its memory by
    the estimate for training, which keeps more. It is a power of two, so that a little more memory changes no program.
    """
    if accelerator is None:
        return 1024
    tokens = 4096.0
    if accelerator.peak is not None:
        tokens = max(tokens, 1e-3 * accelerator.peak / flops(shape.model).forward)
    if accelerator.memory is not None:
        of_token = (run_bytes(shape) - state_bytes(shape)) / shape.turn_tokens
        tokens = max(1.0, min(tokens, accelerator.memory / 20 / of_token))
    return 1 << int(math.log2(tokens))


def evaluation_program(shape: Shape, compute: Compute, layout: Layout) -> Callable[..., Float[Array, "P U n T"]]:
    """The program of one device: (params, biases, slots [P, U], tokens [P, U, n, T+1], count) -> losses [P, U, n, T].

    They are the losses in nats of the first `count` chunks, and 0 for the others. `slots` says whose the units are, in
    numbers of the device's own slots; if devices share a run, it is the same slot of the pack everywhere.
    """

    def evaluate(
        params: nnx.State,
        biases: nnx.State,
        slots: Int[Array, "P U"],
        tokens: Int[Array, "P U n T+1"],
        count: Int[Array, ""],
    ):
        def own(slot):
            def of_leaf(leaf):
                return jax.lax.dynamic_index_in_dim(leaf, slot, keepdims=False)

            return jax.tree.map(of_leaf, (params, biases))

        def sent(slot):
            # The run's parameters are sent to all devices.
            local = slot - jax.lax.axis_index("run") * layout.slots
            inside = (local >= 0) & (local < layout.slots)

            def of_leaf(leaf):
                return jax.lax.psum(jnp.where(inside, leaf, 0), "run")

            return jax.tree.map(of_leaf, own(jnp.where(inside, local, 0)))

        def losses_of(run, windows):
            params, biases = run
            tap = evaluation_taps(shape)
            return token_losses(shape.model, params, biases, windows, training=False, compute=compute, tap=tap)[0]

        everywhere = (sent if layout.devices > 1 else own)(slots[0, 0]) if layout.shared else None

        def body(index, losses):
            units = jax.lax.dynamic_index_in_dim(tokens, index, keepdims=False)
            if layout.units == 1:  # so that no product is batched
                computed = losses_of(everywhere or own(slots[index, 0]), units[0])[None]
            else:
                computed = jax.vmap(losses_of)(jax.vmap(own)(slots[index]), units)
            return losses.at[index].set(computed)

        losses = jnp.zeros((*tokens.shape[:3], tokens.shape[3] - 1), jnp.float32)
        return jax.lax.fori_loop(0, count, body, losses)

    return evaluate


class Call(NamedTuple):
    """The arrays of one call of the program for all devices.

    Attributes:
        count: the number of chunks.
    """

    slots: Int32[np.ndarray, "P C"]
    tokens: Int32[np.ndarray, "P C n T+1"]
    count: int


# The call, the chunk and the column of each unit of a run, in the order of its windows.
Places = list[tuple[int, int, int]]


class _Unit(NamedTuple):
    """The windows of a unit, the slot of their run, and which of the run's units it is."""

    slot: int
    number: int
    tokens: Int32[np.ndarray, "n T+1"]


def deal(layout: Layout, windows: Mapping[int, Int32[np.ndarray, "W T+1"]]) -> tuple[list[Call], dict[int, Places]]:
    """Deal the windows of runs, given by slot, to calls. The last unit of a run is filled up with its first windows."""
    units = {slot: _units(layout, slot, of_run) for slot, of_run in windows.items()}
    places: dict[int, Places] = {slot: [(0, 0, 0)] * len(of_run) for slot, of_run in units.items()}
    calls: list[Call] = []
    for together in [[slot] for slot in units] if layout.shared else [list(units)]:
        columns: list[list[_Unit]] = [[] for _ in range(layout.devices)]
        for unit in (unit for slot in together for unit in units[slot]):
            device = unit.number % layout.devices if layout.shared else unit.slot // layout.slots
            columns[device].append(unit)
        most = layout.chunks * layout.units
        for first in range(0, max(map(len, columns)), most):
            calls.append(_call(layout, [column[first : first + most] for column in columns], len(calls), places))
    return calls, places


def _units(layout: Layout, slot: int, windows: Int32[np.ndarray, "W T+1"]) -> list[_Unit]:
    count = -(-len(windows) // layout.windows)
    filled = np.resize(windows, (count, layout.windows, windows.shape[1]))
    return [_Unit(slot, number, tokens) for number, tokens in enumerate(filled)]


def _call(layout: Layout, columns: list[list[_Unit]], index: int, places: Mapping[int, Places]) -> Call:
    """One call with these units of each device, entered in `places` as the call of this index."""
    some = next(iter(filter(None, columns)))[0]
    width = layout.devices * layout.units
    slots = np.full((layout.chunks, width), some.slot if layout.shared else 0, np.int32)
    tokens = np.zeros((layout.chunks, width, *some.tokens.shape), np.int32)
    for device, units in enumerate(columns):
        for position, unit in enumerate(units):
            chunk, column = position // layout.units, device * layout.units + position % layout.units
            tokens[chunk, column] = unit.tokens
            slots[chunk, column] = unit.slot if layout.shared else unit.slot % layout.slots
            places[unit.slot][unit.number] = index, chunk, column
    return Call(slots, tokens, -(-max(map(len, columns)) // layout.units))


@dataclasses.dataclass(frozen=True)
class PackLosses:
    """The losses of several runs, which the devices may still compute.

    Attributes:
        calls: the losses [P, C, n, T] of each call.
        places: where those of a slot are, see `deal`.
        windows: slot -> the number of its windows.
    """

    calls: Sequence[Any]
    places: Mapping[int, Places]
    windows: Mapping[int, int]

    def of(self, slot: int) -> Float[np.ndarray, "W T"]:
        """The losses of the windows of the run in a slot, in their order, in nats."""
        units = [np.asarray(self.calls[call])[chunk, column] for call, chunk, column in self.places[slot]]
        return np.concatenate(units)[: self.windows[slot]]
