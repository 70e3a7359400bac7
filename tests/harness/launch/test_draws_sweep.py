"""Draws of cells through `isogap run`: as many as the gap needs, on other text, and one row for each cell."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from harness.gaps.cells import cells_table, gap_rows
from harness.gaps.document_losses import read_documents
from harness.gaps.roles import roles_for_runs
from harness.gaps.shared_documents import with_shared_errors
from harness.gaps.twins import placebo_gaps, trajectory
from harness.gaps.wanted import errors_not_reached
from harness.record.status import run_folder
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table
from harness.study.cells import blocks_of, study_cells, study_runs

# The shape of the sweep of twins, so that its programs are compiled once.
SHAPE = {"context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "probe_windows": 24}
SE, MOST = 0.004, 12


@pytest.fixture(scope="module")
def run(lab, call_isogap, tmp_path_factory):
    def run(name: str, *blocks: dict):
        folder = tmp_path_factory.mktemp(name)
        spec = {"name": name, "defaults": SHAPE | {"domain": f"text:{lab.text}", "twins": True}, "blocks": [*blocks]}
        (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
        command = ("run", folder / "spec.yaml", "--out", folder / "out", "--cache", lab.cache)
        assert call_isogap(*command) == 0
        return folder / "out", command

    return run


@pytest.fixture(scope="module")
def wanted(run):
    """A cell that needs more than its first eight draws, one that needs no more, and one with a number of draws."""
    draws = {"se": SE, "most": MOST}
    return run(
        "wanted",
        {"defaults": {"tokens": 6400, "epochs": 2, "draws": draws, "lr": 0.03}},
        {"defaults": {"tokens": 6400, "epochs": 2, "draws": draws, "lr": 1e-9}},
        {"defaults": {"tokens": 3200, "epochs": 1, "draws": 3}},
    )


@pytest.mark.slow
def test_draws_are_added_until_the_error_is_as_small_as_wanted(wanted, call_isogap):
    out, command = wanted
    rows = [row for row, _ in gap_rows(out, runs_table(out))]
    learning, still, few = rows
    assert learning["gap_twin_se"] <= SE or learning["draws"] == MOST
    assert learning["draws"] > 8 and still["draws"] == 8 and few["draws"] == 3
    assert still["gap_twin_se"] < 1e-4  # it learns next to nothing
    not_reached = errors_not_reached(str(command[1]), out)
    assert len(not_reached) == (learning["gap_twin_se"] > SE)
    assert all(f"after {MOST} draws" in sentence for sentence in not_reached)
    before = [config.run_id for config in read_configs(out)]
    assert call_isogap(*command) == 0 and [config.run_id for config in read_configs(out)] == before


def test_a_cell_is_the_mean_of_its_draws(wanted, isogap):
    out, _ = wanted
    table, cells = runs_table(out), cells_table(out)
    few = table[(table["D"] == 3200) & (table["half"] == "a")]
    assert len(few) == 3 and len(set(few["draw"])) == 3 and len(set(few["seed"])) == 3
    (row,) = (row for row in cells.to_dict("records") if row["D"] == 3200)
    assert row["gap_twin"] == pytest.approx(few["gap_twin"].astype(float).mean())
    assert row["val_loss_final100"] == pytest.approx(few["val_loss_final100"].astype(float).mean())
    assert (row["draws"], row["runs"]) == (3, 3) and row["gap_twin_se"] > 0
    shown = isogap("gaps", out, "--json")
    assert [each["gap_twin"] for each in json.loads(shown.out)] == pytest.approx(cells["gap_twin"].tolist())


def test_the_table_of_a_study_has_its_cells_and_the_errors_that_they_share(wanted, tmp_path):
    out, _ = wanted
    study_runs(out).to_parquet(tmp_path / "runs.parquet")
    table, cells = pd.read_parquet(tmp_path / "runs.parquet"), cells_table(out)
    blocks = blocks_of(table)
    assert list(blocks) == ["blocks[0]", "blocks[1]", "blocks[2]"]
    # The gaps midway through the first epoch are those of the windows that had been read, as `isogap gaps` has them.
    pairs = table.loc[(table["half"] == "a") & (table["D"] == 3200)]
    for row in pairs.to_dict("records"):
        config = next(run for run in read_configs(out) if run.run_id == row["run_id"])
        losses = [read_documents(run_folder(out, run.run_id)) for run in (config, config.twin())]
        (middle,) = (each for each in trajectory(config, *losses) if each["step"] == config.steps // 2)
        assert (row["gap_midway"], row["gap_midway_se"]) == pytest.approx((middle["gap_twin"], middle["gap_twin_se"]))
        assert np.isfinite(row["gap_unread"]) and row["gap_unread"] != row["gap_midway"]
    assert table.loc[table["half"] == "b", "gap_midway"].isna().all()
    found = pd.concat(blocks.values())
    np.testing.assert_allclose(found["G"], cells["gap_twin"].astype(float))
    np.testing.assert_allclose(found["G_se"], cells["gap_twin_se"].astype(float))
    # The covariance of two cells is the mean of the covariances of their runs.
    rows, _ = roles_for_runs(runs_table(out), "twin")
    of_runs = np.stack([np.asarray(vector) for vector in with_shared_errors(rows, out)["G_shared"]])
    of_cells = np.stack([np.asarray(vector) for vector in study_cells(table)["G_shared"]])
    members = [np.asarray(rows["cluster"] == cluster) for cluster in dict.fromkeys(rows["cluster"])]
    means = np.stack([of_runs[member].mean(axis=0) for member in members])
    np.testing.assert_allclose(of_cells @ of_cells.T, means @ means.T, rtol=1e-4, atol=1e-12)


def test_the_last_gap_does_not_depend_on_the_small_probes(run):
    cell = {"tokens": 6400, "epochs": 2}
    folders = [
        run(name, {"defaults": cell | {"small_probe_windows": small}})[0]
        for name, small in (("small", 4), ("large", 24))
    ]
    tables = [runs_table(folder) for folder in folders]
    same = ["gap_probe", "gap_probe_se", "gap_twin", "gap_twin_se", "heldout_loss", "paired_sd"]
    small, large = (table[same].to_numpy(float) for table in tables)
    assert np.isfinite(small).all() and (small == large).all()
    # Every pair has halves of its own for its placebos; with the same halves they are the same.
    placebos = []
    for folder in folders:
        config = next(config for config in read_configs(folder) if config.data.half == "a")
        own, twin = (read_documents(run_folder(folder, each.run_id)) for each in (config, config.twin()))
        placebos.append(placebo_gaps(own, twin, config.steps, 0))
    assert placebos[0] == placebos[1] and np.isfinite(placebos[0]["twin"].gap)
    assert set(tables[0]["run_id"]).isdisjoint(tables[1]["run_id"])
    for name in ("gap_online", "gap_drift"):
        few, all_ = (table[name].astype(float).to_numpy() for table in tables)
        assert (few != all_).all() and np.abs(few - all_).max() < 0.1
