"""Filters: Python's meaning on what is allowed, refusal of everything else."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.expression import (
    ExpressionError,
    MissingValue,
    evaluate_rows,
    holds,
    names_in,
    parse_expression,
    rows_where,
)

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


COLUMNS = {
    "N": np.array([1e6, 2e6, np.nan, 8e6]),
    "L": np.array([3.5, 3.0, 2.9, -1.0]),
    "kind": np.array(["a", "b", None, "ab"], object),
    "tied": np.array([True, False, True, False]),
    "Val Loss": np.array([1.0, 2.0, 3.0, 4.0]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("N > 1.5e6", [False, True, False, True]),
        ("(N > 1.5e6) & (L < 0)", [False, False, False, True]),
        ("kind == 'a' or tied", [True, False, True, False]),
        ("kind in ('a', 'ab', 3)", [True, False, False, True]),
        ("kind not in ['a']", [False, True, True, True]),
        ("kind > 'a'", [False, True, False, True]),
        ("'b' == kind", [False, True, False, False]),
        ("not tied", [False, True, False, True]),
        ("~tied | (kind == 'a')", [True, True, False, True]),
        ("missing(N) or missing(kind)", [False, False, True, False]),
        ("contains(kind, 'b')", [False, True, False, True]),
        ("startswith(kind, 'a') and not endswith(kind, 'b')", [True, False, False, False]),
        ("1 < `Val Loss` <= 3", [False, True, True, False]),
        ("`Val Loss` == 2 and kind != '`N`'", [False, True, False, False]),
        ("max(L, 3) == 3", [False, True, True, True]),
        ("1 == 1", [True, True, True, True]),
    ],
)
def test_conditions_on_rows(text, expected):
    assert rows_where(parse_expression(text, COLUMNS), COLUMNS, 4).tolist() == expected


@pytest.mark.parametrize(
    "text",
    ["N", "L + 1", "kind", "'a'", "N > 'a'", "kind > 3", "kind + 1 > 2", "-kind == 1", "tied > 1", "log(kind) > 1",
     "contains(N, '1')", "contains(kind, kind)", "not N", "N and L", "[1, 2]", "N in 3", "log(N, L) > 1", "sin(N) > 1",
     "log(N, base=2) > 1", "log > 1", "`no such` > 1", "N ^ 2 > 1", "N << 2 > 1", "(log)(N)() > 1", "max(N) > 1"],
)  # fmt: skip
def test_what_is_not_a_condition_on_rows_is_refused(text):
    with pytest.raises(ExpressionError):
        rows_where(parse_expression(text, COLUMNS), COLUMNS, 4)


NUMBERS = st.recursive(
    st.sampled_from(["x", "y", "2", "0.5", "3.0"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "%"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda t: f"(-{t})"),
        inner.map(lambda t: f"abs({t})"),
        inner.map(lambda t: f"sqrt(abs({t}))"),
        inner.map(lambda t: f"exp(-abs({t}))"),
        st.tuples(inner, inner).map(lambda t: f"max({t[0]}, {t[1]})"),
    ),
    max_leaves=6,
)


@given(NUMBERS, st.floats(-3, 3), st.floats(0.1, 3))
def test_arithmetic_is_pythons(text, x, y):
    functions = {"abs": abs, "sqrt": math.sqrt, "exp": math.exp, "max": max}
    try:
        expected = eval(text, {"__builtins__": {}}, functions | {"x": x, "y": y})
    except ZeroDivisionError:
        return
    columns = {"x": np.array([0.7, x]), "y": np.array([0.7, y])}
    with np.errstate(all="ignore"):
        assert evaluate_rows(parse_expression(text, columns), columns, 2)[1] == pytest.approx(expected, nan_ok=True)


def test_names_are_listed_once_and_functions_are_not_names():
    assert names_in(parse_expression("log(N) * N + `Val Loss` > L", COLUMNS)) == ["N", "Val Loss", "L"]


@given(st.text(alphabet="NLk `'\"@.,()[]{}<>=!&|~^+-*/%:;#_\\\nlogtixnaed0123456789é\t", max_size=40))
@settings(max_examples=500)
def test_any_text_is_a_condition_on_rows_or_refused(text):
    try:
        assert rows_where(parse_expression(text, COLUMNS), COLUMNS, 4).shape == (4,)
    except ExpressionError:
        pass
