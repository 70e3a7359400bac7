"""A corpus is a list of documents. A document is named by a hash of its text, and grouped by where it came from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import pyarrow as pa

# The columns of a table of documents in a parquet file.
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("bytes", pa.int64()),
        ("text", pa.large_string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Document:
    """One training document.

    Attributes:
        id: hash of the text, 32 hexadecimal digits: the same on every machine and under every path. Of a document
            of a token world it is the hash of its group, its number and its text, because the same text may be drawn
            again.
        group: the page, paper, file or package the text was cut from. Groups, not documents, are held out, and
            standard errors are clustered by group.
        text: valid Unicode (no lone surrogates), never empty.
        source: what the group belongs to: a package, an archive, a site. The split holds out the same share of each.
        licence: the licence that the source states.
    """

    id: str
    group: str
    text: str
    source: str = ""
    licence: str = ""


def digest(*facts: object) -> str:
    """Hash of the facts on which a cached result depends, as 32 hexadecimal digits."""
    return blake2b("\n".join(map(str, facts)).encode(), digest_size=16).hexdigest()


def make_document(group: str, text: str, source: str = "", licence: str = "") -> Document:
    """A document from a text; lone surrogates, which UTF-8 cannot carry, become question marks."""
    encoded = text.encode("utf-8", errors="replace")
    name = blake2b(encoded, digest_size=16).hexdigest()
    return Document(name, group, encoded.decode("utf-8"), source, licence)


def content_hash(documents: Iterable[Document]) -> str:
    """Hash of documents in the given order, as 32 hexadecimal digits; their ids, themselves hashes, stand for texts."""
    digest = blake2b(digest_size=16)
    for d in documents:
        digest.update(f"{d.id}\t{d.group}\t{d.source}\t{d.licence}\n".encode())
    return digest.hexdigest()


def documents_table(documents: Sequence[Document]) -> pa.Table:
    """Documents as a table with the columns of `SCHEMA`; `bytes` counts the UTF-8 bytes of each text."""
    columns = {name: [getattr(d, name) for d in documents] for name in ("id", "group", "source", "licence", "text")}
    return pa.table(columns | {"bytes": [len(text.encode()) for text in columns["text"]]}, schema=SCHEMA)
