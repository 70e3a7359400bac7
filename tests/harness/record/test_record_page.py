"""The page of the record names every file of a sweep's folder and every column of every table, and no others."""

import re
from pathlib import Path

import pandas as pd
import pytest

import harness.record.table
from harness.record.segments import SEGMENT_KINDS, read_segments
from harness.record.status import run_folder
from harness.record.table import runs_table, segments_table
from harness.train.slot import MOE_SERIES

PAGE = (Path(harness.record.table.__file__).parent / "README.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> list[str]:
    """What stands in backquotes in the first cells of the table under a heading."""
    section = re.split(r"^## ", PAGE, flags=re.M)
    text = next(part for part in section if part.startswith(f"{heading}\n"))
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("kind", ["runs", *SEGMENT_KINDS])
def test_the_page_names_the_columns_of_a_table(finished, finished_runs, kind):
    if kind == "timing":
        table = read_segments(run_folder(finished, finished_runs[0].run_id), kind)
    else:
        table = runs_table(finished) if kind == "runs" else segments_table(finished, kind)
    assert isinstance(table, pd.DataFrame) and len(table)
    # This sweep has no mixture of experts, whose series have columns of their own.
    assert first_cells(f"The table `{kind}`") == [*table, *(MOE_SERIES if kind == "series" else ())]


def test_the_page_names_the_files_of_a_folder(finished):
    patterns = [
        re.escape(name).replace("ID", "[0-9a-f]{12}").replace("TABLE", "(series|evals|documents|timing)")
        .replace(r"START\-END", r"\d{9}-\d{9}").replace("NAME", "[^/]+").replace("final/", "final/.*")
        for name in first_cells("Files")
    ]  # fmt: skip
    files = [str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()]
    assert [name for name in files if not any(re.fullmatch(pattern, name) for pattern in patterns)] == []
