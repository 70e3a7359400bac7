"""Training a pack: the host's loop around the compiled programs, with its records and checkpoints.

The device always has its next dispatch: what one dispatch brought is recorded while the next one runs. A run whose
last turn was dispatched leaves its slot at once, and the pack's next run takes it.

A run leaves its files in this order: segments, then the checkpoint that covers them; at its end gap.json, then its
status. Whatever the process dies between, what a resumed loop finds is consistent, and what it recomputes is the same
to the bit: batches depend on (config, turn) alone, and one compiled loop serves every number of turns.
"""

import concurrent.futures
import functools
import itertools
import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from harness.files import write_text
from harness.record.status import ENDED, Status, read_status, run_folder, write_status
from harness.train import hosts
from harness.train.checkpoint import PackCheckpoints, resume_states, save_final
from harness.train.clock import Clock
from harness.train.feed import Feed, opener
from harness.train.programs import Key, Programs, compile_ahead, mesh_for
from harness.train.slot import Slot
from harness.train.training import Dispatch, Session, Training, dispatch, enter
from models.compute import compute_for
from sweeps.config import RunConfig
from sweeps.errors import reason_of
from sweeps.memory import run_bytes
from sweeps.packs import Pack
from sweeps.shape import turns_per_step

# Between two status.json of a run: often enough for someone who watches, rare enough to cost nothing.
REPORT_SECONDS = 2.0


def key_of(pack: Pack) -> Key:
    """Which programs train a pack on the devices of all processes; a run that does not fit into one of them is split
    over those along `data`, its parameters and moments too."""
    mesh = mesh_for(pack.slots, pack.shape.micro_batch)
    sharded = mesh.shape["data"] > 1 and run_bytes(pack.shape) > _device_bytes()
    return Key(pack.shape, pack.slots, compute_for(jax.default_backend()), mesh, sharded)


@functools.cache
def _device_bytes() -> float:
    """Memory of the smallest device; of several processes all ask at the same place, and have the same answer."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]  # those of others do not tell theirs
    return min(hosts.gather("memory", min(one.get("bytes_limit", math.inf) for one in stats)))


def train_pack(pack: Pack, session: Session) -> None:
    """Train the runs of a pack that have not ended to their ends, or until the session stops.

    What a single run brings about (a text that cannot be had, a loss that is not finite, a fault when it is measured)
    ends that run, marked with the reason.

    Several processes that train together all call it. One that has no devices of the pack's mesh returns at once.

    Raises:
        OSError: the sweep's folder cannot be written; runs that have not ended stay as they are.
        Exception: what the compiled programs raise, the memory they lack for instance.
        PeerError: another process called an alarm.
    """
    key = key_of(pack)
    among = hosts.members(key.mesh)
    if jax.process_index() not in among:
        return
    states = [_status(run, session.out).state for run in pack.runs] if hosts.leads() else []
    left = hosts.agree("pack's runs", [state not in ENDED for state in states], among)
    runs = list(itertools.compress(pack.runs, left))
    if not runs:
        return
    with concurrent.futures.ThreadPoolExecutor(1, "isogap-feed") as reader:
        waiting = _feeds(runs, session, reader, among)
        first = next(waiting, None)  # of no run that can be fed nothing is compiled
        if first is None:
            return
        began = time.monotonic()
        compiled = _compiled(key, session, among)
        waited = time.monotonic() - began
        session.spent.compiling += waited
        if compiled is None:
            return
        saved = resume_states(session.out, runs, lambda run: turns_per_step(run, pack.shape))
        # All have read what is recorded before any of it is dropped; and all have read the same.
        found = {run_id: turn for run_id, (turn, _) in saved.items()}
        if hosts.agree("resume", found, among) != found:
            raise RuntimeError(f"{session.out}: not the checkpoints that the first process found")
        folder, names = session.out / "checkpoints" / pack.pack_id, (run.run_id for run in pack.runs)
        seeds = hosts.put(np.zeros(pack.slots, np.uint32), compiled.shardings.runs)
        training = Training(
            pack, session, compiled, itertools.chain([first], waiting), saved,
            checkpoints=PackCheckpoints(folder, names) if hosts.leads() else None,
            state=compiled.initialise(seeds),
            slots=[None] * pack.slots, clock=Clock(), compile_seconds=waited, among=among,
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


def _compiled(key: Key, session: Session, among: tuple[int, ...]) -> Programs | None:
    """The pack's programs; None if the session was stopped before they were there."""
    future = compile_ahead(key)
    while True:
        concurrent.futures.wait([future], timeout=0.2)
        error = future.exception() if future.done() else None
        told = [future.done(), reason_of(error) if error else "", session.should_stop()]
        ready, reasons, stopping = zip(*hosts.gather("compiling", told, among), strict=True)
        if all(ready):
            if error is None and any(reasons):
                raise RuntimeError(next(filter(None, reasons)))
            return future.result()
        if stopping[0]:
            return None


def _status(run: RunConfig, out: Path) -> Status:
    return read_status(run_folder(out, run.run_id), run.steps)


def _feeds(
    runs: list[RunConfig], session: Session, reader: concurrent.futures.Executor, among: tuple[int, ...]
) -> Generator[tuple[RunConfig, Feed]]:
    """The runs that can be fed, in all processes, the next one read while the last trains; the others fail."""
    ahead, open_feed = deque(runs), opener(session.cache)
    pending: deque[tuple[RunConfig, Any]] = deque()
    try:
        while ahead or pending:
            while ahead and len(pending) < 2:
                run = ahead.popleft()
                pending.append((run, reader.submit(open_feed, run)))
            run, future = pending.popleft()
            reason, feed = "", None
            try:
                feed = future.result()
            except (ValueError, OSError) as error:
                reason = str(error)
            reasons = list(filter(None, hosts.gather("feed", reason, among)))
            if feed is not None and not reasons:
                yield run, feed
            elif hosts.leads():
                write_status(run_folder(session.out, run.run_id), Status("failed", 0, run.steps, reason=reasons[0]))
    finally:
        for _, future in pending:
            future.cancel()


def _train(training: Training) -> None:
    session = training.session
    last_save = last_report = time.monotonic()
    running: Dispatch | None = None
    bad = False
    while True:
        evaluations = enter(training)
        following = dispatch(training, evaluations) if training.live() else None
        if running is not None:
            bad |= _record(training, running)
        running = following
        if running is None and not training.live() and training.exhausted:
            break
        now = time.monotonic()
        if hosts.leads() and now - last_report > REPORT_SECONDS:
            last_report = now
            for slot in training.live():
                slot.report()
            session.beat(training.live())
        stop = session.should_stop() or (bad and session.fail_fast)
        stopping, saving = _decide(training, stop, now - last_save > session.save_seconds)
        if stopping or saving:
            if running is not None:
                _record(training, running)
                running = None
                _decide(training)
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


def _decide(training: Training, *mine: bool) -> list[bool]:
    """What the first process has decided; a run that left its slot there leaves it in all of them."""
    standing = [slot is not None for slot in training.slots]
    decided, standing = hosts.agree("turn", [list(mine), standing], training.among)
    training.slots = [slot if stays else None for slot, stays in zip(training.slots, standing, strict=True)]
    return decided


def _record(training: Training, given: Dispatch) -> bool:
    """Write down what came back; true if a run diverged or failed. Only the first process knows, and tells."""
    session, bad = training.session, False
    seconds = given.seconds.result()
    if not hosts.leads():
        return False
    metrics = {name: np.asarray(value)[: given.turns] for name, value in given.metrics._asdict().items()}
    standing = [(place, slot, first) for place, (slot, first) in given.ran.items() if not slot.ended]
    session.spent.training += seconds
    session.spent.tokens += given.turns * len(standing) * training.pack.shape.turn_tokens
    share, compiled = 1.0 / max(1, len(standing)), training.compile_seconds
    training.compile_seconds = 0.0
    diverged = []
    for place, slot, first in standing:
        mine = {name: values[:, place] for name, values in metrics.items()}
        if not slot.append(first, mine, seconds * share, compiled * share):
            diverged.append(slot)
    for slot, step, losses, taken in given.evaluations:
        session.spent.evaluation += taken.result()
        if not slot.ended and not (slot in diverged and step >= slot.step):
            flat = np.asarray(losses).reshape(-1, losses.shape[-1])
            bad |= not _guarded(training, slot, lambda s=slot, at=step, found=flat: s.evaluated(at, found))
    for slot in diverged:
        bad = True
        _leave(training, slot, "diverged", f"loss or gradient not finite at step {slot.step}")
    for _, slot, _ in standing:
        if not slot.ended and not slot.pending_evaluations and slot.step == slot.config.steps:
            bad |= not _guarded(training, slot, lambda s=slot: _finish(s, given.finals))
    return bad


def _finish(slot: Slot, finals: dict[str, Any]) -> None:
    if slot.config.keep == "final":
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


def _save(training: Training) -> None:
    if training.checkpoints:
        for slot in training.live():
            slot.flush()
            slot.report()
    places = {slot.config.run_id: (place, slot.turn) for place, slot in enumerate(training.slots) if slot is not None}
    leaves = hosts.fetch(training.state)
    if training.checkpoints:
        training.checkpoints.save(leaves, places)
