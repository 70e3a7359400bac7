from harness.data import installed
from harness.data.catalog import corpora, tokenizers
from harness.data.corpora import find_corpus
from harness.data.store import prepare
from harness.data.tokenizers import parse_tokenizer


def test_every_corpus_is_listed_and_measured_once_prepared(tmp_path, monkeypatch):
    rows = {row["name"]: row for row in corpora(tmp_path)}
    assert not any(row["prepared"] for row in rows.values())
    assert all(find_corpus(name) for name, row in rows.items() if row["bytes"])
    assert {"text:PATH", "jsonl:PATH", "parquet:PATH", "hf:NAME[:CONFIG]"} < set(rows)
    few = tuple(item for item in installed.stdlib_files() if item[0].startswith("python/email/"))
    monkeypatch.setattr(installed, "stdlib_files", lambda: few)
    store = prepare("stdlib_code", "bytes", tmp_path, 0.2)
    row = {row["name"]: row for row in corpora(tmp_path)}["stdlib_code"]
    assert row["prepared"] and row["documents"] == len(store.train_ids) + len(store.heldout_ids)
    assert row["sources"] == 1 and 0 <= row["removed"] < 0.5
    assert row["contamination"] is None
    prepare("stdlib_code", "bytes", tmp_path, 0.1)
    row = {row["name"]: row for row in corpora(tmp_path)}["stdlib_code"]
    assert 0 <= row["contamination"] < 0.1
    assert row["bytes"] == len(store.train) + len(store.heldout) - row["documents"]


def test_every_listed_tokenizer_parses_once_its_letters_are_filled_in():
    for row in tokenizers():
        filled = row["name"].replace("NAME", "gpt2").replace("V", "300").replace("CORPUS", "installed")
        assert parse_tokenizer(filled)
        assert row["description"] and row["vocab"]
