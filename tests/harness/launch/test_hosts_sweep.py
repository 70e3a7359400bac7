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
from harness.record.sweep_folder import read_configs
from harness.record.table import segments_table

PATIENCE = 300.0
# Three runs whose slots share the devices.
DENSE = [{"defaults": {"lr": 0.01, "tokens": 38400}, "seeds": 3}]
# A pack of mixtures, a run that is split over the devices, and one that only the first process has part in.
OTHERS = [
    {"name": "mixture", "defaults": {"architecture": "top2", "lr": 0.01, "tokens": 3200}, "seeds": 2},
    {"name": "split", "defaults": {"optimizer": "sgd", "lr": 0.3, "tokens": 3200, "keep": "final"}},
    {"name": "undivided", "defaults": {"optimizer": "sgd", "lr": 0.3, "tokens": 1600, "batch": 1}},
]
# What a process does before it begins.
BEFORE = """
from harness.train import hosts
hosts.LOST_SECONDS, hosts.FAULT_SECONDS = 20, 5.0
"""


@pytest.fixture
def begin(lab, tmp_path, ended_children) -> Callable[..., subprocess.Popen]:
    """One process."""
    child = tmp_path / "child.py"
    child.write_text(BEFORE + lab.child.read_text())
    impatient = dataclasses.replace(lab, child=child)

    def start(spec: Path, out: Path, *options: object) -> subprocess.Popen:
        ended_children.append(impatient.spawn("run", spec, "--out", out, "--cache", lab.cache, *options))
        return ended_children[-1]

    return start


@pytest.fixture
def begin_two(begin) -> Callable[[Path, Path], list[subprocess.Popen]]:
    """Two processes of one job, the first one first."""

    def start(spec: Path, out: Path) -> list[subprocess.Popen]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        return [begin(spec, out, "--hosts", f"{address},2,{index}") for index in range(2)]

    return start


@pytest.fixture
def spec_of(lab, tmp_path) -> Callable[[list], Path]:
    """A sweep of some blocks."""

    def write(blocks: list) -> Path:
        spec = yaml.safe_load(lab.spec.read_text()) | {"blocks": blocks}
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(spec))
        return path

    return write


def begun_like(other: Path, out: Path, **changed: object) -> Path:
    """A sweep's folder, with the packing of another."""
    out.mkdir(exist_ok=True)
    packing = json.loads((other / "packing.json").read_text()) | changed
    (out / "packing.json").write_text(json.dumps(packing))
    return out


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


def series(out: Path, steps: dict[str, int]) -> str:
    """The series of each run up to a step."""
    table = segments_table(out, "series")
    return table[table["step"] <= [steps[run_id] for run_id in table["run_id"]]].to_csv(index=False)


@pytest.mark.slow
def test_two_processes_record_what_one_does(begin, begin_two, spec_of, tables, tmp_path):
    spec, out = spec_of(OTHERS), tmp_path / "together"
    ended, said = finish(begin_two(spec, out))
    assert ended == [0, 0], said
    assert states(out) == ["done"] * 4 and not (out / "checkpoints").exists()
    assert len(list((out / "workers").glob("*.json"))) == 1  # what is trained is counted once
    assert json.loads((out / "packing.json").read_text())["devices"] == 2
    assert len(json.loads((out / "environment.json").read_text())["devices"]) == 2
    # As many devices and slots in one process; of two devices there is one order to add up in.
    alone = begun_like(out, tmp_path / "alone")
    ended, said = finish([begin(spec, alone)])
    assert ended == [0], said
    assert tables(out) == tables(alone)
    kept = [sorted(file.name for file in folder.glob("runs/*/final.json")) for folder in (out, alone)]
    assert kept == [["final.json"]] * 2


@pytest.mark.slow
def test_what_dies_or_is_told_to_stop_goes_on_with_any_number_of_processes(begin, begin_two, spec_of, tables, tmp_path):
    spec, undisturbed = spec_of(DENSE), tmp_path / "undisturbed"
    ended, said = finish([begin(spec, undisturbed)])
    assert ended == [0], said
    out = begun_like(undisturbed, tmp_path / "out")
    # One dies: the other ends, and marks no run as failed.
    both = begin_two(spec, out)
    wait_for_steps(out, 60, both)
    both[1].kill()
    ended, said = finish(both)
    assert ended[1] == -signal.SIGKILL and ended[0] not in (0, 2, 3), (ended, said)
    assert set(states(out)) <= {"interrupted", "pending", "done"} and "interrupted" in states(out), said
    # Both go on, and stop together, whoever is told.
    both = begin_two(spec, out)
    wait_for_steps(out, 300, both)
    both[1].send_signal(signal.SIGTERM)
    ended, said = finish(both)
    assert ended == [143, 143], said
    assert "interrupted" in states(out) and any((out / "checkpoints").glob("*/[0-9]*/state"))
    reached = {run.run_id: read_status(run_folder(out, run.run_id), 0).step for run in read_configs(out)}
    # One process goes on with both devices' slots, and one with a single device.
    other = begun_like(undisturbed, shutil.copytree(out, tmp_path / "other"), devices=1)
    ended, said = finish([begin(spec, out), begin(spec, other)])
    assert ended == [0, 0], said
    assert tables(out) == tables(undisturbed)
    assert series(other, reached) == series(undisturbed, reached) and sum(reached.values()) >= 300
    # Another program rounds otherwise, and training amplifies that: 1 % after 450 steps.
    for mine, theirs, loss in (
        (segments_table(other, "series"), segments_table(undisturbed, "series"), "train_loss"),
        (segments_table(other, "evals"), segments_table(undisturbed, "evals"), "loss"),
    ):
        assert mine["step"].tolist() == theirs["step"].tolist()
        early = (theirs["step"] <= 300).to_numpy()
        np.testing.assert_allclose(mine[loss].to_numpy()[early], theirs[loss].to_numpy()[early], rtol=5e-3)


@pytest.mark.slow
def test_a_fault_of_the_first_process_ends_the_others(begin_two, tmp_path):
    ended, said = finish(begin_two(tmp_path / "missing.yaml", tmp_path / "out"))
    assert ended == [2, 1], said
    lines = [line for line in said.splitlines() if line.startswith("isogap: ")]
    assert len(lines) == 2 and all("missing.yaml" in line for line in lines), said
    assert lines[1].startswith("isogap: process 0: ") and "Traceback" not in said


def test_where_no_scheduler_tells_the_processes_auto_is_refused(begin, spec_of, tmp_path):
    ended, said = finish([begin(spec_of(DENSE), tmp_path / "out", "--hosts", "auto")])
    assert ended == [2] and "--hosts: value: got 'auto', expected HOST:PORT,COUNT,INDEX" in said, said
