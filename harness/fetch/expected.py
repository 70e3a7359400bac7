"""The expected hashes of the pinned sources' archives, and of the texts that the readers make of them.

They are in expected.json. After pinning another version or changing a reader, fetch the corpora into CACHE and rewrite
the file by `python -m harness.fetch.expected CACHE`. Python 3.11, 3.12 and 3.13 read the same text.
"""

import json
import sys
from functools import cache
from pathlib import Path

from harness.data.fetched import read_manifest

FILE = Path(__file__).with_name("expected.json")


@cache
def expected() -> dict[str, dict[str, str]]:
    """The hashes `archive` and `text` of each pinned source, as 64 hexadecimal digits."""
    return json.loads(FILE.read_text())


def write_expected(folder: Path) -> None:
    """Write the hashes of the pinned sources in a cache."""
    from harness.fetch.sources import SOURCES

    pinned = {source.name for sources in SOURCES.values() for source in sources if source.version}
    records = [record for name in SOURCES for record in read_manifest(name, folder).records]
    hashes = {
        record.source: {"archive": record.archive_sha256, "text": record.text_sha256}
        for record in records
        if record.source in pinned
    }
    FILE.write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    write_expected(Path(sys.argv[1]))
