import ast
import sysconfig
from pathlib import Path

import pytest

from harness.data.docstrings import docstrings, without_docstrings

SOURCE = '''"""About the module."""
import numpy

def only():
    """About the function.

    Plain.
        Indented.
    """

class Thing:
    """About the class."""
    size = 1
    async def method(self):
        r"""About the method."""  # pylint: disable=all
        return """not a docstring"""

add_newdoc("numpy", "array", """About a compiled function.""")
only.__doc__ = """About an alias."""
def short(): """shares its line"""
'''
STDLIB = Path(sysconfig.get_paths()["stdlib"])


def test_docstrings_are_found_unindented_and_in_order():
    assert docstrings(ast.parse(SOURCE)) == [
        "About the module.",
        "About the function.\n\nPlain.\n    Indented.",
        "About the class.",
        "About the method.",
        "About a compiled function.",
        "About an alias.",
        "shares its line",
    ]


def test_a_source_without_docstrings_still_parses_and_keeps_its_line_numbers():
    lines = without_docstrings(SOURCE, ast.parse(SOURCE))
    bare = "".join(lines)
    ast.parse(bare)
    assert "About" not in bare
    assert '"""not a docstring"""' in bare
    assert len(lines) == SOURCE.count("\n")
    assert "def only():\n    ...\n" in bare


@pytest.mark.parametrize("name", ["argparse.py", "dataclasses.py", "asyncio/tasks.py"])
def test_a_real_source_loses_exactly_the_docstrings_that_the_ast_module_finds(name):
    source = (STDLIB / name).read_text("utf-8")
    expected = [
        ast.get_docstring(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert sorted(docstrings(ast.parse(source))) == sorted(text for text in expected if text is not None)
    bare = ast.parse("".join(without_docstrings(source, ast.parse(source))))
    assert docstrings(bare) == []
    assert len(bare.body) == len(ast.parse(source).body) - (ast.get_docstring(ast.parse(source)) is not None)
