"""What each job of a Slurm array does: it works through a sweep's packs by leases, with other jobs beside it.

The jobs need no network between them: which job trains which pack is settled in the sweep's folder
(`harness.record.leases`). A job is two processes at least: one that holds leases and listens to Slurm, and one that
trains, whose death the first one survives.
"""

import contextlib
import dataclasses
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.files import remove_tree, write_bytes
from harness.launch.local import train_in_workers
from harness.launch.packing import read_packing
from harness.launch.queue import Outcome, PackQueue, after_fault, drop_checkpoints, interrupt, states_of
from harness.record.heartbeat import keep_killed
from harness.record.leases import DONE, FREE, STANDBY, Lease, Leases, entries
from harness.record.status import ENDED
from harness.record.sweep_folder import read_configs
from harness.track.mirror import tracking
from harness.train.session import Session, Stop
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.packs import Pack, make_pack
from sweeps.shape import shape_of

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

# Seconds between two looks for a pack, of a job that waits for one.
SEEK_SECONDS = 2.0
# Number of jobs in a row that died with a pack, after which the runs that were in its slots are suspected.
JOB_DEATHS = 3
# Signals after which a job saves and is queued again: USR2 is submitit's, before the time limit.
REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)


@dataclasses.dataclass(frozen=True)
class Job:
    """What each job of the array does, as submitit wants it: a call, and what to call when the job is queued again.

    Attributes:
        ended_before: the ids of runs that ended before the array was submitted.
        processes: how many processes of the job train.
    """

    session: Session
    ended_before: frozenset[str]
    processes: int

    def __call__(self, index: int) -> None:
        """Train packs until none is left or Slurm stops the job; then, if it shall go on later, queue it again."""
        from submitit import JobEnvironment

        requeue = signal.getsignal(signal.SIGUSR2)  # submitit's
        stop = Stop()
        for number in (signal.SIGTERM, signal.SIGINT, *REQUEUE):
            signal.signal(number, stop.take)
        # Slurm may start a job again while its processes still run on a node that it calls down.
        name = f"job-{JobEnvironment().job_id}-start-{os.environ.get('SLURM_RESTART_COUNT', 0)}"
        try:
            check_gpus(platform_here)
            work(self.session, self.ended_before, self.processes, name, stop)
        except InputError as error:
            raise SystemExit(f"isogap: {error}") from None
        except OSError as error:
            if error.filename is None:
                raise
            raise SystemExit(f"isogap: {error.filename}: {error.strerror}") from None
        number = stop.signal_number
        if number is not None and number in REQUEUE and callable(requeue):
            requeue(number, None)

    def checkpoint(self, index: int) -> "DelayedSubmission":
        """The call that goes on when the job begins again: the same, because the sweep's folder says what is left."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self, index)


def check_gpus(platform_of: Callable[[], str]) -> None:
    """Refuse to train on CPU cores where Slurm has given GPUs, which would go unnoticed but for the time it takes.

    Args:
        platform_of: JAX's name of the devices that it finds.

    Raises:
        InputError: JAX finds no GPU, and the user's JAX_PLATFORMS does not say that this is meant.
    """
    gpus = os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS")
    if gpus and "cpu" not in os.environ.get("JAX_PLATFORMS", "") and platform_of() == "cpu":
        expected = (
            "that JAX finds them; it finds CPUs only: pip install 'isogap[cuda]', look at nvidia-smi on "
            f"{platform.node()}, or ask for no GPUs"
        )
        raise InputError("Slurm", "GPUs of this job", f"device {gpus}", expected)


def platform_here() -> str:
    """JAX's name of the devices of this machine. Another process asks JAX: this one shall not hold a GPU's memory."""
    asking = [sys.executable, "-P", "-c", "import jax; print(jax.default_backend())"]
    told = subprocess.run(asking, capture_output=True, text=True).stdout.split()
    return told[-1] if told else "unknown"


def work(session: Session, ended_before: frozenset[str], processes: int, name: str, stop: Stop) -> None:
    """Train one pack after another, until every pack is done or other jobs have those that are left.

    When `stop` says so, what trains is saved, and its packs are free for other jobs.

    Args:
        processes: how many processes train.
        name: a name of this job that no other has or had.

    Raises:
        OSError: the sweep's folder cannot be written.
    """
    out, runs = session.out, {run.run_id: run for run in read_configs(session.out)}
    console = Console(width=200)
    held: dict[str, list[RunConfig]] = {}
    failed = out / "queue" / ".failed"  # there if --fail-fast stops all jobs

    def lost() -> None:
        print("isogap: another job has taken this job's pack over, because this one stood still", flush=True)
        os._exit(1)  # its workers end with it

    trackers: dict[str, contextlib.ExitStack] = {}
    # Packs are free before the trackers have the last rows, for which a job that is to end may have no time.
    with contextlib.ExitStack() as stack, Leases(out, name, lost) as leases:

        def refill() -> list[Pack]:
            while not stop():
                if failed.exists():
                    stop.failed = True
                elif (lease := leases.take()) is not None:
                    held[lease.number] = [runs[run_id] for run_id in lease.runs]
                    trackers[lease.number] = tracker = stack.enter_context(contextlib.ExitStack())
                    tracker.enter_context(tracking(session.track, out, held[lease.number], console))
                    console.print(f"pack {lease.number}: {len(lease.runs)} runs", highlight=False)
                    if packs := _packs_of(lease, held[lease.number], out):
                        return packs
                    ended(lease.runs)
                elif leases.holding or not leases.stay():
                    break
                else:
                    time.sleep(SEEK_SECONDS)
            return []

        def ended(run_ids: Iterable[str]) -> None:
            gone = set(run_ids)
            for number, its in [*held.items()]:
                if gone & {run.run_id for run in its} and set(states_of(its, out)) <= set(ENDED):
                    trackers.pop(number).close()
                    leases.end(number)
                    del held[number]

        queue = PackQueue(session, stop, ended, deque(), ended_before, refill)
        train_in_workers(queue, processes, name)
        if stop.failed:
            write_bytes(failed, b"")
    states = states_of(list(runs.values()), out)
    if all(entry.holder == DONE or (entry.number, entry.holder) == (STANDBY, FREE) for entry in entries(out)):
        remove_tree(out / "queue")
        drop_checkpoints(out, states)
    counts = Counter(states)
    console.print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())), highlight=False)


def _packs_of(lease: Lease, runs: Sequence[RunConfig], out: Path) -> list[Pack]:
    """The packs to train for a lease. If jobs died with it again and again, its runs are tried alone."""
    packing = read_packing(out)
    assert packing is not None  # it was settled before the array was submitted
    shape = shape_of(runs[0], packing.micro_tokens)
    pack = make_pack(shape, packing.slots[shape.signature], runs)
    if lease.before:
        keep_killed(out, f"{lease.before}-*")
    if lease.deaths >= JOB_DEATHS:
        return after_fault(pack, Outcome("died", f"its job died {lease.deaths} times"), out)
    interrupt(runs, out)
    return [pack]
