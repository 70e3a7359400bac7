"""A pack on its devices: which run is in which slot, what was dispatched, and the runs that enter."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int32

from harness.record.heartbeat import Spending
from harness.record.segments import drop_segments_beyond
from harness.record.status import run_folder
from harness.train import hosts
from harness.train.checkpoint import PackCheckpoints
from harness.train.clock import Clock
from harness.train.feed import Feed
from harness.train.optimizer import Hyper, stack_hyper
from harness.train.programs import Programs, evaluation_chunks
from harness.train.slot import Slot
from harness.train.step import TrainState
from sweeps.config import RunConfig
from sweeps.packs import Pack


@dataclasses.dataclass(frozen=True)
class Session:
    """What all packs of one process share.

    Attributes:
        out: the sweep's folder.
        cache: of prepared data; None for the user's.
        save_seconds: between two checkpoints of a pack.
        should_stop: asked between dispatches; when true the pack is checkpointed and left.
        fail_fast: stop likewise when a run of the pack fails or diverges.
        spent: where the time goes, kept up to date.
        beat: called every REPORT_SECONDS with the slots that train.
    """

    out: Path
    cache: Path | None
    save_seconds: float
    should_stop: Callable[[], bool]
    fail_fast: bool
    spent: Spending
    beat: Callable[[list[Slot]], None]


# A run, the step it was evaluated at, losses [P, n, T] and the seconds it took.
Evaluation = tuple[Slot, int, jax.Array, "concurrent.futures.Future[float]"]


@dataclasses.dataclass
class Dispatch:
    """What was given to the device, and is recorded when it comes back.

    Attributes:
        ran: the slot's run by place, with its first turn; all took `turns`.
        metrics: by name, [k, R].
        evaluations: of the runs that were evaluated before or after these turns.
        finals: by run id, the parameters of the runs that keep them.
    """

    turns: int
    ran: dict[int, tuple[Slot, int]]
    metrics: Any
    seconds: "concurrent.futures.Future[float]"
    evaluations: list[Evaluation]
    finals: dict[str, Any]


@dataclasses.dataclass
class Training:
    """A pack that trains.

    Attributes:
        slots: by place; None where no run is.
        among: the processes that train it.
        checkpoints: in the first of them.
        waiting: runs with their data that have no slot yet, with their state if they were interrupted.
    """

    pack: Pack
    session: Session
    programs: Programs
    waiting: Iterator[tuple[RunConfig, Feed]]
    saved: dict[str, tuple[int, list[np.ndarray]]]
    checkpoints: PackCheckpoints | None
    state: TrainState
    slots: list[Slot | None]
    clock: Clock
    compile_seconds: float
    among: tuple[int, ...]
    exhausted: bool = False
    hyper: Hyper | None = None

    def live(self) -> list[Slot]:
        """The runs in the slots."""
        return [slot for slot in self.slots if slot is not None]


def enter(training: Training) -> list[Evaluation]:
    """Runs that wait take the free slots; evaluations of those that begin."""
    free = [place for place, slot in enumerate(training.slots) if slot is None]
    entered: list[int] = []
    for place in free:
        if training.exhausted:
            break
        following = next(training.waiting, None)
        if following is None:
            training.exhausted = True
            break
        run, feed = following
        turn, _ = training.saved.get(run.run_id, (0, []))
        folder = run_folder(training.session.out, run.run_id)
        slot = Slot(feed, folder, training.pack.shape, turn)
        if hosts.leads():
            # Before the first step's end there is nothing to keep: the evaluation of step 0 is done again.
            drop_segments_beyond(folder, slot.step or -1)
            slot.report()
        training.slots[place] = slot
        entered.append(place)
    if entered:
        _place(training, entered)
        idle = next(slot for slot in training.slots if slot is not None).hyper()
        # An empty slot has no steps to run: its state never changes.
        idle = idle._replace(steps=np.int32(0))
        stacked = stack_hyper([idle if slot is None else slot.hyper() for slot in training.slots])
        by_run = training.programs.shardings.runs
        training.hyper = Hyper._make(hosts.put(column, by_run) for column in stacked)
        training.session.beat(training.live())
    return [_evaluation(training, place) for place in entered if _slot(training, place).due()]


def _slot(training: Training, place: int) -> Slot:
    slot = training.slots[place]
    assert slot is not None
    return slot


def _place(training: Training, places: list[int]) -> None:
    """Put the states of the runs that entered into the pack's."""
    compiled, size = training.programs, training.pack.slots
    by_run = compiled.shardings.runs
    seeds, fresh, restored = np.zeros(size, np.uint32), np.zeros(size, bool), np.zeros(size, bool)
    saved: dict[int, list[np.ndarray]] = {}
    for place in places:
        config = _slot(training, place).config
        seeds[place] = config.seed
        found = training.saved.pop(config.run_id, None)
        fresh[place], restored[place] = found is None, found is not None
        if found is not None:
            saved[place] = found[1]
    if fresh.any():
        entering = compiled.initialise(hosts.put(seeds, by_run))
        training.state = compiled.enter(training.state, entering, hosts.put(fresh, by_run))
    if saved:
        leaves, structure = jax.tree.flatten(training.state)
        arrays = [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
        for place, mine in saved.items():
            for array, leaf in zip(arrays, mine, strict=True):
                array[place] = leaf
        placed = [hosts.put(array, leaf.sharding) for array, leaf in zip(arrays, leaves, strict=True)]
        entering = jax.tree.unflatten(structure, placed)
        training.state = compiled.enter(training.state, entering, hosts.put(restored, by_run))


def _evaluation(training: Training, place: int) -> Evaluation:
    slot, state, laid = _slot(training, place), training.state, training.programs.shardings
    where, windows = hosts.put(np.int32(place), laid.replicated), hosts.put(_chunks(training, slot.feed), laid.windows)
    losses = training.programs.evaluate(state.params, state.biases, where, windows)
    return slot, slot.pending_evaluations.pop(0), losses, training.clock.time(losses)


def _chunks(training: Training, feed: Feed) -> Int32[np.ndarray, "P n T+1"]:
    """The windows of all probes in chunks, the last one filled up with the first windows."""
    chunks, rows = evaluation_chunks(training.pack.shape, training.programs.mesh)
    return np.resize(feed.probe_tokens, (chunks, rows, feed.probe_tokens.shape[-1]))


def dispatch(training: Training, evaluations: list[Evaluation]) -> Dispatch:
    """Give the device its next turns: as many for every slot, up to the first evaluation that is due in any of them."""
    compiled, shape = training.programs, training.pack.shape
    live = {place: slot for place, slot in enumerate(training.slots) if slot is not None}
    turns = min(compiled.turns, *(slot.room() for slot in live.values()))
    tokens = np.zeros((compiled.turns, training.pack.slots, shape.micro_batch, shape.model.context + 1), np.int32)
    for place, slot in live.items():
        tokens[:turns, place] = slot.feed.turns(slot.turn, slot.turn + turns, shape.micro_batch)
    laid = compiled.shardings
    fed, count = hosts.put(tokens, laid.tokens), hosts.put(np.int32(turns), laid.replicated)
    training.state, metrics = compiled.advance(training.state, training.hyper, fed, count)
    ran = {place: (slot, slot.turn) for place, slot in live.items()}
    given = Dispatch(turns, ran, metrics, training.clock.time(metrics), evaluations, {})
    for place, slot in live.items():
        slot.turn += turns
        if slot.due():
            given.evaluations.append(_evaluation(training, place))
        if not slot.pending_evaluations:
            if slot.config.keep == "final":
                given.finals[slot.config.run_id] = _of_slot(training.state, place)
            training.slots[place] = None
    return given


def _of_slot(state: TrainState, place: int) -> Any:
    """Parameters and selection biases of the run in a slot; those of several processes' devices as numpy copies."""
    params = (state.params, state.biases) if hosts.alone() else hosts.fetch((state.params, state.biases))
    return jax.tree.map(lambda leaf: leaf[place], params)
