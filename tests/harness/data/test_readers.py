import gzip
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data import readers
from harness.data.readers import read_hub, read_rows, read_text
from sweeps.errors import InputError

ROWS = [{"text": f"document {k} é", "group": f"source {k // 2}", "other": k} for k in range(6)]


def test_a_folder_gives_one_document_a_file_named_by_relative_path(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("inner/a.txt", "b.md", ".hidden/c.txt", ".d"):
        (tmp_path / name).write_text(f"text of {name}\n" * 500)
    (tmp_path / "empty.txt").write_text(" \n")
    documents = {document.group: document.text for document in read_text(tmp_path)}
    assert documents == {name: f"text of {name}\n" * 500 for name in ("inner/a.txt", "b.md")}


def test_a_copied_folder_has_the_same_documents(text_folder, tmp_path):
    import shutil

    copy = shutil.copytree(text_folder, tmp_path / "another" / "place")
    assert list(read_text(copy)) == list(read_text(text_folder))


def test_a_single_file_is_cut_into_documents_and_neighbours_share_a_group(tmp_path):
    file = tmp_path / "book.txt"
    text = "".join(f"Paragraph {k}.\n" * 20 + "\n" for k in range(600))
    file.write_text(text)
    documents = list(read_text(file))
    assert "".join(document.text for document in documents) == text
    groups = [document.group for document in documents]
    assert groups[0] == "book.txt/0" and len(set(groups)) == -(-len(groups) // 10)
    assert sorted(groups, key=lambda group: int(group.split("/")[1])) == groups


def test_text_that_is_not_utf8_or_not_there_is_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match="latin.txt: text: got 'byte 3', expected UTF-8"):
        list(read_text(tmp_path))
    with pytest.raises(InputError, match="exists"):
        list(read_text(tmp_path / "absent"))


def write_rows(kind, path, rows):
    if kind == "json":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_rows_become_documents_with_their_groups(kind, tmp_path):
    write_rows(kind, tmp_path / "0.data", ROWS[:3])
    write_rows(kind, tmp_path / "1.data", ROWS[3:])
    found = [(document.text, document.group) for document in read_rows(kind, tmp_path)]
    assert found == [(row["text"], row["group"]) for row in ROWS]


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_sources_and_licences_are_taken_where_there_are_any(kind, tmp_path):
    write_rows(kind, tmp_path / "rows", [{**row, "source": f"s{row['other']}", "licence": "MIT"} for row in ROWS])
    found = [(document.source, document.licence) for document in read_rows(kind, tmp_path / "rows")]
    assert found == [(f"s{k}", "MIT") for k in range(6)]


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_without_a_group_every_row_is_its_own(kind, tmp_path):
    write_rows(kind, tmp_path / "rows", [{"text": row["text"]} for row in ROWS])
    documents = list(read_rows(kind, tmp_path / "rows"))
    assert [document.group for document in documents] == [document.id for document in documents]
    assert len({document.group for document in documents}) == len(ROWS)


def test_compressed_json_lines_are_read(tmp_path):
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in ROWS)
    assert [d.text for d in read_rows("json", tmp_path / "rows.jsonl.gz")] == [row["text"] for row in ROWS]


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_rows_without_text_and_unreadable_files_are_refused_in_one_line(kind, tmp_path):
    write_rows(kind, tmp_path / "rows", [{"body": "x"}])
    with pytest.raises(InputError, match=r"columns: got \['body'\], expected a column `text`"):
        list(read_rows(kind, tmp_path / "rows"))
    (tmp_path / "rows").write_text("neither\nof both\n")
    with pytest.raises(InputError, match="readable text") as error:
        list(read_rows(kind, tmp_path / "rows"))
    assert "\n" not in str(error.value)


def test_the_hub_out_of_reach_is_one_line():
    with pytest.raises(InputError, match="hf:nobody/nothing:plain: domain: got 'OfflineModeIsEnabled") as error:
        list(read_hub("nobody/nothing", "plain"))
    assert "\n" not in str(error.value)


def test_a_streamed_dataset_is_read_up_to_the_limit(monkeypatch):
    stream = datasets.Dataset.from_list(ROWS).to_iterable_dataset()
    monkeypatch.setattr(readers, "_open_hub", lambda name, config: stream)
    assert [document.text for document in read_hub("somebody/rows", None)] == [row["text"] for row in ROWS]
    monkeypatch.setattr(readers, "STREAMED_BYTES", len(ROWS[0]["text"].encode()) + 1)
    assert len(list(read_hub("somebody/rows", None))) == 2
