"""What a run's folder says of it, and the lock that tells a running sweep from a dead one."""

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from harness.record.files import write_json
from sweeps.errors import InputError

State = Literal["pending", "running", "interrupted", "done", "diverged", "failed"]
ENDED = ("done", "diverged", "failed")


@dataclasses.dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        state: `interrupted` is a run that some process began and left; it goes on where its checkpoint stands.
        step, steps: finished and planned.
        train_loss: of the last finished step, nats; None before the first.
        reason: why it diverged or failed.
    """

    state: State
    step: int
    steps: int
    train_loss: float | None = None
    reason: str = ""


def run_folder(out: Path, run_id: str) -> Path:
    """The folder of a run in a sweep's folder."""
    return out / "runs" / run_id


def write_status(folder: Path, status: Status) -> None:
    """Replace status.json."""
    write_json(folder / "status.json", dataclasses.asdict(status))


def read_status(folder: Path, steps: int, *, live: bool = True) -> Status:
    """The status of a run; `pending` without a file, `interrupted` for one that says running while nothing runs.

    Args:
        steps: planned, for runs that have no file yet.
        live: whether some process holds the sweep's lock.
    """
    try:
        status = Status(**json.loads((folder / "status.json").read_text()))
    except FileNotFoundError:
        return Status("pending", 0, steps)
    return dataclasses.replace(status, state="interrupted") if status.state == "running" and not live else status


@contextmanager
def sweep_lock(out: Path) -> Iterator[None]:
    """Hold the sweep's folder; the system frees it with the process, however that ends.

    Raises:
        InputError: another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise InputError(out, "lock", f"process {holder}", "no other isogap running in this folder") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_live(out: Path) -> bool:
    """Whether some process runs this sweep now."""
    try:
        with open(out / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
