"""Loss series as immutable segments: one parquet file for the steps between two commits of a run.

A segment START-END holds what was recorded after step START up to step END. It is written before the checkpoint at END
is; what lies beyond the checkpoint a run resumes from is dropped and recomputed, so that segments never overlap.
"""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.record.files import write_parquet

KINDS = ("series", "evals", "timing")


def _bounds(path: Path) -> tuple[int, int]:
    start, end = path.stem.split("-")
    return int(start), int(end)


def segment_paths(folder: Path, kind: str) -> list[Path]:
    """The segments of one kind of a run, in the order of their steps."""
    return sorted((folder / kind).glob("[0-9]*-[0-9]*.parquet"), key=_bounds)


def write_segment(folder: Path, kind: str, start: int, end: int, rows: dict[str, list]) -> None:
    """Commit the rows recorded in (start, end] of a run's folder; writes nothing for no rows."""
    if rows and len(next(iter(rows.values()))):
        write_parquet(folder / kind / f"{start:09d}-{end:09d}.parquet", pa.table(rows))


def drop_segments_beyond(folder: Path, step: int) -> None:
    """Remove the segments that reach beyond a step, and what a crash left half written."""
    for kind in KINDS:
        for leftover in (folder / kind).glob(".*.tmp"):
            leftover.unlink()
        for path in segment_paths(folder, kind):
            if _bounds(path)[1] > step:
                path.unlink()


def read_segments(folder: Path, kind: str) -> pd.DataFrame:
    """All rows of one kind of a run, in the order of their steps; empty where there are none."""
    paths = segment_paths(folder, kind)
    if not paths:
        return pd.DataFrame()
    # pyarrow has no annotations: the type is guessed from the default, "hive", though None is documented.
    tables = [pq.read_table(path, partitioning=None) for path in paths]  # pyright: ignore[reportArgumentType]
    return pa.concat_tables(tables).to_pandas()
