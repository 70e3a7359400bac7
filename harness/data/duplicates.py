"""Removes text that a corpus has more than once: equal documents, near copies, and passages shared between groups.

Copies are removed before the split and without knowledge of it, so that seen and held-out text stay exchangeable. If
only the held-out text lost what the train text has, it would be rarer text, and its loss would exceed the loss on seen
text without any overfitting.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64, UInt32, UInt64
from rensa.rensa import RMinHash  # the package itself exports it by a star, which type checkers cannot follow

from harness.data.documents import Document
from harness.data.ngrams import ngrams
from harness.data.permutation import mix
from harness.data.split import place_in_order
from harness.data.streams import in_batches, map_in_order

Stage = Literal["exact", "near", "shared"]

# Documents are near copies if their sets of word 5-grams have a Jaccard similarity of at least 0.75, as in Penedo et
# al. 2024 (FineWeb).
SHINGLE, SIMILAR = 5, 0.75
# Two documents are compared if they agree in all 5 MinHashes of one of 25 bands. This misses (1 - 0.75^5)^25 = 0.1 % of
# the pairs with a similarity of 0.75, and compares one in twenty of the pairs with a similarity of 0.3.
HASHES, BANDS, ROWS, SEED = 128, 25, 5, 1
# The estimate from 128 MinHashes has a standard deviation of sqrt(0.75 * 0.25 / 128) = 0.04. A pair whose estimate is
# four of these below the threshold is not worth the exact comparison.
WORTH_COMPARING = SIMILAR - 0.15
# A document is removed if more than this share of its word 13-grams (as in the contamination report) stand in other
# groups. On 165 MB of manuals and prose, 104 MB of code and 49 MB of papers, bounds of 10, 7, 5 and 3 % leave a
# contamination of at most 1.1, 0.7, 0.5 and 0.3 %; they remove 8, 10, 12 and 14 % of the manuals, and 4, 5, 7 and 10 %
# of the code. Docstrings repeat each other most: bounds of 10, 7 and 5 % leave 2.9, 1.4 and 0.8 %, so that only 5 %
# keeps every corpus below 1 %.
PASSAGE, SHARED = 13, 0.05
# The 13-grams are sorted in this many parts, because sorting an array takes 4 times its own memory.
PARTS = 16


@dataclass(frozen=True)
class Removal:
    """Documents removed because of documents that stayed.

    Attributes:
        stage: `exact`, equal texts; `near`, near copies; `shared`, passages that other groups have too.
        source: the source of the removed documents.
        kept_source: the source of the documents that stayed in their place.
        documents, bytes: the number of removed documents, and their UTF-8 bytes.
    """

    stage: Stage
    source: str
    kept_source: str
    documents: int
    bytes: int


@dataclass(frozen=True)
class Cleaned:
    """A corpus without copies, or as it was drawn.

    Attributes:
        documents: the documents that stayed, in hash order.
        removals: what each stage removed for each pair of sources; within a stage the most bytes come first.
    """

    documents: list[Document]
    removals: tuple[Removal, ...]


def clean(documents: Iterable[Document]) -> Cleaned:
    """Remove equal documents, then near copies, then documents that share passages with other groups.

    In the last two stages each document is compared with the documents before it in hash order that stayed, so that the
    result does not depend on the order of reading.
    """
    # Stage, source of the removed documents, source of those that stayed -> bytes of each removed document.
    sizes: defaultdict[tuple[Stage, str, str], list[int]] = defaultdict(list)

    def drop(stage: Stage, ordered: list[Document], original: Int64[np.ndarray, "documents"]) -> list[Document]:
        for document, earlier in zip(ordered, original.tolist(), strict=True):
            if earlier >= 0:
                sizes[stage, document.source, ordered[earlier].source].append(len(document.text.encode()))
        return [document for document, earlier in zip(ordered, original.tolist(), strict=True) if earlier < 0]

    kept, copies = _distinct(documents)
    for name, source, size in copies:
        sizes["exact", source, kept[name].source].append(size)
    ordered = sorted(kept.values(), key=lambda document: place_in_order(document.id))
    del kept
    ordered = drop("near", ordered, near_copies(ordered))
    ordered = drop("shared", ordered, shared_passages(ordered))
    removals = [Removal(*sources, len(removed), sum(removed)) for sources, removed in sizes.items()]
    return Cleaned(ordered, tuple(sorted(removals, key=lambda r: (r.stage, -r.bytes, r.source, r.kept_source))))


def as_drawn(documents: Iterable[Document]) -> Cleaned:
    """All documents in hash order, of a corpus that is drawn and in which a repetition is no copy."""
    return Cleaned(sorted(documents, key=lambda document: place_in_order(document.id)), ())


def _distinct(documents: Iterable[Document]) -> tuple[dict[str, Document], list[tuple[str, str, int]]]:
    """One document for each text, by id; and the id, source and bytes of every other copy.

    The copy whose group is alphabetically first stays, whatever the order of reading.
    """
    kept: dict[str, Document] = {}
    copies = []
    for document in documents:
        other = kept.setdefault(document.id, document)
        if other is not document:
            first, second = sorted((document, other), key=lambda d: (d.group, d.source, d.licence))
            kept[document.id] = first
            copies.append((second.id, second.source, len(second.text.encode())))
    return kept, copies


def near_copies(documents: Sequence[Document]) -> Int64[np.ndarray, "documents"]:
    """For each document, the most similar earlier document that stayed, or -1 if none is at least 0.75 similar.

    Similarity is the Jaccard index of the sets of word 5-grams, computed exactly for the pairs that MinHash proposes.
    A document of fewer than five words is similar to none.
    """
    signatures = _signatures(documents)
    bands = _bands(signatures)
    original = np.full(len(documents), -1, np.int64)
    # Sets are made only for the documents that may have a near copy. Most documents have none.
    involved = np.flatnonzero((bands >= 0).any(axis=1))
    sets = _shingle_sets([documents[k] for k in involved.tolist()])
    stayed: dict[tuple[int, int], list[int]] = {}
    for k, shingles in zip(involved.tolist(), sets, strict=True):
        places = [(band, key) for band, key in enumerate(bands[k].tolist()) if key >= 0]
        candidates = np.array(sorted({other for place in places for other in stayed.get(place, ())}), np.int64)
        if len(candidates):
            agree = (signatures[candidates] == signatures[k]).mean(axis=1)
            candidates = candidates[agree >= WORTH_COMPARING]
        pairs = [(_jaccard(shingles, sets[np.searchsorted(involved, other)]), -other) for other in candidates.tolist()]
        similarity, other = max(pairs, default=(0.0, 0))
        if similarity >= SIMILAR:
            original[k] = -other
        else:
            for place in places:
                stayed.setdefault(place, []).append(k)
    return original


def _signatures(documents: Sequence[Document]) -> UInt32[np.ndarray, "documents hashes"]:
    """The MinHashes of each document's set of word 5-grams; zeros for a document without 5-grams."""
    signatures = np.zeros((len(documents), HASHES), np.uint32)

    def read(batch: list[Document]) -> UInt32[np.ndarray, "batch hashes"]:
        shingles, counts = ngrams([document.text for document in batch], SHINGLE)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(shingles, offsets, HASHES, SEED)
        rows = np.array(matrix.to_rows(), np.uint32)
        rows[counts == 0] = 0
        return rows

    start = 0
    for rows in map_in_order(read, in_batches(documents)):
        signatures[start : start + len(rows)] = rows
        start += len(rows)
    return signatures


def _bands(signatures: UInt32[np.ndarray, "documents hashes"]) -> Int32[np.ndarray, "documents bands"]:
    """For each band, a number that documents with equal MinHashes share, or -1 if a document's MinHashes are unique."""
    keys = np.full((len(signatures), BANDS), -1, np.int32)
    some = np.flatnonzero(signatures.any(axis=1))
    for band in range(BANDS):
        whole = np.zeros(len(some), np.uint64)
        for row in range(band * ROWS, (band + 1) * ROWS):
            whole = mix(whole ^ signatures[some, row])
        _, key, count = np.unique(whole, return_inverse=True, return_counts=True)
        keys[some, band] = np.where(count[key] > 1, key, -1)
    return keys


def _shingle_sets(documents: Sequence[Document]) -> list[UInt64[np.ndarray, "set"]]:
    def read(batch: list[Document]) -> list[UInt64[np.ndarray, "set"]]:
        shingles, counts = ngrams([document.text for document in batch], SHINGLE)
        return [np.unique(part) for part in np.split(shingles, np.cumsum(counts)[:-1])]

    return [shingles for batch in map_in_order(read, in_batches(documents)) for shingles in batch]


def _jaccard(one: UInt64[np.ndarray, "one"], other: UInt64[np.ndarray, "other"]) -> float:
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


def shared_passages(documents: Sequence[Document]) -> Int64[np.ndarray, "documents"]:
    """For each document, the earlier document of another group whose passages it shares, or -1.

    A document shares passages if more than a twentieth of its word 13-grams stand in earlier documents of other groups
    that stayed. The result is the document that was the first to have most of them.

    A document of fewer than thirteen words shares none.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(document.group for document in documents))}
    groups = np.array([names[document.group] for document in documents], np.int32)
    parts = list(map_in_order(lambda batch: ngrams([d.text for d in batch], PASSAGE), in_batches(documents)))
    if not parts:
        return np.zeros(0, np.int64)
    counts = np.concatenate([count for _, count in parts])
    passages, size = _shared_ids(np.concatenate([hashes for hashes, _ in parts]), np.repeat(groups, counts))
    del parts
    # For each passage: the first document that has it, and the first document of another group that has it.
    first, other = np.full(size, -1, np.int32), np.full(size, -1, np.int32)
    original = np.full(len(documents), -1, np.int64)
    ends = np.cumsum(counts)
    for k in np.flatnonzero(counts).tolist():
        ids = passages[ends[k] - counts[k] : ends[k]]
        ids = ids[ids >= 0]
        if not len(ids):
            continue
        owner = first[ids]
        owned = owner >= 0
        ours = owned & (groups[owner] == groups[k])
        foreign = np.where(ours, other[ids], owner)
        foreign = foreign[foreign >= 0]
        if len(foreign) > SHARED * counts[k]:
            original[k] = np.bincount(foreign).argmax()
        else:
            first[ids[~owned]] = k
            second = ids[owned & ~ours]
            other[second[other[second] < 0]] = k
    return original


def _shared_ids(
    hashes: UInt64[np.ndarray, "grams"], groups: Int32[np.ndarray, "grams"]
) -> tuple[Int32[np.ndarray, "grams"], int]:
    """The number of each n-gram (equal ones share it, -1 if only one group has it), and how many numbers there are."""
    ids = np.full(len(hashes), -1, np.int32)
    part_of = (hashes >> np.uint64(64 - PARTS.bit_length() + 1)).astype(np.uint8)

    def part(number: int) -> tuple[Int64[np.ndarray, "members"], Int64[np.ndarray, "members"]]:
        members = np.flatnonzero(part_of == number)
        members = members[np.argsort(hashes[members])]
        if not len(members):
            return members, members
        ordered = hashes[members]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        group = groups[members]
        shared = np.minimum.reduceat(group, starts) != np.maximum.reduceat(group, starts)
        lengths = np.diff(starts, append=len(members))
        return members[np.repeat(shared, lengths)], np.repeat(np.arange(shared.sum()), lengths[shared])

    size = 0
    for members, numbers in map_in_order(part, range(PARTS)):
        ids[members] = size + numbers
        size += int(numbers[-1]) + 1 if len(numbers) else 0
    return ids, size
