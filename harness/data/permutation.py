"""A permutation of 0..n-1 that is computed, not stored: from any position to its index, and back."""

import numpy as np
from jaxtyping import Int, UInt64

# Rounds of the Feistel network: eight change each half of the bits four times. With fewer, small permutations,
# whose halves have one or two bits, would not look random.
ROUNDS = 8


def mix(values: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): a bijection of 64-bit words with full avalanche."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def permute(
    index: Int[np.ndarray, "points"], size: int, key: Int[np.ndarray, "points"] | int, *, inverse: bool = False
) -> Int[np.ndarray, "points"]:
    """Images of indices under the permutation of 0..size-1 that belongs to a key, or with `inverse` indices of images.

    A balanced Feistel network permutes the smallest 4**h >= size; images outside 0..size-1 are sent through again
    until they fall inside (cycle walking; Black and Rogaway 2002), fewer than four times on average.

    Args:
        index: values in [0, size), as are the int64 values returned.
        size: number of permuted values, at least 1 and at most 2**62.
        key: one key for all indices, or one per index; different keys give unrelated permutations.
    """
    half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = np.broadcast_to(np.asarray(key, dtype=np.int64).astype(np.uint64), np.shape(index))
    image = np.asarray(index, dtype=np.int64).astype(np.uint64)
    pending = np.ones(image.shape, dtype=bool)
    rounds = range(ROUNDS - 1, -1, -1) if inverse else range(ROUNDS)
    while pending.any():
        left, right, key_of = image[pending] >> half, image[pending] & mask, keys[pending]
        for number in rounds:
            round_key = mix(key_of + np.uint64(0x9E3779B97F4A7C15 * (number + 1) % 2**64))
            if inverse:
                left, right = right ^ (mix(left ^ round_key) & mask), left
            else:
                left, right = right, left ^ (mix(right ^ round_key) & mask)
        image[pending] = (left << half) | right
        pending = image >= np.uint64(size)
    return image.astype(np.int64)
