"""Real text without a download: Python's own library, and the packages that isogap itself needs."""

import importlib.util
import os
import pydoc_data.topics
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path

from harness.data.documents import Document, make_document
from harness.data.pieces import cut_text
from harness.data.sources import FilePieces, cut_files

# Packages that `pip install isogap` brings, directly or through its dependencies. Those that are absent are skipped.
# plotly is left out, because it is 17 MB of generated validators that repeat each other.
TEXT_PACKAGES = (
    "absl", "anyio", "click", "datasets", "etils", "flax", "fsspec", "huggingface_hub", "jax", "jaxlib", "jaxtyping",
    "narwhals", "numpy", "optax", "orbax", "pandas", "pyarrow", "pydantic", "pygments", "rich", "scipy", "tokenizers",
    "treescope", "typer", "yaml",
)  # fmt: skip
# Tests repeat each other and the code they test, vendored copies repeat packages, and pydoc_data is text, not code.
SKIPPED_FOLDERS = frozenset(
    "tests test testing idlelib lib2to3 site-packages dist-packages _vendor pydoc_data __pycache__".split()
)


@cache
def stdlib_files() -> tuple[tuple[str, Path], ...]:
    """(group, file) of the sources of Python's library, tests and installed packages left out."""
    return tuple(_sources("python", Path(sysconfig.get_paths()["stdlib"])))


@cache
def package_files() -> tuple[tuple[str, Path], ...]:
    """(group, file) of the sources of the installed packages in TEXT_PACKAGES, tests and generated code left out.

    Packages are located, not imported.
    """
    specs = [(name, importlib.util.find_spec(name)) for name in TEXT_PACKAGES]
    roots = [(name, Path(root)) for name, spec in specs if spec for root in spec.submodule_search_locations or ()]
    return tuple(item for name, root in roots for item in _sources(name, root))


def stdlib_code() -> Iterator[Document]:
    """Python's library as it stands, comments and docstrings included, in pieces of 1 to 4 kB."""
    for group, code, _ in cut_files(stdlib_files(), apart=False):
        yield from _documents(group, code)


def package_code() -> Iterator[Document]:
    """The packages' sources without docstrings, in pieces of 1 to 4 kB."""
    for group, code, _ in _package_pieces(_stamped(package_files())):
        yield from _documents(group, code)


def api_docs() -> Iterator[Document]:
    """The packages' docstrings, grouped by the file they stand in, and Python's language reference by topic."""
    for group, _, docs in _package_pieces(_stamped(package_files())):
        yield from _documents(group, docs)
    for topic, text in pydoc_data.topics.topics.items():
        yield from _documents(f"python/topics/{topic}", cut_text(text))


@lru_cache(1)
def _package_pieces(files: tuple[tuple[str, Path, int], ...]) -> list[FilePieces]:
    """The pieces of the packages' files, kept (60 MB) because code and documentation are corpora of their own."""
    return cut_files([(group, file) for group, file, _ in files], apart=True)


def _stamped(files: Iterable[tuple[str, Path]]) -> tuple[tuple[str, Path, int], ...]:
    return tuple((group, file, file.stat().st_mtime_ns) for group, file in files)


def _documents(group: str, pieces: list[str]) -> Iterator[Document]:
    """The pieces of a file that are not blank; their source is the package, the first part of the group's name."""
    return (make_document(group, piece, group.partition("/")[0]) for piece in pieces if piece.strip())


def _sources(name: str, root: Path) -> Iterator[tuple[str, Path]]:
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(set(inner) - SKIPPED_FOLDERS)
        for file in sorted(files):
            # _gen.py: generated wrappers of every MLIR operation, 3 MB of one template (jaxlib/mlir/dialects).
            if file.endswith(".py") and not file.startswith("test_") and not file.endswith(("_test.py", "_gen.py")):
                path = Path(folder, file)
                yield f"{name}/{path.relative_to(root).as_posix()}", path
