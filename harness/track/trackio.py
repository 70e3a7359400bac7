"""Trackio: each run becomes a run of the same id in Trackio's own folder, in a project named like the sweep."""

import importlib
from pathlib import Path
from typing import Any

from harness.record.status import run_folder
from harness.track.rows import new_rows, settings_of
from sweeps.config import RunConfig

# Imported by name, because neither the package nor its types are installed with the project.
store: Any = importlib.import_module("trackio.sqlite_storage").SQLiteStorage


def mirror_to_trackio(out: Path, run: RunConfig) -> None:
    """Write the rows of a run's committed segments that Trackio does not have.

    They go into Trackio's folder (TRACKIO_DIR, or its default) in one transaction, so that the last step there says
    what is missing, whatever process died. `trackio sync` sends a project on to a Space. `trackio.init` is not used: it
    prints, and a row that it cannot store is lost with a warning. Rows that an interruption drops from the record are
    recomputed to the same values, so the ones that are stored stay.
    """
    project = out.resolve().name
    store.validate_project_name(project)
    last = store.get_max_step_for_run(project, run.run_id, run_id=run.run_id)
    rows = new_rows(run_folder(out, run.run_id), -1 if last is None else last)
    store.bulk_log(
        project, run.run_id, [*rows.values()], [*rows], config=settings_of(run) if last is None else None,
        run_id=run.run_id,
    )  # fmt: skip
