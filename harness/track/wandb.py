"""Weights & Biases: one of its runs a run, with the same id."""

import importlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from harness.files import write_json
from harness.record.status import ENDED, read_status, run_folder
from harness.track.rows import committed_segments, last_step, scalars
from sweeps.config import RunConfig

# Nothing of it is installed with the project, nor are its types.
wandb: Any = importlib.import_module("wandb")

# For all of a run's rows to reach the server; after it they are sent again at the next update.
FINISH_SECONDS = 60.0


def mirror(out: Path, run: RunConfig) -> None:
    """Log the rows of a run's committed segments that lie beyond those logged before.

    How far they reach is kept in DIR/wandb/RUN_ID.json, written when the server has all rows. Of a process that died
    between the two, the server's own last step tells: a resumed run starts behind it, and rows before its
    `starting_step` are not sent (the client would drop them). Rows that an interruption drops from the record and that
    are recomputed are the same, and stay.

    Without a server (WANDB_MODE=offline) a run is logged once, whole, when it has ended: of two folders with one id,
    `wandb sync` would send both. The folder of a process that died in the middle is removed.
    """
    folder, file = run_folder(out, run.run_id), out / "wandb" / f"{run.run_id}.json"
    status = read_status(folder, run.steps)
    offline = os.environ.get("WANDB_MODE") == "offline"
    if offline and status.state not in ENDED:
        return
    logged = json.loads(file.read_text())["step"] if file.is_file() else -1
    new = [segment for segment in committed_segments(folder) if last_step(segment) > logged]
    if not new:
        return
    if offline and logged < 0:
        for left in (out / "wandb").glob(f"offline-run-*-{run.run_id}"):
            shutil.rmtree(left)
    rows: dict[int, dict[str, float]] = {}
    for segment in new:
        for step, row in scalars(segment):
            rows.setdefault(step, {}).update(row)
    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True,
        finish_timeout=FINISH_SECONDS, finish_timeout_raises=True,
    )  # fmt: skip
    project = os.environ.get("WANDB_PROJECT", out.resolve().name)
    session = wandb.init(
        project=project, id=run.run_id, name=run.run_id, config=run.model_dump(mode="json"), dir=out, resume="allow",
        reinit="create_new", settings=settings,
    )  # fmt: skip
    try:
        for step in sorted(step for step in rows if step > logged and step >= session.starting_step):
            session.log(rows[step], step=step)
        session.summary["state"] = status.state
    finally:
        session.finish()
    write_json(file, {"step": max(map(last_step, new))})
