import errno
import os
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data.cache import (
    corpus_documents,
    corpus_facts,
    corpus_groups,
    known_facts,
    load_tokenizer,
    split_contamination,
    tokenizer_key,
)
from harness.data.corpora import Corpus, find_corpus
from harness.data.documents import make_document
from harness.data.split import place_in_order, split
from harness.files import atomically, default_cache
from sweeps.errors import InputError


def test_the_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "isogap"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "isogap"


def test_what_fails_half_way_leaves_nothing(tmp_path):
    for make in (Path.mkdir, Path.touch):
        with pytest.raises(RuntimeError), atomically(tmp_path / "thing") as beside:
            make(beside)
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_finished_first_stays(tmp_path):
    with atomically(tmp_path / "folder") as beside:
        beside.mkdir()
        (beside / "file").write_text("second")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").write_text("first")
    assert (tmp_path / "folder" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def counting_corpus(texts, fingerprint="f", parts=()):
    reads = []

    def documents():
        reads.append(1)
        return (make_document(f"g{k}", text) for k, text in enumerate(texts))

    return Corpus("c", "d", "l", documents, lambda: fingerprint, parts), reads


def test_a_corpus_is_read_once_as_long_as_its_sources_stay(tmp_path):
    corpus, reads = counting_corpus(["one", "two é", "one"])
    assert known_facts(corpus, tmp_path) is None
    facts = corpus_facts(corpus, tmp_path)
    assert (facts.documents, facts.groups, facts.bytes) == (2, 2, 9)
    assert sorted(d.text for d in corpus_documents(corpus, tmp_path)) == ["one", "two é"]
    assert known_facts(corpus, tmp_path) == facts and len(reads) == 1
    changed, reads = counting_corpus(["one", "three"], fingerprint="other")
    assert corpus_facts(changed, tmp_path).hash != facts.hash and len(reads) == 1


def test_a_union_is_prepared_from_its_prepared_parts(tmp_path):
    one, reads_one = counting_corpus(["a", "b"], "one")
    two, reads_two = counting_corpus(["b", "c"], "two")
    both, reads = counting_corpus([], "both", (one, two))
    corpus_facts(one, tmp_path)
    assert sorted(d.text for d in corpus_documents(both, tmp_path)) == ["a", "b", "c"]
    assert (len(reads_one), len(reads_two), len(reads)) == (1, 1, 0)


def many(texts):
    """The texts as documents of three sources, two documents a group."""
    return [make_document(f"s{k % 3}/g{k // 6}", text, f"s{k % 3}", "MIT") for k, text in enumerate(texts)]


def test_documents_come_back_as_they_were_in_hash_order_in_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.data.streams.BATCH_BYTES", 1000)
    documents = many([f"{k} é " * (1 + k % 7) for k in range(300)])
    corpus = Corpus("c", "d", "l", lambda: iter(documents), lambda: "f")
    expected = sorted(documents, key=lambda d: place_in_order(d.id))
    assert list(corpus_documents(corpus, tmp_path)) == expected
    assert corpus_groups(corpus, tmp_path) == {d.group: d.source for d in documents}
    (file,) = (tmp_path / "corpora").glob("*.parquet")
    assert pq.ParquetFile(file).num_row_groups > 3
    rows = pq.read_table(file).to_pylist()
    assert list(rows[0]) == ["id", "group", "source", "licence", "bytes", "text"]
    assert all(row["bytes"] == len(row["text"].encode()) for row in rows)


def test_a_corpus_is_the_same_whatever_the_order_of_reading(tmp_path):
    documents = many([f"text {k}" for k in range(50)] * 2)
    corpora = [
        Corpus("c", "d", "l", lambda order=order: iter(order), lambda number=number: str(number))
        for number, order in enumerate((documents, documents[::-1], documents[50:] + documents[:50]))
    ]
    facts = [corpus_facts(corpus, tmp_path) for corpus in corpora]
    assert facts[0] == facts[1] == facts[2]


def test_planted_copies_are_removed_and_named(tmp_path):
    random = Random(0)
    words = [f"w{k}" for k in range(5000)]
    texts = [" ".join(random.choices(words, k=200)) for _ in range(300)]
    rows = [{"text": text, "group": f"page {k}", "source": "web", "licence": "CC0"} for k, text in enumerate(texts)]
    for k, text in enumerate(texts[:60]):
        # A third each: as it stands, with its last word changed, and its middle inside other text.
        own = " ".join(random.choices(words, k=300))
        copy = (text, text + " changed", f"{own} {' '.join(text.split()[50:150])} {own[::-1]}")[k % 3]
        rows.append({"text": copy, "group": f"copy {k}", "source": "planted", "licence": "none"})
    random.shuffle(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    facts = corpus_facts(find_corpus(f"parquet:{tmp_path}/rows.parquet"), tmp_path / "cache")
    assert {source.source: source.read.documents for source in facts.sources} == {"planted": 60, "web": 300}
    assert facts.documents == 300
    for stage in ("exact", "near", "shared"):
        pairs = [removal for removal in facts.removals if removal.stage == stage]
        assert {frozenset((removal.source, removal.kept_source)) for removal in pairs} == {
            frozenset(("planted", "web"))
        }
        assert sum(removal.documents for removal in pairs) == 20
        for source in facts.sources:
            ours = [removal.bytes for removal in pairs if removal.source == source.source]
            assert getattr(source, stage).bytes == sum(ours)
    for source in facts.sources:
        parts = (source.exact, source.near, source.shared, source.kept)
        assert source.read.bytes == sum(part.bytes for part in parts)
    domain = find_corpus(f"parquet:{tmp_path}/rows.parquet")
    assert split_contamination(domain, tmp_path / "cache", 0.1).share == 0.0


def test_a_bpe_may_be_trained_on_another_corpus(text_folder, cache):
    here, there = f"text:{text_folder}/email", f"text:{text_folder}/asyncio"
    own = load_tokenizer("bpe:300", there, cache, 0.2)
    borrowed = load_tokenizer(f"bpe:300@{there}", here, cache, 0.2)
    assert borrowed.hash == own.hash != load_tokenizer("bpe:300", here, cache, 0.2).hash
    assert len({tokenizer_key("bpe:300", domain, cache, f) for domain in (here, there) for f in (0.2, 0.3)}) == 4


def test_a_bpe_sees_nothing_of_the_held_out_side_and_has_the_same_split_seed(tmp_path):
    names = [f"{k}.txt" for k in range(60)]
    for seed in (0, 1):
        _, heldout = split(dict.fromkeys(names, ""), 0.2, seed)
        folder = tmp_path / f"texts{seed}"
        folder.mkdir()
        for name in names:
            (folder / name).write_text(("qqqq " if name in heldout else "abcd ") * 20 + name)
        tokenizer = load_tokenizer("bpe:260", f"text:{folder}", tmp_path / "cache", 0.2, seed)
        assert len(tokenizer.encode("abcd")) < 4 and len(tokenizer.encode("qqqq")) == 4


def test_a_corpus_that_cannot_carry_the_vocabulary_is_named(text_folder, cache):
    domain = f"text:{text_folder}"
    with pytest.raises(InputError, match=r"expected at most bpe:\d+"):
        load_tokenizer("bpe:90000", domain, cache, 0.2)


def test_all_is_on_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    # A file renamed before its content is on disk may be empty after a loss of power, and would be read for ever.
    done = []
    real = os.fsync

    def fsync(descriptor):
        done.append((os.readlink(f"/proc/self/fd/{descriptor}"), (tmp_path / "folder").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomically(tmp_path / "folder") as beside:
        beside.mkdir()
        (beside / "file").write_text("content")
    assert {(str(beside / "file"), False), (str(beside), False), (str(tmp_path), True)} <= set(done)


def test_a_full_disk_is_named(tmp_path):
    with pytest.raises(OSError) as told, atomically(tmp_path / "thing"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert told.value.filename == str(tmp_path / "thing") and told.value.errno == errno.ENOSPC
