import errno
import os
from pathlib import Path

import pytest

from harness.data.cache import (
    atomically,
    corpus_documents,
    corpus_facts,
    default_cache,
    known_facts,
    load_tokenizer,
    tokenizer_key,
)
from harness.data.corpora import Corpus
from harness.data.documents import make_document
from harness.data.split import is_held_out
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
    assert [d.text for d in corpus_documents(corpus, tmp_path)] == ["one", "two é"]
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


def test_a_bpe_may_be_trained_on_another_corpus(text_folder, cache):
    here, there = f"text:{text_folder}/email", f"text:{text_folder}/asyncio"
    own = load_tokenizer("bpe:300", there, cache, 0.2)
    borrowed = load_tokenizer(f"bpe:300@{there}", here, cache, 0.2)
    assert borrowed.hash == own.hash != load_tokenizer("bpe:300", here, cache, 0.2).hash
    assert len({tokenizer_key("bpe:300", domain, cache, f) for domain in (here, there) for f in (0.2, 0.3)}) == 4


def test_a_bpe_sees_nothing_of_the_held_out_side(tmp_path):
    names = [f"{k}.txt" for k in range(60)]
    assert any(is_held_out(name, 0.2) for name in names)
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in names:
        (folder / name).write_text(("qqqq " if is_held_out(name, 0.2) else "abcd ") * 20 + name)
    tokenizer = load_tokenizer("bpe:260", f"text:{folder}", tmp_path / "cache", 0.2)
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
