"""A corpus is a list of documents; a document is named by its content and grouped by the source file it came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Document:
    """One training document.

    Attributes:
        id: hash of the text, 32 hexadecimal digits: the same on every machine and under every path.
        group: the page, paper, file or package the text was cut from. Groups, not documents, are held out, and
            standard errors are clustered by group.
        text: valid Unicode (no lone surrogates), never empty.
        source: what the group is of: a package, an archive, a site. The split has the same share of each.
        licence: of the source, as it says itself.
    """

    id: str
    group: str
    text: str
    source: str = ""
    licence: str = ""


def make_document(group: str, text: str, source: str = "", licence: str = "") -> Document:
    """A document from a text; lone surrogates, which UTF-8 cannot carry, become question marks."""
    encoded = text.encode("utf-8", errors="replace")
    name = blake2b(encoded, digest_size=16).hexdigest()
    return Document(name, group, encoded.decode("utf-8"), source, licence)


def deduplicate(documents: Iterable[Document]) -> list[Document]:
    """Documents without exact repetitions, in the order of (group, id).

    Of equal texts the one with the alphabetically first group stays, so that the result does not depend on the
    order in which files were listed. Run before the split: a text present in two groups could otherwise be both
    trained on and held out.
    """
    unique: list[Document] = []
    seen: set[str] = set()
    for document in sorted(documents, key=lambda d: (d.group, d.id)):
        if document.id not in seen:
            seen.add(document.id)
            unique.append(document)
    return unique


def content_hash(documents: Iterable[Document]) -> str:
    """Hash of a corpus: of the ids and groups of its documents, in the given order; 32 hexadecimal digits."""
    digest = blake2b(digest_size=16)
    for document in documents:
        digest.update(f"{document.id}\t{document.group}\n".encode())
    return digest.hexdigest()
