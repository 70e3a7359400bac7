"""Simulate launcher, leases and record under faults: one seed is one schedule, `scripts/soak --simulate` runs many.

A sweep of six runs is trained on a simulated cluster (scripts/simulated_machines.py) by workers of one machine, or by
jobs that share its packs by leases. `isogap run` is given again until all runs have ended. The production code runs,
but for JAX: a run's state is one number that every step changes, and all that is recorded follows from it.
"""

import contextlib
import functools
import json
import logging
import shutil
import signal
import tempfile
import zlib
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
from rich.console import Console
from simulated_machines import Cluster, Endless, Killed, Process, SimulatedPath

import harness.files
import harness.record.leases as leases
import harness.record.segments as segments
import harness.train.checkpoint as checkpoint
import harness.train.pack as pack_training
import harness.train.session as sessions
import harness.train.slot as slots
from harness.launch import local, slurm_job
from harness.launch.packing import Packing, write_packing
from harness.launch.queue import PackQueue, drop_checkpoints
from harness.record.heartbeat import HeartbeatWriter
from harness.record.leases import lay_queue, withdraw
from harness.record.segments import drop_segments_beyond, segment_paths
from harness.record.status import ENDED, Status, read_status, read_statuses, run_folder, status_file, write_status
from harness.record.sweep_folder import lay_out
from harness.train.session import Session, Stop
from sweeps.config import RunConfig
from sweeps.errors import reason_of
from sweeps.grid import load
from sweeps.packs import Pack, packs
from sweeps.shape import shape_of

SPEC = """
name: simulated
defaults: {domain: stdlib_code, context: 16, width: 16, depth: 1, heads: 2, batch: 2, probe_windows: 8, epochs: 1}
blocks:
  - {name: all, grid: {tokens: [160, 320, 480], lr: [0.003, 0.01]}}
"""
MICRO_TOKENS, SLOTS = 32, 2
PRIME = 2**31 - 1
# How often the command is given at most until all runs have ended.
ROUNDS = 40


@dataclass(frozen=True)
class Verdict:
    """What a schedule showed.

    Attributes:
        complaints: what was not as it should be.
        trace: (virtual time, process, operation) in their order.
    """

    seed: int
    complaints: tuple[str, ...]
    trace: tuple[tuple[float, str, str], ...]


def stepped(state: int, step: int) -> int:
    """The state of a run after a step."""
    return (state * 48271 + step) % PRIME


@functools.cache
def expected(seed: int, steps: int) -> tuple[float, ...]:
    """The losses of a run that nothing disturbs."""
    state, losses = seed + steps, []
    for step in range(1, steps + 1):
        state = stepped(state, step)
        losses.append(state / PRIME)
    return tuple(losses)


def rows_bytes(table: pa.Table) -> bytes:
    """In place of `harness.files.parquet_bytes`, which takes a hundred times as long: JSON with a checksum."""
    content = json.dumps(table.to_pydict()).encode()
    return f"{zlib.crc32(content):08x}".encode() + content


def read_rows(path: Path) -> pa.Table:
    """In place of `harness.files.read_parquet`. Raises ValueError if the file is damaged."""
    content = harness.files.read_bytes(path)
    if content[:8] != f"{zlib.crc32(content[8:]):08x}".encode():
        raise ValueError("its checksum is another")
    return pa.table(json.loads(content[8:]))


class SimulatedSlot(slots.Slot):
    """A run whose state is one number; its record is written by the production code."""

    def __init__(self, config: RunConfig, folder: Path, turn: int, state: int):
        self.config, self.folder, self.state = config, folder, state
        self.turn = self.step = self.committed = turn
        self.pending_evaluations = [step for step in config.evaluation_steps() if step > turn or step == turn == 0]
        self.series, self.evals, self.documents = {}, [], []
        self.timing = {"step": [], "wall_seconds": []}
        self.last_loss, self.ended = None, False
        self.evaluate()

    def evaluate(self) -> None:
        """Evaluate the run if that is due."""
        if self.pending_evaluations and self.pending_evaluations[0] == self.step:
            step = self.pending_evaluations.pop(0)
            self.evals.append({"step": step, "loss": self.state / PRIME})
            self.documents.append((step, {}))

    def advance(self) -> None:
        """Take one step."""
        self.step = self.turn = self.step + 1
        self.state = stepped(self.state, self.step)
        self.last_loss = self.state / PRIME
        for name, value in (("step", self.step), ("train_loss", self.last_loss)):
            self.series.setdefault(name, []).append(value)
        for name, value in (("step", self.step), ("wall_seconds", 1.0)):
            self.timing[name].append(value)
        self.evaluate()

    def finish(self) -> str:
        """Write the rest of the record, what was measured from all of it, and the status."""
        self.flush()
        losses = [loss for _, loss in _rows(self.folder, "series")]
        gap = {"mean": float(np.mean(losses)), "evaluations": len(_rows(self.folder, "evals"))}
        files = {self.folder / "gap.json": harness.files.json_bytes(gap)}
        harness.files.write_files(files | status_file(self.folder, self._status("done")))
        return "done"


@dataclass
class _End:
    """An end of a simulated connection."""

    cluster: Cluster
    received: deque
    sent: deque
    there: "list[Process]"
    closed: "list[bool]"

    def send(self, value: object) -> None:
        if not self.there[0].alive:
            raise BrokenPipeError
        self.sent.append(value)

    def poll(self) -> bool:
        return bool(self.received) or self.closed[0] or not self.there[0].alive

    def recv(self) -> object:
        self.cluster.wait(self.poll)
        if not self.received:
            raise EOFError
        return self.received.popleft()

    def close(self) -> None:
        self.closed[0] = True


@dataclass
class _Child:
    """A process as its parent sees it."""

    cluster: Cluster
    process: Process

    @property
    def exitcode(self) -> int | None:
        return self.process.code

    def is_alive(self) -> bool:
        return self.process.alive

    def join(self) -> None:
        self.cluster.wait(lambda: not self.process.alive)

    def kill(self) -> None:
        self.cluster.signal(self.process, signal.SIGKILL)

    def terminate(self) -> None:
        self.cluster.signal(self.process, signal.SIGTERM)


class Simulation:
    """One schedule."""

    def __init__(self, seed: int, root: Path):
        self.cluster = Cluster(seed)
        self.rng = self.cluster.rng
        self.seed, self.complaints = seed, list[str]()
        SimulatedPath.cluster, SimulatedPath.root = self.cluster, root
        self.out = SimulatedPath(root)
        self.runs = _runs()
        self.training: dict[str, list[Process]] = {}
        self.results: dict[str, bytes] = {}
        self.names = iter(range(10**6))
        self.jobs: list[tuple[Process, int, Session, frozenset[str]]] = []

    # In place of what needs JAX or another process

    def spawn(self, _serve: object, session: Session, name: str, *_: object) -> tuple[_Child, _End]:
        """In place of `harness.machine.processes.spawn`: a worker that trains the packs that it is sent."""
        forth, back, closed = deque(), deque(), [False]
        parent, served = self.cluster.me(), list[Process]()
        stop = Stop()

        def serve() -> None:
            end = _End(self.cluster, forth, back, [parent], closed)
            heartbeat = HeartbeatWriter.__new__(HeartbeatWriter)
            while True:
                try:
                    end.send(local.train_pack_here(end.recv(), session, stop, heartbeat))
                except (EOFError, BrokenPipeError):
                    return

        served.append(self.cluster.start(f"{parent.name}-{name}", serve, parent))
        served[0].told = lambda number: stop.take(number, None)
        return _Child(self.cluster, served[0]), _End(self.cluster, back, forth, served, closed)

    def wait(self, ends: list[_End], timeout: float) -> None:
        """In place of `multiprocessing.connection.wait`."""
        self.cluster.wait(lambda: any(end.poll() for end in ends), timeout)

    def write_leaves(self, folder: Path, leaves: dict[str, np.ndarray]) -> dict[str, int]:
        """In place of orbax."""
        contents = {f"{name}.bin": leaf.tobytes() for name, leaf in leaves.items()}
        harness.files.write_files({folder / name: content for name, content in contents.items()})
        return {name: zlib.crc32(content) for name, content in contents.items()}

    def read_leaves(self, save: Path, manifest: dict) -> list[np.ndarray]:
        """In place of orbax."""
        leaves = []
        for name, checksum in manifest["files"].items():
            content = (save / "state" / name).read_bytes()
            if zlib.crc32(content) != checksum:
                raise ValueError(f"{name} is not what was saved")
            leaves.append(np.frombuffer(content, np.int64))
        return leaves

    def train_pack(self, pack: Pack, session: Session, stop: Stop, _: object) -> None:
        """In place of `harness.train.pack.train_pack`, with the same order of files."""
        out, me = session.out, self.cluster.me()
        runs = [run for run in pack.runs if read_status(run_folder(out, run.run_id), run.steps).state not in ENDED]
        self._note(runs, me)
        saved = checkpoint.resume_states(out, runs, lambda run: 1)
        saves = checkpoint.PackCheckpoints(out / "checkpoints" / pack.pack_id, (run.run_id for run in pack.runs))
        waiting, live = deque(runs), list[SimulatedSlot]()
        try:
            while waiting or live:
                while waiting and len(live) < pack.slots:
                    run = waiting.popleft()
                    if read_status(run_folder(out, run.run_id), run.steps).state in ENDED:
                        continue  # as harness.train.pack: another has trained it while this process stood still
                    turn, state = saved.get(run.run_id, (0, [np.int64(run.seed + run.steps)]))
                    slot = SimulatedSlot(run, run_folder(out, run.run_id), turn, int(state[0]))
                    drop_segments_beyond(slot.folder, slot.step or -1)
                    slot.report()
                    live.append(slot)
                self.cluster.wait(None, self.rng.uniform(0.5, 20.0))
                for slot in live:
                    for _ in range(min(self.rng.randint(1, 5), slot.config.steps - slot.step)):
                        slot.advance()
                for slot in [slot for slot in live if slot.step == slot.config.steps]:
                    slot.finish()
                    live.remove(slot)
                    self._finished(slot)
                stopping = stop()
                if stopping or self.rng.random() < 0.4:
                    for slot in live:
                        slot.flush()
                        slot.report()
                    state = {"state": np.array([slot.state for slot in live] or [0], np.int64)}
                    saves.save(state, {slot.config.run_id: (at, slot.turn) for at, slot in enumerate(live)})
                if stopping:
                    break
        except Killed:
            raise
        except BaseException:
            saves.wait()
            raise
        if live or waiting:
            saves.wait()
        else:
            saves.remove()

    # What must hold

    def _note(self, runs: list[RunConfig], me: Process) -> None:
        """Two processes train a run only if one of them stood still, or is about to end with its parent."""
        for run in runs:
            others = [
                other
                for other in self.training.get(run.run_id, ())
                if other.alive and not other.machine.stood and other.machine.alive and other is not me
            ]
            if others and not me.machine.stood:
                self.complaints.append(f"{run.run_id} is trained by {others[0].name} and {me.name}")
            self.training[run.run_id] = [*self.training.get(run.run_id, ()), me]

    def _finished(self, slot: SimulatedSlot) -> None:
        for run in self.training.values():
            run[:] = [process for process in run if process.alive]
        self.training.pop(slot.config.run_id, None)

    def check(self) -> None:
        """Complain of what is not as it should be when all processes have ended."""
        root = Path(SimulatedPath.root)
        for run in self.runs:
            folder, losses = run_folder(root, run.run_id), expected(run.seed, run.steps)
            status = read_status(folder, run.steps)
            if status.state != "done":
                self.complaints.append(f"{run.run_id} is {status.state}: {status.reason}")
                continue
            series, evals = (_rows(folder, kind) for kind in ("series", "evals"))
            if series != [*enumerate(losses, 1)]:
                self.complaints.append(f"{run.run_id}: its series has the steps {[step for step, _ in series]}")
            if evals != [
                (step, (run.seed + run.steps) / PRIME if step == 0 else losses[step - 1])
                for step in run.evaluation_steps()
            ]:
                self.complaints.append(f"{run.run_id}: it is evaluated after the steps {[step for step, _ in evals]}")
            gap = harness.files.read_object(folder / "gap.json")
            if gap != {"mean": float(np.mean(losses)), "evaluations": len(run.evaluation_steps())}:
                self.complaints.append(f"{run.run_id}: {gap} was measured")
        self.complaints += [f"{name} is left" for name in ("queue", "checkpoints") if (root / name).exists()]

    # Who does what

    def user(self) -> None:
        """Give the command again until all runs have ended, and once more without faults."""
        for number in range(ROUNDS):
            command = self.cluster.start(f"command-{number}", functools.partial(self._command, self.rng.random() < 0.3))
            self._see_through()
            statuses = self._statuses()
            self._watch(statuses)
            if command.code == 0 and all(status.state == "done" for status in statuses.values()):
                break
        self.cluster.faults.clear()
        self.cluster.full = 0
        self.cluster.start("last", functools.partial(self._command, True))

    def _statuses(self) -> dict[str, Status]:
        root = Path(SimulatedPath.root)
        return {run.run_id: read_status(run_folder(root, run.run_id), run.steps) for run in self.runs}

    def _watch(self, statuses: dict[str, Status]) -> None:
        """What had finished is as it was."""
        for run_id, status in statuses.items():
            if run_id in self.results and status.state != "done":
                self.complaints.append(f"{run_id} had finished, and is {status.state}")
            if status.state == "done":
                with contextlib.suppress(FileNotFoundError):
                    gap = (run_folder(Path(SimulatedPath.root), run_id) / "gap.json").read_bytes()
                    if self.results.setdefault(run_id, gap) != gap:
                        self.complaints.append(f"{run_id} had finished, and was measured anew: {gap}")
            if status.state == "failed":
                self.complaints.append(f"{run_id} failed: {status.reason}")

    def _command(self, alone: bool) -> None:
        """`isogap run`, as harness.launch.sweep does it: alone with workers, or with an array of jobs."""
        out, me = self.out, self.cluster.me()
        stop = Stop()
        try:
            if not withdraw(out):
                self.complaints.append("a queue was not withdrawn though nobody trains")
            statuses = read_statuses(out, self.runs)
            for run in self.runs:
                if statuses[run.run_id].state in ("failed", "lost"):
                    write_status(run_folder(out, run.run_id), Status("pending", 0, run.steps))
            ended = {run_id for run_id, status in statuses.items() if status.state == "done"}
            shape = shape_of(self.runs[0], MICRO_TOKENS)
            made = packs(self.runs, MICRO_TOKENS, {shape.signature: SLOTS}, self.rng.randint(1, 3))
            waiting = [pack for pack in made if any(run.run_id not in ended for run in pack.runs)]
            session = Session(out, out / "cache", executor="local" if alone else "slurm")
            if waiting and not alone:
                lay_queue(out, [[run.run_id for run in pack.runs] for pack in waiting])
                for _ in range(self.rng.randint(1, 3)):
                    self._job(self.rng.randint(0, 2), session, frozenset(ended))
                return
            for run_id, status in statuses.items():
                if status.state == "interrupted":
                    write_status(run_folder(out, run_id), status)
            me.told = lambda number: stop.take(number, None)
            queue = PackQueue(session, stop, lambda ids: None, deque(waiting), ended)
            local.train_in_workers(queue, self.rng.randint(1, 2), "worker")
            drop_checkpoints(out, {status.state for status in read_statuses(out, self.runs).values()})
        except OSError as error:
            self._refused(error)

    def _see_through(self) -> None:
        """Wait until nothing runs any more. Slurm queues jobs that were killed again, some times."""
        while True:
            self.cluster.wait(lambda: any(job.code == -9 for job, *_ in self.jobs) or self._quiet())
            for killed in [job for job in self.jobs if job[0].code == -9]:
                self.jobs.remove(killed)
                if killed[1]:
                    self._job(killed[1] - 1, *killed[2:])
            if self._quiet():
                self.jobs.clear()
                return

    def _quiet(self) -> bool:
        return not any(process.alive for process in self.cluster.processes if process.name != "user")

    def _job(self, restarts: int, session: Session, ended: frozenset[str]) -> None:
        """Start a job of Slurm."""
        name, stop = f"job-{next(self.names)}", Stop()

        def main() -> None:
            self.cluster.me().told = lambda number: stop.take(number, None)
            try:
                slurm_job.work(session, ended, 1, name, stop)
            except OSError as error:
                self._refused(error)

        self.jobs.append((self.cluster.start(name, main), restarts, session, ended))

    def _refused(self, error: OSError) -> None:
        """The disk was full, or another process has taken what this one wanted."""
        self.cluster.trace.append((self.cluster.now, self.cluster.me().name, f"ERROR: {reason_of(error)}"))
        if error.filename is None:
            self.complaints.append(f"an error without a file: {reason_of(error)}")
        self.cluster.exit(2)

    def patched(self) -> contextlib.ExitStack:
        """The production code on the simulated cluster."""
        cluster, stack = self.cluster, contextlib.ExitStack()
        replacements = {
            harness.files: {"os": cluster.os, "open": cluster.open, "shutil": cluster.shutil},
            leases: {"os": cluster.os, "time": cluster.time, "threading": cluster.threading, "BEAT_SECONDS": 10.0},
            segments: {"parquet_bytes": rows_bytes, "read_parquet": read_rows},
            checkpoint: {
                "time": cluster.time, "threading": cluster.threading, "_write_leaves": self.write_leaves,
                "_read_leaves": self.read_leaves,
            },
            pack_training: {"train_pack": self.train_pack},
            sessions: {"time": cluster.time},
            slots: {"segment_columns": lambda documents: {"step": [step for step, _ in documents]}},
            local: {"spawn": self.spawn, "wait": self.wait},
            slurm_job: {
                "os": cluster.os, "time": cluster.time, "SEEK_SECONDS": 10.0,
                "Leases": functools.partial(leases.Leases, clock=cluster.time.monotonic),
                "print": lambda *_, **__: None,
                "Console": lambda **_: Console(quiet=True), "read_configs": lambda out: self.runs,
            },
        }  # fmt: skip
        for module, names in replacements.items():
            stack.enter_context(mock.patch.multiple(module, create=True, **names))
        return stack


def _rows(folder: Path, kind: str) -> list[tuple[int, float]]:
    """(step, loss) of all rows of a run."""
    tables = [read_rows(path).to_pydict() for path in segment_paths(folder, kind)]
    return [row for columns in tables for row in zip(*columns.values(), strict=True)]


@functools.cache
def _runs() -> list[RunConfig]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(SPEC)
        file.flush()
        return list(load(file.name).configs)


@functools.cache
def _begun(root: Path) -> Path:
    """The folder of a sweep of which nothing was trained."""
    folder = root / "begun"
    lay_out(folder, SPEC, _runs())
    shape = shape_of(_runs()[0], MICRO_TOKENS)
    write_packing(folder, Packing(1, MICRO_TOKENS, {shape.signature: SLOTS}))
    return folder


def simulate(seed: int, root: Path) -> Verdict:
    """Run one schedule.

    Args:
        root: a folder, best in a file system in memory, that schedules one after another may share.
    """
    out = root / "out"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(_begun(root), out)
    simulation = Simulation(seed, out)
    with simulation.patched():
        simulation.cluster.start("user", simulation.user)
        try:
            simulation.cluster.run()
        except Endless as error:
            simulation.complaints.append(f"it does not end: {error}")
        simulation.check()
    return replace(
        Verdict(seed, (), ()), complaints=tuple(simulation.complaints), trace=tuple(simulation.cluster.trace)
    )


def trace_of(verdict: Verdict) -> str:
    """The operations of a schedule, one a line."""
    return "\n".join(f"{when:10.2f} {process:24} {what}" for when, process, what in verdict.trace)


def simulate_many(first: int, count: int) -> list[Verdict]:
    """The verdicts of those schedules that were not as they should be, without their traces."""
    logging.getLogger("isogap").setLevel(logging.CRITICAL)  # damaged checkpoints are part of the game
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="isogap-", dir=memory if memory.is_dir() else None) as root:
        verdicts = (simulate(seed, Path(root)) for seed in range(first, first + count))
        return [replace(verdict, trace=()) for verdict in verdicts if verdict.complaints]


def replay(seed: int) -> Verdict:
    """The verdict of one schedule, with its trace."""
    with tempfile.TemporaryDirectory(prefix="isogap-") as root:
        return simulate(seed, Path(root))
