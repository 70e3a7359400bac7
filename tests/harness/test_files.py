"""Files are whole or absent, whatever happens between the writing and the renaming."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import files
from harness.files import MARK, parquet_bytes, read_parquet, write_bytes, write_json, write_text


class Interrupted(Exception):
    """The moment at which a process dies."""


def interrupt(*arguments):
    raise Interrupted


WRITERS = {
    "text": (lambda path, value: write_text(path, f"{value}\n" * 1000), lambda path: path.read_text()),
    "json": (lambda path, value: write_json(path, {"value": value}), lambda path: json.loads(path.read_text())),
    "parquet": (
        lambda path, value: write_bytes(path, parquet_bytes(pa.table({"value": [value] * 1000}))),
        lambda path: pq.read_table(path).to_pylist(),
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interruption_leaves_the_old_file_or_none(tmp_path, monkeypatch, kind, moment):
    write, read = WRITERS[kind]
    new, standing = tmp_path / "new" / "file", tmp_path / "standing"
    write(standing, 1)
    before = read(standing)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, moment, interrupt)
        for path in (new, standing):
            with pytest.raises(Interrupted):
                write(path, 2)
    assert not new.exists() and read(standing) == before
    # And what was left behind does not stand in the way of the next attempt.
    for path in (new, standing):
        write(path, 2)
        assert read(path) != before
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"file", "standing"}


def test_numbers_that_json_has_not_are_refused(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "file", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_no_flipped_bit_passes_for_another_table(tmp_path):
    table = pa.table({"step": [1, 2, 3], "train_loss": [3.0, 2.5, 2.25], "probe": ["seen", "heldout", "seen"]})
    content, path = parquet_bytes(table), tmp_path / "file.parquet"
    write_bytes(path, content)
    assert read_parquet(path).equals(table) and pq.read_table(path).equals(table)
    refused = 0
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert read_parquet(path).equals(table), place
        except ValueError:
            refused += 1
    # But for those of the mark, without which it is a file of others.
    assert refused >= len(content) - len(MARK) and len(content) > 1000
