"""The tidy tables of a sweep: runs, series, evals."""

import json
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa

from harness.record.configs import read_configs
from harness.record.files import parquet_bytes, read_bytes, write_bytes
from harness.record.lock import is_live
from harness.record.segments import read_segments
from harness.record.status import read_status, run_folder
from sweeps.cells import derived
from sweeps.config import RunConfig
from sweeps.errors import InputError

What = Literal["runs", "series", "evals"]

QUANTITIES = (
    "width", "depth", "N_total", "N_nonembedding", "N_active", "N_trainable", "D", "U", "epochs", "batch_tokens", "lr",
    "schedule", "flops", "flops_6nd",
)  # fmt: skip
MEASURED = (
    "bytes_per_token", "train_loss_final100", "val_loss_final100", "seen_loss", "heldout_loss", "gap_online",
    "gap_online_se", "gap_probe", "gap_probe_se", "gap_twin", "gap_twin_se", "minimum_detectable_gap", "placebo",
    "placebo_se", "gap_drift", "converged",
)  # fmt: skip
# The machine's doing: everything else in the tables is the same to the byte whenever and however the sweep is run.
WALL_CLOCK = ("wall_seconds", "tokens_per_second")


def runs_table(out: Path) -> pd.DataFrame:
    """A row a run: what it is, where it stands, what was measured (empty until it is done).

    D, U and batch_tokens in tokens, flops and flops_6nd in FLOPs of the whole run (exact products over the full mask;
    6 N_active D), losses and gaps in nats per token.
    """
    live = is_live(out)
    return pd.DataFrame([_run_row(out, config, live) for config in read_configs(out)])


def _run_row(out: Path, config: RunConfig, live: bool) -> dict:
    folder = run_folder(out, config.run_id)
    status, model = read_status(folder, config.steps, live=live), config.model
    quantities = derived(config, "total")
    measured = _measured(folder) if status.state == "done" else {}
    timing = read_segments(folder, "timing") if status.state == "done" else pd.DataFrame()
    seconds = float(timing["wall_seconds"].to_numpy().sum()) if len(timing) else None
    return {
        "run_id": config.run_id,
        "status": status.state,
        "reason": status.reason,
        "architecture": model.architecture,
        "tokenizer": config.data.tokenizer,
        "domain": config.data.domain,
        "seed": config.seed,
        **{name: quantities[name] for name in QUANTITIES},
        **{name: measured.get(name) for name in MEASURED},
        "wall_seconds": seconds,
        "tokens_per_second": config.tokens / seconds if seconds else None,
    }


def _measured(folder: Path) -> dict:
    path = folder / "gap.json"
    try:
        measured = json.loads(read_bytes(path))
        if not isinstance(measured, dict):
            raise TypeError("not an object")
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        expected = f"what was measured: delete {folder / 'status.json'} and `isogap run` measures it anew"
        raise InputError(path, "gap", type(error).__name__, expected) from None
    return measured


def segments_table(out: Path, kind: Literal["series", "evals"]) -> pd.DataFrame:
    """All rows of one kind, the run's id before them, in the order of the sweep and the steps."""
    frames = []
    for config in read_configs(out):
        frame = read_segments(run_folder(out, config.run_id), kind)
        if len(frame):
            frame.insert(0, "run_id", config.run_id)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def export(out: Path, what: What, path: Path) -> int:
    """Write one of the tables as CSV or parquet, by the file's ending; returns the number of rows.

    Raises:
        InputError: another ending, or a folder that holds no sweep.
    """
    table = runs_table(out) if what == "runs" else segments_table(out, what)
    return write_table(table, path)


def write_table(table: pd.DataFrame, path: Path) -> int:
    """Write a table as CSV (full precision) or parquet, by the file's ending.

    Raises:
        InputError: another ending.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(path, "ending", path.suffix, ".csv or .parquet")
    if path.suffix == ".csv":
        content = table.to_csv(index=False).encode()
    else:
        content = parquet_bytes(pa.Table.from_pandas(table, preserve_index=False))
    write_bytes(path, content)
    return len(table)
