"""The tokens of a (corpus, tokenizer) pair as memory-mapped streams, train and held out."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt16

from harness.data.cache import (
    atomically,
    corpus_documents,
    corpus_facts,
    default_cache,
    digest,
    load_tokenizer,
    tokenizer_key,
)
from harness.data.corpora import find_corpus
from harness.data.documents import Document
from harness.data.split import split
from harness.data.tokenizers import Tokenizer

# Changes of the files of a store must change this number.
FORMAT = 1


@dataclass(frozen=True)
class TokenStore:
    """A corpus, split and tokenized. Every document is followed by the end-of-document token, id vocab - 1.

    Attributes:
        domain, tokenizer: the names it was asked for by.
        vocab: number of token ids.
        hash: of corpus_hash, tokenizer_hash and the held-out fraction: equal hashes, equal tokens.
        corpus_hash, tokenizer_hash: of the documents, and of the vocabulary.
        bytes_per_token: UTF-8 bytes of the train documents per token of theirs, end-of-document tokens counted.
        train, heldout: the streams, memory-mapped; documents in hash order, so a prefix is a uniform sample.
        train_offsets, heldout_offsets: document k is tokens offsets[k] .. offsets[k + 1] - 1, its end included.
        train_groups, heldout_groups: group of each document, an index into group_names.
        train_ids, heldout_ids: document ids (32 hexadecimal digits as bytes).
        group_names: source files or modules; no group has documents on both sides.
        token_bytes: bytes of text per token id, 0 for the end of the document.
    """

    domain: str
    tokenizer: str
    vocab: int
    hash: str
    corpus_hash: str
    tokenizer_hash: str
    bytes_per_token: float
    train: Int[np.ndarray, "train_tokens"]
    heldout: Int[np.ndarray, "heldout_tokens"]
    train_offsets: Int64[np.ndarray, "train_documents+1"]
    heldout_offsets: Int64[np.ndarray, "heldout_documents+1"]
    train_groups: Int32[np.ndarray, "train_documents"]
    heldout_groups: Int32[np.ndarray, "heldout_documents"]
    train_ids: np.ndarray
    heldout_ids: np.ndarray
    group_names: tuple[str, ...]
    token_bytes: UInt16[np.ndarray, "vocab"]


def prepare(domain: str, tokenizer: str, cache: Path | None = None, heldout_fraction: float = 0.1) -> TokenStore:
    """The token store of a corpus and a tokenizer, built on first use and opened from the cache afterwards.

    Args:
        domain: a corpus by name (corpora.py).
        tokenizer: a tokenizer by name (tokenizers.py); `bpe:V` is trained on this domain's train split.
        cache: folder of prepared data; None is the user's cache folder.
        heldout_fraction: share of the source files withheld before anything else, in (0, 1).

    Raises:
        InputError: unknown names, unreadable sources, a corpus too small to split or to train the tokenizer on.
    """
    cache = default_cache() if cache is None else Path(cache)
    key = tokenizer_key(tokenizer, domain, cache, heldout_fraction)
    corpus = find_corpus(domain, cache)
    corpus_hash = corpus_facts(corpus, cache).hash
    folder = cache / "tokens" / digest(FORMAT, corpus_hash, key, heldout_fraction)
    if not folder.exists():
        train, heldout = split(corpus_documents(corpus, cache), heldout_fraction)
        encoder = load_tokenizer(tokenizer, domain, cache, heldout_fraction)
        with atomically(folder) as beside:
            beside.mkdir()
            _write(beside, train, heldout, encoder, corpus_hash, heldout_fraction)
    return _open(folder, domain, tokenizer)


def _write(
    folder: Path,
    train: list[Document],
    heldout: list[Document],
    tokenizer: Tokenizer,
    corpus_hash: str,
    heldout_fraction: float,
) -> None:
    names = sorted({document.group for document in (*train, *heldout)})
    number = {name: index for index, name in enumerate(names)}
    # 16 bits hold ids up to 65,535: half the disk and memory of 32 for all but the largest vocabularies.
    width = np.uint16 if tokenizer.vocab <= 2**16 else np.uint32
    end = np.asarray([tokenizer.vocab - 1], dtype=width)
    for side, documents in (("train", train), ("heldout", heldout)):
        lengths = [0]
        with open(folder / f"{side}.bin", "wb") as file:
            for document in documents:
                ids = tokenizer.encode(document.text)
                ids.astype(width).tofile(file)
                end.tofile(file)
                lengths.append(len(ids) + 1)
        np.save(folder / f"{side}_offsets.npy", np.cumsum(lengths, dtype=np.int64))
        np.save(folder / f"{side}_groups.npy", np.asarray([number[d.group] for d in documents], dtype=np.int32))
        np.save(folder / f"{side}_ids.npy", np.asarray([d.id.encode() for d in documents], dtype="S32"))
    np.save(folder / "token_bytes.npy", tokenizer.token_bytes)
    (folder / "groups.json").write_text(json.dumps(names))
    tokens = (folder / "train.bin").stat().st_size // end.itemsize
    meta = {
        "vocab": tokenizer.vocab,
        "hash": digest(FORMAT, corpus_hash, tokenizer.hash, heldout_fraction),
        "corpus_hash": corpus_hash,
        "tokenizer_hash": tokenizer.hash,
        "bytes_per_token": sum(len(document.text.encode()) for document in train) / tokens,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))


def _open(folder: Path, domain: str, tokenizer: str) -> TokenStore:
    meta = json.loads((folder / "meta.json").read_text())
    width = np.uint16 if meta["vocab"] <= 2**16 else np.uint32
    streams = {side: np.memmap(folder / f"{side}.bin", dtype=width, mode="r") for side in ("train", "heldout")}
    arrays = {
        f"{side}_{what}": np.load(folder / f"{side}_{what}.npy")
        for side in ("train", "heldout")
        for what in ("offsets", "groups", "ids")
    }
    names = tuple(json.loads((folder / "groups.json").read_text()))
    token_bytes = np.load(folder / "token_bytes.npy")
    return TokenStore(domain, tokenizer, **meta, **streams, **arrays, group_names=names, token_bytes=token_bytes)
