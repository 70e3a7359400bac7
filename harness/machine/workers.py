"""How fast several processes of one core each train at the same time.

This is the other way to use a CPU than one process with a device for each core. On two cores such processes trained
5 to 23 % more tokens at width 32 and 3 to 6 % more at width 128: the threads of one process wait for each other.
"""

import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import jax

from harness.machine.processes import spawn
from harness.machine.trial import try_out
from sweeps.shape import Shape

_SECONDS = 1.5


def measure_pinned_workers(
    cases: Sequence[tuple[Shape, int]], processes: int
) -> tuple[float, list[float], list[float]]:
    """Compile and train shapes in several processes at once, each pinned to a core and with one device.

    Args:
        cases: shapes and slots.

    Returns:
        seconds until a process was ready to compile; for each case the longest time to compile, and the FLOP/s of all
        processes together.
    """
    cores = sorted(os.sched_getaffinity(0))
    began = time.perf_counter()
    workers = [spawn(_train_pinned, cores[number], cases) for number in range(processes)]
    connections = [connection for _, connection in workers]

    def answers() -> list[Any]:
        return [connection.recv() for connection in connections]

    answers()
    ready = time.perf_counter() - began
    compiling, speeds = [], []
    for _ in cases:
        compiling.append(max(answers()))
        for connection in connections:
            connection.send("go")
        speeds.append(sum(answers()))
    for process, _ in workers:
        process.join()
    return ready, compiling, speeds


def _train_pinned(connection: Connection, core: int, cases: Sequence[tuple[Shape, int]]) -> None:
    """The work of one process: for each case it answers with the time to compile and then, after `go`, its FLOP/s."""
    os.sched_setaffinity(0, [core])
    jax.config.update("jax_num_cpu_devices", 1)
    jax.devices()
    connection.send("ready")
    for shape, slots in cases:
        trial = try_out(shape, slots)
        connection.send(trial.compile_seconds)
        connection.recv()
        # All processes work for the same time, so that each is timed while the others work, too.
        began, times = time.perf_counter(), []
        while time.perf_counter() - began < _SECONDS:
            before = time.perf_counter()
            jax.block_until_ready(trial.advance(trial.turns))
            times.append((time.perf_counter() - before) / trial.turns)
        connection.send(slots * shape.turn_flops / min(times))
