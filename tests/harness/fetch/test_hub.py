import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from harness.data.corpora import find_corpus
from harness.data.fetched import documents
from harness.fetch.hub import HUB, fetch_hub, hub_source
from sweeps.errors import InputError

SENTENCE = "It has some words of its own, {} of them. "
ROWS = [{"content": f"Row {k}. " + SENTENCE.format(k) * 12, "repo": f"r{k // 3}", "lic": "MIT"} for k in range(30)]
CARD = """---
configs:
- config_name: small
  data_files: [{split: train, path: "shards/*"}]
- config_name: other
  data_files: [{split: train, path: "nothing/*"}]
---
A dataset.
"""


def lay_out(root: Path, kind: str) -> Path:
    """A dataset laid out as on the hub: a card that names its files, in two shards of parquet or of JSON lines."""
    (root / "shards").mkdir(parents=True)
    (root / "README.md").write_text(CARD)
    for shard in range(2):
        rows = ROWS[15 * shard : 15 * shard + 15]
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), root / "shards" / f"{shard}.parquet")
        else:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (root / "shards" / f"{shard}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "dataset", "parquet")


def point(cache: Path, folder: Path, fields: str) -> None:
    (cache / "hub.yaml").write_text(f"web: {{dataset: {folder}, text: content, {fields}}}\n")


def get(cache: Path):
    return fetch_hub("hub_web", cache, Console(quiet=True))


@pytest.mark.parametrize("kind", ["parquet", "jsonl.gz"])
@pytest.mark.parametrize("which", ["config: small", "files: shards/*."])
def test_a_dataset_is_read_by_its_columns(which, kind, tmp_path):
    folder = lay_out(tmp_path / "dataset", kind)
    point(tmp_path, folder, f"{which + kind if which.endswith('.') else which}, group: repo, licence_column: lic")
    (record,) = get(tmp_path).records
    read = list(documents("hub_web", tmp_path))
    assert sorted(document.text.strip() for document in read) == sorted(row["content"].strip() for row in ROWS)
    assert {document.group for document in read} == {f"{folder}/r{k}" for k in range(10)}
    assert {(document.licence, document.source) for document in read} == {("MIT", str(folder))}
    assert record.version == "local" and record.documents == 30


def test_no_more_is_taken_than_asked_for_and_only_once(folder, tmp_path):
    point(tmp_path, folder, "config: small, bytes: 2000")
    first = get(tmp_path)
    assert 2000 <= first.bytes < 2700
    assert len({document.group for document in documents("hub_web", tmp_path)}) == first.records[0].documents
    (folder / "shards" / "0.parquet").unlink()
    assert get(tmp_path) == first  # nothing is streamed again
    point(tmp_path, folder, "config: small, bytes: 3000")
    assert 3000 <= get(tmp_path).bytes < 3700
    corpus = find_corpus("hub_web", tmp_path)
    assert list(corpus.documents()) and corpus.fingerprint()


def test_code_is_cut_between_its_statements(folder, tmp_path):
    source = "".join(f"def f{k}(x):\n    return x + {k}\n\n\n" for k in range(400))
    pq.write_table(pa.table({"content": [source]}), folder / "shards" / "0.parquet")
    (tmp_path / "hub.yaml").write_text(f"code: {{dataset: {folder}, text: content, files: shards/0.parquet}}\n")
    fetch_hub("hub_code", tmp_path, Console(quiet=True))
    pieces = [document.text for document in documents("hub_code", tmp_path)]
    assert len(pieces) > 3 and all(piece.startswith("def ") for piece in pieces)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("web: {dataset: [", "YAML"),
        ("- web", "a mapping of web, code, science"),
        ("wiki: {dataset: x}", "a mapping of web, code, science"),
        ("web: {config: x}", "web.dataset"),
        ("web: {dataset: x, column: y}", "web.column"),
        ("web: {dataset: x, bytes: many}", "web.bytes"),
        ("web: {dataset: x, files: a.zip}", "web.files"),
    ],
)
def test_a_wrong_hub_yaml_is_one_line(content, word, tmp_path):
    (tmp_path / "hub.yaml").write_text(content)
    with pytest.raises(InputError, match="hub.yaml") as refused:
        hub_source("web", tmp_path)
    assert word in str(refused.value) and "\n" not in str(refused.value)


def test_domains_that_hub_yaml_does_not_name_keep_their_dataset(folder, tmp_path):
    point(tmp_path, folder, "config: small")
    assert hub_source("code", tmp_path) == HUB["code"] and hub_source("web", tmp_path).config == "small"


@pytest.mark.parametrize(
    ("fields", "word"),
    [("config: small, group: nonesuch", "nonesuch"), ("config: absent", "absent"), ("files: a/*.parquet", "data file")],
)
def test_what_the_dataset_lacks_is_one_line(fields, word, folder, tmp_path):
    point(tmp_path, folder, fields)
    with pytest.raises(InputError) as refused:
        get(tmp_path)
    assert word in str(refused.value) and "\n" not in str(refused.value)


def test_without_a_network_the_hub_is_out_of_reach(tmp_path):
    with pytest.raises(InputError, match="HuggingFaceFW/fineweb: dataset: .*hub.yaml") as refused:
        get(tmp_path)
    assert "\n" not in str(refused.value)
