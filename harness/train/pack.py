"""Training a pack: the host's loop around the compiled steps, with its records and checkpoints.

A run leaves its files in this order: segments, then the checkpoint that covers them; at its end gap.json, then its
status. Whatever the process dies between, what a resumed loop finds is consistent, and what it recomputes is the same
to the bit: batches depend on (config, step) alone, and one compiled loop serves every number of steps.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32

from harness.record.files import write_json
from harness.record.measure import measure, probe_rows
from harness.record.segments import drop_segments_beyond, read_segments, write_segment
from harness.record.status import ENDED, Status, read_status, run_folder, write_status
from harness.record.status import State as RunState
from harness.train.checkpoint import PackCheckpoints, find_states, save_final
from harness.train.feed import Feed, open_feed
from harness.train.optimizer import hyper_of_pack
from harness.train.step import Programs, State, dispatch_steps, mesh_for, programs
from models.count import flops
from models.transformer import compute_for
from sweeps.config import RunConfig
from sweeps.errors import InputError

# Between two status.json of a run: often enough for someone who watches, rare enough to cost nothing.
REPORT_SECONDS = 2.0
MOE_SERIES = ("load_cv", "drop_fraction", "router_entropy", "aux_loss")


@dataclasses.dataclass(frozen=True)
class Session:
    """What all packs of one `isogap run` share.

    Attributes:
        out: the sweep's folder.
        cache: of prepared data; None for the user's.
        save_seconds: between two checkpoints of a pack.
        should_stop: asked between dispatches; when true the pack is checkpointed and left.
        fail_fast: stop likewise when a run of the pack diverges.
        progress: called with the tokens just trained.
    """

    out: Path
    cache: Path | None
    save_seconds: float
    should_stop: Callable[[], bool]
    fail_fast: bool
    progress: Callable[[int], None]


class Slot:
    """One run in its place: its data, where it stands, and what is recorded but not yet on disk."""

    def __init__(self, feed: Feed, folder: Path, step: int):
        self.feed, self.config, self.folder = feed, feed.config, folder
        self.step = self.committed = step
        self.pending_evaluations = [s for s in feed.config.evaluation_steps() if s > step or (s == step == 0)]
        self.series: dict[str, list] = {}
        self.evals: list[dict] = []
        self.timing: dict[str, list] = {"step": [], "wall_seconds": [], "tokens_per_second": [], "compile_seconds": []}
        self.last_loss: float | None = None
        self.ended = False

    def room(self) -> int:
        """Steps until the next evaluation; 0 for an ended run."""
        return 0 if self.ended else self.pending_evaluations[0] - self.step

    def append(self, metrics: dict[str, np.ndarray], seconds: float, compile_seconds: float) -> bool:
        """Take the metrics of the steps just run ([steps] each); false if one of them was not finite."""
        bad = ~(np.isfinite(metrics["train_loss"]) & np.isfinite(metrics["grad_norm"]))
        steps = int(np.argmax(bad)) + 1 if bad.any() else len(bad)
        index = np.arange(self.step + 1, self.step + steps + 1)
        config = self.config
        names = ("train_loss", "lr", "grad_norm", *(MOE_SERIES if config.model.moe else ()))
        columns = {
            "step": index,
            "tokens": index * config.batch_tokens,
            "epoch": (index * config.batch - 1) // config.windows,
            **{name: metrics[name][:steps] for name in names},
        }
        for name, values in columns.items():
            self.series.setdefault(name, []).extend(values.tolist())
        self.step += steps
        self.last_loss = float(metrics["train_loss"][steps - 1])
        rate = steps * config.batch_tokens / max(seconds, 1e-9)
        for name, value in zip(self.timing, (self.step, seconds, rate, compile_seconds), strict=True):
            self.timing[name].append(value)
        return not bad.any()

    def flush(self) -> None:
        """Write what is pending as the segments up to the current step."""
        evals = {name: [row[name] for row in self.evals] for name in (self.evals[0] if self.evals else ())}
        for kind, rows in (("series", self.series), ("evals", evals), ("timing", self.timing)):
            write_segment(self.folder, kind, self.committed, self.step, rows)
        self.series, self.evals, self.timing = {}, [], {name: [] for name in self.timing}
        self.committed = self.step

    def report(self, state: RunState = "running", reason: str = "") -> None:
        """Write status.json."""
        finite = self.last_loss is not None and np.isfinite(self.last_loss)
        loss = self.last_loss if finite else None
        write_status(self.folder, Status(state, self.step, self.config.steps, loss, reason))


def train_pack(pack_id: str, runs: tuple[RunConfig, ...], slots: int, session: Session) -> None:
    """Train the runs of a pack that have not ended to their ends, or until the session stops.

    Args:
        pack_id: names the checkpoint folder.
        runs: of one signature; slot i holds run i. Runs that have ended keep their slot, idle.
        slots: R, at least len(runs): the compiled size.
    """
    open_slots: dict[int, Slot] = {}
    waiting = [run for run in runs if _state_of(run, session) not in ENDED]
    saved = find_states(session.out / "checkpoints", {run.run_id for run in waiting})
    for place, run in enumerate(runs):
        if run not in waiting:
            continue
        folder = run_folder(session.out, run.run_id)
        try:
            feed = open_feed(run, session.cache)
        except InputError as error:
            write_status(folder, Status("failed", 0, run.steps, reason=str(error)))
            continue
        step = saved[run.run_id][0] if run.run_id in saved else 0
        drop_segments_beyond(folder, step)
        open_slots[place] = Slot(feed, folder, step)
    if open_slots:
        states = {place: saved[slot.config.run_id][1] for place, slot in open_slots.items() if slot.step}
        _PackLoop(pack_id, runs, slots, session, open_slots).train(states)


def _state_of(run: RunConfig, session: Session) -> str:
    return read_status(run_folder(session.out, run.run_id), run.steps).state


class _PackLoop:
    """The loop over dispatches of one pack."""

    def __init__(self, pack_id: str, runs: tuple[RunConfig, ...], slots: int, session: Session, open_: dict[int, Slot]):
        self.session, self.size, self.slots = session, slots, open_
        self.config = config = runs[0]
        platform = jax.default_backend()
        compute = compute_for(platform)
        self.programs: Programs = programs(config, slots, compute, mesh_for(slots, config.batch))
        step_flops = flops(config.model).train * config.batch_tokens * slots
        self.dispatch = dispatch_steps(step_flops, platform)
        idle = runs[0]
        self.hyper = hyper_of_pack([runs[i] if i in open_ else idle for i in range(slots)])
        # An idle slot has no steps to run: its state never changes.
        steps = np.asarray([open_[i].config.steps if i in open_ else 0 for i in range(slots)], np.int32)
        self.hyper = self.hyper._replace(steps=jnp.asarray(steps))
        self.keys = jax.vmap(jax.random.key)(
            jnp.asarray([runs[i].seed if i < len(runs) else 0 for i in range(slots)], jnp.uint32)
        )
        self.probe_tokens = jnp.asarray(
            np.stack([(open_[i] if i in open_ else next(iter(open_.values()))).feed.probe_tokens for i in range(slots)])
        )
        self.checkpoints = PackCheckpoints(session.out / "checkpoints" / pack_id, (run.run_id for run in runs))

    def train(self, states: dict[int, list[np.ndarray]]) -> None:
        """Run to the end of all slots, or to the session's stop."""
        state = self._initial(states)
        compile_seconds = self._compile(state)
        for slot in self.slots.values():
            slot.report()
        self._evaluate(state)
        last_save = last_report = time.monotonic()
        tokens, counts = self._stage()
        while counts:
            began = time.monotonic()
            state, metrics = self.programs.advance(state, self.hyper, tokens, jnp.int32(max(counts.values())))
            running, counts = counts, {}
            # The next windows are gathered while this dispatch runs.
            ahead = self._stage(running)
            metrics = {name: np.asarray(value) for name, value in metrics._asdict().items()}
            seconds = time.monotonic() - began
            diverged = self._record(metrics, running, seconds, compile_seconds)
            compile_seconds = 0.0
            reached = self._evaluate(state)
            tokens, counts = self._stage() if reached or diverged else ahead
            if time.monotonic() - last_report > REPORT_SECONDS:
                last_report = time.monotonic()
                for slot in self.slots.values():
                    if not slot.ended:
                        slot.report()
            stopping = self.session.should_stop() or (diverged and self.session.fail_fast)
            if counts and (stopping or time.monotonic() - last_save > self.session.save_seconds):
                self._save(state)
                last_save = time.monotonic()
            if stopping:
                break
        if counts:
            self.checkpoints.close()
        else:
            self.checkpoints.remove()

    def _initial(self, states: dict[int, list[np.ndarray]]) -> State:
        state = self.programs.initialise(self.keys)
        if not states:
            return state
        leaves, structure = jax.tree.flatten(state)
        shardings = [leaf.sharding for leaf in leaves]
        arrays = [np.array(leaf) for leaf in leaves]
        for place, saved in states.items():
            for array, leaf in zip(arrays, saved, strict=True):
                array[place] = leaf
        return jax.tree.unflatten(structure, [jax.device_put(a, s) for a, s in zip(arrays, shardings, strict=True)])

    def _compile(self, state: State) -> float:
        began = time.monotonic()
        shape = (self.dispatch, self.size, self.config.batch, self.config.model.context + 1)
        tokens = jax.ShapeDtypeStruct(shape, jnp.int32)
        self.programs.advance.lower(state, self.hyper, tokens, jnp.int32(0)).compile()
        return time.monotonic() - began

    def _stage(self, after: dict[int, int] | None = None) -> tuple[Int32[np.ndarray, "k R B T+1"], dict[int, int]]:
        """The next windows of each slot and how many steps each will run, once `after` has been recorded."""
        after = after or {}
        shape = (self.dispatch, self.size, self.config.batch, self.config.model.context + 1)
        tokens = np.zeros(shape, np.int32)
        rooms = {place: slot.room() - after.get(place, 0) for place, slot in self.slots.items() if not slot.ended}
        rooms = {place: room for place, room in rooms.items() if room > 0}
        if not rooms:
            return tokens, {}
        # All slots run equally many steps, up to the first evaluation that is due in any of them.
        steps = min(self.dispatch, *rooms.values())
        for place in rooms:
            start = self.slots[place].step + after.get(place, 0)
            tokens[:steps, place] = self.slots[place].feed.batches(start, start + steps)
        return tokens, dict.fromkeys(rooms, steps)

    def _record(
        self, metrics: dict[str, np.ndarray], running: dict[int, int], seconds: float, compile_seconds: float
    ) -> bool:
        share = 1.0 / len(running)
        diverged = False
        for place, steps in running.items():
            slot = self.slots[place]
            before = slot.step
            mine = {name: values[:steps, place] for name, values in metrics.items()}
            finite = slot.append(mine, seconds * share, compile_seconds * share)
            self.session.progress((slot.step - before) * slot.config.batch_tokens)
            if not finite:
                diverged = slot.ended = True
                slot.flush()
                slot.report("diverged", f"loss or gradient not finite at step {slot.step}")
                self.session.progress((slot.config.steps - slot.step) * slot.config.batch_tokens)
        return diverged

    def _evaluate(self, state: State) -> bool:
        """Evaluate the slots that stand at one of their evaluation steps; true if any did."""
        due = [p for p, s in self.slots.items() if not s.ended and s.pending_evaluations[0] == s.step]
        if not due:
            return False
        losses = np.asarray(self.programs.evaluate(state.params, state.biases, self.probe_tokens))
        for place in due:
            slot = self.slots[place]
            slot.pending_evaluations.pop(0)
            feed = slot.feed
            tokens = slot.step * slot.config.batch_tokens
            slot.evals += probe_rows(slot.step, tokens, feed.store, feed.probes, feed.split_losses(losses[place]))
            if not slot.pending_evaluations:
                self._finish(slot, state, place)
        return True

    def _finish(self, slot: Slot, state: State, place: int) -> None:
        slot.flush()
        slot.ended = True
        series, evals = read_segments(slot.folder, "series"), read_segments(slot.folder, "evals")
        if not np.isfinite(evals["loss"]).all():
            return slot.report("diverged", "the evaluation's loss is not finite")
        write_json(slot.folder / "gap.json", measure(slot.config, slot.feed.store, series, evals))
        if slot.config.keep == "final":
            mine = jax.tree.map(lambda leaf: leaf[place], (state.params, state.biases))
            save_final(slot.folder, mine, {"steps": slot.step, "leaves": "parameters, then selection biases, in order"})
        slot.report("done")

    def _save(self, state: State) -> None:
        for slot in self.slots.values():
            if not slot.ended:
                slot.flush()
                slot.report()
        places = {s.config.run_id: (p, s.step) for p, s in self.slots.items() if not s.ended}
        self.checkpoints.save(state, places)
