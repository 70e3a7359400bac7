"""Loss series as immutable segments: one parquet file for the steps between two commits of a run.

The segment START-END holds what was recorded after step START up to step END. It is written before the checkpoint at
END, first its series and last its timing, which completes it.

A run that resumes from a checkpoint takes nothing away: it writes further segments that begin there, so that segments
may overlap. The record is the chain of complete segments, each beginning where the one before ends, that reaches
furthest. Several processes may write at once, if one of them stood still while another took its run over: what they
write for the same steps is equal, but for the wall-clock times. Only when the run is done, what is not in the chain is
removed.
"""

from collections.abc import Iterable, Mapping, Sequence
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


def _path(folder: Path, kind: str, start: int, end: int) -> Path:
    return folder / kind / f"{start:09d}-{end:09d}.parquet"


def _stored(folder: Path, kind: str) -> list[Path]:
    """The files of one kind in a run's folder, in the order of their steps, whether they are in the chain or not."""
    return sorted((folder / kind).glob("[0-9]*-[0-9]*.parquet"), key=bounds)


def _chains(segments: Iterable[tuple[int, int]]) -> dict[int, list[tuple[int, int]]]:
    """Each step that a chain of these segments reaches from 0 -> that chain.

    Of several chains to a step it is the one whose last segment begins first. So the chain that is chosen stays the
    same while segments of others are removed.
    """
    chains: dict[int, list[tuple[int, int]]] = {0: []}
    for start, end in sorted(segments):
        if start in chains and start < end:
            chains.setdefault(end, [*chains[start], (start, end)])
    return chains


def segment_paths(folder: Path, kind: str) -> list[Path]:
    """The segments of one kind of a run's record, in the order of their steps."""
    chains = _chains(map(bounds, _stored(folder, "timing")))
    chain = set(chains[max(chains)])
    return [path for path in _stored(folder, kind) if bounds(path) in chain]


def segment_files(folder: Path, start: int, end: int, rows: Mapping[str, Mapping[str, Any]]) -> dict[Path, bytes]:
    """The segments of the steps (start, end] of a run, for `write_files`, from kind -> column -> values.

    A kind without rows has no segment.
    """
    import pyarrow as pa

    return {
        _path(folder, kind, start, end): parquet_bytes(pa.table(columns))
        for kind, columns in rows.items()
        if columns and len(next(iter(columns.values())))
    }


def write_segment(folder: Path, kind: str, start: int, end: int, rows: dict[str, list]) -> None:
    """Write a segment of one kind with the rows of the steps (start, end]; without rows write nothing."""
    write_files(segment_files(folder, start, end, {kind: rows}))


def _steps(path: Path) -> list[int] | None:
    """The steps of a segment's rows; None if the file is damaged. Raises FileNotFoundError if there is none.

    A whole segment has a row for every step in `series`, and a row for its last step in `timing`.
    """
    start, end = bounds(path)
    try:
        steps = read_parquet(path)["step"].to_pylist()
    except (ValueError, KeyError):
        return None
    inside = all(start < step <= end or step == start == 0 for step in steps)
    whole = {"series": steps == [*range(start + 1, end + 1)], "timing": steps[-1:] == [end]}
    return steps if whole.get(path.parent.name, inside) else None


def _is_whole(folder: Path, start: int, end: int, evaluations: Iterable[int]) -> bool:
    """Whether all files of a segment are there and whole."""
    # Steps without an evaluation have no file of these kinds: the configuration says which rows must be there.
    due = {step for step in evaluations if start < step <= end or step == start == 0}
    for kind in SEGMENT_KINDS if due else ("series", "timing"):
        try:
            steps = _steps(_path(folder, kind, start, end))
        except FileNotFoundError:
            return False
        if steps is None or (kind in ("evals", "documents") and not due <= {*steps}):
            return False
    return True


def whole_ends(folder: Path, evaluations: Sequence[int] = ()) -> set[int]:
    """The steps from which a run can go on: 0, and those where a segment ends and up to which the record is whole.

    Args:
        evaluations: the steps after which the run is evaluated.
    """
    complete = map(bounds, _stored(folder, "timing"))
    return {*_chains(segment for segment in complete if _is_whole(folder, *segment, evaluations))}


def remove_damaged(folder: Path, evaluations: Sequence[int]) -> None:
    """Remove the complete segments that are not whole, before a run goes on, so that they are not in its chain.

    Incomplete ones stay: another process may be about to complete them.

    Args:
        evaluations: the steps after which the run is evaluated.
    """
    for segment in map(bounds, _stored(folder, "timing")):
        if not _is_whole(folder, *segment, evaluations):
            _remove(folder, *segment)


def remove_superfluous(folder: Path) -> None:
    """Remove the complete segments of a finished run that are not in its chain, and what a crash left half written."""
    for part in (folder, *(folder / kind for kind in SEGMENT_KINDS)):
        remove_leftovers(part)
    chain = {*segment_paths(folder, "timing")}
    for path in _stored(folder, "timing"):
        if path not in chain:
            _remove(folder, *bounds(path))


def _remove(folder: Path, start: int, end: int) -> None:
    # The timing first, so that what a crash leaves is incomplete.
    for kind in reversed(SEGMENT_KINDS):
        _path(folder, kind, start, end).unlink(missing_ok=True)


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
