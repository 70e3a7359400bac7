"""MLflow: each run becomes an MLflow run in an experiment named like the sweep's folder."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param, Run, RunTag

from harness.record.status import ENDED, read_status, run_folder
from harness.track.rows import new_rows, settings_of, training_clock
from sweeps.config import RunConfig

# The most that one request may hold of each kind.
METRICS, PARAMS = 1000, 100
RUN_TAG, STEP_TAG = "isogap.run_id", "isogap.step"


def mirror_to_mlflow(out: Path, run: RunConfig) -> None:
    """Log the rows of a run's committed segments that MLflow does not have, and how the run stands.

    They go to MLFLOW_TRACKING_URI, or else to the database DIR/mlflow/mlflow.db. The tag isogap.step of MLflow's run is
    the last step that it has; it is written with every request. If a process dies in between, metrics are sent again,
    and MLflow keeps equal ones once: a metric's time is the start of MLflow's run and the time that the run had
    trained. Rows that an interruption drops from the record are recomputed to the same values, so the logged ones stay.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        (out / "mlflow").mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{(out / 'mlflow' / 'mlflow.db').resolve()}"
    # It tells in two lines that it makes a database, which would stand between the lines of the sweep's progress.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    client = mlflow.MlflowClient(uri)
    name = out.resolve().name
    experiment = client.get_experiment_by_name(name)
    experiment_id = client.create_experiment(name) if experiment is None else experiment.experiment_id
    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run.run_id}'")
    tracked = found[0] if found else _created(client, experiment_id, run)
    folder = run_folder(out, run.run_id)
    rows = new_rows(folder, int(tracked.data.tags.get(STEP_TAG, -1)))
    times = tracked.info.start_time + 1000 * np.interp([*rows], *training_clock(folder))
    for metrics in _requests(rows, times.astype(int).tolist()):
        client.log_batch(tracked.info.run_id, metrics, tags=[RunTag(STEP_TAG, str(metrics[-1].step))])
    state = read_status(folder, run.steps).state
    if state in ENDED:
        client.set_terminated(tracked.info.run_id, "FINISHED" if state == "done" else "FAILED")
    else:
        client.update_run(tracked.info.run_id, "RUNNING")


def _created(client: mlflow.MlflowClient, experiment_id: str, run: RunConfig) -> Run:
    """A new MLflow run with the settings of a run, nested ones joined by dots."""
    created = client.create_run(experiment_id, run_name=run.run_id, tags={RUN_TAG: run.run_id})
    flat = pd.json_normalize(settings_of(run)).to_dict("records")[0]
    params = [Param(str(key), str(value)) for key, value in flat.items() if value is not None]
    for start in range(0, len(params), PARAMS):
        client.log_batch(created.info.run_id, params=params[start : start + PARAMS])
    return created


def _requests(rows: dict[int, dict[str, float]], times: list[int]) -> Iterator[list[Metric]]:
    """The metrics of the rows in lists that one request may hold; the metrics of a step are in one list."""
    request: list[Metric] = []
    for (step, row), time in zip(rows.items(), times, strict=True):
        metrics = [Metric(name, value, time, step) for name, value in row.items()]
        if len(request) + len(metrics) > METRICS:
            yield request
            request = []
        request += metrics
    if request:
        yield request
