"""How isogap starts Python: with memory in huge pages, and with children that import the isogap of their parent.

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

SETTING = "glibc.malloc.hugetlb=1"
SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# The folder that holds the packages models, sweeps and harness.
HOME = Path(__file__).resolve().parents[1]


def drop_working_folder() -> None:
    """Take the working folder off this process's import path, unless isogap itself lies there."""
    here = Path.cwd()
    if here != HOME:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]


def ask_for_huge_pages() -> None:
    """Start this process anew with an allocator that asks for pages of 2 MiB, which Linux gives on request.

    A training step walks through tens of megabytes. In pages of 4 KiB a step of 4 layers of width 128 took 185 ms on
    two cores of a virtual machine, in pages of 2 MiB 139 ms: page faults fell from 36,000 to 900 per dispatch. A
    virtual machine gains more than others, because a TLB miss there costs a walk through two page tables.

    A new start is needed because the C library reads its settings only once; call this function before any other work.
    It returns if the allocator asks for them already, or if asking does not help.
    """
    before = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" in before or not _on_request():
        return
    settings = f"{before}:{SETTING}" if before else SETTING
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"GLIBC_TUNABLES": settings})


def _on_request() -> bool:
    """Whether the system gives huge pages only to processes that ask for them, neither to all nor to none."""
    try:
        return "[madvise]" in SWITCH.read_text()
    except OSError:
        return False


def search_path() -> str:
    """The PYTHONPATH of processes that are to import this isogap: if it is a source tree, another may be installed."""
    before = os.environ.get("PYTHONPATH", "")
    if str(HOME) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return before
    return os.pathsep.join(filter(None, (str(HOME), before)))


def run_module(module: str, *arguments: str, given: bytes = b"") -> bytes:
    """Run `python -m MODULE ARGUMENTS` to its end, with `given` as its input, and return its output.

    Unlike a process of `spawn` it does not import this process's main module, which may be a script that would begin
    all over. CalledProcessError if its exit status is not 0.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": search_path()}
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True, env=environment).stdout


def spawn(target: Callable[..., None], *arguments: Any, daemon: bool = True) -> tuple[SpawnProcess, Connection]:
    """Start a process that calls `target(connection, *arguments)` and, as a daemon, ends with this one.

    A daemon may not have processes of its own.

    It returns the process and this end of the connection, which raises EOFError when the process has ended. The child
    inherits the import path of this process. As with every spawned process, it imports the main module again, under
    another name.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *arguments), daemon=daemon)
    with _safe_path():
        process.start()
    there.close()  # so that the child's end is noticed here
    return process, here


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, however that ends; for a thread of its own."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Make processes started inside leave the working folder out of their import path from their first import on."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
