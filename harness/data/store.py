"""The tokens of a (corpus, tokenizer) pair as memory-mapped streams, train and held out."""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt16

from harness.data.cache import (
    atomically,
    corpus_documents,
    corpus_facts,
    corpus_groups,
    default_cache,
    digest,
    load_tokenizer,
    split_contamination,
    tokenizer_key,
)
from harness.data.corpora import find_corpus
from harness.data.documents import Document
from harness.data.split import Half, split
from harness.data.streams import in_batches, map_in_order
from harness.data.tokenizers import Tokenizer

# Changes of the files of a store must change this number.
FORMAT = 3


@dataclass(frozen=True)
class TokenStore:
    """A corpus, split and tokenized. Every document is followed by the end-of-document token, id vocab - 1.

    Attributes:
        domain, tokenizer: the names it was asked for by.
        vocab: number of token ids.
        hash: of corpus_hash, tokenizer_hash, held-out fraction, split seed and half: equal hashes, equal tokens.
        corpus_hash, tokenizer_hash: of the documents, and of the vocabulary.
        bytes_per_token: UTF-8 bytes of the train documents per token of theirs, end-of-document tokens counted.
        contamination: share of the held-out word 13-grams that stand in the train split, halves and all.
        train, heldout: the streams, memory-mapped; documents in hash order, so a prefix is a uniform sample.
        train_offsets, heldout_offsets: document k is tokens offsets[k] .. offsets[k + 1] - 1, its end included.
        train_groups, heldout_groups: group of each document, an index into group_names.
        train_ids, heldout_ids: document ids (32 hexadecimal digits as bytes).
        group_names: pages, papers, files or packages, of the whole corpus whatever is read of it; no group has
            documents on both sides.
        group_sources: source of each group, an index into source_names.
        source_names: what the groups are of, in alphabetical order.
        token_bytes: bytes of text per token id, 0 for the end of the document.
    """

    domain: str
    tokenizer: str
    vocab: int
    hash: str
    corpus_hash: str
    tokenizer_hash: str
    bytes_per_token: float
    contamination: float
    train: Int[np.ndarray, "train_tokens"]
    heldout: Int[np.ndarray, "heldout_tokens"]
    train_offsets: Int64[np.ndarray, "train_documents+1"]
    heldout_offsets: Int64[np.ndarray, "heldout_documents+1"]
    train_groups: Int32[np.ndarray, "train_documents"]
    heldout_groups: Int32[np.ndarray, "heldout_documents"]
    train_ids: np.ndarray
    heldout_ids: np.ndarray
    group_names: tuple[str, ...]
    group_sources: Int32[np.ndarray, "groups"]
    source_names: tuple[str, ...]
    token_bytes: UInt16[np.ndarray, "vocab"]


def prepare(
    domain: str,
    tokenizer: str,
    cache: Path | None = None,
    heldout_fraction: float = 0.1,
    split_seed: int = 0,
    half: Half | None = None,
) -> TokenStore:
    """The token store of a corpus and a tokenizer, built on first use and opened from the cache afterwards.

    Args:
        domain: a corpus by name (corpora.py).
        tokenizer: a tokenizer by name (tokenizers.py); `bpe:V` is trained on this domain's train split, both halves.
        cache: folder of prepared data; None is the user's cache folder.
        heldout_fraction: share of each source's groups withheld before anything else, in (0, 1).
        split_seed: another seed withholds other groups, chosen independently.
        half: train on one of two disjoint halves of the groups that are left (split.py); the held-out text is the same.

    Raises:
        InputError: unknown names, unreadable sources, a corpus too small to split or to train the tokenizer on.
    """
    cache = default_cache() if cache is None else Path(cache)
    key = tokenizer_key(tokenizer, domain, cache, heldout_fraction, split_seed)
    corpus = find_corpus(domain, cache)
    corpus_hash = corpus_facts(corpus, cache).hash
    choice = (heldout_fraction, split_seed, half)
    folder = cache / "tokens" / digest(FORMAT, corpus_hash, key, *choice)
    if not folder.exists():
        groups = corpus_groups(corpus, cache)
        sides: dict[str, frozenset[str]] = dict(zip(("train", "heldout"), split(groups, *choice), strict=True))
        encoder = load_tokenizer(tokenizer, domain, cache, heldout_fraction, split_seed)
        share = split_contamination(corpus, cache, heldout_fraction, split_seed).share
        with atomically(folder) as beside:
            beside.mkdir()
            tokens_per_byte = _write(beside, corpus_documents(corpus, cache), groups, sides, encoder)
            meta = {
                "vocab": encoder.vocab,
                "hash": digest(FORMAT, corpus_hash, encoder.hash, *choice),
                "corpus_hash": corpus_hash,
                "tokenizer_hash": encoder.hash,
                "bytes_per_token": 1 / tokens_per_byte,
                "contamination": share,
            }
            (beside / "meta.json").write_text(json.dumps(meta, indent=1))
    return _open(folder, domain, tokenizer)


@dataclass(frozen=True)
class _Side:
    """A stream being written, and what is known of its documents so far."""

    stream: IO[bytes]
    groups: frozenset[str]
    lengths: list[int]
    group_numbers: list[int]
    ids: list[bytes]


def _write(
    folder: Path,
    documents: Iterable[Document],
    groups: dict[str, str],
    sides: Mapping[str, frozenset[str]],
    tokenizer: Tokenizer,
) -> float:
    """Encode the documents as they come, a few megabytes at a time; the tokens per byte of the train side."""
    names = sorted(groups)  # all of them: twins number groups alike, whichever half they read
    number = {name: index for index, name in enumerate(names)}
    source_names = sorted(set(groups.values()))
    source_number = {name: index for index, name in enumerate(source_names)}
    # 16 bits hold ids up to 65,535: half the disk and memory of 32 for all but the largest vocabularies.
    width = np.uint16 if tokenizer.vocab <= 2**16 else np.uint32
    end = np.asarray([tokenizer.vocab - 1], dtype=width)

    def encode(batch: list[Document]) -> list[tuple[Document, Int[np.ndarray, "tokens"]]]:
        return [(d, np.append(tokenizer.encode(d.text).astype(width), end)) for d in batch]

    train_bytes = 0
    with ExitStack() as open_files:
        writing = {
            name: _Side(open_files.enter_context(open(folder / f"{name}.bin", "wb")), members, [0], [], [])
            for name, members in sides.items()
        }
        read = frozenset().union(*sides.values())
        wanted = (document for document in documents if document.group in read)
        for batch in map_in_order(encode, in_batches(wanted)):
            for document, ids in batch:
                side = writing["train" if document.group in sides["train"] else "heldout"]
                ids.tofile(side.stream)
                side.lengths.append(len(ids))
                side.group_numbers.append(number[document.group])
                side.ids.append(document.id.encode())
                train_bytes += len(document.text.encode()) if side is writing["train"] else 0
    for name, side in writing.items():
        np.save(folder / f"{name}_offsets.npy", np.cumsum(side.lengths, dtype=np.int64))
        np.save(folder / f"{name}_groups.npy", np.asarray(side.group_numbers, dtype=np.int32))
        np.save(folder / f"{name}_ids.npy", np.asarray(side.ids, dtype="S32"))
    np.save(folder / "token_bytes.npy", tokenizer.token_bytes)
    np.save(folder / "group_sources.npy", np.asarray([source_number[groups[n]] for n in names], dtype=np.int32))
    (folder / "names.json").write_text(json.dumps({"groups": names, "sources": source_names}))
    return sum(writing["train"].lengths) / train_bytes


def _open(folder: Path, domain: str, tokenizer: str) -> TokenStore:
    meta = json.loads((folder / "meta.json").read_text())
    names = json.loads((folder / "names.json").read_text())
    width = np.uint16 if meta["vocab"] <= 2**16 else np.uint32
    streams = {side: np.memmap(folder / f"{side}.bin", dtype=width, mode="r") for side in ("train", "heldout")}
    fields = [f"{side}_{what}" for side in ("train", "heldout") for what in ("offsets", "groups", "ids")]
    arrays = {field: np.load(folder / f"{field}.npy") for field in (*fields, "group_sources", "token_bytes")}
    groups, sources = tuple(names["groups"]), tuple(names["sources"])
    return TokenStore(domain, tokenizer, **meta, **streams, **arrays, group_names=groups, source_names=sources)
