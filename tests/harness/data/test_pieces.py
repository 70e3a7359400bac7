import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.pieces import LONGEST, cut_code, cut_text, parse, split_lines

MODULES = (ast.__file__, pytest.__file__, __file__)


@given(st.text(st.sampled_from("ab \n\r\f\u2028é"), max_size=200).map(lambda text: text * 60))
def test_pieces_of_prose_join_to_the_text_and_keep_to_the_limit(text):
    pieces = cut_text(text)
    assert "".join(pieces) == text
    assert all(len(piece) <= LONGEST or len(piece.splitlines()) == 1 for piece in pieces)


@pytest.mark.parametrize("file", MODULES)
def test_pieces_of_code_join_to_the_source(file):
    source = Path(file).read_text("utf-8")
    tree = parse(source)
    assert tree is not None
    pieces = cut_code(split_lines(source), tree)
    assert "".join(pieces) == source
    assert all(len(piece) <= LONGEST for piece in pieces)


def test_code_is_cut_between_outer_statements_with_comments_and_decorators_below():
    block = "# about the next one\n@decorated\ndef name():\n" + "    call(argument)\n" * 60 + "\n"
    source = block * 12
    tree = parse(source)
    assert tree is not None
    pieces = cut_code(split_lines(source), tree)
    assert len(pieces) > 2
    assert all(piece.startswith("# about the next one\n@decorated") for piece in pieces)


def test_a_long_class_is_cut_between_methods():
    method = "    def name(self):\n" + "        call(argument)\n" * 50
    source = "class Long:\n" + method * 20
    tree = parse(source)
    assert tree is not None
    pieces = cut_code(split_lines(source), tree)
    assert len(pieces) > 4
    assert all(piece.startswith("    def name") for piece in pieces[1:])


def test_prose_is_cut_after_blank_lines_where_there_are_any():
    pieces = cut_text(("a line of words\n" * 50 + "\n") * 30)
    assert all(piece.endswith("\n\n") for piece in pieces)


def test_what_this_python_cannot_parse_is_none_and_warns_of_nothing():
    assert parse("print 'python two'") is None
    assert parse("null\0byte") is None
    assert parse("pattern = '\\d'") is not None  # an invalid escape: a warning of the compiler
