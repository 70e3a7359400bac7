"""Simulate launcher, leases and record under faults: one seed is one schedule, `scripts/soak --simulate` runs many.

A sweep of four runs is trained on a simulated cluster (scripts/simulated_machines.py) by workers of one machine, or by
jobs that share its packs by leases. `isogap run` is given again until all runs have ended. The production code runs,
but for JAX (scripts/simulated_training.py).
"""

import contextlib
import functools
import json
import logging
import shutil
import signal
import tempfile
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import simulated_training as training
from rich.console import Console
from simulated_machines import Cluster, Endless, Process, SimulatedPath

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
from harness.record.status import Status, read_status, read_statuses, run_folder, write_status
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
  - {name: all, grid: {tokens: [160, 480], lr: [0.003, 0.01]}}
"""
# The slots of a pack.
SLOTS = 2
# How often the command is given at most until all runs have ended.
ROUNDS = 40
# Virtual seconds between two beats of a lease; and those in which a process that stood still must have ended, if
# another has taken its pack.
BEAT, GRACE = 10.0, 25.0


@dataclass(frozen=True)
class Verdict:
    """What a schedule showed: what was not as it should be, and if it is asked for a line for each operation."""

    seed: int
    complaints: tuple[str, ...]
    trace: tuple[str, ...]


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

    def recv(self) -> Any:
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
        self.complaints: list[str] = []
        SimulatedPath.cluster, SimulatedPath.root = self.cluster, root
        self.out = SimulatedPath(root)
        self.runs = _runs()
        self.training: defaultdict[str, set[Process]] = defaultdict(set)
        self.results: dict[str, bytes] = {}
        self.names = iter(range(10**6))
        self.jobs: list[tuple[Process, int, Session, frozenset[str]]] = []

    # In place of what needs JAX or another process

    def spawn(self, _serve: object, session: Session, name: str, *_: object) -> tuple[_Child, _End]:
        """In place of `harness.processes.spawn`: a worker that trains the packs that it is sent."""
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

    # What must hold

    def train_pack(self, pack: Pack, session: Session, stop: Stop, _: object) -> None:
        """Two processes train a run only if one of them has just stood still, or is about to end with its parent."""
        me, ids = self.cluster.me(), [run.run_id for run in pack.runs]

        def turn() -> None:
            for run_id in ids:
                for other in self.training[run_id] - {me}:
                    woke = max(me.machine.still, other.machine.still)
                    if other.alive and other.machine.alive and woke + GRACE < self.cluster.now:
                        self.complaints.append(f"{run_id} is trained by {other.name} and {me.name}")

        for run_id in ids:
            self.training[run_id].add(me)
        try:
            training.train_pack(self.cluster, pack, session, stop, turn)
        finally:
            for run_id in ids:
                self.training[run_id].discard(me)

    def check(self) -> None:
        """Complain of what is not as it should be when all processes have ended."""
        for run in self.runs:
            try:
                self._check(run, run_folder(SimulatedPath.root, run.run_id))
            except (OSError, ValueError) as error:
                self.complaints.append(f"{run.run_id}: {reason_of(error)}")
        for name in ("queue", "checkpoints"):
            if (SimulatedPath.root / name).exists():
                self.complaints.append(f"{name} is left")

    def _check(self, run: RunConfig, folder: Path) -> None:
        losses, status = training.expected(run), read_status(folder, run.steps)
        if status.state != "done":
            self.complaints.append(f"{run.run_id} is {status.state}: {status.reason}")
            return
        series, evals = _rows(folder, "series", "train_loss"), _rows(folder, "evals", "loss")
        if series != [*enumerate(losses)][1:]:
            self.complaints.append(f"{run.run_id}: its series has the steps {[step for step, _ in series]}")
        if evals != [(step, losses[step]) for step in run.evaluation_steps()]:
            self.complaints.append(f"{run.run_id}: it is evaluated after the steps {[step for step, _ in evals]}")
        gap = json.loads((folder / "gap.json").read_bytes())
        if gap != {"mean": float(np.mean(losses[1:])), "evaluations": len(run.evaluation_steps())}:
            self.complaints.append(f"{run.run_id}: {gap} was measured")

    # Who does what

    def user(self) -> None:
        """Give the command again until all runs have ended, and once more without faults."""
        for number in range(ROUNDS):
            command = self.cluster.start(f"command-{number}", functools.partial(self._command, self.rng.random() < 0.3))
            self._see_through()
            if self._all_done() and command.code == 0:
                break
        self.cluster.faults.clear()
        self.cluster.full = 0
        self.cluster.start("last", functools.partial(self._command, True))

    def _all_done(self) -> bool:
        """Whether all runs are done, while nothing trains; what was done then must be as it was."""
        states = set()
        for run in self.runs:
            folder, run_id = run_folder(SimulatedPath.root, run.run_id), run.run_id
            states.add(state := read_status(folder, run.steps).state)
            if run_id in self.results and state != "done":
                self.complaints.append(f"{run_id} had finished, and is {state}")
            if state == "done":
                gap = (folder / "gap.json").read_bytes() if (folder / "gap.json").exists() else b""
                if self.results.setdefault(run_id, gap) != gap:
                    self.complaints.append(f"{run_id} had finished, and was measured anew: {gap}")
            if state == "failed":
                self.complaints.append(f"{run_id} has failed")
        return states == {"done"}

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
            shape = shape_of(self.runs[0], training.MICRO_TOKENS)
            made = packs(self.runs, training.MICRO_TOKENS, {shape.signature: SLOTS}, self.rng.randint(1, 3))
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
        cluster = self.cluster
        while len(cluster.living) > 1:  # the user lives
            ended = cluster.ended
            cluster.wait(lambda ended=ended: cluster.ended > ended)
            for killed in [job for job in self.jobs if job[0].code == -9]:
                self.jobs.remove(killed)
                if killed[1]:
                    self._job(killed[1] - 1, *killed[2:])
        self.jobs.clear()

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
        self.cluster.note(self.cluster.me(), f"ERROR: {reason_of(error)}")
        if error.filename is None:
            self.complaints.append(f"an error without a file: {reason_of(error)}")
        self.cluster.exit(2)

    def patched(self) -> contextlib.ExitStack:
        """The production code on the simulated cluster."""
        stack, instead = contextlib.ExitStack(), self.cluster.instead()

        def modules(*names: str) -> dict[str, object]:
            return {name: instead[name] for name in names}

        replacements: dict[ModuleType, dict[str, object]] = {
            harness.files: modules("os", "secrets", "shutil") | {"open": self.cluster.open},
            leases: modules("os", "time", "threading") | {"BEAT_SECONDS": BEAT},
            segments: {"parquet_bytes": training.rows_bytes, "read_parquet": training.read_rows},
            checkpoint: modules("time", "threading")
            | {"_write_leaves": training.write_leaves, "_read_leaves": training.read_leaves},
            pack_training: {"train_pack": self.train_pack},
            sessions: modules("time"),
            slots: {
                "segment_columns": lambda documents: {"step": [step for step, _ in documents]},
                "read_documents": functools.partial(segments.read_segments, kind="documents"),
                "measure": training.measured,
            },
            local: {"spawn": self.spawn, "wait": self.wait},
            slurm_job: modules("os", "time")
            | {
                "SEEK_SECONDS": BEAT, "Leases": functools.partial(leases.Leases, clock=instead["time"].monotonic),
                "print": lambda *_, **__: None, "Console": lambda **_: Console(quiet=True),
                "read_configs": lambda out: self.runs,
            },
        }  # fmt: skip
        for module, names in replacements.items():
            stack.enter_context(mock.patch.dict(vars(module), names))
        return stack


def _rows(folder: Path, kind: str, loss: str) -> list[tuple[int, float]]:
    """(step, loss) of all rows of a run's record."""
    tables = [training.read_rows(path).to_pydict() for path in segments.segment_paths(folder, kind)]
    return [row for columns in tables for row in zip(columns["step"], columns[loss], strict=True)]


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
    shape = shape_of(_runs()[0], training.MICRO_TOKENS)
    write_packing(folder, Packing(1, training.MICRO_TOKENS, {shape.signature: SLOTS}))
    return folder


def simulate(seed: int, root: Path, *, traced: bool = False) -> Verdict:
    """Run one schedule.

    Args:
        root: a folder, best in a file system in memory, that schedules one after another may share.
        traced: whether the verdict holds the trace.
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
    trace = (
        f"{when:10.2f} {process:24} {what} {path}".replace(f"{root}/", "")
        for when, process, what, path in simulation.cluster.trace
    )
    return Verdict(seed, tuple(dict.fromkeys(simulation.complaints)), tuple(trace) if traced else ())


def _folder() -> tempfile.TemporaryDirectory[str]:
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="isogap-", dir=memory if memory.is_dir() else None)


def simulate_many(first: int, count: int) -> list[Verdict]:
    """The verdicts of those schedules that were not as they should be, without their traces."""
    quiet = mock.patch.object(logging.getLogger("isogap"), "disabled", True)  # damaged checkpoints are part of the game
    with quiet, _folder() as root:
        verdicts = (simulate(seed, Path(root)) for seed in range(first, first + count))
        return [verdict for verdict in verdicts if verdict.complaints]


def replay(seed: int) -> Verdict:
    """The verdict of one schedule, with its trace."""
    with _folder() as root:
        return simulate(seed, Path(root), traced=True)
