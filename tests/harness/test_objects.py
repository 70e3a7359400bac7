"""A sweep's folder on an object store: everything recorded round trips through a real S3 server on this machine."""

import json
import os

import numpy as np
import pytest

from harness.files import is_local, open_folder, remove_tree, write_json
from harness.record.lock import is_live, sweep_lock
from harness.record.segments import read_segments, remove_damaged, remove_superfluous, whole_ends, write_segment
from harness.record.status import Status, read_status, run_folder, write_status
from harness.record.sweep_folder import check_data, lay_out, read_configs, record_environment
from harness.record.table import export, runs_table, segments_table
from harness.train.checkpoint import PackCheckpoints, find_states, resume_states, save_final
from models.config import make_config
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.errors import InputError


def run(seed: int) -> RunConfig:
    model = make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2)
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    return RunConfig(model=model, data=data, optimizer=OptimizerConfig(lr=0.1), steps=60, batch=2, seed=seed)


RUNS = [run(seed) for seed in range(3)]


@pytest.fixture
def out(bucket, request):
    folder = open_folder(f"{bucket}/{request.node.name}")
    assert not is_local(folder) and is_local(open_folder("here")) and os.fspath(folder).startswith(bucket)
    return folder


def record(folder, start: int, end: int) -> None:
    steps = [*range(start + 1, end + 1)]
    marks = [s for s in RUNS[0].evaluation_steps() if start < s <= end or s == start == 0]
    write_segment(folder, "series", start, end, {"step": steps, "train_loss": [1.0 / s for s in steps]})
    write_segment(folder, "evals", start, end, {"step": marks, "loss": [1.0] * len(marks)})
    write_segment(folder, "documents", start, end, {"step": marks, "loss": [1.0] * len(marks)})
    write_segment(folder, "timing", start, end, {"step": [end], "wall_seconds": [2.0]})


def test_a_sweeps_folder_round_trips(out, tmp_path):
    assert lay_out(out, "one", RUNS[:2]) == RUNS[:2] and lay_out(out, "two", RUNS) == RUNS
    assert read_configs(out) == RUNS
    record_environment(out, ["a device"], {"pair": {"corpus": "c", "tokenizer": "t", "tokens": "x"}})
    with pytest.raises(InputError, match="tokens|data.pair"):
        check_data(out, {"pair": {"corpus": "c", "tokenizer": "t", "tokens": "y"}})
    folder = run_folder(out, RUNS[0].run_id)
    assert read_status(folder, 60) == Status("pending", 0, 60)
    write_status(folder, Status("running", 20, 60, 0.5))
    record(folder, 0, 20)
    record(folder, 20, 60)
    assert whole_ends(folder, RUNS[0].evaluation_steps()) == {0, 20, 60}
    write_json(folder / "gap.json", {"gap_probe": 0.25})
    write_status(folder, Status("done", 60, 60, 1 / 60))
    table = runs_table(out)
    assert table["status"].tolist() == ["done", "pending", "pending"]
    assert table["gap_probe"].tolist()[0] == 0.25 and table["wall_seconds"].tolist()[0] == 4.0
    series = segments_table(out, "series")
    assert series["train_loss"].tolist() == [1.0 / s for s in range(1, 61)]
    assert export(out, "series", tmp_path / "series.csv") == 60
    assert export(out, "runs", out / "tables" / "runs.parquet") == 3
    assert (out / "tables" / "runs.parquet").read_bytes()[:4] == b"PAR1"
    (folder / "status.json").write_bytes(b"\0\0")
    assert read_status(folder, 60).state == "done"
    record(folder, 20, 50)
    assert whole_ends(folder, RUNS[0].evaluation_steps()) == {0, 20, 50, 60}
    remove_superfluous(folder)
    assert whole_ends(folder, RUNS[0].evaluation_steps()) == {0, 20, 60}
    (folder / "evals" / "000000020-000000060.parquet").write_bytes(b"PAR1")
    remove_damaged(folder, RUNS[0].evaluation_steps())
    assert read_segments(folder, "series")["step"].tolist() == [*range(1, 21)]
    assert read_status(folder, 60).state == "interrupted"


def test_checkpoints_round_trip_and_fall_back(out):
    rng = np.random.default_rng(1)
    states = [{"w": rng.standard_normal((2, 5, 3)), "n": np.asarray([k, k + 50], np.int32)} for k in range(3)]
    folder, name = run_folder(out, RUNS[0].run_id), RUNS[0].run_id
    record(folder, 0, 20)
    record(folder, 20, 40)
    checkpoints = PackCheckpoints(out / "checkpoints" / "pack", [name])
    for state, step in zip(states, (10, 20, 40), strict=True):
        checkpoints.save(state, {name: (1, step)})
    checkpoints.wait()
    assert {path.name for path in (out / "checkpoints" / "pack").iterdir()} == {"1", "2"}
    step, leaves = find_states(out / "checkpoints", {name})[name]
    assert step == 40
    np.testing.assert_array_equal(leaves[1], states[2]["w"][1])
    (out / "checkpoints" / "pack" / "2" / "manifest.json").write_bytes(b"{")
    step, leaves = resume_states(out, RUNS, lambda run: 1)[name]
    assert step == 20 and leaves[0] == 51
    again = PackCheckpoints(out / "checkpoints" / "pack", [name])
    again.save(states[0], {name: (0, 60)})
    again.wait()
    assert find_states(out / "checkpoints", {name})[name][0] == 60
    again.remove()
    assert find_states(out / "checkpoints", {name}) == {}
    assert not (out / "checkpoints" / "pack.json").exists()
    save_final(folder, states[0], {"steps": 60})
    save_final(folder, states[0], {"steps": 60})
    assert json.loads((folder / "final.json").read_bytes()) == {"steps": 60}
    remove_tree(out / "runs")
    remove_tree(out / "runs")
    assert read_segments(folder, "series").empty


def test_a_lease_is_held_and_freed(out, monkeypatch):
    from harness.record import lock

    for constant, seconds in (("RENEW_SECONDS", 0.2), ("DEAD_SECONDS", 1.0), ("SETTLE_SECONDS", 0.1)):
        monkeypatch.setattr(lock, constant, seconds)
    with sweep_lock(out):
        assert is_live(out)
        with pytest.raises(InputError, match="process"), sweep_lock(out):
            pass
    assert not is_live(out)


@pytest.mark.parametrize("name", ["ftp://host/folder", "memory://folder"])
def test_a_store_of_another_kind_is_refused(name):
    with pytest.raises(InputError, match="expected a local path, or s3://BUCKET/NAME"):
        open_folder(name)
