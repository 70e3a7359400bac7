"""Files that are either whole or absent: each is written beside its place, flushed to disk, and renamed.

An object store (gs://, s3://, az://) has no folders and no renames, and needs none: a put replaces the whole object or
leaves the old one.
"""

import json
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from sweeps.errors import InputError, reason_of

if TYPE_CHECKING:
    import pyarrow as pa

# This mark and eight bytes of checksum of all other bytes lie between the pages of a parquet file and its footer.
# Parquet's own checksums cover pages only: 1.5 % of the bits of a segment could be flipped unnoticed, most of them in
# the names of columns.
MARK = b"isogap32"
# The kinds of URL that etils.epath hands to fsspec; each needs its package: s3fs, gcsfs, adlfs.
STORES = ("s3", "gs", "az")


def open_folder(name: str) -> Path:
    """The folder with this name: a local path; for the URL of an object store, an object with the methods of a path.

    Raises:
        InputError: a URL of another kind, one whose package is not installed, or a store that does not answer.
    """
    scheme, separator, _ = name.partition("://")
    if not separator:
        return Path(name)
    if scheme not in STORES:
        expected = "a local path, or " + ", ".join(f"{store}://BUCKET/NAME" for store in STORES)
        raise InputError(name, "path", scheme, expected)
    import fsspec
    import fsspec.config
    from etils import epath

    # Listings must not be cached: other processes write here, and a cached length would cut their files short.
    protocols = ("gcs", "gs") if scheme == "gs" else (scheme,)
    for protocol in protocols:
        fsspec.config.conf.setdefault(protocol, {})["use_listings_cache"] = False
        # The worker processes that this one starts are given the path and not its name, so they need it set, too.
        os.environ.setdefault(f"FSSPEC_{protocol.upper()}", '{"use_listings_cache": false}')
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise InputError(name, "path", scheme, f"the package that reads it: {error}") from None
    folder = cast(Path, epath.Path(name))
    try:
        folder.exists()
    except Exception as error:  # each store has errors of its own: no credentials, no such host
        raise InputError(name, "path", reason_of(error), "a store that can be read") from None
    return folder


def is_local(path: Path) -> bool:
    """Whether the path lies in a file system of this machine, not in an object store."""
    return isinstance(path, Path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the path to errors of the system that lack it, such as that of a full disk while a file is written."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def sync(path: Path) -> None:
    """Flush a local file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path, made: set[Path]) -> None:
    """Make a folder and those above it; the folders in which a new one was made are added to `made`."""
    if not folder.is_dir():
        _make_folder(folder.parent, made)
        folder.mkdir(exist_ok=True)
        made.add(folder.parent)


def write_files(contents: Mapping[Path, bytes], *, durable: bool = True) -> None:
    """Write or replace files in the given order, so that a crash leaves either the old or the new version of each.

    Many files cost little more than one: the first flush also puts on disk what the file system holds of the others.

    Args:
        durable: whether to wait until they are on disk; if not, a power loss (not a killed process) may damage a file.

    Raises:
        OSError: a file cannot be written; old files are unharmed, no temporary file is left, and `filename` is set.
    """
    changed: set[Path] = set()
    written: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            with naming(path):
                if not is_local(path):
                    path.write_bytes(content)
                    continue
                _make_folder(path.parent, changed)
                # The name is unique: two processes may write the same file, and each must rename what it wrote.
                written[path] = temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
                with open(temporary, "xb") as file:
                    file.write(content)
        for path, temporary in written.items() if durable else ():
            with naming(path), open(temporary, "rb") as file:
                os.fsync(file.fileno())
        for path, temporary in written.items():
            with naming(path):
                os.replace(temporary, path)
    except BaseException:
        for temporary in written.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise
    # New folders are flushed in any case, because files that are written into them later may have to be durable.
    for folder in sorted(changed | {path.parent for path in written} if durable else changed):
        with naming(folder):
            sync(folder)


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write one file as `write_files` does."""
    write_files({path: content}, durable=durable)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a text as UTF-8, as `write_files` does."""
    write_bytes(path, text.encode(), durable=durable)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write a value as indented JSON, as `write_files` does."""
    write_bytes(path, json_bytes(value), durable=durable)


def json_bytes(value: Any) -> bytes:
    """Indented JSON as the bytes of a file; NaN raises ValueError, so that any reader can parse it."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError if it is not JSON, TypeError if it is JSON but not an object."""
    value = json.loads(read_bytes(path))
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def parquet_bytes(table: "pa.Table") -> bytes:
    """A table as the bytes of a parquet file, with a checksum of all of it in a place that parquet readers ignore."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content = sink.getvalue().to_pybytes()
    place = _footer(content)
    return content[:place] + MARK + zlib.crc32(content).to_bytes(8, "little") + content[place:]


def _footer(content: bytes) -> int:
    """Where the footer of a parquet file begins; the file ends with the footer's length and the letters PAR1."""
    return max(len(content) - 8 - int.from_bytes(content[-8:-4], "little"), 0)


def _is_whole(content: bytes) -> bool:
    """Whether a parquet file is as `parquet_bytes` made it. Files of other programs have no checksum and pass."""
    place = _footer(content)
    pages, mark, checksum = content[: max(place - 16, 0)], content[place - 16 : place - 8], content[place - 8 : place]
    return mark != MARK or zlib.crc32(content[place:], zlib.crc32(pages)) == int.from_bytes(checksum, "little")


def read_bytes(path: Path) -> bytes:
    """All of a file. An object is read in one request: reading in parts fails if it is replaced in between."""
    if is_local(path):
        return path.read_bytes()
    import fsspec

    name = os.fspath(path)
    return fsspec.filesystem(name.partition("://")[0]).cat_file(name)


def read_parquet(path: Path) -> "pa.Table":
    """The table of a parquet file. Raises OSError if there is none, ValueError if it is damaged or not parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = read_bytes(path)
    if not _is_whole(content):
        raise ValueError("its checksum is another")
    try:
        return pq.ParquetFile(pa.BufferReader(content)).read()
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ValueError(reason_of(error)) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder; no process may be writing there."""
    if not is_local(folder):
        return
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return
    for name in names:
        if name.startswith(".") and name.endswith(".tmp"):
            (folder / name).unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all that is in it, if it is there."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        cast(Any, folder).rmtree(missing_ok=True)


def default_cache() -> Path:
    """The folder `isogap` in the user's cache folder, which is XDG_CACHE_HOME or else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isogap"


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A path at which to write a file or folder; it is moved to `path` when the block is done and all is on disk.

    If another process has put a folder at `path` in the meantime, that folder stays: the same name means equal content.
    An OSError has `filename` set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with naming(path):
            yield beside
            for written in [*beside.glob("*"), beside]:
                sync(written)
            try:
                beside.replace(path)
            except OSError:
                if not path.is_dir():
                    raise
            sync(path.parent)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink(missing_ok=True)
