"""Reads a table of runs from a file: CSV in its dialects, JSON, JSON lines or parquet, compressed or not.

The kind is recognised by the content, not by the name of the file.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from harness.fit.problem.columns import numbers_of
from sweeps.complaints import shorten
from sweeps.errors import InputError
from sweeps.numbers import parse_number

EXPECTED = "a file of runs: CSV with commas, semicolons or tabs, JSON, JSON lines or parquet; also gz, xz, bz2, zip"
_DELIMITERS = (",", "\t", ";", "|")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_file(path: Path | str) -> pd.DataFrame:
    """Read a table; `-` is the standard input.

    Columns of numbers are numbers, also with commas between thousands or decimal commas. Other columns are text, in
    which empty cells are None.

    Raises:
        InputError: no such file, an empty one, or one that is not a table.
    """
    data = _unpacked(path, _bytes_of(path))
    if data[:4] == b"PAR1":
        frame = _parquet(path, data)
    else:
        text = _decoded(path, data)
        if not text.strip():
            raise InputError(path, "SOURCE", "an empty file", EXPECTED)
        frame = _json(path, text) if text.lstrip()[0] in "[{" else _delimited(path, text)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(path, "columns", twice[0], "names that differ")
    if frame.empty:
        raise InputError(path, "rows", 0, "at least one row below the names of the columns")
    return pd.DataFrame({name: typed(column) for name, column in frame.items()})


def _bytes_of(path: Path | str) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return (Path(path) if isinstance(path, str) else path).read_bytes()
    except FileNotFoundError:
        raise InputError(path, "SOURCE", str(path), EXPECTED) from None
    except OSError as error:
        raise InputError(path, "SOURCE", error.strerror or str(error), EXPECTED) from None


def _unpacked(path: Path | str, data: bytes) -> bytes:
    """The content of a compressed file."""
    try:
        if data[:2] == b"\x1f\x8b":
            return _unpacked(path, gzip.decompress(data))
        if data[:6] == b"\xfd7zXZ\x00":
            return _unpacked(path, lzma.decompress(data))
        if data[:3] == b"BZh":
            return _unpacked(path, bz2.decompress(data))
        if data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
                if any(name.startswith("xl/") for name in names):
                    raise InputError(path, "SOURCE", "an Excel workbook", f"{EXPECTED}; save the sheet as CSV")
                if len(names) != 1:
                    raise InputError(path, "SOURCE", f"a zip of {len(names)} files", "a zip of one file")
                return _unpacked(path, archive.read(names[0]))
    except InputError:
        raise
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        raise InputError(
            path, "SOURCE", str(error) or type(error).__name__, "a compressed file that is whole"
        ) from None
    return data


def _parquet(path: Path | str, data: bytes) -> pd.DataFrame:
    """The columns of a parquet file, those of a named index first."""
    try:
        frame = pd.read_parquet(io.BytesIO(data))
    except (ValueError, OSError) as error:
        raise InputError(path, "SOURCE", shorten(str(error).splitlines()[0]), "a readable parquet file") from None
    frame = frame if frame.index.names == [None] else frame.reset_index()
    return frame.rename(columns=str)


def _decoded(path: Path | str, data: bytes) -> str:
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise InputError(path, "SOURCE", f"broken {encoding}", EXPECTED) from None
        text = data.decode("cp1252", errors="replace")  # what spreadsheets of Windows write
    if "\0" in text:
        raise InputError(path, "SOURCE", "a binary file", EXPECTED)
    return text


def _json(path: Path | str, text: str) -> pd.DataFrame:
    """Records, one per line or in a list, or an object of columns; nested objects become columns `a.b`."""
    try:
        content = json.loads(text)
    except ValueError as error:
        content = _json_lines(path, text, error)
    except RecursionError:
        raise InputError(path, "SOURCE", "deeply nested JSON", EXPECTED) from None
    if isinstance(content, dict):
        lists = all(isinstance(value, list) for value in content.values())
        if content and lists and len({len(value) for value in content.values()}) == 1:
            return pd.DataFrame(content)
        inner = [
            value for value in content.values() if isinstance(value, list) and value and isinstance(value[0], dict)
        ]
        content = inner[0] if len(inner) == 1 else [content]
    for position, record in enumerate(content):
        if not isinstance(record, dict):
            raise InputError(
                path, f"record {position + 1}", shorten(json.dumps(record)), "an object of names and values"
            )
    return pd.json_normalize(content)


def _json_lines(path: Path | str, text: str, whole: ValueError) -> list:
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except ValueError:
                got = str(whole) if number == 1 else shorten(line.strip())
                raise InputError(path, f"line {number}", got, "JSON") from None
    return records


def _delimited(path: Path | str, text: str) -> pd.DataFrame:
    lines = [line for line in text.splitlines() if line.strip()]
    plain = [line for line in lines if not line.startswith("#")]
    if not plain:
        raise InputError(path, "SOURCE", "comments only", EXPECTED)
    delimiter = _delimiter(plain)
    # A row may begin with #, too: it has as many cells as the headings, and comes after them.
    width = _cells(plain[0], delimiter)
    above = lines.index(plain[0])
    lines = [line for line in lines[above:] if not line.startswith("#") or _cells(line, delimiter) == width]
    if delimiter is None:
        lines, delimiter = [",".join(line.split()) for line in lines], ","
    lengths = [len(row) for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
    ragged = next((row for row, length in enumerate(lengths) if length != lengths[0]), None)
    names = [name.strip() for name in next(csv.reader(lines[:1], delimiter=delimiter, skipinitialspace=True))]
    if ragged is not None:
        expected = f"{lengths[0]} cells, as the first line has: {shorten(', '.join(names))}"
        raise InputError(path, f"row {ragged}", f"{lengths[ragged]} cells", expected)
    names = [name or f"column {position}" for position, name in enumerate(names, 1)]
    options = {"sep": delimiter, "skipinitialspace": True, "names": range(len(names)), "index_col": False, "header": 0}
    try:
        frame = pd.read_csv(io.StringIO("\n".join(lines)), **options)
    except (ValueError, csv.Error) as error:
        raise InputError(path, "SOURCE", shorten(str(error).splitlines()[0]), EXPECTED) from None
    frame.columns = pd.Index(names)
    # A delimiter at the end of every line makes a column without a name and without a value.
    empty = [name for name in names if name.startswith("column ") and frame[name].isna().all()]
    frame = frame.drop(columns=empty)
    return _with_points(frame, quoted=delimiter == ",")


def _cells(line: str, delimiter: str | None) -> int:
    """The number of cells of a line; without a delimiter, cells are cut by blanks."""
    if delimiter is None:
        return len(line.split())
    return len(next(csv.reader([line], delimiter=delimiter, skipinitialspace=True)))


def _delimiter(lines: list[str]) -> str | None:
    """The character that cuts the first lines into the same number of cells, most of them; None for blanks."""
    best, most = None, 1
    for delimiter in _DELIMITERS:
        counts = [len(row) for row in csv.reader(lines[:50], delimiter=delimiter, skipinitialspace=True)]
        if counts[0] > most and np.median(counts) == counts[0]:
            best, most = delimiter, counts[0]
    if best is None and len(lines[0].split()) > 1 and len({len(line.split()) for line in lines[:50]}) == 1:
        return None
    return best or ","


def _with_points(frame: pd.DataFrame, quoted: bool) -> pd.DataFrame:
    """Decimal commas as points, in the columns of which every cell has one.

    Args:
        quoted: whether commas also delimit cells, so that 4,735 may be four thousand: a column is then changed only if
            some of its cells can be nothing else than decimals.
    """
    changed = {}
    for name, column in frame.items():
        if not _is_text(column):
            continue
        cells = [cell for cell in column if isinstance(cell, str) and cell.strip()]
        decimal = cells and all(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)
        if decimal and not (quoted and all(parse_number(cell) is not None for cell in cells)):
            changed[name] = column.str.replace(",", ".")
    return frame.assign(**changed)


def _is_text(column: pd.Series) -> bool:
    return pd.api.types.is_object_dtype(column.dtype) or pd.api.types.is_string_dtype(column.dtype)


def typed(column: pd.Series) -> pd.Series:
    """Numbers where every cell is one, truth values where every cell is one, else text."""
    if not _is_text(column):
        return column
    column = column.map(lambda cell: str(cell) if isinstance(cell, list | dict | tuple | np.ndarray) else cell)
    cells = {cell.strip().lower() for cell in column if isinstance(cell, str)}
    if cells and cells <= {"true", "false"} and all(isinstance(cell, str) for cell in column):
        return column.str.strip().str.lower() == "true"
    numbers, fault = numbers_of(column, suffixes=False)
    if fault is None and not np.isnan(numbers).all():
        return pd.Series(numbers, index=column.index)
    return column.map(lambda cell: None if isinstance(cell, str) and not cell.strip() else cell)
