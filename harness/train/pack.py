"""Training a pack: the host's loop around the compiled programs, with its records and checkpoints.

The device always has its next dispatch: what one dispatch brought is recorded while the next one runs. A run whose
last turn was dispatched leaves its slot at once, and the pack's next run takes it.

A run leaves its files in this order: segments, then the checkpoint that covers them; at its end gap.json, then its
status. Whatever the process dies between, what a resumed loop finds is consistent, and what it recomputes is the same
to the bit: batches depend on (config, turn) alone, and one compiled loop serves every number of turns.
"""

import concurrent.futures
import dataclasses
import itertools
import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int32

from harness.record.files import write_text
from harness.record.segments import drop_segments_beyond
from harness.record.status import ENDED, Status, read_status, run_folder, write_status
from harness.train import hosts
from harness.train.checkpoint import PackCheckpoints, find_states, save_final
from harness.train.clock import Clock, Spent
from harness.train.feed import Feed, open_feed
from harness.train.optimizer import Hyper, stack_hyper
from harness.train.programs import Key, Programs, compile_ahead, evaluation_pieces, mesh_for
from harness.train.slot import Slot
from harness.train.step import State
from models.transformer import compute_for
from sweeps.config import RunConfig
from sweeps.memory import run_bytes
from sweeps.packs import Pack

# Between two status.json of a run: often enough for someone who watches, rare enough to cost nothing.
REPORT_SECONDS = 2.0


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
    spent: Spent
    beat: Callable[[list[Slot]], None]


@dataclasses.dataclass
class Dispatch:
    """What was given to the device, and is recorded when it comes back.

    Attributes:
        ran: the slot's run by place, with its first turn; all took `turns`.
        metrics: by name, [k, R].
        evaluations: (run, step, losses [P, n, T], seconds) of the runs that were evaluated before or after these turns.
        finals: by run id, the parameters of the runs that keep them.
    """

    turns: int
    ran: dict[int, tuple[Slot, int]]
    metrics: Any
    seconds: "concurrent.futures.Future[float]"
    evaluations: list[tuple[Slot, int, jax.Array, "concurrent.futures.Future[float]"]]
    finals: dict[str, Any]


@dataclasses.dataclass
class Training:
    """A pack that trains.

    Attributes:
        slots: by place; None where no run is.
        waiting: runs with their data that have no slot yet, with their state if they were interrupted.
    """

    pack: Pack
    session: Session
    programs: Programs
    waiting: Iterator[tuple[RunConfig, Feed]]
    saved: dict[str, tuple[int, list[np.ndarray]]]
    checkpoints: PackCheckpoints | None
    state: State
    slots: list[Slot | None]
    clock: Clock
    compile_seconds: float
    exhausted: bool = False
    hyper: Hyper | None = None

    def live(self) -> list[Slot]:
        """The runs in the slots."""
        return [slot for slot in self.slots if slot is not None]


def key_of(pack: Pack) -> Key:
    """Which programs train a pack on this process's devices; a run that does not fit into one of them is split over
    those along `data`, its parameters and moments too."""
    mesh = mesh_for(pack.slots, pack.shape.micro_batch)
    limit = (mesh.devices.flat[0].memory_stats() or {}).get("bytes_limit", math.inf)
    sharded = mesh.shape["data"] > 1 and run_bytes(pack.shape) > limit
    return Key(pack.shape, pack.slots, compute_for(jax.default_backend()), mesh, sharded)


def train_pack(pack: Pack, session: Session) -> None:
    """Train the runs of a pack that have not ended to their ends, or until the session stops.

    What a single run brings about (a text that cannot be had, a loss that is not finite, a fault when it is measured)
    ends that run, marked with the reason.

    Raises:
        OSError: the sweep's folder cannot be written; runs that have not ended stay as they are.
        Exception: what the compiled programs raise, the memory they lack for instance.
    """
    hosts.meet("before a pack")
    runs = [run for run in pack.runs if _status(run, session.out).state not in ENDED]
    if not runs:
        return
    with concurrent.futures.ThreadPoolExecutor(1, "isogap-feed") as reader:
        waiting = _feeds(runs, session, reader)
        first = next(waiting, None)  # of no run that can be fed nothing is compiled
        if first is None:
            return
        began = time.monotonic()
        compiled = _compiled(pack, session)
        waited = time.monotonic() - began
        session.spent.compiling += waited
        if compiled is None:
            return
        saved = find_states(session.out / "checkpoints", {run.run_id for run in runs})
        hosts.meet("all that is recorded was read")
        folder, names = session.out / "checkpoints" / pack.pack_id, (run.run_id for run in pack.runs)
        seeds = hosts.put(np.zeros(pack.slots, np.uint32), compiled.shardings.runs)
        training = Training(
            pack, session, compiled, itertools.chain([first], waiting), saved,
            checkpoints=PackCheckpoints(folder, names) if hosts.leads() else None,
            state=compiled.initialise(seeds),
            slots=[None] * pack.slots, clock=Clock(), compile_seconds=waited,
        )  # fmt: skip
        try:
            _train(training)
        except BaseException:
            if training.checkpoints:
                training.checkpoints.close()
            raise
        finally:
            training.clock.close()
            waiting.close()


def _compiled(pack: Pack, session: Session) -> Programs | None:
    """The pack's programs; None if the session was stopped before they were there."""
    future = compile_ahead(key_of(pack))
    while not (hosts.alone() and session.should_stop()):  # several decide together, and only between dispatches
        try:
            return future.result(timeout=0.2)
        except TimeoutError:
            if future.done():  # the programs' own
                raise
    return None


def _status(run: RunConfig, out: Path) -> Status:
    return read_status(run_folder(out, run.run_id), run.steps)


def _feeds(
    runs: list[RunConfig], session: Session, reader: concurrent.futures.Executor
) -> Iterator[tuple[RunConfig, Feed]]:
    """The runs that can be fed, the next one read while the last trains; the others fail."""
    ahead = deque((run, None) for run in runs)
    pending: deque[tuple[RunConfig, Any]] = deque()
    try:
        while ahead or pending:
            while ahead and len(pending) < 2:
                run, _ = ahead.popleft()
                pending.append((run, reader.submit(open_feed, run, session.cache)))
            run, future = pending.popleft()
            try:
                yield run, future.result()
            except (ValueError, OSError) as error:
                if not hosts.leads():
                    raise
                write_status(run_folder(session.out, run.run_id), Status("failed", 0, run.steps, reason=str(error)))
    finally:
        for _, future in pending:
            future.cancel()


def _train(training: Training) -> None:
    session = training.session
    last_save = last_report = time.monotonic()
    running: Dispatch | None = None
    bad = False
    while True:
        evaluations = _enter(training)
        following = _dispatch(training, evaluations) if training.live() else None
        if running is not None:
            bad |= _record(training, running)
        running = following
        if running is None and not training.live() and training.exhausted:
            break
        now = time.monotonic()
        if now - last_report > REPORT_SECONDS:
            last_report = now
            for slot in training.live():
                slot.report()
            session.beat(training.live())
        stopping, saving = _decide(training, bad, now - last_save > session.save_seconds)
        if stopping or saving:
            if running is not None:
                _record(training, running)
                running = None
            if training.live():
                _save(training)
            last_save = time.monotonic()
        if stopping:
            break
    if training.checkpoints is None:
        pass
    elif training.live() or not training.exhausted:
        training.checkpoints.close()
    else:
        training.checkpoints.remove()
    session.beat([])


def _decide(training: Training, bad: bool, late: bool) -> tuple[bool, bool]:
    """Whether to stop and whether to save; runs that failed in the first process leave in all of them."""
    session = training.session
    stopping = session.should_stop() or (bad and session.fail_fast)
    empty = [slot is None for slot in training.slots]
    stop, save, *gone = hosts.agree([stopping, late, *empty])
    training.slots = [None if left else slot for slot, left in zip(training.slots, gone, strict=True)]
    return bool(stop), bool(save)


def _enter(training: Training) -> list[tuple[Slot, int, jax.Array, "concurrent.futures.Future[float]"]]:
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
        slot = Slot(feed, folder, training.pack.shape, turn, hosts.leads())
        # Before the first step's end there is nothing to keep: the evaluation of step 0 is done again.
        if hosts.leads():
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
        training.hyper = Hyper(*(hosts.put(column, by_run) for column in stacked))
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


def _evaluation(training: Training, place: int) -> tuple[Slot, int, jax.Array, "concurrent.futures.Future[float]"]:
    slot, state, laid = _slot(training, place), training.state, training.programs.shardings
    where, windows = hosts.put(np.int32(place), laid.replicated), hosts.put(_pieces(training, slot.feed), laid.pieces)
    losses = training.programs.evaluate(state.params, state.biases, where, windows)
    return slot, slot.pending_evaluations.pop(0), losses, training.clock.time(losses)


def _pieces(training: Training, feed: Feed) -> Int32[np.ndarray, "P n T+1"]:
    """The windows of all probes in pieces, the last one filled up with the first windows."""
    pieces, rows = evaluation_pieces(training.pack.shape, training.programs.mesh)
    return np.resize(feed.probe_tokens, (pieces, rows, feed.probe_tokens.shape[-1]))


def _dispatch(training: Training, evaluations: list) -> Dispatch:
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
    dispatch = Dispatch(turns, ran, metrics, training.clock.time(metrics), evaluations, {})
    for place, slot in live.items():
        slot.turn += turns
        if slot.due():
            dispatch.evaluations.append(_evaluation(training, place))
        if not slot.pending_evaluations:
            if slot.config.keep == "final":
                dispatch.finals[slot.config.run_id] = _of_slot(training.state, place)
            training.slots[place] = None
    return dispatch


def _of_slot(state: State, place: int) -> Any:
    """Parameters and selection biases of the run in a slot; those of several processes' devices as numpy copies."""
    params = (state.params, state.biases) if hosts.alone() else hosts.fetch((state.params, state.biases))
    return jax.tree.map(lambda leaf: leaf[place], params)


def _record(training: Training, dispatch: Dispatch) -> bool:
    """Write down what came back; true if a run diverged or failed."""
    session, bad = training.session, False
    seconds = dispatch.seconds.result()
    metrics = {name: np.asarray(value)[: dispatch.turns] for name, value in dispatch.metrics._asdict().items()}
    standing = [(place, slot, first) for place, (slot, first) in dispatch.ran.items() if not slot.ended]
    session.spent.training += seconds
    session.spent.tokens += dispatch.turns * len(standing) * training.pack.shape.turn_tokens
    share, compiled = 1.0 / max(1, len(standing)), training.compile_seconds
    training.compile_seconds = 0.0
    diverged = []
    for place, slot, first in standing:
        mine = {name: values[:, place] for name, values in metrics.items()}
        if not slot.append(first, mine, seconds * share, compiled * share):
            diverged.append(slot)
    for slot, step, losses, taken in dispatch.evaluations:
        session.spent.evaluation += taken.result()
        if not slot.ended and not (slot in diverged and step >= slot.step):
            flat = np.asarray(losses).reshape(-1, losses.shape[-1])
            bad |= not _guarded(training, slot, lambda s=slot, at=step, found=flat: s.evaluated(at, found))
    for slot in diverged:
        bad = True
        _leave(training, slot, "diverged", f"loss or gradient not finite at step {slot.step}")
    for _, slot, _ in standing:
        if not slot.ended and not slot.pending_evaluations and slot.step == slot.config.steps:
            bad |= not _guarded(training, slot, lambda s=slot: _finish(s, dispatch.finals))
    return bad


def _finish(slot: Slot, finals: dict[str, Any]) -> None:
    if slot.config.keep == "final" and slot.writes:
        facts = {"steps": slot.step, "leaves": "parameters, then selection biases, in order"}
        save_final(slot.folder, finals[slot.config.run_id], facts)
    slot.finish()
    slot.ended = True


def _leave(training: Training, slot: Slot, state: Any, reason: str) -> None:
    """End a run before its time; its slot is free at the next dispatch."""
    slot.ended = True
    slot.flush()
    slot.report(state, reason)
    training.slots = [None if other is slot else other for other in training.slots]


def _guarded(training: Training, slot: Slot, work: Callable[[], None]) -> bool:
    """Do something for one run whose fault is that run's alone; false if it failed."""
    try:
        work()
    except OSError:
        raise  # the folder's, not the run's
    except Exception as error:
        write_text(slot.folder / "error.txt", traceback.format_exc())
        _leave(training, slot, "failed", reason_of(error))
        return False
    return True


def reason_of(error: BaseException) -> str:
    """One line on an error."""
    first = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {first}".strip(": ")


def _save(training: Training) -> None:
    for slot in training.live():
        slot.flush()
        slot.report()
    places = {slot.config.run_id: (place, slot.turn) for place, slot in enumerate(training.slots) if slot is not None}
    leaves = hosts.fetch(training.state)
    if training.checkpoints:
        training.checkpoints.save(leaves, places)
