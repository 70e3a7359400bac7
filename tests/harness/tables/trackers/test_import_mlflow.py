"""Databases and folders that MLflow wrote, as tables of runs."""

import logging
import sqlite3
import threading

import pandas as pd
import pytest

pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")

import mlflow
from mlflow.entities import Metric, Param

from harness.tables.trackers.runs import import_runs
from sweeps.errors import InputError


def write(uri: str, ladder, status: str = "FINISHED") -> None:
    """The ladder in an experiment of its own; the last run ends with the status."""
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("ladder")
    for run in ladder:
        run_id = client.create_run(experiment, run_name=run.name, tags={"family": "dense"}).info.run_id
        metrics = [Metric("val_loss", loss, 1000 + step, step) for step, loss in run.curve]
        params = [Param("n_params", str(run.params)), Param("model/tokens", str(run.tokens)), Param("tied", "True")]
        client.log_batch(run_id, metrics, params)
        client.set_terminated(run_id, status if run is ladder[-1] else "FINISHED")


@pytest.fixture(scope="module")
def stores(ladder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        write(f"sqlite:///{folder}/mlflow.db", ladder, "KILLED")
        write((folder / "old" / "mlruns").as_uri(), ladder)
    return folder


@pytest.mark.filterwarnings("ignore")  # of the package's own
@pytest.mark.parametrize("store", ["mlflow.db", ".", "old", "old/mlruns", "sqlite:///{}/mlflow.db"])
def test_runs_and_curves_are_those_that_were_written(store, stores, check_ladder):
    told = []
    place = store.format(stores) if "{}" in store else str(stores / store)
    imported = import_runs("mlflow", place, curves=True, tell=told.append)
    check_ladder(imported, "run_name", "n_params", "model/tokens", "val_loss")
    assert told[-1] == "isogap fit takes N = n_params, D = model/tokens, L = val_loss"
    assert imported.runs["tied"].tolist() == [True] * 12 and set(imported.runs["family"]) == {"dense"}
    states = ["finished"] * 12 if "old" in store else ["finished"] * 11 + ["killed"]
    assert imported.runs["state"].tolist() == states
    assert told[:-1] == [
        "1 of 12 runs did not finish (1 killed): --where \"state == 'finished'\" leaves them out of a fit"
    ] * ("killed" in states)


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_cannot_be_read_is_named_and_the_rest_is_read(ladder, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    write(tmp_path.as_uri(), ladder[:3])
    moved = next(tmp_path.glob("*/*/params")).parent
    other = tmp_path / mlflow.MlflowClient(tmp_path.as_uri()).create_experiment("other")
    moved = moved.rename(other / moved.name)
    told = []
    imported = import_runs("mlflow", str(tmp_path), tell=told.append)
    assert len(imported.runs) == 2 and moved.name in told[0]
    (moved / "meta.yaml").write_text("")  # this stops MLflow itself
    with pytest.raises(InputError, match="STORE"):
        import_runs("mlflow", str(tmp_path), tell=told.append)


def test_what_is_no_store_is_refused_and_left_as_it_is(tmp_path):
    other = tmp_path / "other.db"
    sqlite3.connect(other).execute("CREATE TABLE mine (x)").connection.close()
    (tmp_path / "text.db").write_text("no database at all")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for store in (None, str(tmp_path), str(other), str(tmp_path / "text.db"), str(tmp_path / "none.db")):
        with pytest.raises(InputError, match="STORE"):
            import_runs("mlflow", store)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_server_gives_what_its_database_holds(stores, monkeypatch):
    pytest.importorskip("flask")
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{stores}/mlflow.db")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(stores))
    from mlflow.server import app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        uris = (f"http://127.0.0.1:{server.port}", f"{stores}/mlflow.db")
        served, read = (import_runs("mlflow", uri, curves=True, tell=lambda _: None) for uri in uris)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    pd.testing.assert_frame_equal(served.runs, read.runs)
    pd.testing.assert_frame_equal(served.curves, read.curves)
