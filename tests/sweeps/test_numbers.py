import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.numbers import parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20M", 2e7), ("0.5B", 5e8), ("1.5 T", 1.5e12), ("70m", 7e7), ("8k", 8e3), ("3G", 3e9), ("20,000,000", 2e7),
        ("-1,234.5", -1234.5), ("1 000 000", 1e6), ("1_000", 1e3), ("6e8", 6e8), (" +.5 ", 0.5), ("−2", -2.0),
        ("12 %", 0.12), ("Infinity", math.inf), ("5.", 5.0),
    ],
)  # fmt: skip
def test_what_people_write(text, value):
    assert parse_number(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("text", ["crashed", "1,23", "20,00,000", "1.2.3", "5e", "M", "1e9 tokens", "--1", "0x10"])
def test_what_is_not_a_number(text):
    assert parse_number(text) is None


@pytest.mark.parametrize("text", ["", "NaN", "n/a", " null ", "-"])
def test_an_empty_cell_is_nan(text):
    assert math.isnan(parse_number(text) or 0.0)


def test_without_suffixes_names_of_models_stay_text():
    assert parse_number("7B", suffixes=False) is None
    assert parse_number("20,000,000", suffixes=False) == 2e7


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["{!r}", "{:e}", "{:,}"]))
def test_what_python_prints_is_read_again(value, form):
    assert parse_number(form.format(value)) == pytest.approx(float(form.format(value).replace(",", "")), rel=1e-15)


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_not(text):
    value = parse_number(text)
    assert value is None or isinstance(value, float)
