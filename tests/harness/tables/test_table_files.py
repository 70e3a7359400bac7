"""One table of runs, written in every usual way, is read as the same numbers."""

import bz2
import gzip
import io
import json
import lzma
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from harness.tables.files import read_file
from sweeps.errors import InputError

RUNS = pd.DataFrame({"n_params": [2e7, 6e7], "Val Loss": [4.5, 3.75], "name": ["run-0", "run-1"]})
CSV = "n_params,Val Loss,name\n20000000,4.5,run-0\n60000000,3.75,run-1\n"


def zipped(text: str, *names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, text)
    return made.getvalue()


def parquet() -> bytes:
    made = io.BytesIO()
    RUNS.to_parquet(made)
    return made.getvalue()


SAME = {
    "csv": CSV,
    "no end of line": CSV.rstrip("\n"),
    "windows": CSV.replace("\n", "\r\n"),
    "tabs": CSV.replace(",", "\t"),
    "bars": CSV.replace(",", "|"),
    "semicolons and decimal commas": CSV.replace(",", ";").replace(".", ","),
    "blanks": "n_params Val_Loss name\n20000000 4.5 run-0\n60000000   3.75 run-1\n",
    "blanks after commas": CSV.replace(",", ", "),
    "quoted": 'n_params,"Val Loss",name\n"20,000,000",4.5,"run-0"\n"60,000,000",3.75,"run-1"\n',
    "comments": "# exported\n\n" + CSV.replace("run-0\n", "run-0\n# broken here\n"),
    "comma at the end of lines": CSV.replace("\n", ",\n"),
    "byte order mark": "\ufeff" + CSV,
    "utf-16": CSV.encode("utf-16"),
    "gz": gzip.compress(CSV.encode()),
    "xz": lzma.compress(CSV.encode()),
    "bz2": bz2.compress(CSV.encode()),
    "zip": zipped(CSV, "runs.csv", "__MACOSX/._runs.csv"),
    "gz in zip": gzip.compress(zipped(CSV, "runs.csv")),
    "parquet": parquet(),
    "records": RUNS.to_json(orient="records"),
    "lines": RUNS.to_json(orient="records", lines=True),
    "columns": json.dumps(RUNS.to_dict(orient="list")),
    "records in an object": json.dumps({"runs": RUNS.to_dict(orient="records"), "version": 2}),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_table_however_it_is_written(kind, tmp_path):
    written = SAME[kind]
    file = tmp_path / "runs"
    file.write_bytes(written.encode() if isinstance(written, str) else written)
    read = read_file(file).rename(columns={"Val_Loss": "Val Loss"})
    assert list(read.columns) == list(RUNS.columns)
    assert np.array_equal(
        read[["n_params", "Val Loss"]].to_numpy(float), RUNS[["n_params", "Val Loss"]].to_numpy(float)
    )
    assert read["name"].tolist() == RUNS["name"].tolist()


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CSV.encode())))
    assert read_file("-")["n_params"].tolist() == [2e7, 6e7]


def test_nested_records_become_columns(tmp_path):
    (tmp_path / "runs.jsonl").write_text('{"config": {"n": 1}, "loss": 2}\n\n{"config": {"n": 3}, "loss": null}\n')
    read = read_file(tmp_path / "runs.jsonl")
    assert read["config.n"].tolist() == [1, 3]
    assert pd.isna(read["loss"]).tolist() == [False, True]


def test_columns_keep_their_kind(tmp_path):
    text = "size;tied;loss;note;id\n7B;True;1,5;;007\n1B;false;;a, b;008\n"
    (tmp_path / "runs.csv").write_text(text)
    read = read_file(tmp_path / "runs.csv")
    assert read["size"].tolist() == ["7B", "1B"]
    assert read["tied"].tolist() == [True, False]
    assert read["loss"].tolist()[0] == 1.5 and pd.isna(read["loss"]).tolist() == [False, True]
    assert pd.isna(read["note"]).tolist() == [True, False] and read["note"].tolist()[1] == "a, b"


BAD = {
    "": "an empty file",
    " \n\n": "an empty file",
    "# nothing\n": "comments only",
    "a,b\n": "rows: got 0",
    "a,b\n1,2\n3\n": "row 2: got '1 cells', expected 2 cells",
    "a,b\n1,2\n3,4,5\n": "row 2: got '3 cells'",
    "a,a\n1,2\n": "columns: got 'a', expected names that differ",
    '{"a": 1}\n{"a": \n': "line 2: got '{\"a\":', expected JSON",
    "[1, 2]": "record 1: got '1', expected an object",
    "[]": "rows: got 0",
    "a\0b": "a binary file",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_not_a_table_is_one_line(text, tmp_path):
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(InputError) as refused:
        read_file(tmp_path / "runs.csv")
    assert BAD[text] in str(refused.value) and "\n" not in str(refused.value)


DAMAGED = {
    "gzip cut short": (lambda: gzip.compress(CSV.encode())[:-9], "whole"),
    "xz cut short": (lambda: lzma.compress(CSV.encode())[:-9], "whole"),
    "two files in a zip": (lambda: zipped(CSV, "a.csv", "b.csv"), "a zip of 2 files"),
    "Excel": (lambda: zipped("", "xl/workbook.xml"), "Excel"),
    "zip cut short": (lambda: zipped(CSV, "a.csv")[:40], "whole"),
    "parquet cut short": (lambda: parquet()[:-9], "parquet"),
    "half a character": (lambda: "\ufeffa".encode("utf-16") + b"\x00", "utf-16"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_one_line(kind, tmp_path):
    written, words = DAMAGED[kind]
    (tmp_path / "runs").write_bytes(written())
    with pytest.raises(InputError, match=words) as refused:
        read_file(tmp_path / "runs")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("place", ["missing.csv", "."])
def test_no_file_is_one_line(place, tmp_path):
    with pytest.raises(InputError, match="CSV with commas, semicolons or tabs, JSON, JSON lines or parquet"):
        read_file(tmp_path / place)
