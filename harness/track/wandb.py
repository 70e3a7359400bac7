"""Weights & Biases: each run becomes a W&B run with the same id."""

import importlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from harness.files import write_json
from harness.record.status import ENDED, read_status, run_folder
from harness.track.rows import new_rows, settings_of
from sweeps.config import RunConfig

# Imported by name, because neither the package nor its types are installed with the project.
wandb: Any = importlib.import_module("wandb")

# The rows of a run must reach the server within this time, or they are sent again at the next update.
FINISH_SECONDS = 60.0


def mirror_to_wandb(out: Path, run: RunConfig) -> None:
    """Log the rows of a run's committed segments that were not logged before.

    DIR/wandb/RUN_ID.json holds the last logged step; it is written when the server has all rows. If the process died
    before that, the server's own last step counts: a resumed run starts after it, and rows before its
    `starting_step` are not sent (the client would drop them). Rows that an interruption drops from the record are
    recomputed to the same values, so the logged ones stay.

    Without a server (WANDB_MODE=offline) a run is logged once, as a whole, when it has ended, because `wandb sync`
    would send two folders of one id twice. The folder of a process that died in the middle is removed.
    """
    folder, file = run_folder(out, run.run_id), out / "wandb" / f"{run.run_id}.json"
    status = read_status(folder, run.steps)
    offline = os.environ.get("WANDB_MODE") == "offline"
    if offline and status.state not in ENDED:
        return
    logged = json.loads(file.read_text())["step"] if file.is_file() else -1
    rows = new_rows(folder, logged)
    if not rows:
        return
    if offline and logged < 0:
        for left in (out / "wandb").glob(f"offline-run-*-{run.run_id}"):
            shutil.rmtree(left)
    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True,
        finish_timeout=FINISH_SECONDS, finish_timeout_raises=True,
    )  # fmt: skip
    project = os.environ.get("WANDB_PROJECT", out.resolve().name)
    session = wandb.init(
        project=project, id=run.run_id, name=run.run_id, config=settings_of(run), dir=out, resume="allow",
        reinit="create_new", settings=settings,
    )  # fmt: skip
    try:
        for step, row in rows.items():
            if step >= session.starting_step:
                session.log(row, step=step)
        session.summary["state"] = status.state
    finally:
        session.finish()
    write_json(file, {"step": max(rows)})
