"""A pack on its devices: the state of all slots, and the compiled programs that change it."""

import concurrent.futures
import functools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int32

from harness.train.evaluation import PackLosses, deal
from harness.train.hosts import all_hosts, fetch, host_count, put
from harness.train.interventions import LAST
from harness.train.optimizer import Hyper, hyper_like, stack_hyper
from harness.train.programs import Key, Programs, mesh_for
from harness.train.step import Metrics, TrainState, begin_again
from models.compute import compute_for
from sweeps.packs import Pack
from sweeps.shape import parts_of, run_bytes

# A future of the seconds that the devices spend on a program; it is done when the program has ended.
Timing = concurrent.futures.Future[float]


def key_of(pack: Pack) -> Key:
    """The key of the programs that train a pack on the devices of all hosts. A run that is too large for one device is
    split over the devices along `data`, with its parameters and moments."""
    mesh = mesh_for(pack.slots, pack.shape.micro_batch // parts_of(pack.shape.interventions))
    sharded = mesh.shape["data"] > 1 and run_bytes(pack.shape) > _device_bytes()
    return Key(pack.shape, pack.slots, compute_for(jax.default_backend()), mesh, sharded)


@functools.cache
def _device_bytes() -> float:
    """The memory of the smallest device of any host; all hosts call this together and get the same answer."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]  # other hosts' devices do not tell theirs
    smallest = min(known.get("bytes_limit", math.inf) for known in stats)
    return min(all_hosts().gather("memory", smallest))


class _Clock:
    """Times programs that run one after another on the devices while the host does something else.

    A thread waits for each result, because the host may look at a result long after it was computed.
    """

    def __init__(self) -> None:
        self._waiting = concurrent.futures.ThreadPoolExecutor(1, "isogap-clock")
        self._last = time.monotonic()

    def time(self, result: Any) -> Timing:
        """A future of the seconds that the devices spend on the program just dispatched, from when it can begin."""
        return self._waiting.submit(self._wait, result, time.monotonic())

    def _wait(self, result: Any, dispatched: float) -> float:
        jax.block_until_ready(result)
        began = max(dispatched, self._last)
        self._last = time.monotonic()
        return self._last - began

    def close(self) -> None:
        """End the thread."""
        self._waiting.shutdown(wait=False)


class DevicePack:
    """The state of a pack. Programs run one after another on the devices while the host goes on: a method returns JAX
    arrays that are computed later, and futures of the seconds that this takes.

    Several hosts that share the devices call the same methods in the same order.
    """

    def __init__(self, pack: Pack, programs: Programs):
        self._pack, self._programs, self._clock = pack, programs, _Clock()
        like = hyper_like(pack.slots, pack.shape.interventions)
        self._hyper: Hyper = self._by_run(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like))
        self._state: TrainState = programs.initialise(self._hyper)
        self._views: dict[str, Any] = {}
        self._begin_again: Callable[..., TrainState] | None = None

    @property
    def most_turns(self) -> int:
        """The largest number of turns (micro-batches per run) that one dispatch can train."""
        return self._programs.turns

    def enter(
        self,
        begun: Collection[int],
        starts: Mapping[int, tuple[list[np.ndarray], bool]],
        saved: Mapping[int, list[np.ndarray]],
        hypers: Sequence[Hyper | None],
    ) -> None:
        """Put runs into slots.

        Args:
            begun: the slots of the runs that begin.
            starts: by slot, what runs that begin start from: leaves as `kept` returns them, and whether those of the
                optimizer are wanted.
            saved: the leaves of the runs that resume from a checkpoint, by slot.
            hypers: the optimizer's numbers for all slots; None for slots that stay empty.
        """
        # An empty slot gets 0 steps, so that its state never changes.
        idle = next(filter(None, hypers))._replace(steps=np.int32(0))
        self._hyper = self._by_run(stack_hyper([hyper or idle for hyper in hypers]))
        if begun:
            entering = self._programs.initialise(self._hyper)
            self._replace(self._started(entering, starts) if starts else entering, begun)
        if saved:
            leaves, structure = jax.tree.flatten(self._state)
            arrays = [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
            for place, run_leaves in saved.items():
                for array, leaf in zip(arrays, run_leaves, strict=True):
                    array[place] = leaf
            placed = [put(array, leaf.sharding) for array, leaf in zip(arrays, leaves, strict=True)]
            self._replace(jax.tree.unflatten(structure, placed), saved)

    def _started(self, state: TrainState, starts: Mapping[int, tuple[list[np.ndarray], bool]]) -> TrainState:
        """The first state of runs, with what some of them start from."""
        laid = jax.tree.map(lambda leaf: leaf.sharding, state)
        leaves, structure = jax.tree.flatten((state.params, state.biases, state.moments))
        arrays = [np.array(leaf) for leaf in jax.tree.leaves(fetch((state.params, state.biases, state.moments)))]
        without_moments = len(jax.tree.leaves((state.params, state.biases)))
        for place, (start, carried) in starts.items():
            wanted = len(arrays) if carried else without_moments
            for array, leaf in zip(arrays[:wanted], start if carried else start[:wanted], strict=True):
                array[place] = leaf
        placed = [put(array, leaf.sharding) for array, leaf in zip(arrays, leaves, strict=True)]
        params, biases, moments = jax.tree.unflatten(structure, placed)
        state = state._replace(params=params, biases=biases, moments=moments)
        if self._pack.shape.interventions:  # their states may depend on the first parameters
            if self._begin_again is None:
                again = jax.vmap(functools.partial(begin_again, self._pack.shape))
                self._begin_again = jax.jit(again, out_shardings=laid)
            state = self._begin_again(self._hyper, state)
        return state

    def _by_run(self, tree: Any) -> Any:
        """Arrays with a leading axis of slots on the devices of their slots."""
        return jax.tree.map(lambda leaf: put(leaf, self._programs.shardings.runs), tree)

    def _replace(self, entering: TrainState, places: Collection[int]) -> None:
        mask = np.zeros(self._pack.slots, bool)
        mask[list(places)] = True
        self._state = self._programs.enter(self._state, entering, self._by_run(mask))
        self._views = {}

    def advance(self, turns: int, tokens: Mapping[int, Int32[np.ndarray, "turns m T+1"]]) -> tuple[Metrics, Timing]:
        """Train all slots for some turns on `tokens`, the micro-batches by slot. Of the metrics [k, R] only the first
        `turns` rows count."""
        shape, laid = self._pack.shape, self._programs.shardings
        size = (self.most_turns, self._pack.slots, shape.micro_batch, shape.model.context + 1)
        batches = np.zeros(size, np.int32)
        for place, windows in tokens.items():
            batches[:turns, place] = windows
        count = put(np.int32(turns), laid.replicated)
        self._state, metrics = self._programs.advance(self._state, self._hyper, put(batches, laid.tokens), count)
        self._views = {}
        return metrics, self._clock.time(metrics)

    def evaluate(
        self, windows: Mapping[int, Int32[np.ndarray, "W T+1"]], view: str = LAST
    ) -> tuple[PackLosses, list[Timing]]:
        """The losses of windows, given by slot, under the parameters of the run in that slot.

        Args:
            view: which of its parameters, one of `harness.train.interventions.view_names`.
        """
        laid, losses, timings = self._programs.shardings, [], []
        if not self._views:
            state, make = self._state, self._programs.views
            self._views = make(state.params, state.own, self._hyper) if make else {LAST: state.params}
        params = self._views[view]
        calls, places = deal(self._programs.layout, windows)
        for call in calls:
            slots, tokens = put(call.slots, laid.units), put(call.tokens, laid.tokens)
            count = put(np.int32(call.count), laid.replicated)
            losses.append(self._programs.evaluate(params, self._state.biases, slots, tokens, count))
            timings.append(self._clock.time(losses[-1]))
        return PackLosses(losses, places, {slot: len(of_run) for slot, of_run in windows.items()}), timings

    def kept(self, place: int, with_moments: bool = False) -> Any:
        """Parameters and selection biases of the run in a slot, and perhaps the optimizer's state; numpy copies if
        several hosts hold them."""
        tree = self._state.params, self._state.biases, *([self._state.moments] if with_moments else [])
        return jax.tree.map(lambda leaf: in_slot(leaf, place), tree if host_count() == 1 else fetch(tree))

    def fetch(self) -> TrainState:
        """The whole state as numpy copies."""
        return fetch(self._state)

    def close(self) -> None:
        """End the thread that times programs."""
        self._clock.close()


def in_slot(leaf: Float[jax.Array, "R ..."] | Float[np.ndarray, "R ..."], place: int) -> Any:
    """The part of a leaf that belongs to a slot, taken on the device that holds the slot.

    Indexing an array whose slots lie on two devices is a program with an all-reduce for each leaf. On a busy machine of
    two cores two CPU devices, with a training step in flight, waited for each other in it until XLA aborted the process
    after 40 s (jax 0.10; within two minutes in a loop, against 3,380 rounds without a fault this way).
    """
    for shard in getattr(leaf, "addressable_shards", ()):
        slots = range(*shard.index[0].indices(leaf.shape[0]))
        if place in slots and shard.data.shape[1:] == leaf.shape[1:]:
            return shard.data[place - slots.start]
    return leaf[place]
