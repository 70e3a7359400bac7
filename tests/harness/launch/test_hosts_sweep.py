"""`isogap run --hosts`: two processes on this machine train one sweep together, as two hosts would."""

import dataclasses
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.record.status import read_status, run_folder
from harness.record.table import read_configs, runs_table, segments_table

PATIENCE = 300.0
# Packs whose slots share the devices, a run that is split over them, and one that only the first process has part in.
BLOCKS = [
    {"name": "dense", "defaults": {"lr": 0.01, "tokens": 9600}, "seeds": 3},
    {"name": "mixture", "defaults": {"architecture": "top2", "lr": 0.01, "tokens": 3200}, "seeds": 2},
    {"name": "split", "defaults": {"optimizer": "sgd", "lr": 0.3, "tokens": 3200, "keep": "final"}},
    {"name": "undivided", "defaults": {"optimizer": "sgd", "lr": 0.3, "tokens": 1600, "batch": 1}},
]
# What a process patches before it begins, so that a peer that died is missed soon.
SOON = """
from harness.train import hosts
hosts.HEARTBEAT_SECONDS, hosts.FAULT_SECONDS = 20, 5.0
"""


@pytest.fixture
def together(lab, tmp_path, ended_children) -> Callable[..., list[subprocess.Popen]]:
    """Two processes of one job, the first one first."""
    child = tmp_path / "child.py"
    child.write_text(SOON + lab.child.read_text())
    hurried = dataclasses.replace(lab, child=child)

    def start(spec: Path, out: Path) -> list[subprocess.Popen]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        for index in range(2):
            command = ("run", spec, "--out", out, "--cache", lab.cache, "--hosts", f"{address},2,{index}")
            ended_children.append(hurried.spawn(*command))
        return ended_children[-2:]

    return start


@pytest.fixture
def spec_of(lab, tmp_path) -> Callable[[int], Path]:
    """A sweep of the first so many blocks."""

    def write(blocks: int) -> Path:
        spec = yaml.safe_load(lab.spec.read_text()) | {"blocks": BLOCKS[:blocks]}
        path = tmp_path / f"first-{blocks}.yaml"
        path.write_text(yaml.safe_dump(spec))
        return path

    return write


def finish(children: list[subprocess.Popen]) -> tuple[list[int], str]:
    """Their exit statuses, and all that they said."""
    said = [child.communicate(timeout=PATIENCE) for child in children]
    return [child.returncode for child in children], "\n".join(text for both in said for text in both)


def steps_done(out: Path) -> int:
    return sum(read_status(folder, 0).step for folder in (out / "runs").glob("*"))


def wait_for_steps(out: Path, steps: int, children: list[subprocess.Popen]) -> None:
    began = time.monotonic()
    while steps_done(out) < steps and all(child.poll() is None for child in children):
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.01)


def states(out: Path) -> list[str]:
    return [read_status(run_folder(out, run.run_id), run.steps, live=False).state for run in read_configs(out)]


def assert_same_losses(out: Path, other: Path) -> None:
    for kind, loss in (("series", "train_loss"), ("evals", "loss")):
        mine, theirs = segments_table(out, kind), segments_table(other, kind)
        assert mine["step"].tolist() == theirs["step"].tolist()
        np.testing.assert_allclose(mine[loss], theirs[loss], rtol=1e-6)
    np.testing.assert_allclose(runs_table(out)["gap_probe"], runs_table(other)["gap_probe"], rtol=1e-3, atol=1e-6)


def test_two_processes_record_what_one_does(lab, isogap, together, spec_of, tables, tmp_path):
    spec, out, alone = spec_of(len(BLOCKS)), tmp_path / "together", tmp_path / "alone"
    ended, said = finish(together(spec, out))
    assert ended == [0, 0], said
    assert states(out) == ["done"] * 7 and not (out / "checkpoints").exists()
    assert len(list((out / "workers").glob("*.json"))) == 1  # what is trained is counted once
    packing = json.loads((out / "packing.json").read_text())
    assert packing["devices"] == 2 and len(json.loads((out / "environment.json").read_text())["devices"]) == 2
    # As many devices and slots in one process.
    alone.mkdir()
    shutil.copy(out / "packing.json", alone)
    assert isogap("run", spec, "--out", alone, "--cache", lab.cache).status == 0
    assert_same_losses(out, alone)
    # Of two devices there is one order to add up in.
    assert tables(out) == tables(alone)
    kept = [sorted(folder.glob("runs/*/final.json")) for folder in (out, alone)]
    assert len(kept[0]) == len(kept[1]) == 1


def test_what_dies_or_is_told_to_stop_goes_on_with_any_number_of_processes(
    lab, isogap, together, spec_of, tables, tmp_path, ended_children
):
    spec, out, undisturbed = spec_of(1), tmp_path / "out", tmp_path / "undisturbed"
    assert isogap("run", spec, "--out", undisturbed, "--cache", lab.cache).status == 0
    out.mkdir()
    shutil.copy(undisturbed / "packing.json", out)
    # One dies: the other ends, and marks no run as failed.
    both = together(spec, out)
    wait_for_steps(out, 60, both)
    both[1].kill()
    ended, said = finish(both)
    assert ended[1] == -signal.SIGKILL and ended[0] not in (0, 2, 3), (ended, said)
    assert set(states(out)) <= {"interrupted", "pending", "done"} and "interrupted" in states(out), said
    # Both go on, and stop together, whoever is told.
    both = together(spec, out)
    wait_for_steps(out, 300, both)
    both[1].send_signal(signal.SIGTERM)
    ended, said = finish(both)
    assert ended == [143, 143], said
    assert "interrupted" in states(out) and any((out / "checkpoints").glob("*/[0-9]*/state"))
    # One process goes on, which has all slots on one device.
    packing = json.loads((out / "packing.json").read_text())
    (out / "packing.json").write_text(json.dumps(packing | {"devices": 1}))
    ended_children.append(lab.spawn("run", spec, "--out", out, "--cache", lab.cache))
    ended, said = finish(ended_children[-1:])
    assert ended == [0], said
    assert_same_losses(out, undisturbed)


def test_a_fault_of_the_first_process_ends_the_others(together, tmp_path):
    ended, said = finish(together(tmp_path / "missing.yaml", tmp_path / "out"))
    assert ended == [2, 1], said
    lines = [line for line in said.splitlines() if line.startswith("isogap: ")]
    assert len(lines) == 2 and all("missing.yaml" in line for line in lines), said
    assert lines[1].startswith("isogap: process 0: ") and "Traceback" not in said


def test_where_no_scheduler_tells_the_processes_auto_is_refused(lab, spec_of, tmp_path, ended_children):
    ended_children.append(lab.spawn("run", spec_of(1), "--out", tmp_path / "out", "--hosts", "auto"))
    ended, said = finish(ended_children[-1:])
    assert ended == [2] and "--hosts: value: got 'auto', expected HOST:PORT,COUNT,INDEX" in said, said
