"""Statuses round trip; the lock tells a running sweep from a dead one."""

import subprocess
import sys

import pytest

from harness.record.status import Status, is_live, read_status, sweep_lock, write_status
from sweeps.errors import InputError

HOLD = """
import sys, pathlib, time
from harness.record.status import sweep_lock
with sweep_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_status_is_read_as_it_was_written(tmp_path):
    status = Status("diverged", 12, 100, 5.25, "loss or gradient not finite at step 12")
    write_status(tmp_path, status)
    assert read_status(tmp_path, 100) == status == read_status(tmp_path, 100, live=False)


def test_a_run_without_a_status_is_pending_and_one_whose_process_died_is_interrupted(tmp_path):
    assert read_status(tmp_path, 70) == Status("pending", 0, 70)
    write_status(tmp_path, Status("running", 3, 70, 1.5))
    assert read_status(tmp_path, 70, live=True).state == "running"
    assert read_status(tmp_path, 70, live=False) == Status("interrupted", 3, 70, 1.5)


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
