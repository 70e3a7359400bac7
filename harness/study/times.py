"""The times of a study's shapes: measured alone, after its runs, and joined to its table of runs."""

import os
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd

from harness.processes import end_with_parent, spawn
from sweeps.config import RunConfig

# How often every shape is timed.
TIMING_ROUNDS = 30


def with_times(known: pd.DataFrame, runs: Sequence[RunConfig], cache: Path) -> pd.DataFrame:
    """A study's table with the times of all its shapes, measured now if a row has none.

    Times depend on the machine and on what else it does. So they are measured together or not at all: where one row
    lacks them, all are measured anew.

    Args:
        runs: the runs of the study's sweeps.
        cache: the folder of compiled programs.
    """
    if "step_seconds" in known and not known["step_seconds"].hasnans:
        return known
    ids = set(known["run_id"])
    times = pd.DataFrame(_measure_apart([run for run in runs if run.run_id in ids], cache))
    further = [*times][[*times].index("step_seconds") :]  # the columns before describe the run, and are there
    return known.drop(columns=further, errors="ignore").merge(times[["run_id", *further]], on="run_id", how="left")


def _measure_apart(runs: Sequence[RunConfig], cache: Path) -> list[dict[str, Any]]:
    """A row for each run, in a process of its own: training has split the CPU of its own processes into devices."""
    process, connection = spawn(_measure, runs, cache)
    try:
        return connection.recv()
    except EOFError:
        raise RuntimeError("the process that measures times ended before it had any") from None
    finally:
        process.join()


def _measure(connection: Connection, runs: Sequence[RunConfig], cache: Path) -> None:
    """Time every shape in rounds, on one device; of a CPU, on one thread, whichever core the system gives it.

    Where other programs used both of two cores, the least of 30 steps of 12 layers of width 40 was 23 ms on two
    threads, which wait for each other, and 17 ms on one that was bound to a core, and the medians were 2.2 and 1.3
    times that. Bound to a core it may also get a thirtieth of it, which happened.
    """
    threading.Thread(target=end_with_parent, daemon=True).start()
    import jax

    from harness.machine import platform
    from harness.machine.shape_times import row_of, shapes_of, time_in_rounds, timed_shape
    from harness.train.accelerators import accelerator_of
    from sweeps.shape import micro_tokens_of

    platform.configure_jax(cache, 1)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(cores)])  # JAX makes a thread for each core that it sees
    accelerator = accelerator_of(jax.devices()[0])
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)
    micro_tokens = micro_tokens_of(jax.default_backend(), accelerator and accelerator.memory)
    shapes = shapes_of(runs, micro_tokens)
    found = {
        timing.key: row_of(timing, measured)
        for timing, measured in zip(shapes, time_in_rounds(shapes, TIMING_ROUNDS), strict=True)
    }
    connection.send([found[timed_shape(run, micro_tokens).key] | {"run_id": run.run_id} for run in runs])
