"""Runs that begin with the final parameters of others: they wait for them, and go on where they ended."""

import json

import numpy as np
import pytest
import yaml

from harness.gaps.cells import cells_table
from harness.record.segments import read_segments
from harness.record.status import run_folder
from harness.record.table import runs_table
from sweeps.grid import load

SETTINGS = {
    "context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "tokens": 9600, "probe_windows": 8, "epochs": 3,
    "lr": 0.01,
}  # fmt: skip
BLOCKS = [
    {"name": "trunk", "defaults": {"keep": "state", "schedule": "constant"}, "seeds": 2},
    {"name": "fresh", "defaults": {"start_from": "trunk", "tokens": 3200, "average_decay": 0.9}, "seeds": 2},
    {"name": "carried", "defaults": {"start_from": "trunk", "tokens": 3200, "start_optimizer": "carried"}, "seeds": 2},
]


@pytest.fixture
def sweep(lab, tmp_path):
    spec = {"name": "x", "defaults": SETTINGS | {"domain": f"text:{lab.text}"}, "blocks": BLOCKS}
    (tmp_path / "started.yaml").write_text(yaml.safe_dump(spec))
    return tmp_path / "started.yaml"


def test_a_run_starts_from_that_of_its_seed_and_of_nothing_else(sweep):
    trunk, others = load(sweep).configs[:2], load(sweep).configs[2:]
    assert [run.start_from for run in others] == [run.run_id for run in trunk] * 2
    spec = yaml.safe_load(sweep.read_text())
    for changes, reason in (
        ({"width": 32}, "0 runs"),
        ({"start_from": "nowhere"}, "no earlier block is called 'nowhere'"),
        ({"start_optimizer": "carried", "optimizer": "sgd"}, "have the optimizer adamw"),
        ({"split_seed": 3}, "have read text that this run holds out"),
        ({"twins": True}, "have read text that this run holds out"),
    ):
        blocks = [BLOCKS[0], BLOCKS[1] | {"defaults": BLOCKS[1]["defaults"] | changes}]
        sweep.write_text(yaml.safe_dump(spec | {"blocks": blocks}))
        cells = load(sweep).cells
        assert all(cell.config is None and reason in str(cell.reason) for cell in cells[2:])
    blocks = [BLOCKS[0] | {"defaults": {"keep": "final"}}, BLOCKS[2]]
    sweep.write_text(yaml.safe_dump(spec | {"blocks": blocks}))
    assert all("need keep: state" in str(cell.reason) for cell in load(sweep).cells[2:])


@pytest.mark.slow
def test_runs_go_on_where_those_that_they_start_from_ended(lab, sweep, tmp_path, isogap):
    out = tmp_path / "out"
    outcome = isogap("run", sweep, "--out", out, "--cache", lab.cache)
    assert outcome.status == 0 and "4 more runs" in outcome.out, outcome.out
    runs = runs_table(out)
    assert list(runs["status"]) == ["done"] * 6
    cells = cells_table(out)
    assert list(cells["runs"]) == [2, 2, 2]
    averages = runs["heldout_loss_average"].to_numpy()[2:4]
    assert cells["heldout_loss_average"].to_numpy()[1] == pytest.approx(averages.mean())
    configs = load(sweep).configs
    for trunk, fresh, carried in zip(configs[:2], configs[2:4], configs[4:], strict=True):
        ends = read_segments(run_folder(out, trunk.run_id), "evals")
        begins = [read_segments(run_folder(out, run.run_id), "evals") for run in (fresh, carried)]
        last = ends[(ends["step"] == trunk.steps) & (ends["probe"] == "heldout")]["loss"].item()
        for evals in begins:
            first = evals[(evals["step"] == 0) & (evals["probe"] == "heldout")]["loss"].item()
            assert first == pytest.approx(last, rel=1e-5)
        average = begins[0][(begins[0]["step"] == 0) & (begins[0]["probe"] == "heldout_average")]["loss"].item()
        assert average == pytest.approx(last, rel=1e-5)
        one, other = (
            read_segments(run_folder(out, run.run_id), "series")["train_loss"].to_numpy() for run in (fresh, carried)
        )
        assert one[0] == pytest.approx(other[0], rel=1e-5) and not np.allclose(one[3:6], other[3:6], rtol=1e-6)
    facts = json.loads((run_folder(out, configs[0].run_id) / "final.json").read_text())
    assert "optimizer" in facts["leaves"]


@pytest.mark.slow
def test_runs_whose_start_failed_do_not_begin(lab, sweep, tmp_path, isogap):
    spec = yaml.safe_load(sweep.read_text())
    sweep.write_text(
        yaml.safe_dump(spec | {"blocks": [BLOCKS[0] | {"defaults": {"keep": "state", "lr": 1e30}}, BLOCKS[2]]})
    )
    outcome = isogap("run", sweep, "--out", tmp_path / "out", "--cache", lab.cache)
    assert outcome.status == 3 and "2 runs have not begun" in outcome.out
