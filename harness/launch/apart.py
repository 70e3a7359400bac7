"""Runs a sweep in a process of its own, so that several can follow each other in one command.

What a sweep sets lasts as long as its process: the number of devices that JAX splits the CPU into, which its packing
decides, and what a signal does.
"""

import signal
import threading
from collections.abc import Set
from multiprocessing.connection import Connection

from harness.launch.sweep import STOPPED, run_sweep
from harness.processes import end_with_parent, spawn
from harness.train.session import Session
from sweeps.errors import InputError


def run_sweep_apart(sweep: str, session: Session, elsewhere: Set[str] = frozenset()) -> int:
    """`harness.launch.sweep.run_sweep` in another process, which ends with this one and gets its SIGTERM and SIGINT.

    Returns:
        its exit status; if a signal ended it, 128 and the number of that which this process got, or else of its own.

    Raises:
        InputError: as `run_sweep`.
    """
    process, connection = spawn(_run, sweep, session, elsewhere, daemon=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    received = []

    def pass_on(number: int, _frame: object) -> None:
        received.append(number)
        process.terminate()

    try:
        for number in before:
            signal.signal(number, pass_on)
        answer = connection.recv()
    except EOFError:
        answer = None
    finally:
        process.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    if isinstance(answer, tuple):
        raise InputError(*answer)
    if answer is None:
        code = process.exitcode or 1
        answer = 128 - code if code < 0 else code
    # In a terminal the other process gets SIGINT, too, and may end by the SIGTERM that follows from here.
    return 128 + received[0] if received and answer in STOPPED.values() else answer


def _run(connection: Connection, sweep: str, session: Session, elsewhere: Set[str]) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        connection.send(run_sweep(sweep, session, elsewhere))
    except InputError as error:
        connection.send((error.where, error.field, error.value, error.expected))
