"""Real text without a download: Python's own library, and the packages that isogap itself needs."""

import ast
import importlib.util
import os
import pydoc_data.topics
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from harness.data.docstrings import docstrings, without_docstrings
from harness.data.documents import Document, make_document
from harness.data.pieces import cut_code, cut_text, parse, split_lines

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
_SHORTEST_DOCSTRING = 100


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
    for group, source, tree in _parsed(stdlib_files()):
        yield from _documents(group, cut_code(split_lines(source), tree))


def package_code() -> Iterator[Document]:
    """The packages' sources without docstrings, in pieces of 1 to 4 kB."""
    for group, source, tree in _parsed(package_files()):
        yield from _documents(group, cut_code(without_docstrings(source, tree), tree))


def api_docs() -> Iterator[Document]:
    """The packages' docstrings, grouped by the file they stand in, and Python's language reference by topic."""
    for group, _, tree in _parsed(package_files()):
        texts = [text for text in docstrings(tree) if len(text) >= _SHORTEST_DOCSTRING]
        yield from _documents(group, [piece for text in texts for piece in cut_text(text)])
    for topic, text in pydoc_data.topics.topics.items():
        yield from _documents(f"python/topics/{topic}", cut_text(text))


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


def _parsed(files: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, str, ast.Module]]:
    """Group, source and syntax tree of the files that are not empty and that this Python can parse."""
    for group, file in files:
        try:
            with tokenize.open(file) as opened:  # tokenize.open reads the encoding that the file declares.
                source = opened.read()
        except (SyntaxError, UnicodeDecodeError):
            continue
        if source and (tree := parse(source)):
            yield group, source, tree
