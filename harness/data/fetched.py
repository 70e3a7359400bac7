"""Fetched text in the cache: a parquet file for each source, and a manifest for each corpus that lists its sources.

CACHE/fetched/SOURCE.parquet    the documents of a source; its record stands in the file's metadata
CACHE/fetched/NAME.json         the manifest of the corpus NAME: the records of its sources, and what is missing
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.data.documents import Document, documents_table
from harness.files import atomically, write_json
from sweeps.errors import InputError

# Change this number when the readers would give other text: what was read under another number is read again.
READING_RECIPE = 1

_RECORD = b"isogap"


@dataclass(frozen=True)
class Record:
    """Facts about the text of one source.

    Attributes:
        source, origin, version, licence: the source's name, where it came from, its version and its licence.
        archive_sha256: hash of the archive the text was read from; empty for a dataset of the hub, which is streamed.
        text_sha256: hash of its documents' groups and texts in the order of (group, id).
        documents, bytes: the number of documents, and their UTF-8 bytes.
        recipe: the READING_RECIPE under which the text was read.
    """

    source: str
    origin: str
    version: str
    licence: str
    archive_sha256: str
    text_sha256: str
    documents: int
    bytes: int
    recipe: int = READING_RECIPE


@dataclass(frozen=True)
class Manifest:
    """A fetched corpus: the `records` of its sources in order, and (source, reason) for each that is `missing`."""

    corpus: str
    records: tuple[Record, ...]
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all its text."""
        return sum(record.bytes for record in self.records)


def source_file(name: str, cache: Path) -> Path:
    """The parquet file of a source."""
    return cache / "fetched" / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.parquet"


def manifest_file(name: str, cache: Path) -> Path:
    """The manifest of a corpus."""
    return cache / "fetched" / f"{name}.json"


def write_source(documents: Sequence[Document], record: Record, cache: Path) -> Record:
    """Write a source's documents, which are in the order of (group, id), and return its completed record."""
    table = documents_table(documents)
    size = sum(table["bytes"].to_pylist())
    record = replace(record, text_sha256=text_sha256(table), documents=len(documents), bytes=size)
    with atomically(source_file(record.source, cache)) as file:
        metadata = {_RECORD: json.dumps(asdict(record))}
        pq.write_table(table.replace_schema_metadata(metadata), file, compression="zstd")
    return record


def read_record(name: str, cache: Path, *, check: bool) -> Record | None:
    """The record of a source that was read under READING_RECIPE; None if there is none, or its file is damaged.

    With `check` the text is read too, and its hash compared.
    """
    file = source_file(name, cache)
    try:
        record = Record(**json.loads(pq.read_schema(file).metadata[_RECORD]))
        whole = not check or text_sha256(pq.read_table(file, columns=["group", "text"])) == record.text_sha256
    except (OSError, ValueError, KeyError, TypeError):  # The file is absent, truncated, or not isogap's.
        return None
    return record if whole and record.recipe == READING_RECIPE else None


def text_sha256(table: pa.Table) -> str:
    """Hash of the columns `group` and `text`, row by row; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for group, text in zip(table["group"], table["text"], strict=True):
        digest.update(f"{group.as_py()}\0{text.as_py()}\0".encode())
    return digest.hexdigest()


def write_manifest(manifest: Manifest, cache: Path) -> None:
    """Write a manifest, as indented JSON."""
    write_json(manifest_file(manifest.corpus, cache), asdict(manifest))


def read_manifest(name: str, cache: Path) -> Manifest:
    """The manifest of a corpus. Raises InputError if it was not fetched by this version of isogap."""
    try:
        fields = json.loads(manifest_file(name, cache).read_text())
        records = tuple(Record(**record) for record in fields["records"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _not_fetched(name) from error
    if any(record.recipe != READING_RECIPE for record in records):
        raise _not_fetched(name)
    return Manifest(name, records, tuple((source, reason) for source, reason in fields["missing"]))


def documents(name: str, cache: Path) -> Iterator[Document]:
    """The documents of a fetched corpus, source by source.

    Raises InputError if it was not fetched, or its files are gone or changed.
    """
    for record in read_manifest(name, cache).records:
        if read_record(record.source, cache, check=True) != record:
            raise _not_fetched(name)
        table = pq.read_table(source_file(record.source, cache), columns=["id", "group", "text", "source", "licence"])
        for batch in table.to_batches(max_chunksize=1000):
            yield from (Document(**row) for row in batch.to_pylist())


def facts(name: str, cache: Path) -> list[str]:
    """The name and the hash of the text of each source of a fetched corpus; InputError if it was not fetched."""
    return [f"{record.source}\t{record.text_sha256}" for record in read_manifest(name, cache).records]


def _not_fetched(name: str) -> InputError:
    via = " --via hub" if name.startswith("hub_") else ""
    plain = name.removeprefix("hub_")
    return InputError("data", "domain", name, f"a fetched corpus: isogap fetch corpus {plain}{via}")
