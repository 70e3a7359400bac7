"""What all packs of one `isogap run` have in common. This module does not import JAX."""

import dataclasses
import signal
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Session:
    """The options of how to run a sweep, which do not change what is recorded; sent to workers, Ray tasks and hosts.

    Attributes:
        out: the sweep's folder.
        cache: the folder of prepared data and compiled programs.
        workers: number of processes on this machine; None lets the calibration decide, see `sweeps.plan.divide`.
            On Slurm it is the number of jobs.
        executor: `local`, `slurm`, or `ray`.
        address: the address of the Ray cluster.
        slurm: what each job of Slurm asks for, as KEY=VALUE with the names of sbatch's options.
        hosts: how to find the other hosts, see `harness.launch.several.joined`; None for one host.
        fail_fast: whether to stop at the first run that fails or diverges.
        max_minutes: minutes after which to save and stop; None for no limit.
        retry: states (`diverged`, `failed`, `lost`) whose runs are trained again.
        track: names of the trackers to mirror to.
        following: seconds that the blocks of a study after this one will take, for the time to go; None outside of a
            study.
        devices: number of CPU devices of each process that trains, once it is known.
    """

    out: Path
    cache: Path
    workers: int | None = None
    executor: str = "local"
    address: str = "auto"
    slurm: tuple[str, ...] = ()
    hosts: str | None = None
    fail_fast: bool = False
    max_minutes: float | None = None
    retry: tuple[str, ...] = ()
    track: tuple[str, ...] = ()
    following: float | None = None
    devices: int = 1


class PeerError(RuntimeError):
    """Another host that trains the same packs failed."""


class PeerLost(PeerError):
    """Another host does not come, or cannot be reached."""


@dataclasses.dataclass
class Stop:
    """Whether to stop before the next dispatch: for a signal, a deadline of `time.monotonic`, or --fail-fast."""

    deadline: float | None = None
    signal_number: int | None = None
    failed: bool = False

    def __call__(self) -> bool:
        late = self.deadline is not None and time.monotonic() > self.deadline
        return late or self.failed or self.signal_number is not None

    def listen(self) -> None:
        """Let SIGTERM and SIGINT stop the training instead of ending the process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.take)

    def take(self, number: int, _frame: object) -> None:
        """Remember a signal, as its handler."""
        self.signal_number = number
