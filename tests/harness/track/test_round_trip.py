"""What a sweep's trackers are given comes back as the table of its runs."""

import importlib

import pytest

from harness.record.columns import QUANTITIES
from harness.tables.trackers.runs import import_runs
from harness.track.mirror import TRACKERS
from models.count import count


@pytest.mark.filterwarnings("default")  # of the trackers' packages
@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_run_comes_back_with_its_sizes_and_losses(tracker, recorded, monkeypatch, request):
    pytest.importorskip(tracker)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run, told = recorded(6), []
    run.commit(35)
    run.commit(20)
    run.status("done")
    if tracker in ("mlflow", "trackio"):
        request.getfixturevalue(f"{tracker}_store")
    mirror = getattr(importlib.import_module(f"harness.track.{tracker}"), f"mirror_to_{tracker}")
    mirror(run.out, run.config)
    store = str(run.out.parent if tracker == "trackio" else run.out) + f"/{tracker}"
    imported = import_runs(tracker, store, curves=True, tell=told.append)
    (row,) = imported.runs.to_dict("records")
    assert row["run_name" if tracker == "mlflow" else "run_id"] == run.config.run_id and set(QUANTITIES) <= row.keys()
    assert row["N_nonembedding"] == count(run.config.model).nonembedding and row["D"] == 32 * 400
    assert row["model.width"] == 16 and row["heldout/loss"] == pytest.approx(run.rows["heldout/loss", 50])
    assert "N = N_nonembedding, D = D, U = U, L = heldout/loss, L_train = train_loss" in told[0]
    curves = imported.curves.melt(["run_id", "step", "N_nonembedding"], var_name="tag").dropna()
    found = {(tag, step): value for tag, step, value in curves[["tag", "step", "value"]].itertuples(index=False)}
    assert {key: found[key] for key in run.rows} == pytest.approx(run.rows)
