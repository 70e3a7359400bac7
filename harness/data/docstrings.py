"""Splits a Python source file into two disjoint parts: its docstrings, and the source without them."""

import ast
import inspect
from collections.abc import Iterator

from harness.data.pieces import split_lines, statements


def docstrings(tree: ast.Module) -> list[str]:
    """Every docstring of a source file, unindented, in the order of the source.

    Texts assigned to an object's `__doc__` count as docstrings. So do the texts that numpy and scipy pass to a function
    named `add_newdoc` to document compiled functions.
    """
    ordered = sorted(_docstring_statements(tree), key=lambda item: item[0].lineno)
    return [inspect.cleandoc(text) for _, text, _ in ordered]


def without_docstrings(source: str, tree: ast.Module) -> list[str]:
    """The lines of a source file in which the lines of docstrings are emptied, so that line numbers stay the same.

    A body that was only a docstring becomes `...`. A docstring that shares its line with code stays, which
    is very rare.
    """
    lines = split_lines(source)
    for statement, _, alone in _docstring_statements(tree):
        first, last = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
        indent = lines[first].encode()[: statement.col_offset].decode()
        after = lines[last].encode()[statement.end_col_offset :].decode()
        if not indent.strip() and not after.partition("#")[0].strip():
            lines[first : last + 1] = [f"{indent}...\n" if alone else "", *[""] * (last - first)]
    return lines


def _docstring_statements(tree: ast.Module) -> Iterator[tuple[ast.stmt, str, bool]]:
    """For every docstring: its statement, its text, and whether its block contains nothing else."""
    if tree.body:
        yield from _leading_text(tree.body)
    for node, _, _ in statements(tree.body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _leading_text(node.body)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if getattr(called, "id", getattr(called, "attr", None)) == "add_newdoc":
                texts = [text for text in map(_constant, node.value.args) if text]
                if texts:
                    yield node, max(texts, key=len), False
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", None) == "__doc__":
            text = _constant(node.value)
            if text:
                yield node, text, False


def _leading_text(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str, bool]]:
    text = _constant(body[0].value) if isinstance(body[0], ast.Expr) else None
    if text is not None:
        yield body[0], text, len(body) == 1


def _constant(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
