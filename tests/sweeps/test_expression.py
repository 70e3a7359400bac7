"""Filters: Python's meaning on what is allowed, refusal of everything else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.expression import ExpressionError, MissingValue, holds, parse_expression

VALUES = {"N": 1e6, "u": 0.25, "depth": 4, "tokenizer": "bytes", "tied": True}


@pytest.mark.parametrize(
    "text",
    [
        "N < 1e7 and tokenizer == 'bytes'",
        "not (u > 0.3 or depth in (2, 8))",
        "tokenizer not in ['bpe:512', 'bpe:1024']",
        "0.1 < u < 0.3",
        "depth ** 2 % 3 == 1 and -depth + 1 <= -3 and +depth / 2 == 2 * 1",
        "tied and N * u > 3e5 - 1",
        "depth != 4",
        "1 == 1",
    ],
)
def test_it_means_what_python_means(text):
    assert holds(parse_expression(text, VALUES), VALUES) == bool(eval(text, {}, VALUES))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "N <",
        "__import__('os').system('true')",
        "N.__class__ == 1",
        "[n for n in N]",
        "(lambda: 1)() == 1",
        "tokenizer[0] == 'b'",
        "f'{N}' == ''",
        "N if u else depth",
        "(N := 1)",
        "N is depth",
        "N & 1",
        "missing == 1",
        "b'x' == 'x'",
        "1j == N",
        "None == N",
        "*N",
        "N\0",
        "(" * 400 + "N" + ")" * 400,
        "-" * 990 + "N",
        "N" * 2000,
    ],
)
def test_nothing_else_is_evaluated(text):
    with pytest.raises(ExpressionError):
        holds(parse_expression(text, VALUES), VALUES)


@pytest.mark.parametrize(
    "text",
    ["tokenizer < 3", "N / (depth - 4) > 1", "10.0 ** 999 > N", "tokenizer * 3 == 'x'", "N in 3", "(-8) ** 0.5 < 1"],
)
def test_meaningless_operations_are_refused(text):
    with pytest.raises(ExpressionError):
        holds(parse_expression(text, VALUES), VALUES)


def test_huge_powers_are_floats_and_cannot_fill_the_memory():
    with pytest.raises(ExpressionError):
        holds(parse_expression("9 ** 9 ** 9 ** 9 > 1", VALUES), VALUES)


def test_a_value_that_is_not_there_is_told_apart():
    with pytest.raises(MissingValue):
        holds(parse_expression("u < 1", {"u"}), {"u": None})
    assert holds(parse_expression("depth == 4 or u < 1", {"u", "depth"}), {"depth": 4})


@given(st.text(alphabet="Nu depth<>=!()[],.'\"0123456789+-*/%andornotin", max_size=30))
@settings(max_examples=300)
def test_any_text_is_an_expression_or_refused(text):
    try:
        assert holds(parse_expression(text, VALUES), VALUES) in (True, False)
    except ExpressionError:
        pass
