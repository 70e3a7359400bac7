"""Decides by hashes which groups are held out, which of the others each twin reads, and the order of documents."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Literal

from sweeps.errors import InputError

Half = Literal["a", "b"]


def unit_hash(salt: str, text: str) -> float:
    """A number in [0, 1) that depends on the salt and the text only, uniform over texts."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=salt.encode()).digest(), "big") / 2.0**64


def place_in_order(document_id: str) -> tuple[float, str]:
    """Sort key of the order in which documents are kept and consumed.

    In this order every prefix is a uniform sample: U unique tokens are the first U tokens. A corpus that grows keeps
    the order of the documents it had.
    """
    return unit_hash("isogap-order", document_id), document_id


def split(
    groups: Mapping[str, str], fraction: float, split_seed: int = 0, half: Half | None = None
) -> tuple[frozenset[str], frozenset[str]]:
    """The groups to train on and the groups held out, source by source.

    Within a source of n groups, the round(fraction n) groups with the smallest hashes of seed and name are held out, at
    least one and at most n - 1. The only group of a source is held out if its hash is below the fraction. So train and
    held-out text have the same share of each source, and a larger fraction holds out all groups of a smaller one.

    Args:
        groups: group -> source.
        fraction: share of the groups to hold out, in (0, 1).
        split_seed: another seed holds out another, independent choice of groups.
        half: train on only one of two disjoint halves of the groups that are left, which are also formed within each
            source. Twins that train on `a` and `b` share no group, and have the same held-out text.

    Raises:
        InputError: the fraction is not in (0, 1), or one side would be empty.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError("data", "heldout_fraction", fraction, "a number above 0 and below 1")
    heldout = _share(groups, fraction, "isogap-heldout", split_seed)
    train = groups.keys() - heldout
    if half is not None:
        first = _share({group: groups[group] for group in train}, 0.5, "isogap-half", split_seed)
        train = first if half == "a" else train - first
    if not heldout or not train:
        side = "left to train on" if heldout else "held out"
        raise InputError(
            "data",
            "domain",
            f"{len(groups)} group(s) of documents",
            f"a corpus of more groups: at heldout_fraction {fraction} none of these is {side}"
            + (f" in half {half}" if half else ""),
        )
    return frozenset(train), frozenset(heldout)


def _share(groups: Mapping[str, str], fraction: float, salt: str, seed: int) -> set[str]:
    """The given share of each source's groups: those with the smallest hashes."""
    by_source: dict[str, list[tuple[float, str]]] = {}
    for group, source in groups.items():
        by_source.setdefault(source, []).append((unit_hash(salt, f"{seed}/{group}"), group))
    chosen: set[str] = set()
    for hashed in by_source.values():
        n = len(hashed)
        count = min(max(round(fraction * n), 1), n - 1) if n > 1 else int(hashed[0][0] < fraction)
        chosen |= {group for _, group in sorted(hashed)[:count]}
    return chosen
