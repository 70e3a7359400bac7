import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data import tokenizers
from harness.data.cache import corpus_documents, corpus_groups, load_tokenizer
from harness.data.corpora import find_corpus
from harness.data.split import split
from harness.data.store import TokenStore, prepare
from sweeps.errors import InputError

FRACTION = 0.2


@pytest.fixture(scope="module", params=["bytes", "bpe:400"])
def store(request, text_folder, cache) -> TokenStore:
    return prepare(f"text:{text_folder}", request.param, cache, FRACTION)


def documents_of(store: TokenStore, side: str) -> list[np.ndarray]:
    return np.split(getattr(store, side), getattr(store, f"{side}_offsets")[1:-1])


def test_the_streams_hold_every_document_once_and_an_end_after_each(store, text_folder, cache):
    expected = {d.id: d.text for d in corpus_documents(find_corpus(f"text:{text_folder}"), cache)}
    tokenizer = load_tokenizer(store.tokenizer, store.domain, cache, FRACTION)
    found = {}
    for side in ("train", "heldout"):
        pieces = documents_of(store, side)
        assert all(piece[-1] == store.vocab - 1 for piece in pieces)
        texts = [tokenizer.decode(piece[:-1]) for piece in pieces]
        found |= {name.decode(): text for name, text in zip(getattr(store, f"{side}_ids"), texts, strict=True)}
    assert found == expected
    assert len(expected) == len(store.train_ids) + len(store.heldout_ids)


def test_no_source_file_has_documents_on_both_sides(store, text_folder, cache):
    assert not set(store.train_groups) & set(store.heldout_groups)
    sides = split(corpus_groups(find_corpus(f"text:{text_folder}"), cache), FRACTION)
    for side, expected in zip(("train", "heldout"), sides, strict=True):
        assert {store.group_names[group] for group in getattr(store, f"{side}_groups")} == expected


def test_no_text_is_on_both_sides(store):
    assert not {d.tobytes() for d in documents_of(store, "train")} & {
        d.tobytes() for d in documents_of(store, "heldout")
    }


def test_a_file_that_is_there_twice_is_kept_once(store):
    names = set(store.group_names)
    assert ("asyncio/locks.py" in names) + ("copies/locks.py" in names) == 1


def test_bytes_per_token_are_those_of_the_text(store, text_folder, cache):
    sizes = store.token_bytes[store.train].sum(dtype=np.int64)
    assert store.bytes_per_token == pytest.approx(sizes / len(store.train))
    total = sizes + store.token_bytes[store.heldout].sum(dtype=np.int64)
    assert total == sum(len(d.text.encode()) for d in corpus_documents(find_corpus(f"text:{text_folder}"), cache))


def rows_of_sources(folder, sources=3, groups=20):
    """A parquet file of random words: three documents a group."""
    random = Random(0)
    rows = [
        {"text": " ".join(f"w{random.randrange(3000)}" for _ in range(60)), "group": f"{s}/{g}", "source": f"s{s}"}
        for s in range(sources) for g in range(groups) for _ in range(3)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return f"parquet:{folder}/rows.parquet"


def test_groups_name_their_sources_and_each_has_its_share_held_out(tmp_path):
    store = prepare(rows_of_sources(tmp_path), "bytes", tmp_path / "cache", FRACTION)
    assert store.source_names == ("s0", "s1", "s2")
    assert [store.source_names[k][1:] for k in store.group_sources] == [n.split("/")[0] for n in store.group_names]
    held = store.group_sources[np.unique(store.heldout_groups)]
    assert np.bincount(held).tolist() == [4, 4, 4]
    assert store.contamination == 0.0


def test_twins_have_disjoint_train_text_and_the_same_tokenizer_and_held_out_stream(tmp_path):
    domain, cache = rows_of_sources(tmp_path), tmp_path / "cache"
    whole, a, b = (prepare(domain, "bpe:300", cache, FRACTION, half=half) for half in (None, "a", "b"))
    assert len({store.hash for store in (whole, a, b)}) == 3
    assert len({store.tokenizer_hash for store in (whole, a, b)}) == 1
    assert len({store.contamination for store in (whole, a, b)}) == 1
    assert (a.heldout == whole.heldout).all() and (a.heldout_ids == b.heldout_ids).all()
    ours, theirs = set(a.train_ids.tolist()), set(b.train_ids.tolist())
    assert not ours & theirs and ours | theirs == set(whole.train_ids.tolist())
    # Each in the order of the whole.
    assert [name for name in whole.train_ids.tolist() if name in ours] == a.train_ids.tolist()


def test_another_seed_holds_out_other_groups_of_the_same_text(tmp_path):
    domain, cache = rows_of_sources(tmp_path), tmp_path / "cache"
    one, other = (prepare(domain, "bpe:300", cache, FRACTION, split_seed=seed) for seed in (0, 1))
    assert one.corpus_hash == other.corpus_hash and one.hash != other.hash
    assert one.tokenizer_hash != other.tokenizer_hash
    assert set(one.heldout_ids.tolist()) != set(other.heldout_ids.tolist())


def test_a_second_opening_maps_the_same_files(store, cache):
    again = prepare(store.domain, store.tokenizer, cache, FRACTION)
    assert isinstance(again.train, np.memmap) and again.train.dtype == np.uint16
    assert again.hash == store.hash and (again.train == store.train).all()


def test_the_opening_of_a_prepared_store_reads_no_text(store, cache, monkeypatch):
    monkeypatch.setattr("harness.data.store.corpus_documents", None)
    monkeypatch.setattr("harness.data.cache.clean", None)
    assert prepare(store.domain, store.tokenizer, cache, FRACTION).hash == store.hash


def test_a_copied_folder_gives_the_same_store(store, text_folder, cache, tmp_path):
    copy = shutil.copytree(text_folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    other = prepare(f"text:{copy}", store.tokenizer, tmp_path / "cache", FRACTION)
    assert other.hash == store.hash and (other.train == store.train).all()
    assert (other.train_ids == store.train_ids).all() and other.group_names == store.group_names


def test_a_changed_file_gives_another_store(text_folder, cache, tmp_path):
    copy = shutil.copytree(text_folder / "email", tmp_path / "email")
    before = prepare(f"text:{copy}", "bytes", cache, FRACTION)
    (copy / "charset.py").write_text("# nothing is left\n")
    after = prepare(f"text:{copy}", "bytes", cache, FRACTION)
    assert before.corpus_hash != after.corpus_hash and before.hash != after.hash
    assert before.tokenizer_hash == after.tokenizer_hash


def test_a_prefix_of_the_stream_is_a_prefix_in_hash_order(store):
    """The order is the same whatever the tokenizer, so U unique bytes are the same text everywhere."""
    other = prepare(store.domain, "bytes", store.train.filename.parents[2], FRACTION)
    assert (other.train_ids == store.train_ids).all()


def test_large_vocabularies_take_32_bits(tmp_path, monkeypatch):
    ranks = {bytes([value]): value for value in range(256)} | {b"ab": 70_000}
    wide = tokenizers.ranks_tokenizer(ranks, tokenizers.WORD_PATTERN)
    monkeypatch.setattr("harness.data.store.load_tokenizer", lambda *_: wide)
    (tmp_path / "texts").mkdir()
    for k in range(40):
        (tmp_path / "texts" / f"{k}.txt").write_text(f"ab {k}")
    store = prepare(f"text:{tmp_path}/texts", "o200k_base", tmp_path / "cache", FRACTION)
    assert store.train.dtype == np.uint32 and store.train.max() == store.vocab - 1 == 70_001
    assert (store.train == 70_000).sum() == len(store.train_ids)


def test_processes_may_prepare_the_same_store_at_once(text_folder, tmp_path):
    arguments = [(f"text:{text_folder}/email", "bpe:300", tmp_path, FRACTION)] * 2
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        first, second = pool.map(store_hash, arguments)
    assert first == second
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert all(json.loads(meta.read_text())["hash"] == first for meta in tmp_path.glob("tokens/*/meta.json"))


def store_hash(arguments) -> str:
    return prepare(*arguments).hash


@pytest.mark.parametrize(("domain", "tokenizer"), [("nowhere", "bytes"), ("text:/", "words"), ("nowhere", "bpe:300")])
def test_unusable_names_are_refused(domain, tokenizer, tmp_path):
    with pytest.raises(InputError):
        prepare(domain, tokenizer, tmp_path)
