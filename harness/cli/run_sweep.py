"""`isogap run`: train a sweep, and exit with its status."""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import typer

from harness.files import default_cache, open_folder
from harness.launch.sweep import run_sweep
from harness.train.session import PeerError, Session
from sweeps.errors import InputError


def train_sweep(
    sweep: str, out: str, cache: Path | None, track: list[str], executor: str, address: str | None, slurm: list[str],
    retry: str | None, **options: Any,
) -> None:  # fmt: skip
    """Train what has not ended yet, and end the process with the sweep's status.

    Raises:
        InputError: a bad spec or option, or a folder that cannot be used.
        typer.Exit: always otherwise, with the exit status.
    """
    if executor not in ("local", "slurm", "ray"):
        raise InputError("--executor", "value", executor, "local, slurm or ray")
    try:
        options |= {"track": tuple(track), "executor": executor, "address": address or "auto", "slurm": tuple(slurm)}
        options["retry"] = tuple(state.strip() for state in retry.split(",")) if retry is not None else ()
        status = run_sweep(sweep, Session(open_folder(out), cache or default_cache(), **options))
    except PeerError as error:
        print(f"isogap: {error}".replace("\n", " "), file=sys.stderr)
        end_process(1)  # the interpreter's end would wait for the other processes
    if status in (130, 143):
        end_process(status)  # a thread may be compiling, and the interpreter's end would wait for it
    raise typer.Exit(status)


def end_process(status: int) -> NoReturn:
    """End this process without waiting for threads or other processes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
