"""The status of a run, which is stored as status.json in the run's folder."""

import contextlib
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from harness.files import json_bytes, read_bytes, read_object, write_files
from harness.record.segments import whole_ends
from sweeps.config import RunConfig

State = Literal["pending", "running", "interrupted", "done", "diverged", "failed", "lost"]
# States of runs that ended without a result. `lost`: the processes that trained it died, again and again.
WITHOUT_RESULT = ("diverged", "failed", "lost")
ENDED = ("done", *WITHOUT_RESULT)


@dataclasses.dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        state: `interrupted` is a run that a process began and left; it goes on from its checkpoint.
        step, steps: the numbers of finished and of planned steps.
        train_loss: loss of the last finished step in nats; None before the first step.
        reason: why it diverged, failed or was lost.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    state: State
    step: int
    steps: int
    train_loss: float | None = None
    reason: str = ""


_STATUS = TypeAdapter(Status)


def run_folder(out: Path, run_id: str) -> Path:
    """The folder of a run in a sweep's folder."""
    return out.joinpath("runs", run_id)  # half the time of two operators `/`, which matters for 10,000 runs


def write_status(folder: Path, status: Status) -> None:
    """Replace status.json. It is flushed to disk only if the run has ended."""
    write_files(status_file(folder, status), durable=status.state in ENDED)


def status_file(folder: Path, status: Status) -> dict[Path, bytes]:
    """status.json of a run, for `write_files`."""
    return {folder / "status.json": json_bytes(dataclasses.asdict(status))}


def read_status(folder: Path, steps: int, *, live: bool = True) -> Status:
    """The status of a run; `pending` without a file, `interrupted` for one that says running while nothing runs.

    If the file is damaged, a run whose gap and series are whole is done; any other goes on from its checkpoint.

    Args:
        steps: the planned number of steps, for a run that has no file yet.
        live: whether some process holds the sweep's lock.
    """
    try:
        status = _STATUS.validate_json(read_bytes(folder / "status.json"))
    except FileNotFoundError:
        return Status("pending", 0, steps)
    except ValueError:  # not text, not JSON, or not a status
        if max(whole_ends(folder)) == steps:
            with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
                read_object(folder / "gap.json")
                return Status("done", steps, steps)
        return Status("interrupted", 0, steps)
    return dataclasses.replace(status, state="interrupted") if status.state == "running" and not live else status


def read_statuses(out: Path, runs: Iterable[RunConfig]) -> dict[str, Status]:
    """The statuses by run id, read by the holder of the sweep's lock while nothing trains."""
    return {run.run_id: read_status(run_folder(out, run.run_id), run.steps, live=False) for run in runs}
