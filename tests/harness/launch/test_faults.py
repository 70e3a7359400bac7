"""Runs that bring their pack down: they alone fail, and the others' numbers are those of a sweep without them."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jax.errors import JaxRuntimeError

from harness.launch.queue import Outcome, after_fault
from harness.record.heartbeat import read_killed
from harness.record.segments import read_segments
from harness.record.status import ENDED, Status, read_status, run_folder, write_status
from harness.record.sweep_folder import lay_out, read_configs
from harness.train.pack import Training
from sweeps.config import RunConfig
from sweeps.packs import make_pack
from sweeps.shape import shape_of

# A child whose workers die when the run with the id in GUILTY has taken some steps.
DEADLY = """
import os, signal
from harness.train.pack import Training
dispatch = Training.dispatch
def deadly(training, evaluations):
    if any(slot.config.run_id == os.environ["GUILTY"] and slot.turn > 40 for slot in training.live()):
        os.kill(os.getpid(), signal.SIGKILL)
    return dispatch(training, evaluations)
Training.dispatch = deadly
"""


def state(out: Path, run: RunConfig) -> Status:
    return read_status(run_folder(out, run.run_id), run.steps)


def assert_same_record(out: Path, finished: Path, run: RunConfig):
    for kind in ("series", "evals"):
        mine, theirs = (read_segments(run_folder(folder, run.run_id), kind) for folder in (out, finished))
        assert mine.to_csv() == theirs.to_csv()
    assert state(out, run) == state(finished, run)


def raising(error: Exception, when):
    """A dispatch that raises when the slots' runs are such."""
    dispatch = Training.dispatch

    def raise_or_dispatch(training, evaluations):
        if when(training):
            raise error
        return dispatch(training, evaluations)

    return raise_or_dispatch


@pytest.mark.parametrize("place", [0, 1, 3])
def test_the_run_whose_program_raises_fails_and_its_neighbours_do_not_notice(
    lab, isogap, finished, finished_runs, tmp_path, monkeypatch, place
):
    guilty = finished_runs[place]
    turn = random.Random(place).randrange(600)
    print(f"raises after turn {turn}")

    def there(training):
        return any(slot.config == guilty and slot.turn > turn for slot in training.live())

    monkeypatch.setattr(
        "harness.train.pack.Training.dispatch", raising(JaxRuntimeError("INTERNAL: broken\nkernel"), there)
    )
    ended = isogap("run", lab.spec, "--out", tmp_path / "out", "--cache", lab.cache)
    assert ended.status == 3 and "1 diverged, 4 done, 1 failed" in ended.out
    assert state(tmp_path / "out", guilty).reason == "JaxRuntimeError: INTERNAL: broken"
    assert "Traceback" in (run_folder(tmp_path / "out", guilty.run_id) / "error.txt").read_text()
    for run in finished_runs:
        if run != guilty:
            assert_same_record(tmp_path / "out", finished, run)


@pytest.mark.slow
def test_a_pack_that_lacks_memory_is_halved_for_good(lab, isogap, finished_runs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    error = JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes")
    crowded = raising(error, lambda training: training.pack.slots > 1)
    monkeypatch.setattr("harness.train.pack.Training.dispatch", crowded)
    ended = isogap("run", lab.spec, "--out", out, "--cache", lab.cache)
    assert ended.status == 3 and "1 diverged, 5 done" in ended.out
    assert set(json.loads((out / "packing.json").read_text())["slots"].values()) == {1}


def test_a_run_that_alone_lacks_memory_fails_with_that_reason(lab, isogap, finished_runs, tmp_path, monkeypatch):
    out, greedy = tmp_path / "out", finished_runs[0]
    there = raising(MemoryError("no room"), lambda t: any(slot.config == greedy for slot in t.live()))
    monkeypatch.setattr("harness.train.pack.Training.dispatch", there)
    ended = isogap("run", lab.spec, "--out", out, "--cache", lab.cache)
    assert ended.status == 3 and "1 diverged, 4 done, 1 failed" in ended.out
    assert state(out, greedy).reason == "MemoryError: no room"


@pytest.mark.slow
def test_a_worker_that_dies_takes_no_other_run_with_it(lab, finished, finished_runs, tmp_path):
    out, guilty = tmp_path / "out", finished_runs[3]
    child = tmp_path / "deadly.py"
    child.write_text(DEADLY + lab.child.read_text())
    command = [sys.executable, child, "run", lab.spec, "--out", out, "--cache", lab.cache, "--workers", "2"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "GUILTY": guilty.run_id}
    ended = subprocess.run(list(map(str, command)), env=env, text=True, capture_output=True, timeout=300)
    assert ended.returncode == 3, ended.stderr
    status = state(out, guilty)
    assert (status.state, status.reason) == ("lost", f"its process died ({signal.SIGKILL.name})")
    assert read_killed(out)
    for run in read_configs(out):
        if run != guilty:
            assert_same_record(out, finished, run)


def test_who_is_tried_again_after_a_fault(finished_runs, tmp_path):
    lay_out(tmp_path, "", finished_runs)
    runs = finished_runs[:4]
    pack = make_pack(shape_of(runs[0], 2048), 2, runs)
    fault = Outcome("fault", "broken", "Traceback")

    def mark(*states):
        for run, state_ in zip(runs, states, strict=True):
            write_status(run_folder(tmp_path, run.run_id), Status(state_, 7, run.steps))

    mark("done", "running", "running", "pending")
    assert after_fault(pack, Outcome("ended"), tmp_path) == []
    alone, other, rest = after_fault(pack, fault, tmp_path)
    assert (alone.runs, other.runs, rest.runs) == ((runs[1],), (runs[2],), (runs[3],))
    assert {p.slots for p in (alone, other, rest)} == {2} and state(tmp_path, runs[1]).state == "interrupted"
    mark("done", "interrupted", "running", "pending")
    (rest,) = after_fault(pack, fault, tmp_path)
    assert rest.runs == (runs[1], runs[3]) and state(tmp_path, runs[2]) == Status("failed", 7, 903, reason="broken")
    mark("done", "running", "running", "pending")
    (half,) = after_fault(pack, Outcome("memory", "no room"), tmp_path)
    assert half.slots == 1 and half.runs == tuple(runs[1:]) and state(tmp_path, runs[1]).state not in ENDED
    mark("done", "interrupted", "running", "pending")
    (rest,) = after_fault(pack, Outcome("died", "killed"), tmp_path)
    assert rest.runs == (runs[1], runs[3]) and state(tmp_path, runs[2]) == Status("lost", 7, 903, reason="killed")
    mark("pending", "pending", "pending", "pending")
    assert after_fault(pack, fault, tmp_path) == []
    assert {state(tmp_path, run).state for run in runs} == {"failed"}
