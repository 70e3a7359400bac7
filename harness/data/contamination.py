"""How much of the held-out text stands in the train text, and which sources and groups have it in common."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Int32, Int64, UInt64

from harness.data.documents import Document
from harness.data.ngrams import ngrams
from harness.data.streams import in_batches, map_in_order

# Thirteen words, as in appendix C of Brown et al. 2020 (GPT-3).
_GRAM_WORDS = 13
# The largest number of pairs of groups that a report names.
LONGEST_LIST = 100
# A table of flags has 2^26 buckets (64 MB). One look-up in it rules out nearly every n-gram that is not held out.
_FILTER_BITS = 26


@dataclass(frozen=True)
class SourceShare:
    """How much of one source's held-out text stands in the train text.

    Attributes:
        source: the source of the held-out text.
        grams: the number of its 13-grams, one for each position.
        leaked: how many of them also stand in the train text.
    """

    source: str
    grams: int
    leaked: int


@dataclass(frozen=True)
class Leak:
    """Held-out 13-grams of one group that stand in the train text of another.

    A 13-gram that several train groups have counts for the first of them, so that the counts of all pairs add up to
    the total.

    Attributes:
        heldout_group, heldout_source: the held-out group that has the 13-grams, and its source.
        train_group, train_source: the train group in which they also stand, and its source. Both groups are empty in a
            leak between sources.
        grams: the number of 13-grams.
    """

    heldout_group: str
    heldout_source: str
    train_group: str
    train_source: str
    grams: int


@dataclass(frozen=True)
class Contamination:
    """How much of the held-out text stands in the train text.

    What is said of 13-grams is of whole documents, of 13 ids or more, in a token world.

    Attributes:
        share: share of the held-out 13-grams that stand in the train text.
        grams: the number of held-out 13-grams, one for each position.
        by_source: the same for each source, in alphabetical order.
        source_leaks: leaks between sources, the worst first.
        group_leaks: the hundred worst leaks between groups.
    """

    share: float
    grams: int
    by_source: tuple[SourceShare, ...]
    source_leaks: tuple[Leak, ...]
    group_leaks: tuple[Leak, ...]


# The hashes of the passages of texts, in order, and how many each text has.
Passages = Callable[[Sequence[str]], tuple[UInt64[np.ndarray, "grams"], Int64[np.ndarray, "texts"]]]


def thirteen_words(texts: Sequence[str]) -> tuple[UInt64[np.ndarray, "grams"], Int64[np.ndarray, "texts"]]:
    """The word 13-grams of texts (ngrams.py)."""
    return ngrams(texts, _GRAM_WORDS)


def whole_texts(texts: Sequence[str]) -> tuple[UInt64[np.ndarray, "grams"], Int64[np.ndarray, "texts"]]:
    """Each text of 13 characters or more as one passage, for documents whose characters are ids.

    Shorter texts and parts of texts repeat by chance, as a border of zeros does.
    """
    long = [len(text) >= _GRAM_WORDS for text in texts]
    passages = [text for text, counts in zip(texts, long, strict=True) if counts]
    hashes = [int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") for text in passages]
    return np.array(hashes, np.uint64), np.array(long, np.int64)


def contamination(
    heldout: Iterable[Document], train: Iterable[Document], passages: Passages = thirteen_words
) -> Contamination:
    """Look up the passages of held-out documents, by default their word 13-grams, in train documents.

    The train text is streamed. The memory used is about 5 times the held-out text, plus 100 MB.
    """
    owners, grams = _held_out(heldout, passages)
    known, place = np.unique(grams, return_inverse=True)
    sieve = np.zeros(1 << _FILTER_BITS, bool)
    sieve[_bucket(known)] = True

    def hits(batch: list[Document]) -> tuple[list[Document], Int64[np.ndarray, "hits"], Int64[np.ndarray, "hits"]]:
        hashes, counts = passages([document.text for document in batch])
        candidates = np.flatnonzero(sieve.take(_bucket(hashes)))
        index = np.searchsorted(known, hashes[candidates])
        hit = known[np.minimum(index, len(known) - 1)] == hashes[candidates]
        documents = np.searchsorted(np.cumsum(counts), candidates[hit], side="right")
        return batch, index[hit], documents

    first = np.full(len(known), -1, np.int32)
    train_names: dict[tuple[str, str], int] = {}
    for batch, index, documents in map_in_order(hits, in_batches(train) if len(known) else ()):
        numbers = [train_names.setdefault((d.group, d.source), len(train_names)) for d in batch]
        new = first[index] < 0
        # The assignment runs backwards, so that the first of several documents is the one that stays.
        first[index[new][::-1]] = np.asarray(numbers, np.int32)[documents[new]][::-1]
    return _report(owners, first[place], list(train_names))


def _bucket(hashes: UInt64[np.ndarray, "grams"]) -> Int64[np.ndarray, "grams"]:
    return (hashes >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)


def _held_out(
    documents: Iterable[Document], passages: Passages
) -> tuple[list[tuple[str, str, int]], UInt64[np.ndarray, "grams"]]:
    """(group, source, number of passages) of each document, and the passages of all."""

    def read(batch: list[Document]) -> tuple[list[tuple[str, str, int]], UInt64[np.ndarray, "grams"]]:
        hashes, counts = passages([document.text for document in batch])
        return [(d.group, d.source, n) for d, n in zip(batch, counts.tolist(), strict=True)], hashes

    parts = list(map_in_order(read, in_batches(documents)))
    grams = np.concatenate([hashes for _, hashes in parts]) if parts else np.zeros(0, np.uint64)
    return [owner for owners, _ in parts for owner in owners], grams


def _report(
    owners: list[tuple[str, str, int]], train_of: Int32[np.ndarray, "grams"], train: list[tuple[str, str]]
) -> Contamination:
    grams: Counter[str] = Counter()
    leaked: Counter[str] = Counter()
    between: Counter[tuple[str, str]] = Counter()
    pairs: Counter[tuple[tuple[str, str], tuple[str, str]]] = Counter()
    start = 0
    for group, source, count in owners:
        numbers = train_of[start : start + count]
        start += count
        grams[source] += count
        for number, n in Counter(numbers[numbers >= 0].tolist()).items():
            leaked[source] += n
            between[source, train[number][1]] += n
            pairs[(group, source), train[number]] += n
    total = len(train_of)
    return Contamination(
        leaked.total() / total if total else 0.0,
        total,
        tuple(SourceShare(source, grams[source], leaked[source]) for source in sorted(grams)),
        _worst(Leak("", held, "", trained, n) for (held, trained), n in between.items()),
        _worst(Leak(*held, *trained, n) for (held, trained), n in pairs.items()),
    )


def _worst(leaks: Iterable[Leak]) -> tuple[Leak, ...]:
    def place(leak: Leak) -> tuple[int, str, str, str, str]:
        return -leak.grams, leak.heldout_source, leak.train_source, leak.heldout_group, leak.train_group

    return tuple(sorted(leaks, key=place)[:LONGEST_LIST])
