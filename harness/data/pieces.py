"""Cuts long texts into documents of 1 to 4 kB, at boundaries that the text itself has."""

import ast
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

# A source file has 15 kB on average. With documents of 1 to 4 kB, the first 100 kB of a shuffled pool come from about
# 40 files instead of 7, so that even few unique tokens sample the whole domain.
SHORTEST, LONGEST = 1000, 4000
# Stands for the nesting depth of a line where no statement begins. It is larger than any real depth, so that a cut
# there is the last choice.
ANY_LINE = 1000


def parse(source: str) -> ast.Module | None:
    """The syntax tree of a source file; None if this Python cannot parse it."""
    with warnings.catch_warnings():
        # Invalid escapes in other people's sources give a DeprecationWarning in Python 3.11, a SyntaxWarning in 3.12.
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            return None


def cut_text(text: str) -> list[str]:
    """Pieces of prose, cut after blank lines, or after any line where no blank line is near.

    Joined together the pieces are the text. A piece has at most 4000 characters unless a single line has more.
    """
    lines = text.splitlines(keepends=True)
    depth = {k: 0 for k in range(1, len(lines)) if not lines[k - 1].strip()}
    return _cut(lines, depth)


def cut_code(lines: list[str], tree: ast.Module) -> list[str]:
    """Pieces of a Python source, given by its lines and its tree, cut between statements, outer ones before inner ones.

    Joined together the pieces are the lines; comments and decorators stay with the statement below them. A piece
    has at most 4000 characters unless a single line has more.
    """
    depth: dict[int, int] = {}
    for statement, number, level in statements(tree.body):
        if number == 0 and level > 0:
            continue  # The first statement of an inner block stays with the header of the block.
        decorators = getattr(statement, "decorator_list", [])
        line = min([statement.lineno, *(decorator.lineno for decorator in decorators)]) - 1
        while line > 0 and lines[line - 1].lstrip().startswith("#"):
            line -= 1
        depth[line] = min(level, depth.get(line, ANY_LINE))
    return _cut(lines, depth)


def split_lines(source: str) -> list[str]:
    """Lines as Python's parser counts them: form feeds and Unicode separators do not end a line."""
    lines = source.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def statements(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, int, int]]:
    """Each statement of a block and of the blocks inside it, with its number and the depth of its block, unordered.

    Expressions are not entered. They are nine tenths of a tree, and `ast.walk` takes three times as long as parsing.
    """
    blocks = [(body, 0)]
    while blocks:
        block, level = blocks.pop()
        for number, statement in enumerate(block):
            yield statement, number, level
            inner = [getattr(statement, name, ()) for name in ("body", "orelse", "finalbody")]
            inner += [branch.body for name in ("handlers", "cases") for branch in getattr(statement, name, ())]
            blocks += [(below, level + 1) for below in inner if below]


def _cut(lines: list[str], depth: dict[int, int]) -> list[str]:
    """Cut greedily: among the line starts that give an allowed length, take the least nested, then the farthest."""
    ends = [0, *accumulate(len(line) for line in lines)]
    pieces, start = [], 0
    while start < len(lines):
        last = bisect_right(ends, ends[start] + LONGEST) - 1
        if last < len(lines):
            first = max(start + 1, bisect_right(ends, ends[start] + SHORTEST - 1))
            last = max(range(first, last + 1), key=lambda k: (-depth.get(k, ANY_LINE), k), default=max(last, start + 1))
        pieces.append("".join(lines[start:last]))
        start = last
    return pieces
