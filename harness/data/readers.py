"""Anyone's text as documents: files and folders, JSON lines, parquet, and datasets of the Hugging Face hub."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.data.documents import Document, make_document
from harness.data.pieces import cut_text
from sweeps.errors import InputError

# Bytes of text that are streamed from a dataset: 256 M tokens of the tokenizer `bytes`, more than small models consume.
STREAMED_BYTES = 256_000_000
# This many consecutive documents of a single file form a group (about 30 kB), so that most neighbours are on the same
# side of a split.
PIECES_IN_GROUP = 10


def text_files(path: Path) -> list[Path]:
    """The file itself, or every file below a folder (hidden ones left out) in order of relative path.

    Raises InputError if there is no such file or folder.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError("data", "domain", str(path), "a file or folder that exists")
    paths = []
    for folder, inner, files in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith(".")]
        paths += [Path(folder, name) for name in files if not name.startswith(".")]
    return sorted(paths, key=lambda file: file.relative_to(path).as_posix())


def read_text(path: Path) -> Iterator[Document]:
    """Documents from UTF-8 text: one per file of a folder; a single file is cut into documents of 1 to 4 kB.

    In a folder, a document's group is its path relative to the folder; in a single file, ten consecutive documents form
    a group. Raises InputError for a path that does not exist, or a file that is not UTF-8.
    """
    for file in text_files(path):
        try:
            text = file.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(file, "text", f"byte {error.start}", "UTF-8 text") from error
        if file == path:
            pieces = (piece for piece in cut_text(text) if piece.strip())
            for number, piece in enumerate(pieces):
                yield make_document(f"{path.name}/{number // PIECES_IN_GROUP}", piece)
        elif text.strip():
            yield make_document(file.relative_to(path).as_posix(), text)


def read_rows(builder: str, path: Path) -> Iterator[Document]:
    """One document per row of JSON lines or parquet files (a file, or a folder of them), from the column `text`.

    The columns `group`, `source` and `licence` are read if they exist; without a group each text is its own group.

    Args:
        builder: "json" or "parquet".

    Raises:
        InputError: no such path, an unreadable file, or no column `text`.
    """
    files = [str(file) for file in text_files(path)]
    yield from _documents(path, lambda: stream_rows(builder, data_files=files, split="train"))


def read_hub(name: str, config: str | None) -> Iterator[Document]:
    """The first 256 MB of the train split of a dataset of the Hugging Face hub, streamed, from the column `text`.

    Raises:
        InputError: the hub is out of reach or lacks the dataset or configuration, or the dataset has no column `text`.
    """
    where = f"hf:{name}" + (f":{config}" if config else "")
    size = 0
    for document in _documents(where, lambda: _open_hub(name, config)):
        size += len(document.text.encode())
        yield document
        if size >= STREAMED_BYTES:
            return


def _open_hub(name: str, config: str | None) -> Iterable[Mapping[str, Any]]:
    hub_revision(name)
    return stream_rows(name, config, split="train")


def hub_revision(dataset: str) -> str:
    """The present revision of a dataset of the hub."""
    from huggingface_hub import HfApi

    # This is asked first because it fails at once without a network, where load_dataset tries for 23 seconds.
    return HfApi().dataset_info(dataset, timeout=20).sha or "main"


def stream_rows(*arguments: Any, **options: Any) -> Iterable[Mapping[str, Any]]:
    """The rows of a dataset, streamed; the arguments are those of `datasets.load_dataset`."""
    # The import takes 1.3 s, and most corpora do not need it.
    import datasets

    # The log of datasets repeats in several lines what an InputError says in one.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    return datasets.load_dataset(*arguments, streaming=True, **options)


def _documents(where: object, load: Callable[[], Iterable[Mapping[str, Any]]]) -> Iterator[Document]:
    try:
        for row in load():
            if not isinstance(row.get("text"), str):
                raise InputError(where, "columns", sorted(row), "a column `text` of strings")
            if row["text"].strip():
                group, source, licence = (row.get(name) for name in ("group", "source", "licence"))
                document = make_document(str(group), row["text"], str(source or ""), str(licence or ""))
                yield document if group is not None else replace(document, group=document.id)
    except InputError:
        raise
    except Exception as error:  # Readers of many formats and protocols raise errors without a common base class.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(where, "domain", reason, "readable text, and a network for hf:") from error
