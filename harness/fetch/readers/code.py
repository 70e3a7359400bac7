"""Source files, without the licence headers they all begin with; and the docstrings of Python packages."""

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path, PurePosixPath

from harness.data.docstrings import docstrings
from harness.data.pieces import parse
from harness.fetch.readers.archives import members
from harness.fetch.readers.markup import rst_text
from harness.fetch.readers.pages import SHORTEST_PAGE, Page, cut_page

_SOURCES = r".*\.(?:py|pyx|pxd|js|ts|c|h|cpp)(?<!\.min\.js)"
# Larger files (in bytes) are left out: they are tables, or several files joined into one.
LONGEST_FILE = 400_000
_SHORTEST_DOCSTRING = 100

# Says that code is generated. Such code (tables of parsers, wrappers) repeats one template and is left out, and so are
# minified scripts, which have very long lines.
_GENERATED = re.compile(r"(?:auto-?)?generated (?:by|from|using|file)|do not (?:edit|modify)", re.IGNORECASE)
_LEGAL = re.compile(r"copyright|licen[sc]e|spdx|all rights reserved|public license", re.IGNORECASE)
_BLOCK_COMMENT = re.compile(r"\s*/\*.*?\*/[ \t]*\n?", re.DOTALL)
_TESTS = frozenset(("tests", "test", "testing"))
# Folders that hold copies of other packages.
_COPIES = frozenset(("vendor", "_vendor", "vendored", "externals"))


def modules(archive: Path) -> Iterator[Page]:
    """The source files of a wheel, grouped by the directory they stand in (a Python package).

    Files of one directory share code: grouped by file, shared code would stand in seen and held-out text. Whole wheels
    would be too few groups.
    """
    for name, source in _sources(archive, _SOURCES):
        text = without_licence(source, name)
        if text.strip():
            yield Page(str(PurePosixPath(name).parent), cut_page(text, python=name.endswith(".py")))


def documentation(archive: Path) -> Iterator[Page]:
    """The docstrings of a wheel's modules without tests, which are its reference manual; one group per module."""
    for name, source in _sources(archive, r".*\.py"):
        if not _TESTS & set(PurePosixPath(name).parts) and (tree := parse(source)):
            texts = [text for text in docstrings(tree) if len(text) >= _SHORTEST_DOCSTRING and not _LEGAL.search(text)]
            page = rst_text("\n\n".join(texts))
            if len(page) >= SHORTEST_PAGE:
                yield Page(name, cut_page(page))


def without_licence(source: str, name: str) -> str:
    """A source file without the comments at its head that state copyright and licence.

    They are searched for in the blocks of whole-line comments before the code, and before and after the docstring of
    a Python module; the blocks that say nothing of the kind stay.
    """
    if name.endswith((".py", ".pyx", ".pxd")):
        return _without_hash_comments(source)
    rest, kept = source, ""
    while comment := _BLOCK_COMMENT.match(rest):
        kept += "" if _LEGAL.search(comment[0]) else comment[0]
        rest = rest[comment.end() :]
    lines = rest.splitlines(keepends=True)
    head = list(takewhile(lambda line: line.startswith("//") or not line.strip(), lines))
    return kept + ("" if _LEGAL.search("".join(head)) else "".join(head)) + "".join(lines[len(head) :])


def _without_hash_comments(source: str) -> str:
    lines = source.splitlines(keepends=True)
    kept: list[str] = []
    position = 0
    while position < len(lines):
        run = list(takewhile(lambda line: line.startswith("#"), lines[position:]))
        if position > 120 or (not run and _is_code(lines[position])):
            break
        text = "".join(run)
        kept += [line for line in run if line.startswith("#!")] if _LEGAL.search(text) else run
        position += len(run)
        if not run:
            end = _docstring_end(lines, position)
            kept += lines[position:end]
            position = end
    return "".join(kept + lines[position:]).lstrip("\n")


def _is_code(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip("rRuU").startswith(('"""', "'''"))


def _docstring_end(lines: list[str], position: int) -> int:
    """The number of the line after the blank line or the docstring that begins at line `position`."""
    start = lines[position].strip().lstrip("rRuU")
    if not start:
        return position + 1
    quotes = start[:3]
    if quotes in start[3:]:
        return position + 1
    for number in range(position + 1, len(lines)):
        if quotes in lines[number]:
            return number + 1
    return len(lines)


def _sources(archive: Path, pattern: str) -> Iterator[tuple[str, str]]:
    for name, content in members(archive, pattern):
        if not _COPIES & set(PurePosixPath(name).parts) and 0 < len(content) < LONGEST_FILE and b"\0" not in content:
            source = content.decode("utf-8", "replace").replace("\r\n", "\n").replace("\f", "\n")
            if not _GENERATED.search(source[:1000]) and len(source) < 200 * (source.count("\n") + 1):
                yield name, source
