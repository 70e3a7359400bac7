"""Word n-grams of many texts at once, as 64-bit hashes.

A word is a maximal run of ASCII letters, digits, underscores and bytes beyond ASCII, after lower-casing. Punctuation,
blanks and line ends are ignored, so they do not hide a copy, and an identifier is one word. Scripts without
blanks between words have few n-grams by this definition.

Hashes are polynomials modulo 2^64, each followed by a bijection with full avalanche. Among 10^8 different n-grams two
agree by chance with probability 10^16 / 2^65 = 3e-4.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int64, UInt64

from harness.data.permutation import mix

_BYTES = np.arange(256)
_IN_WORD = np.array([value >= 128 or chr(value).isalnum() or value == ord("_") for value in range(256)])
_VALUES = mix((_BYTES + 1).astype(np.uint64))
# The base of the polynomials: odd, so that it has an inverse modulo 2^64; 5 modulo 8, so that its powers repeat as late
# as possible.
_BASE = 0x5851F42D4C957F2D


def ngrams(texts: Sequence[str], n: int) -> tuple[UInt64[np.ndarray, "grams"], Int64[np.ndarray, "texts"]]:
    """Hashes of the word n-grams of texts, one for each position, in order; and how many each text has.

    A text of w words has max(w - n + 1, 0) of them: no n-gram spans two texts.
    """
    words, counts = _words(texts)
    if len(words) < n:
        return np.zeros(0, np.uint64), np.zeros(len(texts), np.int64)
    windows = len(words) - n + 1
    hashes = words[:windows].copy()
    for place in range(1, n):
        hashes *= np.uint64(_BASE)
        hashes += words[place : place + windows]
    inside = np.repeat(np.cumsum(counts), counts)[:windows] - np.arange(windows) >= n
    return mix(hashes[inside]), np.maximum(counts - n + 1, 0)


def _words(texts: Sequence[str]) -> tuple[UInt64[np.ndarray, "words"], Int64[np.ndarray, "texts"]]:
    """A hash of each word, in order, and the number of words of each text.

    The hash of the word in the bytes s .. e - 1 is the sum of value(byte k) base^(k - s), mixed: a difference of prefix
    sums of value(byte k) base^k, times base^-s.
    """
    encoded = [text.lower().encode() for text in texts]
    # Line ends separate the texts, and mark the edges of the first and the last word.
    joined = np.frombuffer(b"\n".join([b"", *encoded, b""]), dtype=np.uint8)
    in_word = _IN_WORD.take(joined)
    edges = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    powers, inverses = _powers(1 << (len(joined) - 1).bit_length())
    sums = _VALUES.take(joined)
    sums *= powers[: len(joined)]
    np.cumsum(sums, out=sums)
    hashes = (sums[ends - 1] - sums[starts - 1]) * inverses[starts]
    borders = np.cumsum([1 + len(text) for text in encoded])
    return mix(hashes), np.diff(np.searchsorted(starts, borders), prepend=0)


@lru_cache(4)
def _powers(size: int) -> tuple[UInt64[np.ndarray, "size"], UInt64[np.ndarray, "size"]]:
    """base^k and base^-k modulo 2^64 for k below `size`."""
    tables = []
    for base in (_BASE, pow(_BASE, -1, 2**64)):
        table = np.full(size, base, np.uint64)
        table[0] = 1
        tables.append(np.cumprod(table, out=table))
    return tables[0], tables[1]
