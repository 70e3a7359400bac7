"""What MLflow's own client reads from its store, against the record."""

import random

import pytest

pytest.importorskip("mlflow")

import mlflow
from mlflow.entities import Run

from harness.track.mlflow import METRICS, mirror_to_mlflow

pytestmark = pytest.mark.filterwarnings("ignore")  # of the package's own


def read(recorded, store) -> tuple[dict[tuple[str, int], list[float]], Run]:
    """All values of each (metric, step), and the one run in the experiment named like the folder."""
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    values = {}
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            values.setdefault((name, point.step), []).append(point.value)
    return {key: value for key, value in values.items() if key[0] != "tokens"}, run


def test_every_row_is_there_once_whatever_dies(recorded, mlflow_store, monkeypatch):
    run = recorded(random.Random(1).randrange(10**6))
    run.commit(35)
    run.status("running")
    for _ in range(2):
        mirror_to_mlflow(run.out, run.config)
    values, found = read(run, mlflow_store)
    assert values == {key: [value] for key, value in run.rows.items()}
    assert found.info.run_name == run.config.run_id and found.info.status == "RUNNING"
    params = found.data.params
    assert params["optimizer.lr"] == "0.1" and params["N_nonembedding"] == str(12 * 16**2 + 3 * 16)
    before = len(run.rows)
    run.commit(350)
    assert len(run.rows) - before + 350 > METRICS, "with the tokens, the new rows are more than one request holds"
    log, sent = mlflow.MlflowClient.log_batch, []

    def dies_after(client, run_id, metrics, tags):
        log(client, run_id, metrics)  # the metrics arrive, and the tag that counts them does not
        sent.extend(metrics)
        raise ConnectionError("nobody there")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_batch", dies_after)
        with pytest.raises(ConnectionError):
            mirror_to_mlflow(run.out, run.config)
    assert 0 < len(sent) <= METRICS
    run.status("done")
    mirror_to_mlflow(run.out, run.config)
    values, found = read(run, mlflow_store)
    assert values == {key: [value] for key, value in run.rows.items()}
    assert found.info.status == "FINISHED"


def test_a_run_cut_back_goes_on_where_the_mirror_stands(recorded, mlflow_store):
    run = recorded(8)
    run.commit(30)
    run.commit(30)
    mirror_to_mlflow(run.out, run.config)
    before, last = dict(run.rows), run.step
    while run.step == last:
        run.cut()
    while run.step <= last:
        run.commit(45)
    run.status("diverged")
    mirror_to_mlflow(run.out, run.config)
    values, found = read(run, mlflow_store)
    # Recomputed rows are the same in a real record; here they differ, and the first ones stand.
    assert values == {k: [v] for k, v in (before | {k: v for k, v in run.rows.items() if k[1] > last}).items()}
    assert found.info.status == "FAILED"
