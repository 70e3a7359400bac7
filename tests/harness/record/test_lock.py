"""One process runs a sweep: a living one keeps others out, a dead one's lock is taken over, whatever the clocks say."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness import files
from harness.record import lock
from harness.record.lock import is_live, sweep_lock
from sweeps.errors import InputError

HOLD = """
import sys, pathlib, time
from harness.record.lock import sweep_lock
with sweep_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_holds_a_sweep_until_it_dies(tmp_path, ended_children):
    assert not is_live(tmp_path) and not is_live(tmp_path / "nowhere")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    ended_children.append(holder)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert is_live(tmp_path)
    with pytest.raises(InputError, match=f"process {holder.pid}"), sweep_lock(tmp_path):
        pass
    holder.kill()
    holder.wait()
    assert not is_live(tmp_path)
    with sweep_lock(tmp_path):
        assert is_live(tmp_path)
    assert not is_live(tmp_path)


def test_a_lock_is_taken_over_from_a_killed_process_at_any_moment(tmp_path, rng, ended_children):
    held = 0
    for _ in range(3):
        holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        ended_children.append(holder)
        time.sleep(rng.uniform(0.0, 0.6))
        if rng.random() < 0.5:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            held += 1
            with pytest.raises(InputError, match=f"process {holder.pid}"), sweep_lock(tmp_path):
                pass
        holder.kill()
        holder.wait()
        with sweep_lock(tmp_path):
            assert is_live(tmp_path)
        assert not is_live(tmp_path)


class Store:
    """Objects in memory with the few methods of a path that a lease asks for; not a `Path`, as epath's are not."""

    def __init__(self, objects: dict[str, bytes], name: str = "sweep"):
        self.objects, self.name = objects, name

    def __truediv__(self, name: str) -> "Store":
        return Store(self.objects, f"{self.name}/{name}")

    def read_bytes(self) -> bytes:
        if self.name not in self.objects:
            raise FileNotFoundError(self.name)
        return self.objects[self.name]

    def write_bytes(self, content: bytes) -> None:
        self.objects[self.name] = content

    def unlink(self, missing_ok: bool) -> None:
        self.objects.pop(self.name, None)


@pytest.fixture
def out(monkeypatch) -> Path:
    for name, seconds in (("RENEW_SECONDS", 0.1), ("DEAD_SECONDS", 0.5), ("SETTLE_SECONDS", 0.05)):
        monkeypatch.setattr(lock, name, seconds)
    # Clocks of two machines need not agree, nor run forward: none is asked.
    monkeypatch.setattr(files, "read_bytes", lambda path: path.read_bytes())
    monkeypatch.setattr(lock, "time", SimpleNamespace(monotonic=time.monotonic, sleep=time.sleep))
    return cast(Path, Store({}))


def test_a_lease_keeps_others_out_while_its_holder_lives(out):
    assert not is_live(out)
    with sweep_lock(out):
        assert is_live(out)
        with pytest.raises(InputError, match=f"process {os.getpid()} on"), sweep_lock(out):
            pass
        time.sleep(0.3)
        assert is_live(out)
    assert not is_live(out)
    assert cast(Store, out).objects == {}


@pytest.mark.parametrize(
    "left", [b'{"key": "another", "process": "7 on elsewhere", "beat": 12}', b"", b"\0" * 9, b"[]"]
)
def test_a_dead_holders_lease_is_taken_over_after_a_while(out, left):
    cast(Store, out).objects["sweep/lock"] = left
    began = time.monotonic()
    with sweep_lock(out):
        assert time.monotonic() - began >= 0.5
        assert is_live(out) and json.loads((out / "lock").read_bytes())["process"].startswith(f"{os.getpid()} on")


def test_of_two_that_take_a_lease_at_the_same_moment_one_gets_it(out):
    together, got = threading.Barrier(4), []
    release = threading.Event()

    def take() -> None:
        together.wait()
        try:
            with sweep_lock(out):
                got.append(True)
                release.wait(5.0)
        except InputError:
            got.append(False)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(got) < 4:
        time.sleep(0.02)
    release.set()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False, False, False, True]


def test_a_process_whose_lease_was_taken_over_is_stopped(out):
    stopped = threading.Event()
    handler = signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    try:
        with sweep_lock(out):
            (out / "lock").write_bytes(b'{"key": "another", "process": "7 on elsewhere", "beat": 0}')
            began = time.monotonic()
            while not stopped.is_set() and time.monotonic() - began < 10.0:
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert stopped.is_set()
    assert json.loads((out / "lock").read_bytes())["key"] == "another"  # it is not this process's to free


def test_who_looks_for_a_moment_keeps_nobody_out(tmp_path):
    (tmp_path / "lock").touch()
    with open(tmp_path / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.03, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with sweep_lock(tmp_path):
            assert is_live(tmp_path)
