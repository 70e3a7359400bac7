"""The tokens of a (corpus, tokenizer) pair as memory-mapped streams, train and held out."""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt16

from harness.data.cache import (
    corpus_documents,
    corpus_facts,
    corpus_groups,
    load_tokenizer,
    split_contamination,
    tokenizer_key,
)
from harness.data.corpora import find_corpus
from harness.data.documents import Document, digest
from harness.data.split import Half, split
from harness.data.streams import in_batches, map_in_order
from harness.data.tokenizers import Tokenizer
from harness.files import atomically, default_cache

# Change this number when the files of a store change.
FORMAT = 3


@dataclass(frozen=True)
class TokenStore:
    """A corpus, split and tokenized. Every document is followed by the end-of-document token, id vocab - 1.

    Attributes:
        domain, tokenizer: the names of the corpus and of the tokenizer.
        vocab: number of token ids.
        hash: hash of corpus_hash, tokenizer_hash, held-out fraction, split seed, half; equal hashes mean equal tokens.
        corpus_hash, tokenizer_hash: the hash of the documents, and the hash of the vocabulary.
        bytes_per_token: UTF-8 bytes per token of the train documents, with end-of-document tokens counted.
        contamination: share of the held-out word 13-grams that stand in the train split (of both twins).
        train, heldout: the streams, memory-mapped; documents in hash order, so a prefix is a uniform sample.
        train_offsets, heldout_offsets: document k is tokens offsets[k] .. offsets[k + 1] - 1, its end token included.
        train_groups, heldout_groups: group of each document, an index into group_names.
        train_ids, heldout_ids: document ids (32 hexadecimal digits as bytes).
        group_names: the names of all groups of the corpus (pages, papers, files or packages), with those that only the
            twin reads; no group has documents on both sides.
        group_sources: source of each group, an index into source_names.
        source_names: the names of the sources, in alphabetical order.
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

    # Cached, because a plan asks for it once per run, thousands of times.
    @cached_property
    def groups_trained_on(self) -> int:
        """Number of groups in the train stream."""
        return len(np.unique(self.train_groups))

    @cached_property
    def trained_on(self) -> frozenset[bytes]:
        """The ids of the train documents."""
        return frozenset(self.train_ids.tolist())

    def reads_heldout_of(self, other: "TokenStore") -> bool:
        """Whether a document that the other store holds out is one of the train documents."""
        return not self.trained_on.isdisjoint(other.heldout_ids.tolist())

    @cached_property
    def groups_held_out(self) -> int:
        """Number of groups in the held-out stream."""
        return len(np.unique(self.heldout_groups))


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
        heldout_fraction: share of each source's groups to hold out, in (0, 1).
        split_seed: another seed holds out other groups, chosen independently.
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
            bytes_per_token = write_streams(beside, corpus_documents(corpus, cache), groups, sides, encoder)
            meta = {
                "vocab": encoder.vocab,
                "hash": digest(FORMAT, corpus_hash, encoder.hash, *choice),
                "corpus_hash": corpus_hash,
                "tokenizer_hash": encoder.hash,
                "bytes_per_token": bytes_per_token,
                "contamination": share,
            }
            (beside / "meta.json").write_text(json.dumps(meta, indent=1))
    return _open(folder, domain, tokenizer)


def write_streams(
    folder: Path,
    documents: Iterable[Document],
    groups: dict[str, str],
    sides: Mapping[str, frozenset[str]],
    tokenizer: Tokenizer,
) -> float:
    """Write all files of a store except meta.json, and return the bytes per token of the train side.

    The documents are encoded as they come, a few megabytes at a time.

    Args:
        folder: an existing folder.
        groups: group -> source.
        sides: the groups of `train` and of `heldout`; documents of other groups are passed over.
    """
    names = sorted(groups)  # All groups are listed, so that twins number them alike whichever half they read.
    number = {name: index for index, name in enumerate(names)}
    source_names = sorted(set(groups.values()))
    source_number = {name: index for index, name in enumerate(source_names)}
    side_of = {group: side for side, members in sides.items() for group in members}
    # Ids up to 65,535 fit 16 bits, which takes half the disk and memory of 32 bits for most vocabularies.
    width = np.uint16 if tokenizer.vocab <= 2**16 else np.uint32
    end = np.uint32(tokenizer.vocab - 1)

    def encode(batch: list[Document]) -> list[tuple[Document, Int[np.ndarray, "tokens"], int]]:
        """The documents of the two sides with their tokens, ends included, and their bytes."""
        encoded = []
        for document in batch:
            if document.group in side_of:
                ids = np.append(tokenizer.encode(document.text), end)
                encoded.append((document, ids.astype(width), int(tokenizer.token_bytes[ids].sum(dtype=np.int64))))
        return encoded

    rows: dict[str, list[tuple[int, int, bytes, int]]] = {side: [] for side in sides}
    with ExitStack() as opened:
        files = {side: opened.enter_context(open(folder / f"{side}.bin", "wb")) for side in sides}
        for document, ids, text_bytes in chain.from_iterable(map_in_order(encode, in_batches(documents))):
            side = side_of[document.group]
            files[side].write(ids.tobytes())
            rows[side].append((len(ids), number[document.group], document.id.encode(), text_bytes))
    columns = [("tokens", np.int64), ("group", np.int32), ("id", "S32"), ("bytes", np.int64)]
    tables = {side: np.array(of_side, columns) for side, of_side in rows.items()}
    for side, table in tables.items():
        np.save(folder / f"{side}_offsets.npy", np.cumsum(np.append(0, table["tokens"])))
        np.save(folder / f"{side}_groups.npy", table["group"])
        np.save(folder / f"{side}_ids.npy", table["id"])
    np.save(folder / "token_bytes.npy", tokenizer.token_bytes)
    np.save(folder / "group_sources.npy", np.asarray([source_number[groups[n]] for n in names], dtype=np.int32))
    (folder / "names.json").write_text(json.dumps({"groups": names, "sources": source_names}))
    return int(tables["train"]["bytes"].sum()) / int(tables["train"]["tokens"].sum())


def _open(folder: Path, domain: str, tokenizer: str) -> TokenStore:
    meta = json.loads((folder / "meta.json").read_text())
    names = json.loads((folder / "names.json").read_text())
    width = np.uint16 if meta["vocab"] <= 2**16 else np.uint32
    streams = {side: np.memmap(folder / f"{side}.bin", dtype=width, mode="r") for side in ("train", "heldout")}
    fields = [f"{side}_{what}" for side in ("train", "heldout") for what in ("offsets", "groups", "ids")]
    arrays = {field: np.load(folder / f"{field}.npy") for field in (*fields, "group_sources", "token_bytes")}
    groups, sources = tuple(names["groups"]), tuple(names["sources"])
    return TokenStore(domain, tokenizer, **meta, **streams, **arrays, group_names=groups, source_names=sources)
