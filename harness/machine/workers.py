"""What processes of one core each train at the same time, measured: the other way to use a CPU than one process with a
device a core. On two cores they trained 5 to 23 % more tokens at width 32 and 3 to 6 % at width 128: the threads of one
process wait for each other."""

import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import jax

from harness.machine.processes import spawn
from harness.machine.trial import try_out
from sweeps.shape import Shape

SECONDS = 1.5


def measure_crew(cases: Sequence[tuple[Shape, int]], processes: int) -> tuple[float, list[float], list[float]]:
    """Compile and train shapes in several processes at once, pinned to a core and with one device each.

    Args:
        cases: shapes and slots.

    Returns:
        seconds until a process was ready to compile; for each case the longest time to compile, and the FLOP/s of all
        processes together.
    """
    cores = sorted(os.sched_getaffinity(0))
    began = time.perf_counter()
    members = [spawn(_member, core, cases) for core in cores[:processes]]

    def all_say() -> list[Any]:
        return [connection.recv() for _, connection in members]

    all_say()
    ready = time.perf_counter() - began
    compiling, speeds = [], []
    for _ in cases:
        compiling.append(max(all_say()))
        for _, connection in members:
            connection.send("go")
        speeds.append(sum(all_say()))
    for process, _ in members:
        process.join()
    return ready, compiling, speeds


def _member(connection: Connection, core: int, cases: Sequence[tuple[Shape, int]]) -> None:
    os.sched_setaffinity(0, [core])
    jax.config.update("jax_num_cpu_devices", 1)
    jax.devices()
    connection.send("ready")
    for shape, slots in cases:
        trial = try_out(shape, slots)
        connection.send(trial.compile_seconds)
        connection.recv()
        # All work for the same time, so that each is timed while the others work, too.
        began, times = time.perf_counter(), []
        while time.perf_counter() - began < SECONDS:
            before = time.perf_counter()
            jax.block_until_ready(trial.advance(trial.turns))
            times.append((time.perf_counter() - before) / trial.turns)
        connection.send(slots * shape.turn_flops / min(times))
