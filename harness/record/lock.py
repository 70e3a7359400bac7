"""The lock that tells a running sweep from a dead one: a file's lock locally, a lease on an object store.

The operating system frees the lock of a file when the process that holds it ends. An object store frees nothing. There
the holder of a lease rewrites it every few seconds, and a process that wants it takes it over when it has not changed
for long by the monotonic clock of that process. The clocks of two machines are never compared.
"""

import fcntl
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

from harness.files import is_local, read_object, write_json
from harness.record.leases import any_beat
from sweeps.errors import InputError

# Seconds of a lease: between two renewals; after which a lease without a renewal is dead; and between writing a lease
# and reading whether another process wrote one at the same moment (a put may take seconds).
RENEW_SECONDS, DEAD_SECONDS, SETTLE_SECONDS = 5.0, 30.0, 3.0
# How often a file's lock is tried before it counts as held, and the seconds between two attempts.
ATTEMPTS, ATTEMPT_SECONDS = 5, 0.02


@contextmanager
def sweep_lock(out: Path) -> Iterator[None]:
    """Hold the sweep's folder until the block or the process ends; InputError if another process holds it.

    If another process takes a lease over, because this one stood still for too long, this one ends as by SIGTERM.
    """
    with _file_lock(out) if is_local(out) else _lease(out):
        yield


def is_live(out: Path) -> bool:
    """Whether some process runs this sweep now: it holds the lock, or the lease of a pack (`harness.record.leases`).

    On an object store the lock is a lease, which is watched for ten seconds.
    """
    if not is_local(out):
        return _changes(out / "lock", 2 * RENEW_SECONDS)
    return _is_locked(out) or any_beat(out)


def _is_locked(out: Path) -> bool:
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
        # The number only tells who holds the lock; if the disk is full, the next write reports it.
        with suppress(OSError):
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def _taken(file: IO) -> bool:
    """Take a file's lock, in several attempts: a process that only checks whether it is free holds it for a moment."""
    for _ in range(ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(ATTEMPT_SECONDS)
    return False


def _read(path: Path) -> dict | None:
    try:
        return read_object(path)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return {}


def _changes(path: Path, seconds: float) -> bool:
    """Whether there is a lease and it is renewed within some seconds of watching."""
    seen, began = _read(path), time.monotonic()
    while seen is not None and time.monotonic() - began < seconds:
        time.sleep(min(RENEW_SECONDS, seconds) / 5)
        now = _read(path)
        if now is not None and now != seen:
            return True
        seen = now
    return False


@contextmanager
def _lease(out: Path) -> Iterator[None]:
    path, key, process = out / "lock", secrets.token_hex(8), f"{os.getpid()} on {platform.node()}"
    ended = threading.Event()

    def write(renewals: int) -> None:
        write_json(path, {"key": key, "process": process, "beat": renewals})

    def of_holder(field: str) -> str:
        return str((_read(path) or {}).get(field, ""))

    def keep() -> None:
        renewals = 1
        while not ended.wait(RENEW_SECONDS):
            try:
                if of_holder("key") != key:
                    logging.getLogger("isogap").warning("%s: another process took this sweep over", out)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                write(renewals)
            except OSError as error:  # a store that does not answer now may answer at the next renewal
                logging.getLogger("isogap").warning("%s: the lease was not renewed: %s", out, error)
            renewals += 1

    if _changes(path, DEAD_SECONDS):
        raise _refused(out, of_holder("process"))
    write(0)
    time.sleep(SETTLE_SECONDS)
    if of_holder("key") != key:
        raise _refused(out, of_holder("process"))
    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if of_holder("key") == key:
            path.unlink(missing_ok=True)
