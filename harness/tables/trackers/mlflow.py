"""MLflow's runs, read by its own client from a database, a folder or a server."""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.store.entities import PagedList

from harness.tables.trackers.logs import hearing
from harness.tables.trackers.runs import Tell, TrackedRun, curve_of
from sweeps.errors import InputError, reason_of

_EXPECTED = "an MLflow store: mlflow.db, a folder mlruns, or a tracking URI such as http://HOST:5000"


def read_mlflow(store: str | None, curves: bool, tell: Tell) -> list[TrackedRun]:
    """Read every run of every experiment that is not deleted: its parameters, its own tags, and its metrics.

    Raises:
        InputError: a store that is none, that its MLflow cannot read, or a server that does not answer.
    """
    uri = _tracking_uri(store or "")
    # A server that does not answer is asked again for minutes otherwise, and a folder is refused as out of date.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

    def hear(record: logging.LogRecord) -> None:
        tell(record.getMessage().splitlines()[0])  # of runs that cannot be read, and are left out

    with hearing(("", "mlflow", "alembic"), logging.WARNING, hear):
        try:
            client = mlflow.MlflowClient(uri)
            experiments = {found.experiment_id: found.name for found in _paged(client.search_experiments)}
            runs = list(_paged(lambda **page: client.search_runs(list(experiments), **page))) if experiments else []
            found = [_tracked(client, run, experiments[run.info.experiment_id], curves) for run in runs]
        except Exception as error:  # the client has an error of its own, but a damaged store raises any
            raise InputError(store, "STORE", reason_of(error), _EXPECTED) from None
    return found[::-1]  # the client's order is the latest first


def _tracking_uri(store: str) -> str:
    """The URI by which MLflow knows a store.

    Raises InputError for what is no store, because the client would make one of it.
    """
    path = Path(store.removeprefix("sqlite:///").removeprefix("file://")) if store else Path()
    if "://" in store and not store.startswith(("sqlite:", "file:")):
        return store
    if path.is_dir():
        if (path / "mlflow.db").is_file():
            path = path / "mlflow.db"
        else:
            folders = (path, path / "mlruns")
            found = next((folder for folder in folders if any(folder.glob("*/meta.yaml"))), None)
            if found is None:
                raise InputError(store, "STORE", "a folder without experiments", _EXPECTED)
            return found.resolve().as_uri()
    elif not store or not path.exists():
        raise InputError("mlflow", "STORE", store, _EXPECTED)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("SELECT 1 FROM experiments")
    except sqlite3.Error as error:
        raise InputError(store or "mlflow", "STORE", str(error), _EXPECTED) from None
    return f"sqlite:///{path.resolve()}"


def _paged(search: Callable[..., PagedList[Any]]) -> Iterator[Any]:
    """All that a search finds, page by page."""
    page = search()
    yield from page
    while page.token:
        page = search(page_token=page.token)
        yield from page


def _tracked(client: mlflow.MlflowClient, run: Run, experiment: str, curves: bool) -> TrackedRun:
    about = {"run_name": run.info.run_name, "experiment": experiment, "state": run.info.status.lower()}
    tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
    names = run.data.metrics if curves else ()
    logged = (
        (point.step, {name: point.value})
        for name in names
        for point in client.get_metric_history(run.info.run_id, name)
    )
    return TrackedRun(run.info.run_id, about, tags | run.data.params, run.data.metrics, curve_of(logged))
