"""Trackio's runs, read by its own API from a folder of its databases, or of the parquet files that it exports."""

import importlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.tables.trackers.runs import Tell, TrackedRun, curve_of, flat
from sweeps.errors import InputError

# Imported by name, because its public functions take no folder, and the module's own variable is set below.
api: Any = importlib.import_module("trackio.api")
storage: Any = importlib.import_module("trackio.sqlite_storage")


def read_trackio(store: str | None, curves: bool, tell: Tell) -> list[TrackedRun]:
    """Read every run of every project in a folder of Trackio; without one, in the folder that it writes to.

    Trackio does not keep how a run ended, so there is no state.

    Raises:
        InputError: no such folder, or one without a project.
    """
    folder = Path(store or storage.TRACKIO_DIR)
    with _projects_in(folder) as projects:
        found = []
        for project in projects:
            try:
                found += [_tracked(project, run) for run in api.Api().runs(project)]
            except (sqlite3.Error, ValueError) as error:
                tell(f"{folder / project}: this project is left out, because it cannot be read ({error})")
    return found


@contextmanager
def _projects_in(folder: Path) -> Iterator[list[str]]:
    """The projects of a folder, to which Trackio's own API is turned; it takes its folder from the environment, once.

    Parquet files are imported into databases in a temporary folder, so that nothing is written into the store.
    """
    before = storage.TRACKIO_DIR
    with tempfile.TemporaryDirectory() as temporary:
        try:
            if any(folder.glob("*.db")):
                storage.TRACKIO_DIR = folder
            else:
                files = list(folder.glob("*.parquet"))
                if not files:
                    expected = "a folder of Trackio's projects, *.db or *.parquet"
                    found = "no project" if folder.is_dir() else "no folder"
                    raise InputError(folder, "DIR", found, expected)
                storage.TRACKIO_DIR = Path(temporary)
                for file in files:
                    shutil.copy(file, temporary)
                storage.SQLiteStorage.import_from_parquet()
            yield storage.SQLiteStorage.get_projects()
        finally:
            storage.TRACKIO_DIR = before


def _tracked(project: str, run: Any) -> TrackedRun:
    rows = storage.SQLiteStorage.get_logs(project, run.name, run_id=run.id)
    logged = [(row["step"], flat({k: v for k, v in row.items() if k not in ("step", "timestamp")})) for row in rows]
    final = {name: value for _, row in logged for name, value in row.items()}
    return TrackedRun(run.id, {"run_name": run.name, "project": project}, run.config or {}, final, curve_of(logged))
