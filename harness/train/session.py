"""What all packs of one `isogap run` have in common. This module does not import JAX."""

import dataclasses
import signal
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Session:
    """How a sweep is run, which changes nothing of what is recorded. It is sent to workers, Ray tasks and other hosts.

    Attributes:
        out: the sweep's folder.
        cache: the folder of prepared data and compiled programs.
        workers: processes on this machine; None leaves it to what was measured, see `sweeps.plan.divide`.
        executor: `local`, or `ray`.
        address: the Ray cluster's.
        hosts: how to find the other hosts, see `harness.launch.several.joined`; None for one host.
        fail_fast: stop at the first run that fails or diverges.
        max_minutes: stop after that time.
        retry_failed: run failed runs again.
        track: names of trackers.
        devices: CPU devices of each process that trains, once it is known.
    """

    out: Path
    cache: Path
    workers: int | None = None
    executor: str = "local"
    address: str = "auto"
    hosts: str | None = None
    fail_fast: bool = False
    max_minutes: float | None = None
    retry_failed: bool = False
    track: tuple[str, ...] = ()
    devices: int = 1


class PeerError(RuntimeError):
    """Another host that trains the same packs failed."""


class PeerLost(PeerError):
    """Another host does not come, or cannot be reached."""


@dataclasses.dataclass
class Stop:
    """Why to stop between two dispatches: a signal, the `time.monotonic` of a deadline, a failure under --fail-fast."""

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
        """Handle a signal."""
        self.signal_number = number
