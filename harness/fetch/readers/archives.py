"""Archives as streams of files. They are opened as data: nothing in them is installed, imported or run."""

import lzma
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class BadArchive(Exception):
    """An archive that is not whole, or not an archive at all."""


_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)


def members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Path and content of the regular files in a wheel, an npm package (.tgz) or a Debian package whose path is wanted.

    Wheels give them in the order of their paths, the others in the archive's order.

    Raises:
        BadArchive: it is truncated or damaged.
    """
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as opened:
                for name in sorted(filter(wanted, opened.namelist())):
                    if not name.endswith("/"):
                        yield name, opened.read(name)
        else:
            with _tar(archive) as opened:
                for member in opened:
                    name = member.name.removeprefix("./")
                    if member.isfile() and wanted(name) and (file := opened.extractfile(member)):
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
