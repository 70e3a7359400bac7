"""Segments against a plain list of rows."""

import tempfile
from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from harness.record.segments import drop_segments_beyond, read_segments, segment_paths, write_segment

losses = st.floats(allow_nan=False, width=32)


@st.composite
def commits(draw):
    """Bounds of consecutive segments, and a loss for every step of them."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=6))
    return lengths, draw(st.lists(losses, min_size=sum(lengths), max_size=sum(lengths)))


def write_all(folder: Path, lengths: list[int], values: list[float]) -> list[int]:
    """One segment a length, in turn; the steps at which they end."""
    ends, start = [], 0
    for length in lengths:
        end = start + length
        write_segment(folder, "series", start, end, {"step": [*range(start + 1, end + 1)], "loss": values[start:end]})
        ends.append(end)
        start = end
    return ends


@given(commits())
def test_what_was_committed_is_read_in_order_to_the_bit(given_rows):
    lengths, values = given_rows
    with tempfile.TemporaryDirectory() as name:
        write_all(Path(name), lengths, values)
        frame = read_segments(Path(name), "series")
    assert frame["step"].tolist() == list(range(1, sum(lengths) + 1))
    assert [v.hex() for v in frame["loss"].tolist()] == [float(v).hex() for v in values]


@given(commits(), st.data())
def test_dropping_beyond_a_commit_leaves_what_was_committed_by_then(given_rows, data):
    lengths, values = given_rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ends = write_all(folder, lengths, values)
        torn = folder / "series" / ".000000000-000000001.parquet.tmp"
        torn.write_bytes(b"half of a file")
        kept = data.draw(st.sampled_from([0, *ends]))
        drop_segments_beyond(folder, kept)
        frame = read_segments(folder, "series")
        assert not torn.exists()
        assert (frame["step"].tolist() if len(frame) else []) == list(range(1, kept + 1))
        # What is recorded anew takes the place of what was dropped.
        rest = sum(lengths) - kept
        if rest:
            rows = {"step": list(range(kept + 1, kept + rest + 1)), "loss": values[kept:]}
            write_segment(folder, "series", kept, kept + rest, rows)
        assert read_segments(folder, "series")["loss"].tolist() == values


def test_no_rows_leave_no_file(tmp_path):
    write_segment(tmp_path, "evals", 0, 5, {})
    write_segment(tmp_path, "evals", 0, 5, {"step": []})
    assert segment_paths(tmp_path, "evals") == []
    pd.testing.assert_frame_equal(read_segments(tmp_path, "evals"), pd.DataFrame())


def test_segments_are_ordered_by_step_not_by_name(tmp_path):
    for start, end in ((999_999_999, 1_000_000_001), (0, 999_999_999)):
        write_segment(tmp_path, "timing", start, end, {"step": [end]})
    assert read_segments(tmp_path, "timing")["step"].tolist() == [999_999_999, 1_000_000_001]
