"""Loss series as immutable segments: one parquet file for the steps between two commits of a run.

The segment START-END holds what was recorded after step START up to step END. It is written before the checkpoint at
END. When a run resumes from a checkpoint, the segments beyond it are removed and their steps computed again, so that
segments never overlap.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import parquet_bytes, read_parquet, remove_leftovers, write_files
from sweeps.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SEGMENT_KINDS = ("series", "evals", "documents", "timing")


def bounds(path: Path) -> tuple[int, int]:
    """START and END of a segment."""
    start, end = path.stem.split("-")
    return int(start), int(end)


def segment_paths(folder: Path, kind: str) -> list[Path]:
    """The segments of one kind of a run, in the order of their steps."""
    return sorted((folder / kind).glob("[0-9]*-[0-9]*.parquet"), key=bounds)


def segment_files(folder: Path, start: int, end: int, rows: Mapping[str, Mapping[str, Any]]) -> dict[Path, bytes]:
    """The segments of the steps (start, end] of a run, for `write_files`, from kind -> column -> values.

    A kind without rows has no segment.
    """
    import pyarrow as pa

    return {
        folder / kind / f"{start:09d}-{end:09d}.parquet": parquet_bytes(pa.table(columns))
        for kind, columns in rows.items()
        if columns and len(next(iter(columns.values())))
    }


def write_segment(folder: Path, kind: str, start: int, end: int, rows: dict[str, list]) -> None:
    """Write a segment of one kind with the rows of the steps (start, end]; without rows write nothing."""
    write_files(segment_files(folder, start, end, {kind: rows}))


def drop_segments_beyond(folder: Path, step: int) -> None:
    """Remove the segments that reach beyond a step, and files that a crash left half written in the run's folder."""
    remove_leftovers(folder)
    for kind in SEGMENT_KINDS:
        remove_leftovers(folder / kind)
        for path in segment_paths(folder, kind):
            if bounds(path)[1] > step:
                path.unlink()


def _steps(path: Path) -> list[int] | None:
    """The steps of a segment's rows; None for a segment that cannot be read whole."""
    try:
        return read_parquet(path)["step"].to_pylist()
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _ends(folder: Path, kind: str) -> set[int]:
    """0, and the ends of the segments of one kind, up to the first segment that is missing or not whole.

    A whole segment has a row for every step in `series`, and a row for its last step in `timing`.
    """
    ends, reached = {0}, 0
    for path in segment_paths(folder, kind):
        start, end = bounds(path)
        steps = _steps(path) if start == reached < end else None
        if not steps or (steps != [*range(start + 1, end + 1)] if kind == "series" else steps[-1] != end):
            break
        reached = end
        ends.add(end)
    return ends


def series_end(folder: Path) -> int:
    """The last step up to which a run's series is whole; 0 without a series."""
    return max(_ends(folder, "series"))


def whole_ends(folder: Path, evaluations: Iterable[int] = ()) -> set[int]:
    """The steps from which a run can go on: 0, and those where a segment ends and up to which the record is whole.

    Args:
        evaluations: the steps after which the run is evaluated.
    """
    ends = _ends(folder, "series") & _ends(folder, "timing")
    if ends == {0}:
        return ends
    for kind in ("evals", "documents"):
        # Steps without an evaluation have no segment of this kind: the configuration says which rows must be there.
        evaluated: set[int] = set()
        last = max(ends)
        for path in segment_paths(folder, kind):
            start, end = bounds(path)
            steps = _steps(path) if end <= last else None
            if steps is None or not all(start < step <= end or step == start == 0 for step in steps):
                last = min(last, start)
                break
            evaluated.update(steps)
        missing = min((step for step in evaluations if step not in evaluated), default=last + 1)
        ends = {end for end in ends if end == 0 or (end <= last and end < missing)}
    return ends


def read_segments(folder: Path, kind: str) -> "pd.DataFrame":
    """All rows of one kind of a run in the order of steps; empty without rows, InputError for a damaged segment."""
    # Imported here, because the two take half a second, as long as `isogap status` takes for 5,000 runs.
    import pandas as pd
    import pyarrow as pa

    tables = []
    for path in segment_paths(folder, kind):
        try:
            tables.append(read_parquet(path))
        except ValueError as error:
            expected = f"a whole segment: delete {folder / 'status.json'} and `isogap run` trains what is lost anew"
            raise InputError(path, kind, str(error), expected) from None
    return pa.concat_tables(tables).to_pandas() if tables else pd.DataFrame()
