"""`isogap export`: one of a sweep's tables as a file."""

from pathlib import Path

from harness.files import open_folder
from harness.record.table import export
from sweeps.errors import InputError

TABLES = ("runs", "series", "evals", "documents")


def write_export(out: str, what: str, to: Path) -> None:
    """Write a table and print how many rows it has.

    Raises:
        InputError: another table, no sweep, or an ending that is neither .csv nor .parquet.
    """
    if what not in TABLES:
        raise InputError("--what", "value", what, "runs, series, evals or documents")
    print(f"{export(open_folder(out), what, to)} rows in {to}")
