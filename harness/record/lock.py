"""The lock that tells a running sweep from a dead one: the system's on a file system, a lease on an object store.

The system frees a file's lock with the process that holds it. An object store frees nothing: the holder of its lease
rewrites it every few seconds, and who waits takes it over when it has stood unchanged for long by the clock of who
waits. No clock of two machines is compared, and none that can be set back is asked.
"""

import fcntl
import json
import logging
import os
import platform
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from harness.files import is_local, read_bytes, write_json
from sweeps.errors import InputError

# Of a lease: seconds between two beats; after how many without one it is dead; and how long who writes it waits before
# reading whether another wrote it at the same moment (a put may take seconds).
BEAT, PATIENCE, SETTLE = 5.0, 30.0, 3.0
# How often, and seconds in between, a file's lock that is held is tried.
GLANCES, GLANCE = 5, 0.02


@contextmanager
def sweep_lock(out: Path) -> Iterator[None]:
    """Hold the sweep's folder until the block or the process ends, however that ends.

    A lease that another process took over (this one stood still for too long) stops this process as SIGTERM does.

    Raises:
        InputError: another process holds it.
    """
    with _file_lock(out) if is_local(out) else _lease(out):
        yield


def is_live(out: Path) -> bool:
    """Whether some process runs this sweep now; on an object store it is watched for a beat if there is a lease."""
    if not is_local(out):
        return _changes(out / "lock", 2 * BEAT)
    try:
        with open(out / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def _refused(out: Path, holder: str) -> InputError:
    return InputError(out, "lock", f"process {holder or 'unknown'}", "no other isogap running in this folder")


@contextmanager
def _file_lock(out: Path) -> Iterator[None]:
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "lock", "a+") as file:
        if not _taken(file):
            file.seek(0)
            raise _refused(out, file.read().strip())
        os.ftruncate(file.fileno(), 0)
        # Only to tell who it is: a full disk is told of by what is written next.
        with suppress(OSError):
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def _taken(file: IO) -> bool:
    """Take a file's lock; who only looks whether it is held, holds it for a moment."""
    for _ in range(GLANCES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(GLANCE)
    return False


def _read(path: Path) -> dict | None:
    try:
        lease = json.loads(read_bytes(path))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return lease if isinstance(lease, dict) else {}


def _changes(path: Path, seconds: float) -> bool:
    """Whether a lease is there and is written anew within some seconds of watching."""
    seen, began = _read(path), time.monotonic()
    while seen is not None and time.monotonic() - began < seconds:
        time.sleep(min(BEAT, seconds) / 5)
        now = _read(path)
        if now is not None and now != seen:
            return True
        seen = now
    return False


@contextmanager
def _lease(out: Path) -> Iterator[None]:
    path, key, process = out / "lock", secrets.token_hex(8), f"{os.getpid()} on {platform.node()}"
    if _changes(path, PATIENCE):
        raise _refused(out, str((_read(path) or {}).get("process", "")))
    ended = threading.Event()

    def write(beat: int) -> None:
        write_json(path, {"key": key, "process": process, "beat": beat})

    def is_mine() -> bool:
        return (_read(path) or {}).get("key") == key

    def keep() -> None:
        beat = 1
        while not ended.wait(BEAT):
            try:
                if not is_mine():
                    logging.getLogger("isogap").warning("%s: another process took this sweep over", out)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                write(beat)
            except OSError as error:  # a store that does not answer now may do so at the next beat
                logging.getLogger("isogap").warning("%s: the lease was not renewed: %s", out, error)
            beat += 1

    write(0)
    time.sleep(SETTLE)
    if not is_mine():
        raise _refused(out, str((_read(path) or {}).get("process", "")))
    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if is_mine():
            path.unlink(missing_ok=True)
