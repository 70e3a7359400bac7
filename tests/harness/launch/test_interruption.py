"""Sweeps in processes of their own that are killed, stopped, started twice or split over workers."""

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harness.launch.packing import read_packing
from harness.machine.calibration_file import calibration_path
from harness.processes import HOME
from harness.record.status import read_status, run_folder
from sweeps.calibration import TWO_CORES, PinnedWorkers

PATIENCE = 300.0


def steps_done(out: Path) -> int:
    """Of all runs, as their statuses tell; 0 before there are any."""
    statuses = (read_status(folder, 0) for folder in (out / "runs").glob("*"))
    return sum(status.step for status in statuses)


def wait_until(condition: Callable[[], bool], child: subprocess.Popen) -> None:
    began = time.monotonic()
    while not condition() and child.poll() is None:
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.005)


def finish(child: subprocess.Popen) -> tuple[int, str, str]:
    out, err = child.communicate(timeout=PATIENCE)
    return child.returncode, out, err


@pytest.fixture
def run(lab, ended_children) -> Callable[..., subprocess.Popen]:
    def start(out: Path, *options: object) -> subprocess.Popen:
        ended_children.append(lab.run(out, *options))
        return ended_children[-1]

    return start


@pytest.mark.slow
def test_killed_at_any_moment_a_sweep_ends_with_the_same_tables(lab, run, finished, finished_runs, tables, tmp_path):
    seed = int(os.environ.get("ISOGAP_KILL_SEED") or random.SystemRandom().randrange(10**6))
    print(f"ISOGAP_KILL_SEED={seed}")  # shown when the test fails, and sets the moments when it is given
    rng = random.Random(seed)
    total = steps_done(finished)
    out, killed = tmp_path / "out", 0
    for share in sorted(rng.uniform(0.02, 0.95) for _ in range(3)):
        child = run(out)
        wait_until(lambda share=share: steps_done(out) >= share * total, child)
        time.sleep(rng.uniform(0.0, 0.2))
        child.kill()
        finish(child)
        killed += child.returncode == -signal.SIGKILL
    assert killed >= 1
    status, _, err = finish(run(out))
    assert status == 3, err
    assert tables(out) == tables(finished)
    for config in finished_runs:
        gaps = [run_folder(folder, config.run_id) / "gap.json" for folder in (out, finished)]
        assert len({path.read_text() if path.is_file() else "" for path in gaps}) == 1
    assert not (out / "checkpoints").exists()


@pytest.mark.slow
def test_a_signal_ends_a_sweep_after_a_checkpoint_and_no_second_process_may_run_it(
    lab, run, isogap, finished, tables, tmp_path
):
    out = tmp_path / "out"
    child = run(out)
    wait_until(lambda: steps_done(out) > 100, child)
    refused = isogap("run", lab.spec, "--out", out, "--cache", lab.cache)
    assert refused.status == 2 and refused.err.count("\n") == 1 and f"process {child.pid}" in refused.err
    live = json.loads(isogap("status", out, "--json").out)
    assert any(row["state"] == "running" for row in live["runs"]) and live["progress"]["eta_seconds"] > 0
    child.send_signal(signal.SIGTERM)
    status, _, err = finish(child)
    assert status == 143, err
    assert any((out / "checkpoints").glob("*/[0-9]*/state")) and any((out / "checkpoints").glob("*.json"))
    left = json.loads(isogap("status", out, "--json").out)
    assert any(row["state"] == "interrupted" for row in left["runs"]) and left["progress"]["eta_seconds"] is None
    assert isogap("run", lab.spec, "--out", out, "--cache", lab.cache).status == 3
    assert tables(out) == tables(finished)


@pytest.mark.slow
def test_workers_record_what_one_process_does_and_die_with_their_parent(run, finished, tables, tmp_path):
    out = tmp_path / "out"
    child = run(out, "--workers", 2)
    wait_until(lambda: steps_done(out) > 100, child)
    workers = [int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]
    child.kill()
    finish(child)
    began = time.monotonic()
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.05)
    assert len(workers) >= 2
    status, _, err = finish(run(out, "--workers", 2))
    assert status == 3, err
    assert tables(out) == tables(finished)


def workers_of(child: subprocess.Popen) -> list[int]:
    """Its workers, once they are there."""

    def found() -> list[int]:
        pids = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        workers = []
        for pid in pids:
            with contextlib.suppress(OSError):  # a process that prepares text may end meanwhile
                workers += [int(pid)] * (b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
        return workers

    wait_until(lambda: len(found()) == 2, child)
    return found()


@pytest.mark.slow
def test_a_signal_that_comes_before_the_workers_listen_fails_no_run(lab, tmp_path, ended_children):
    out, program = tmp_path / "out", tmp_path / "slow.py"
    # Workers read this again, and are minutes from listening.
    program.write_text("import time\nif __name__ != '__main__':\n    time.sleep(300)\n" + lab.child.read_text())
    slow = dataclasses.replace(lab, child=program)
    child = slow.run(out, "--workers", 2)
    ended_children.append(child)
    workers_of(child)
    child.send_signal(signal.SIGTERM)
    status, _, err = finish(child)
    assert status == 143, err
    assert {read_status(folder, 0).state for folder in (out / "runs").glob("*")} == {"pending"}


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_alone_is_replaced(run, finished, tables, tmp_path):
    out = tmp_path / "out"
    child = run(out, "--workers", 2)
    wait_until(lambda: steps_done(out) > 100, child)
    os.kill(workers_of(child)[0], signal.SIGTERM)
    status, _, err = finish(child)
    assert status == 3, err
    assert tables(out) == tables(finished)


@pytest.mark.slow
def test_a_crew_is_taken_where_it_is_faster_and_goes_on_with_its_devices(run, lab, tables, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "xla").symlink_to(lab.cache / "xla")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})  # the child's
    fast = dataclasses.replace(TWO_CORES, workers=PinnedWorkers(2, 0.0, 0.5, {32: {1: 2.0, 2: 10.0}}))
    calibration_path(cache).write_text(fast.to_json())
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    status, _, err = finish(run(whole, "--cache", cache))
    assert status == 3, err
    packing = read_packing(whole)
    assert packing is not None and packing.devices == 1 and len(list((whole / "workers").iterdir())) == 2
    child = run(cut, "--cache", cache)
    wait_until(lambda: steps_done(cut) > 100, child)
    child.kill()
    finish(child)
    # What was measured may be forgotten, and another number of processes asked for.
    calibration_path(cache).unlink()
    status, _, err = finish(run(cut, "--cache", cache, "--workers", 1))
    assert status == 3, err
    assert tables(cut) == tables(whole)


@pytest.mark.slow
def test_workers_import_isogap_from_a_folder_with_packages_of_its_names(lab, tmp_path, foreign_folder, ended_children):
    spec = yaml.safe_load(lab.spec.read_text())
    spec["blocks"] = [{"defaults": {"tokens": 1600, "lr": 0.01}, "seeds": 2}]
    (foreign_folder / "sweep.yaml").write_text(yaml.safe_dump(spec))
    arguments = ["run", "sweep.yaml", "--out", "out", "--cache", str(lab.cache), "--workers", "2"]
    command = [sys.executable, "-P", "-m", "harness", *arguments]
    child = subprocess.Popen(
        command, cwd=foreign_folder, env=os.environ | {"PYTHONPATH": str(HOME)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    ended_children.append(child)
    status, _, err = finish(child)
    assert status == 0, err
    assert {path.stem for path in (foreign_folder / "out" / "workers").iterdir()} >= {"worker-0"}
