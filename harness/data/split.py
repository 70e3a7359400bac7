"""Which documents are held out, and in which order the others are consumed: both decided by hashes alone."""

from collections.abc import Iterable
from hashlib import blake2b

from harness.data.documents import Document
from sweeps.errors import InputError


def unit_hash(salt: str, text: str) -> float:
    """A number in [0, 1) that depends on the salt and the text only, uniform over texts."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=salt.encode()).digest(), "big") / 2.0**64


def is_held_out(group: str, fraction: float) -> bool:
    """Whether a group is held out.

    It depends on the group's name only, so a source file is held out in every corpus that contains it, or in none;
    and the groups held out at a smaller fraction are among those held out at a larger one.
    """
    return unit_hash("isogap-heldout", group) < fraction


def split(documents: Iterable[Document], fraction: float) -> tuple[list[Document], list[Document]]:
    """Train and held-out documents, each ordered by hash of the document id.

    In hash order every prefix is a uniform sample of its side: U unique tokens are the first U tokens.

    Args:
        documents: deduplicated documents.
        fraction: share of the groups to hold out, in (0, 1).

    Raises:
        InputError: the fraction is not in (0, 1), or one side would be empty.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError("data", "heldout_fraction", fraction, "a number above 0 and below 1")
    ordered = sorted(documents, key=lambda d: (unit_hash("isogap-order", d.id), d.id))
    groups = {document.group for document in ordered}
    held = {group for group in groups if is_held_out(group, fraction)}
    if not held or len(held) == len(groups):
        side = "held out" if not held else "left to train on"
        raise InputError(
            "data",
            "domain",
            f"{len(groups)} source file(s)",
            f"a corpus of more source files: at heldout_fraction {fraction} none of these is {side}",
        )
    train = [document for document in ordered if document.group not in held]
    return train, [document for document in ordered if document.group in held]
