"""Segments against a plain list of rows."""

import random
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.record.segments import (
    read_segments,
    remove_damaged,
    remove_superfluous,
    segment_paths,
    whole_ends,
    write_segment,
)

losses = st.floats(allow_nan=False, width=32)


@st.composite
def commits(draw):
    """Bounds of consecutive segments, and a loss for every step of them."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=6))
    return lengths, draw(st.lists(losses, min_size=sum(lengths), max_size=sum(lengths)))


def write(folder: Path, start: int, end: int, values: list[float]) -> None:
    """A complete segment."""
    write_segment(folder, "series", start, end, {"step": [*range(start + 1, end + 1)], "loss": values[start:end]})
    write_segment(folder, "timing", start, end, {"step": [end], "wall_seconds": [1.0]})


@given(commits())
def test_what_was_committed_is_read_in_order_to_the_bit(given_rows):
    lengths, values = given_rows
    with tempfile.TemporaryDirectory() as name:
        start = 0
        for length in lengths:
            write(Path(name), start, start + length, values)
            start += length
        frame = read_segments(Path(name), "series")
    assert frame["step"].tolist() == list(range(1, sum(lengths) + 1))
    assert [v.hex() for v in frame["loss"].tolist()] == [float(v).hex() for v in values]


@pytest.mark.parametrize("seed", range(10))
def test_processes_that_write_at_once_leave_one_whole_record(seed):
    """Each goes on from where it is, or resumes from any step at which the record is whole, in any order of writing."""
    values, rng = [1.0 / step for step in range(1, 11)], random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, at, reached = Path(name), [0, 0, 0], {0}
        while max(at) < len(values):
            who = rng.randrange(3)
            if rng.random() < 0.5:
                at[who] = rng.choice(sorted(reached))
                remove_damaged(folder, ())
            end = rng.randint(at[who] + 1, min(at[who] + 4, len(values)))
            if rng.random() < 0.25:  # it dies, and its segment lacks its timing
                rows = {"step": [*range(at[who] + 1, end + 1)], "loss": values[at[who] : end]}
                write_segment(folder, "series", at[who], end, rows)
                continue
            write(folder, at[who], end, values)
            at[who] = end
            reached.add(end)
            assert whole_ends(folder) == reached
        torn = folder / "series" / ".000000000-000000001.parquet.tmp"
        torn.write_bytes(b"half of a file")
        seen = segment_paths(folder, "series")
        remove_superfluous(folder)
        assert not torn.exists() and segment_paths(folder, "series") == seen
        assert len([*(folder / "timing").iterdir()]) == len(seen)
        assert read_segments(folder, "series")["loss"].tolist() == values


def test_the_folder_of_an_earlier_version_is_read_and_resumed(tmp_path):
    """It holds segments that do not overlap, and perhaps half a commit behind them."""
    values = [float(step) for step in range(9)]
    for start, end in ((0, 3), (3, 7)):
        write(tmp_path, start, end, values)
    write_segment(tmp_path, "series", 7, 9, {"step": [8, 9], "loss": values[7:]})
    assert whole_ends(tmp_path) == {0, 3, 7}
    assert read_segments(tmp_path, "series")["loss"].tolist() == values[:7]
    write(tmp_path, 3, 9, values)  # resumed from a checkpoint at 3
    assert read_segments(tmp_path, "series")["loss"].tolist() == values


def test_no_rows_leave_no_file(tmp_path):
    write_segment(tmp_path, "evals", 0, 5, {})
    write_segment(tmp_path, "evals", 0, 5, {"step": []})
    assert segment_paths(tmp_path, "evals") == []
    pd.testing.assert_frame_equal(read_segments(tmp_path, "evals"), pd.DataFrame())


def test_segments_are_ordered_by_step_not_by_name(tmp_path):
    for start, end in ((999_999_999, 1_000_000_001), (0, 999_999_999)):
        write_segment(tmp_path, "timing", start, end, {"step": [end]})
    assert read_segments(tmp_path, "timing")["step"].tolist() == [999_999_999, 1_000_000_001]
