"""Training a pack: the loop around the compiled programs, with its records and checkpoints.

The results of one dispatch are recorded while the devices run the next one. A run whose last turn was dispatched leaves
its slot at once, and the pack's next run takes it.

The files of a run are written in this order: segments, then the checkpoint that covers them; at its end gap.json, then
its status. Whenever the process dies, a resumed loop finds a consistent record, and what it recomputes is the same to
the bit: batches depend on (config, turn) alone, and one compiled loop serves every number of turns.
"""

import concurrent.futures
import itertools
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.files import write_text
from harness.measures.declared import measure_all
from harness.record.heartbeat import HeartbeatWriter
from harness.record.segments import remove_damaged
from harness.record.status import ENDED, State, Status, read_status, run_folder, write_status
from harness.train.checkpoint import PackCheckpoints, read_final, resume_states, save_final
from harness.train.devices import DevicePack, Timing, key_of
from harness.train.evaluation import PackLosses
from harness.train.final_model import model_of
from harness.train.hosts import Hosts, hosts_of
from harness.train.interventions import view_names
from harness.train.programs import Key, Programs, compile_ahead
from harness.train.run_batches import RunBatches, opener
from harness.train.session import Session, Stop
from harness.train.slot import Slot
from harness.train.step import Metrics
from sweeps.config import RunConfig
from sweeps.errors import reason_of
from sweeps.packs import Pack
from sweeps.shape import turns_per_step

# Seconds between two versions of a run's status.json: short enough to watch a run, long enough to cost nothing.
REPORT_SECONDS = 2.0
# Seconds between two checkpoints of a pack.
SAVE_SECONDS = 20.0

# The batches of each run that waits for a slot; None if a run cannot be read and no other may begin after it.
Waiting = Iterator[RunBatches | None]


def train_pack(pack: Pack, session: Session, stop: Stop, heartbeat: HeartbeatWriter) -> None:
    """Train those runs of a pack that have not ended yet, to their ends or until `stop`.

    What goes wrong in a single run (a text that cannot be read, a loss that is not finite, a fault in its measurement)
    ends that run alone, with the reason in its status; under --fail-fast it also sets `stop`.

    Several hosts that train together all call it. One that has no devices of the pack's mesh returns at once.

    Raises:
        OSError: the sweep's folder cannot be written; runs that have not ended stay as they are.
        Exception: what the compiled programs raise, for instance if they lack memory.
        PeerError: another host raised an alarm.
    """
    key = key_of(pack)
    hosts = hosts_of(key.mesh)
    if not hosts.take_part:
        return
    states = [read_status(run_folder(session.out, run.run_id), run.steps).state for run in pack.runs]
    remaining = hosts.agree("pack's runs", [state not in ENDED for state in states])
    runs = list(itertools.compress(pack.runs, remaining))
    with concurrent.futures.ThreadPoolExecutor(1, "isogap-batches") as reader:
        waiting = _read_ahead(runs, session, stop, reader, hosts)
        first = next(waiting, None)  # nothing is compiled if no run can be read
        began = time.monotonic()
        programs = _compiled(key, stop, hosts) if first is not None else None
        waited = time.monotonic() - began
        heartbeat.spent.compiling += waited
        if programs is None:
            return
        saved = resume_states(session.out, runs, lambda run: turns_per_step(run, pack.shape))
        # Exchanged, so that all hosts have read the record before any of it is dropped, and all have read the same.
        turns = {run_id: turn for run_id, (turn, _) in saved.items()}
        if hosts.agree("resume", turns) != turns:
            raise RuntimeError(f"{session.out}: not the checkpoints that the first process found")
        training = Training(
            pack, session, stop, heartbeat, hosts, DevicePack(pack, programs), itertools.chain([first], waiting), saved,
            checkpoints=PackCheckpoints(session.out / "checkpoints" / pack.pack_id, (run.run_id for run in pack.runs))
            if hosts.lead else None,
            slots=[None] * pack.slots, compile_seconds=waited,
        )  # fmt: skip
        try:
            training.run()
        except BaseException:
            if training.checkpoints:
                training.checkpoints.wait()
            raise
        finally:
            training.devices.close()
            waiting.close()


def _compiled(key: Key, stop: Stop, hosts: Hosts) -> Programs | None:
    """The pack's programs; None if `stop` came before they were ready."""
    future = compile_ahead(key)
    while True:
        concurrent.futures.wait([future], timeout=0.2)
        error = future.exception() if future.done() else None
        answers = hosts.gather("compiling", [future.done(), reason_of(error) if error else "", stop()])
        ready, reasons, stopping = zip(*answers, strict=True)
        if all(ready):
            if error is None and any(reasons):
                raise RuntimeError(next(filter(None, reasons)))
            return future.result()
        if stopping[0]:
            return None


def _read_ahead(
    runs: list[RunConfig], session: Session, stop: Stop, reader: concurrent.futures.Executor, hosts: Hosts
) -> Generator[RunBatches | None]:
    """Open the text of one run while another trains, on all hosts. A run whose text cannot be read fails."""
    ahead, open_text = deque(runs), opener(session.cache)

    def open_batches(run: RunConfig) -> RunBatches:
        batches = open_text(run)
        if run.start_from is None:
            return batches
        return replace(batches, start=read_final(run_folder(session.out, run.start_from)))

    pending: deque[tuple[RunConfig, concurrent.futures.Future[RunBatches]]] = deque()
    try:
        while ahead or pending:
            while ahead and len(pending) < 2:
                run = ahead.popleft()
                pending.append((run, reader.submit(open_batches, run)))
            run, future = pending.popleft()
            reason, batches = "", None
            try:
                batches = future.result()
            except (ValueError, OSError) as error:
                reason = str(error)
            reasons = list(filter(None, hosts.gather("batches", reason)))
            if not reasons:
                yield batches
                continue
            if hosts.lead:
                write_status(run_folder(session.out, run.run_id), Status("failed", 0, run.steps, reason=reasons[0]))
            if session.fail_fast:
                stop.failed = True
                yield None
    finally:
        for _, future in pending:
            future.cancel()


@dataclass(frozen=True)
class Evaluation:
    """Runs that are evaluated together, and what `DevicePack.evaluate` returns.

    Attributes:
        runs: place -> (the run's slot, the step).
        losses: by the name of the view, see `harness.train.interventions`.
    """

    runs: dict[int, tuple[Slot, int]]
    losses: dict[str, PackLosses]
    seconds: list[Timing]


@dataclass(frozen=True)
class Dispatch:
    """Work that was given to the devices, whose results are recorded when they arrive.

    Attributes:
        turns: the number of turns that every run takes.
        ran: place -> (the run's slot, the first of these turns).
        metrics: arrays [k, R].
        evaluations: those before the turns, for runs that begin, and those after the turns.
        finals: run id -> parameters, for runs that end and keep or measure them.
    """

    turns: int
    ran: dict[int, tuple[Slot, int]]
    metrics: Metrics
    seconds: Timing
    evaluations: list[Evaluation]
    finals: dict[str, Any]


@dataclass
class Training:
    """The loop that trains one pack.

    Attributes:
        hosts: the hosts that train the pack.
        waiting: the runs that have no slot yet.
        saved: run id -> (turns, leaves of one slot), from which interrupted runs resume.
        checkpoints: the pack's checkpoints on the first host; None on the others.
        slots: the run at each place; None at a free place.
        compile_seconds: seconds that the pack waited for its programs, as far as no run's record holds them yet.
        exhausted: whether no run waits any more.
    """

    pack: Pack
    session: Session
    stop: Stop
    heartbeat: HeartbeatWriter
    hosts: Hosts
    devices: DevicePack
    waiting: Waiting
    saved: dict[str, tuple[int, list[np.ndarray]]]
    checkpoints: PackCheckpoints | None
    slots: list[Slot | None]
    compile_seconds: float
    exhausted: bool = False

    def live(self) -> list[Slot]:
        """The runs in the slots."""
        return list(self._places().values())

    def _places(self) -> dict[int, Slot]:
        return {place: slot for place, slot in enumerate(self.slots) if slot is not None}

    def run(self) -> None:
        """Train until all runs have ended, or until `stop`."""
        last_save = last_report = self.heartbeat.spent.saved = time.monotonic()
        running: Dispatch | None = None
        stopping = False
        while not stopping:
            evaluations = self._enter()
            following = self.dispatch(evaluations) if self.live() else None
            if running is not None:
                self._record(running)
            running = following
            if running is None and not self.live() and self.exhausted:
                break
            now = time.monotonic()
            if self.hosts.lead and now - last_report > REPORT_SECONDS:
                last_report = now
                for slot in self.live():
                    slot.report()
                if self.checkpoints:
                    self.heartbeat.spent.saved = self.checkpoints.saved
                self.heartbeat.set_slots(self.live())
            stopping, saving = self._decide(self.stop(), now - last_save > SAVE_SECONDS)
            if stopping or saving:
                if running is not None:
                    self._record(running)
                    running = None
                    (stopping,) = self._decide(stopping or self.stop.failed)
                if self.live():
                    self._save()
                last_save = time.monotonic()
        if self.checkpoints and (self.live() or not self.exhausted):
            self.checkpoints.wait()
        elif self.checkpoints:
            self.checkpoints.remove()
        self.heartbeat.set_slots([])

    def _decide(self, *mine: bool) -> list[bool]:
        """Take over the first host's decisions. A run that left its slot there leaves it on all hosts."""
        decisions, standing = self.hosts.agree("turn", [list(mine), [slot is not None for slot in self.slots]])
        self.slots = [slot if stays else None for slot, stays in zip(self.slots, standing, strict=True)]
        return decisions

    def _enter(self) -> list[Evaluation]:
        """Put waiting runs into the free slots, and evaluate those that begin."""
        begun: set[int] = set()
        starts: dict[int, tuple[list[np.ndarray], bool]] = {}
        saved: dict[int, list[np.ndarray]] = {}
        for place in [place for place, slot in enumerate(self.slots) if slot is None]:
            if self.exhausted:
                break
            try:
                batches = next(self.waiting)
            except StopIteration:
                self.exhausted = True
                break
            if batches is None:
                break
            config = batches.config
            turn = 0
            if config.run_id in self.saved:
                turn, saved[place] = self.saved.pop(config.run_id)
            else:
                begun.add(place)
                if batches.start is not None:
                    starts[place] = batches.start, config.start_optimizer == "carried"
            slot = Slot(
                replace(batches, start=None), run_folder(self.session.out, config.run_id), self.pack.shape, turn
            )
            if self.hosts.lead:
                remove_damaged(slot.folder, config.evaluation_steps())
                slot.report()
            self.slots[place] = slot
        if begun or saved:
            self.devices.enter(begun, starts, saved, [slot and slot.hyper() for slot in self.slots])
            self.heartbeat.set_slots(self.live())
        return self._evaluate({place: slot for place, slot in self._places().items() if place in begun})

    def _evaluate(self, slots: dict[int, Slot]) -> list[Evaluation]:
        """Evaluate those of the runs, given by place, for which it is time."""
        runs = {place: (slot, slot.pending_evaluations.pop(0)) for place, slot in slots.items() if slot.due()}
        windows = {place: slot.batches.probe_tokens(step) for place, (slot, step) in runs.items()}
        if not runs:
            return []
        evaluated = {view: self.devices.evaluate(windows, view) for view in view_names(self.pack.shape)}
        losses = {view: losses for view, (losses, _) in evaluated.items()}
        return [Evaluation(runs, losses, [part for _, seconds in evaluated.values() for part in seconds])]

    def dispatch(self, evaluations: list[Evaluation]) -> Dispatch:
        """Give the devices their next turns: as many for every slot, up to the first evaluation due in any of them."""
        live = self._places()
        turns = min(self.devices.most_turns, *(slot.room() for slot in live.values()))
        metrics, seconds = self.devices.advance(turns, {place: slot.tokens(turns) for place, slot in live.items()})
        ran = {place: (slot, slot.turn) for place, slot in live.items()}
        for slot in live.values():
            slot.turn += turns
        dispatched = Dispatch(turns, ran, metrics, seconds, evaluations + self._evaluate(live), {})
        for place, slot in live.items():
            if not slot.pending_evaluations:
                if slot.config.keep != "none" or slot.config.probe.measures:
                    dispatched.finals[slot.config.run_id] = self.devices.kept(place, slot.config.keep == "state")
                self.slots[place] = None
        return dispatched

    def _record(self, dispatched: Dispatch) -> None:
        """Record the results of a dispatch. Only the first host does, and knows which runs diverged or failed."""
        seconds, spent = dispatched.seconds.result(), self.heartbeat.spent
        if not self.hosts.lead:
            return
        metrics = {name: np.asarray(value)[: dispatched.turns] for name, value in dispatched.metrics._asdict().items()}
        standing = [(place, slot, first) for place, (slot, first) in dispatched.ran.items() if not slot.ended]
        spent.training += seconds
        spent.tokens += dispatched.turns * len(standing) * self.pack.shape.turn_tokens
        share, compiled = 1.0 / max(1, len(standing)), self.compile_seconds
        self.compile_seconds = 0.0
        diverged = []
        for place, slot, first in standing:
            of_slot = {name: values[:, place] for name, values in metrics.items()}
            if not slot.append(first, of_slot, seconds * share, compiled * share):
                diverged.append(slot)
        for evaluation in dispatched.evaluations:
            spent.evaluation += sum(part.result() for part in evaluation.seconds)
            for place, (slot, step) in evaluation.runs.items():
                if not slot.ended and not (slot in diverged and step >= slot.step):
                    losses = {view: each.of(place) for view, each in evaluation.losses.items()}
                    self._guard(slot, lambda slot=slot, step=step, losses=losses: slot.evaluated(step, losses))
        for slot in diverged:
            self._leave(slot, "diverged", f"loss or gradient not finite at step {slot.step}")
        for _, slot, _ in standing:
            if not slot.ended and not slot.pending_evaluations and slot.step == slot.config.steps:
                self._guard(slot, lambda slot=slot: self._finish(slot, dispatched.finals))

    def _finish(self, slot: Slot, finals: dict[str, Any]) -> None:
        if slot.config.keep != "none":
            order = "parameters, then selection biases, in order"
            order += ", then the optimizer's" if slot.config.keep == "state" else ""
            facts = {"steps": slot.step, "leaves": order}
            save_final(slot.folder, finals[slot.config.run_id], facts)
        if slot.config.probe.measures:
            params, biases, *_ = finals[slot.config.run_id]
            model, batches = model_of(slot.config, params, biases), slot.batches
            slot.of_model = measure_all(slot.config, batches.mixture, batches.last_probes["heldout"].tokens, model)
        slot.ended = True
        if slot.finish() != "done":
            self._fail_fast()

    def _leave(self, slot: Slot, state: State, reason: str) -> None:
        """End a run before its time; its slot is free at the next dispatch."""
        slot.ended = True
        slot.flush()
        slot.report(state, reason)
        self.slots = [None if other is slot else other for other in self.slots]
        self._fail_fast()

    def _fail_fast(self) -> None:
        self.stop.failed |= self.session.fail_fast

    def _guard(self, slot: Slot, work: Callable[[], None]) -> None:
        """Do something for one run. If it raises, that run alone has failed."""
        try:
            work()
        except OSError:
            raise  # the sweep's folder cannot be written, which is not the run's fault
        except Exception as error:
            write_text(slot.folder / "error.txt", traceback.format_exc())
            self._leave(slot, "failed", reason_of(error))

    def _save(self) -> None:
        if self.checkpoints:
            for slot in self.live():
                slot.flush()
                slot.report()
        places = {slot.config.run_id: (place, slot.turn) for place, slot in self._places().items()}
        leaves = self.devices.fetch()
        if self.checkpoints:
            self.checkpoints.save(leaves, places)
