"""Running a sweep on this machine: one process, or several that take packs from one list."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from harness.launch.faults import Outcome, after_fault, all_ended, any_bad
from harness.launch.packing import Packing, read_packing, write_packing
from harness.machine.processes import spawn
from harness.record.heartbeat import Pulse
from sweeps.errors import reason_of
from sweeps.packs import Pack

SAVE_SECONDS = 20.0


@dataclasses.dataclass
class Stop:
    """Why to stop between two dispatches: a signal, the time limit, or a failure under --fail-fast."""

    deadline: float | None = None
    signal_number: int | None = None
    failed: bool = False

    def __call__(self) -> bool:
        late = self.deadline is not None and time.monotonic() > self.deadline
        return late or self.failed or self.signal_number is not None

    def listen(self) -> None:
        """Let SIGTERM and SIGINT set the reason instead of ending the process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.take)

    def take(self, number: int, _frame: object) -> None:
        """The handler of a signal."""
        self.signal_number = number


@dataclasses.dataclass(frozen=True)
class Job:
    """What is the same for all packs of a sweep.

    Attributes:
        out: the sweep's folder.
        cache: of prepared data and compiled programs.
        packing: see `harness.launch.packing`.
        fail_fast: stop at the first run that fails or diverges.
    """

    out: Path
    cache: Path
    packing: Packing
    fail_fast: bool


def run_packs(
    packs: Sequence[Pack], job: Job, workers: int, stop: Stop, ended: Callable[[Iterable[str]], None]
) -> None:
    """Train all packs; statuses and records tell how it went.

    Args:
        workers: processes; each is pinned to its share of the cores when there are several.
        ended: told the ids of a pack's runs when it was left.

    Raises:
        OSError: the sweep's folder cannot be written.
    """
    todo = deque(packs)
    if workers == 1:
        _run_here(todo, job, stop, ended)
    else:
        _run_in_workers(todo, job, workers, stop, ended)


def _run_here(todo: deque[Pack], job: Job, stop: Stop, ended: Callable[[Iterable[str]], None]) -> None:
    from harness.train.clock import Spent
    from harness.train.pack import key_of
    from harness.train.programs import compile_ahead

    def train(pack: Pack, following: Pack | None) -> Outcome:
        if following is not None:
            compile_ahead(key_of(following))
        return train_pack_here(pack, job, stop, pulse)

    with Pulse(job.out, Spent()) as pulse:
        train_in_turn(todo, job, stop, ended, train)


def train_in_turn(
    todo: deque[Pack], job: Job, stop: Stop, ended: Callable[[Iterable[str]], None],
    train: Callable[[Pack, Pack | None], Outcome],
) -> None:  # fmt: skip
    """Train one pack after another.

    Args:
        train: is given a pack, and the next one if that needs other programs.
    """
    while todo and not stop():
        pack = todo.popleft()
        outcome = train(pack, todo[0] if todo and todo[0].shape != pack.shape else None)
        settle(pack, outcome, job, todo, stop)
        ended(run.run_id for run in pack.runs)


def settle(pack: Pack, outcome: Outcome, job: Job, todo: deque[Pack], stop: Stop) -> None:
    """After a pack: what remains of it is put before the others, and --fail-fast is obeyed.

    Raises:
        OSError: its folder could not be written.
    """
    if outcome.kind == "folder":
        raise OSError(None, outcome.reason, outcome.path)
    remaining = after_fault(pack, outcome, job.out)
    for other in remaining:
        if other.slots != pack.slots:
            halve(pack, other.slots, job, todo)
    todo.extendleft(reversed(remaining))
    stop.failed |= job.fail_fast and any_bad(pack.runs, job.out)


def halve(pack: Pack, slots: int, job: Job, todo: deque[Pack]) -> None:
    """From now on the shape's packs have fewer slots; that is recorded."""
    packing = read_packing(job.out) or job.packing
    write_packing(job.out, dataclasses.replace(packing, slots=packing.slots | {pack.shape.signature: slots}))
    for index, other in enumerate(todo):
        if other.shape == pack.shape:
            todo[index] = dataclasses.replace(other, slots=slots)


def train_pack_here(pack: Pack, job: Job, should_stop: Callable[[], bool], pulse: Pulse) -> Outcome:
    """Train a pack in this process, whose JAX is configured; what is wrong comes back as the outcome."""
    from harness.train.hosts import PeerError
    from harness.train.pack import Session, train_pack

    session = Session(job.out, job.cache, SAVE_SECONDS, should_stop, job.fail_fast, pulse.spent, pulse.follow)
    try:
        train_pack(pack, session)
    except OSError as error:
        if error.filename is None:
            return Outcome("fault", reason_of(error), traceback.format_exc())
        return Outcome("folder", error.strerror or str(error), path=str(error.filename))
    except PeerError as error:
        return Outcome("called", str(error))
    except Exception as error:  # one pack's fault must not end the others
        text = str(error)
        lacking = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "Out of memory" in text
        return Outcome("memory" if lacking else "fault", reason_of(error), traceback.format_exc())
    return Outcome("ended")


@dataclasses.dataclass
class _Worker:
    process: Any
    connection: Connection
    pack: Pack | None = None


def _run_in_workers(
    todo: deque[Pack], job: Job, workers: int, stop: Stop, ended: Callable[[Iterable[str]], None]
) -> None:
    cores = sorted(os.sched_getaffinity(0))

    def started(number: int) -> _Worker:
        return _Worker(*spawn(_serve, job, number, cores[number::workers] or cores, stop.deadline))

    crew: dict[int, _Worker] = {}
    told = False
    try:
        while any(worker.pack for worker in crew.values()) or (todo and not stop()):
            for number in range(workers):
                if todo and not stop():
                    crew[number] = crew.get(number) or started(number)
                    _give(crew[number], todo)
            wait([worker.connection for worker in crew.values()], timeout=0.5)
            for number, worker in [*crew.items()]:
                if not worker.connection.poll():
                    continue
                outcome, pack, worker.pack = _taken(worker), worker.pack, None
                if not worker.process.is_alive():
                    del crew[number]
                if pack is not None:
                    settle(pack, outcome, job, todo, stop)
                    ended(run.run_id for run in pack.runs)
                if pack is not None and outcome.kind == "ended" and not stop() and not all_ended(pack.runs, job.out):
                    # Somebody told that worker alone to stop, and it takes no more.
                    todo.appendleft(pack)
                    crew.pop(number, worker).connection.close()
            if stop() and not told:
                told = True
                for worker in crew.values():
                    worker.process.terminate()
    except BaseException:
        # None may write any more when the sweep's lock falls.
        for worker in crew.values():
            worker.process.kill()
        raise
    finally:
        for worker in crew.values():
            worker.connection.close()
            worker.process.join()


def _give(worker: _Worker, todo: deque[Pack]) -> None:
    """Give a worker that has nothing to do the next pack."""
    if worker.pack is None:
        with contextlib.suppress(OSError):  # it has just died, which is seen next
            worker.connection.send(todo[0])
            worker.pack = todo.popleft()


def _taken(worker: _Worker) -> Outcome:
    """What a worker says of its pack, or its death does."""
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode
        # Told to stop before it listened, of which no run is guilty.
        return Outcome("ended") if code == -signal.SIGTERM else Outcome("fault", f"its process died ({_how(code)})")


def _how(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"


def _serve(connection: Connection, job: Job, number: int, cores: list[int], deadline: float | None) -> None:
    """A worker: train the packs that come through the connection until it is closed."""
    stop = Stop(deadline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one sends SIGTERM on
    signal.signal(signal.SIGTERM, stop.take)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.sched_setaffinity(0, cores)
    from harness.machine.platform import configure_jax

    # As many devices as one process for all cores would have: another split of the slots would round otherwise, and
    # the tables would depend on the number of workers. Two devices on one core cost no more than one; four, 15 %.
    configure_jax(job.cache, job.packing.devices)
    from harness.train.clock import Spent

    with Pulse(job.out, Spent(), f"worker-{number}") as pulse:
        while True:
            try:
                pack = connection.recv()
            except EOFError:
                break
            connection.send(train_pack_here(pack, job, stop, pulse))
    os._exit(0)  # a thread may still compile


def _end_with_parent() -> None:
    """Die with the process that holds the sweep's lock: whoever takes the lock next trains the same runs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
