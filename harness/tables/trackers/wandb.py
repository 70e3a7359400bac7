"""Weights & Biases' runs: files on this machine, exported tables, or a project on its server through its own client."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from harness.tables.trackers.runs import Tell, TrackedRun, curve_of, flat
from harness.tables.trackers.wandb_exports import read_wandb_export
from sweeps.errors import InputError

# Seconds that the server may take for one answer; the client's own patience with a server that is down is minutes.
_TIMEOUT = 30
_EXPECTED = (
    "W&B's folder wandb or one of its runs, a table that was exported from W&B (CSV or JSON), or ENTITY/PROJECT on its "
    "server"
)


def read_wandb(store: str | None, curves: bool, tell: Tell) -> list[TrackedRun]:
    """Read W&B's runs: those of a folder, of an exported table, or of a project on the server.

    The server is the one of WANDB_BASE_URL, and the key that of WANDB_API_KEY or `wandb login`.

    Raises:
        InputError: a path that holds no runs, or a project that the server does not give.
    """
    path = Path(store or "")
    if store and path.is_dir():
        files = sorted(path.rglob("*.wandb"))
        if not files:
            raise InputError(store, "PATH", "a folder without *.wandb files", _EXPECTED)
    elif store and path.is_file() and path.suffix != ".wandb":
        return read_wandb_export(path, tell)
    elif store and path.is_file():
        files = [path]
    elif re.fullmatch(r"[\w-]+/[\w.-]+", store or ""):
        return list(_hosted(str(store), curves))
    else:
        raise InputError("wandb", "PATH", store, _EXPECTED)
    from harness.tables.trackers.wandb_offline import read_wandb_files  # needs W&B's client, which exports do not

    return read_wandb_files(files, tell)


def _hosted(project: str, curves: bool) -> Iterator[TrackedRun]:
    """The runs of a project, as W&B's client gets them from the server."""
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb
    from wandb.errors import Error
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        for run in wandb.Api(timeout=_TIMEOUT).runs(project, lazy=False):
            about = {"run_name": run.name, "project": run.project, "state": run.state}
            rows = run.scan_history() if curves and run.lastHistoryStep >= 0 else ()
            curve = curve_of((row["_step"], flat(row)) for row in rows)
            yield TrackedRun(run.id, about, run.config, dict(run.summary_metrics), curve)
    except (Error, WandbApiFailedError, ValueError) as error:
        raise InputError("wandb", "PATH", project, f"a project that the server gives ({error})") from None
