"""Reads archives as streams of files. Nothing in them is installed, imported or run."""

import lzma
import re
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness.fetch.readers.pages import Page, prose


class BadArchive(Exception):
    """An archive that is not whole, or not an archive at all."""


_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)


def text_pages(archive: Path, pattern: str, read: Callable[[str], str]) -> Iterator[Page]:
    """One group per file that `members` gives: its UTF-8 content, which `read` turns into plain text."""
    return prose((name, read(content.decode("utf-8", "replace"))) for name, content in members(archive, pattern))


def members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files in a wheel, an npm package (.tgz) or a Debian package whose paths match a pattern.

    The name is what the pattern's group `name` matches; without that group it is the path. Wheels give their files in
    the order of the paths, other packages in the archive's order. Raises BadArchive if it is damaged.
    """

    def name_of(path: str) -> str | None:
        match = re.fullmatch(pattern, path)
        return match and match.groupdict().get("name", path)

    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as opened:
                for path in sorted(opened.namelist()):
                    if (name := name_of(path)) and not path.endswith("/"):
                        yield name, opened.read(path)
        else:
            with _tar(archive) as opened:
                for member in opened:
                    name = name_of(member.name.removeprefix("./"))
                    if name and member.isfile() and (file := opened.extractfile(member)):
                        yield name, file.read()
    except _BROKEN as error:
        raise BadArchive(f"{archive.name}: {type(error).__name__}: {error}") from error


@contextmanager
def _tar(archive: Path) -> Iterator[tarfile.TarFile]:
    if archive.suffix != ".deb":
        with tarfile.open(archive) as opened:
            yield opened
        return
    # dpkg-deb knows every compression that Debian has used; Python 3.11 lacks zstd.
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        stream: IO[bytes] = process.stdout  # pyright: ignore[reportAssignmentType]
        try:
            with tarfile.open(fileobj=stream, mode="r|") as opened:
                yield opened
            stream.read()  # Read the padding after the last file, too; otherwise dpkg-deb fails on a closed pipe.
        finally:
            stream.close()
            complaint = process.stderr.read().decode(errors="replace") if process.stderr else ""
        if process.wait():
            raise BadArchive(f"{archive.name}: {complaint.strip()}")
