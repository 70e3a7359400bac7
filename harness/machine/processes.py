"""How isogap starts Python: every child imports the isogap of its parent, whatever the working folder holds.

`python -m` and `python -c` search the working folder first. A user's folder may hold packages `models` or `sweeps` of
its own, which would then be imported in place of isogap's. This module imports only the standard library.
"""

import multiprocessing
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

# The folder that holds the packages models, sweeps and harness.
HOME = Path(__file__).resolve().parents[2]


def drop_working_folder() -> None:
    """Take the working folder off this process's import path, unless isogap itself lies there."""
    here = Path.cwd()
    if here != HOME:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]


def run_module(module: str, *arguments: str) -> None:
    """Run `python -m MODULE ARGUMENTS` to its end.

    Raises:
        subprocess.CalledProcessError: its exit status is not 0.
    """
    environment = dict(os.environ)
    if str(HOME) not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        # A source tree: it is not necessarily the one that is installed.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HOME), environment.get("PYTHONPATH"))))
    subprocess.run([sys.executable, "-P", "-m", module, *arguments], check=True, env=environment)


def spawn(target: Callable[..., None], *arguments: Any) -> tuple[SpawnProcess, Connection]:
    """Start a process that calls `target(connection, *arguments)` and ends with this one.

    The child takes over the import path of this process. As with every spawned process, it imports the main module
    again, under another name.

    Returns:
        the process and this end of the connection, which raises EOFError when the process has ended.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *arguments), daemon=True)
    with _safe_path():
        process.start()
    there.close()  # so that the child's end is noticed here
    return process, here


@contextmanager
def _safe_path() -> Iterator[None]:
    """Let children leave the working folder out of their import path from their first import on."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
