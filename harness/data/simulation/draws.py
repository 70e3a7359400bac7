"""Random numbers that are the same on every machine and under every version of numpy, by counter.

Only integer arithmetic and exact conversions are used. numpy promises the bits of its generators, but not the methods
that make numbers of them.
"""

from hashlib import blake2b

import numpy as np
from jaxtyping import Float, Int64, UInt64

from harness.data.permutation import mix

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw_key(*facts: object) -> int:
    """A key of 64 bits that depends on all facts; other facts give unrelated numbers."""
    return int.from_bytes(blake2b("\n".join(map(str, facts)).encode(), digest_size=8).digest(), "big")


def words(key: int, *shape: int) -> UInt64[np.ndarray, "*shape"]:
    """Uniform 64-bit words: the splitmix64 generator (Steele, Lea and Flood 2014) from this key on."""
    count = np.arange(1, 1 + int(np.prod(shape)), dtype=np.uint64)
    return mix(np.uint64(key) + count * _GOLDEN).reshape(shape)


def below(key: int, limit: int, *shape: int) -> Int64[np.ndarray, "*shape"]:
    """Integers from 0 to limit - 1, uniform to within limit / 2^32; limit is at most 2^31."""
    high = words(key, *shape) >> np.uint64(32)
    return (high * np.uint64(limit) >> np.uint64(32)).astype(np.int64)


def units(key: int, *shape: int) -> Float[np.ndarray, "*shape"]:
    """Numbers in [0, 1), multiples of 2^-53."""
    return (words(key, *shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normals(key: int, *shape: int) -> Float[np.ndarray, "*shape"]:
    """Nearly normal numbers of mean 0 and variance 1: sums of twelve uniform ones, which end at -6 and 6.

    The sum is one of integers, and therefore exact. Its kurtosis is 2.9 instead of 3.
    """
    parts = words(key, 12, *shape) >> np.uint64(24)  # 40 bits
    return (parts.astype(np.int64).sum(axis=0) - (6 << 40)).astype(np.float64) * 2.0**-40


def each_word(keys: UInt64[np.ndarray, "keys"], number: int) -> UInt64[np.ndarray, "keys"]:
    """Word `number`, from 0, of the generator of each of these keys."""
    return mix(keys + np.uint64((number + 1) * int(_GOLDEN) % 2**64))
