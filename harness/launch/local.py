"""Running a sweep on this machine: in this process, or in several workers that take packs from one queue."""

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from harness.launch.queue import Outcome, PackQueue, states_of
from harness.processes import end_with_parent, spawn
from harness.record.heartbeat import HeartbeatWriter
from harness.record.status import ENDED
from harness.train.session import PeerError, Session, Stop
from sweeps.errors import reason_of
from sweeps.packs import Pack

# Signals that end a process that does not listen yet: it was told to stop, which is no run's fault.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
# The outcome of a pack is the first of these that any host reports.
WORST = ("folder", "memory", "fault", "alarm", "ended")


def run_packs(queue: PackQueue, workers: int) -> None:
    """Train all packs; the runs' statuses and records tell how it went. OSError if the folder cannot be written.

    If there are several `workers`, each is a process that is pinned to its share of the cores.
    """
    if workers > 1:
        train_in_workers(queue, workers, "worker")
    else:
        train_in_turn(queue)


def train_in_turn(queue: PackQueue, announce: Callable[[Pack, Pack | None], None] = lambda pack, following: None):
    """Train one pack after another in this process, where JAX is configured, together with the other hosts if any.

    Args:
        announce: called with each pack before it is trained, and with the next one if that needs other programs.

    Raises:
        OSError: the sweep's folder cannot be written.
        PeerError: another host failed outside the training, or is lost.
    """
    with HeartbeatWriter(queue.session.out) as heartbeat:
        while queue.open():
            pack = queue.packs.popleft()
            following = queue.packs[0] if queue.packs and queue.packs[0].shape != pack.shape else None
            announce(pack, following)
            queue.settle(pack, train_on_all_hosts(pack, following, queue.session, queue.stop, heartbeat))


def train_on_all_hosts(
    pack: Pack, following: Pack | None, session: Session, stop: Stop, heartbeat: HeartbeatWriter
) -> Outcome:
    """Train a pack while the following one's programs compile, and return the worst outcome that any host reports."""
    from harness.train import hosts
    from harness.train.devices import key_of
    from harness.train.programs import compile_ahead

    if following is not None and hosts.hosts_of((key := key_of(following)).mesh).take_part:
        compile_ahead(key)
    outcome = train_pack_here(pack, session, stop, heartbeat)
    failed = outcome.kind != "ended"
    if failed:
        hosts.alarm(outcome.reason)
    outcomes = [Outcome(**each) for each in hosts.conclude(asdict(outcome), failed)]
    worst = min(outcomes, key=lambda each: WORST.index(each.kind))
    if worst.kind == "alarm":
        raise PeerError(worst.reason)
    return worst


def train_pack_here(pack: Pack, session: Session, stop: Stop, heartbeat: HeartbeatWriter) -> Outcome:
    """Train a pack in this process, where JAX is configured; a fault is returned as the outcome."""
    from harness.train.pack import train_pack

    try:
        train_pack(pack, session, stop, heartbeat)
    except OSError as error:
        if error.filename is None:
            return Outcome("fault", reason_of(error), traceback.format_exc())
        return Outcome("folder", error.strerror or str(error), path=str(error.filename))
    except PeerError as error:
        return Outcome("alarm", str(error))
    except Exception as error:  # one pack's fault must not end the others
        text = str(error)
        lacking = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "Out of memory" in text
        return Outcome("memory" if lacking else "fault", reason_of(error), traceback.format_exc())
    return Outcome("ended")


@dataclass
class _Worker:
    """A process that trains packs, and the pack it trains now."""

    process: SpawnProcess
    connection: Connection
    pack: Pack | None = None

    def give(self, queue: PackQueue) -> None:
        """Send this idle worker the next pack."""
        with contextlib.suppress(OSError):  # the worker has just died, which is noticed next
            self.connection.send(queue.packs[0])
            self.pack = queue.packs.popleft()

    def outcome(self) -> Outcome:
        """The outcome that the worker reports for its pack; if the worker has died, how it died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            if -code in STOPS:
                return Outcome("ended")
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            return Outcome("died", f"its process died ({how})")


def train_in_workers(queue: PackQueue, count: int, name: str) -> None:
    """Train the packs in `count` processes, each pinned to its share of the cores, whose heartbeats begin with `name`.

    A process that dies is replaced, and `harness.launch.queue.after_fault` says what becomes of its pack.

    Raises:
        OSError: the sweep's folder cannot be written.
    """
    session, stop = queue.session, queue.stop
    cores = sorted(os.sched_getaffinity(0))
    workers: dict[int, _Worker] = {}
    terminated = False
    try:
        # A queue is asked for another pack only by a worker that has none.
        while any(worker.pack for worker in workers.values()) or queue.open():
            for number in range(count):
                if (number not in workers or workers[number].pack is None) and queue.open():
                    if number not in workers:
                        share = cores[number::count] or cores
                        called = f"{name}-{number}"
                        workers[number] = _Worker(*spawn(_serve, session, called, share, stop.deadline))
                    workers[number].give(queue)
            wait([worker.connection for worker in workers.values()], timeout=0.5)
            for number, worker in [*workers.items()]:
                if not worker.connection.poll():
                    continue
                outcome, pack, worker.pack = worker.outcome(), worker.pack, None
                if not worker.process.is_alive():
                    del workers[number]
                if pack is None:
                    continue
                queue.settle(pack, outcome)
                if outcome.kind == "ended" and not stop() and set(states_of(pack.runs, session.out)) - set(ENDED):
                    # Somebody stopped that worker alone. It takes no more packs, and another goes on with this one.
                    queue.packs.appendleft(pack)
                    workers.pop(number, worker).connection.close()
            if stop() and not terminated:
                terminated = True
                for worker in workers.values():
                    worker.process.terminate()
    except BaseException:
        # No worker may write any more when this process gives up the sweep's lock.
        for worker in workers.values():
            worker.process.kill()
        raise
    finally:
        for worker in workers.values():
            worker.connection.close()
            worker.process.join()


def _serve(connection: Connection, session: Session, name: str, cores: list[int], deadline: float | None) -> None:
    """The work of a worker: train the packs that come through the connection until it is closed."""
    stop = Stop(deadline)
    for number in STOPS:  # Ctrl-C and Slurm's signals reach all processes; the first one passes them on as SIGTERM
        signal.signal(number, stop.take if number == signal.SIGTERM else signal.SIG_IGN)
    # The next process that holds the sweep's lock trains the same runs.
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.sched_setaffinity(0, cores)
    from harness.machine.platform import configure_jax

    # A worker has as many devices as one process on all cores would have. With another number the slots would be split
    # and rounded otherwise, and the results would depend on the number of workers. Two devices on one core cost no more
    # time than one; four cost 15 % more.
    configure_jax(session.cache, session.devices)
    with HeartbeatWriter(session.out, name=name) as heartbeat:
        while True:
            try:
                pack = connection.recv()
            except EOFError:
                break
            connection.send(train_pack_here(pack, session, stop, heartbeat))
    os._exit(0)  # a thread may still compile
