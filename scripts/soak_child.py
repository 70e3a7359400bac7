"""`isogap` as scripts/soak.py starts it: it saves often, notes what it has flushed to disk, and may be disturbed from
within, its workers too.

SOAK in the environment is JSON: `out`, the sweep's folder; `flushed`, a file; `clock`, whether time.time jumps;
`broken`, whether the first measurement of a run raises; `left`, how many more files it may touch after SIGUSR1, or
from the start if it is `armed`.
"""

import json
import os
import random
import signal
import sys
import time

from harness.record import heartbeat
from harness.train import pack, slot

told = json.loads(os.environ["SOAK"])
pack.SAVE_SECONDS, pack.REPORT_SECONDS, heartbeat.HEARTBEAT_SECONDS = 1.0, 0.1, 0.1

flush, measure, now, rng = os.fsync, slot.measure, time.time, random.Random(os.getpid())


def flush_and_note(descriptor: int) -> None:
    """After os.fsync a line INODE TIME of the file, so that the soak knows what a loss of power would leave."""
    flush(descriptor)
    stat = os.fstat(descriptor)
    with open(told["flushed"], "a") as file:
        file.write(f"{stat.st_ino} {stat.st_mtime_ns}\n")


def measure_or_raise(*arguments):
    """The first measurement fails."""
    slot.measure = measure
    raise ZeroDivisionError("of the soak")


def count_down(event: str, arguments: tuple) -> None:
    """Die by SIGKILL before a file of the sweep is opened for writing, renamed, made or removed for the n-th time."""
    writes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
    writes |= event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    # In a folder that is removed with all that is in it, names are relative.
    if writes and (str(arguments[0]).startswith(told["out"]) or not str(arguments[0]).startswith("/")):
        told["left"] -= 1
        if told["left"] < 0:
            os.kill(os.getpid(), signal.SIGKILL)


os.fsync = flush_and_note
if told["broken"]:
    slot.measure = measure_or_raise
if told["clock"]:
    time.time = lambda: now() + rng.choice([-1e7, -3600.0, -0.5, 0.0, 0.5, 1e7])

if __name__ == "__main__":
    from harness.cli.main import main

    if told["armed"]:
        sys.addaudithook(count_down)
    signal.signal(signal.SIGUSR1, lambda *_: sys.addaudithook(count_down))
    main()
