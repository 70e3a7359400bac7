"""Projects that Trackio wrote, as tables of runs."""

import importlib

import numpy as np
import pytest

pytest.importorskip("trackio")

import trackio

from harness.tables.trackers.runs import import_runs
from sweeps.errors import InputError

storage = importlib.import_module("trackio.sqlite_storage")


@pytest.fixture(scope="module")
def folder(ladder, tmp_path_factory):
    """The ladder in a project of Trackio, whose modules take the folder from the environment when they are imported."""
    folder = tmp_path_factory.mktemp("trackio")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("utils", "sqlite_storage"):
            patch.setattr(importlib.import_module(f"trackio.{name}"), "TRACKIO_DIR", folder)
        for run in ladder:
            config = {"model": {"n_params": run.params}, "tokens": run.tokens}
            trackio.init(project="ladder", name=run.name, config=config, auto_log_cpu=False, auto_log_gpu=False)
            for step, loss in run.curve:
                trackio.log({"val_loss": loss, "train": {"loss": float("nan")}}, step=step)
            trackio.finish()
        storage.SQLiteStorage.export_to_parquet()
    return folder


@pytest.mark.parametrize("kind", ["db", "parquet"])
def test_runs_and_curves_are_those_that_were_written(kind, folder, check_ladder, tmp_path):
    for file in folder.glob(f"*.{kind}"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    before = storage.TRACKIO_DIR
    told = []
    imported = import_runs("trackio", str(tmp_path), curves=True, tell=told.append)
    check_ladder(imported, "run_name", "model.n_params", "tokens", "val_loss")
    assert told == ["isogap fit takes N = model.n_params, D = tokens, L = val_loss, L_train = train.loss"]
    assert np.isnan(imported.runs["train.loss"].to_numpy()).all()
    assert set(imported.runs["project"]) == {"ladder"}
    assert storage.TRACKIO_DIR == before
    assert kind == "db" or {path.suffix for path in tmp_path.iterdir()} == {".parquet"}


def test_without_a_folder_it_is_the_one_that_trackio_writes_to(folder, monkeypatch):
    monkeypatch.setattr(storage, "TRACKIO_DIR", folder)
    assert len(import_runs("trackio", tell=lambda _: None).runs) == 12


def test_a_damaged_project_is_named_and_the_others_are_read(folder, tmp_path):
    data = (folder / "ladder.db").read_bytes()
    (tmp_path / "good.db").write_bytes(data)
    (tmp_path / "bad.db").write_bytes(data[:100] + b"\xff" * 8000)
    told = []
    assert len(import_runs("trackio", str(tmp_path), tell=told.append).runs) == 12
    assert "bad" in told[0] and "left out" in told[0]


def test_what_is_no_folder_of_projects_is_refused(tmp_path):
    for store in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="a folder of Trackio's projects"):
            import_runs("trackio", str(store))
