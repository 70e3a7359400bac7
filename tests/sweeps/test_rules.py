"""Token counts, learning rates and tokenizer names as a spec spells them."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from harness.data.tokenizers import bytes_tokenizer, parse_tokenizer
from sweeps.errors import InputError
from sweeps.rules import RateRule, Real, Tokens, Whole, vocab_of

TOKENS = TypeAdapter(Tokens)


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        (1000, 5, 1000),
        ("2e5", 5, 200_000),
        ("20 N", 1e6, 2e7),
        ("20N", 1e6, 2e7),
        ("N", 1e6, 1e6),
        ("20 * N", 1e6, 2e7),
        ("0.1 N^0.74", 1e6, 0.1 * 10**4.44),
        (".5N ** 2", 100, 5000),
    ],
)
def test_token_counts(text, n, expected):
    assert TOKENS.validate_python(text).tokens(n) == pytest.approx(expected)


@pytest.mark.parametrize("bad", ["", "-5", "0", 0, True, None, "20 M", "N N", "N^", "N^99", "1e99", "nan", [], "N^-1"])
def test_other_texts_are_no_token_counts(bad):
    with pytest.raises(ValidationError):
        TOKENS.validate_python(bad)


def test_yaml_writes_1e6_as_text_and_it_is_a_number():
    assert TypeAdapter(Whole).validate_python("1e6") == 1_000_000
    assert TypeAdapter(Real).validate_python("1e-3") == 0.001
    for bad in ("1.5", True, "x", "1e400", math.inf):
        with pytest.raises(ValidationError):
            TypeAdapter(Whole).validate_python(bad)


def test_learning_rate_rules():
    # GPT-3's table 2.1: from 6e-4 at 1.25e8 to 0.6e-4 at 1.75e11 parameters.
    rule = RateRule(rule="params", c=6e-4 * 125**0.318, p=0.318)
    assert rule.rate(1.25e8, 0) == pytest.approx(6e-4, rel=1e-4)
    assert rule.rate(1.75e11, 0) == pytest.approx(6e-5, rel=0.01)
    assert RateRule(rule="width", c=0.02).rate(0, 100) == 0.002
    with pytest.raises(ValidationError):
        RateRule(rule="params", c=1.0)
    with pytest.raises(ValidationError):
        RateRule(rule="width", c=1.0, p=0.5)


def test_vocabularies_are_those_of_the_tokenizers():
    assert vocab_of("bytes") == bytes_tokenizer().vocab
    for name in ("bpe:512", "bpe:32000@installed", "o200k_base[:128000]", "cl100k_base"):
        assert vocab_of(name) == parse_tokenizer(name).vocab


def test_whole_tiktoken_vocabularies():
    # Token counts as published: 50,256 + end of text; 100,256, 199,998 merge ranks, one more for the end of a document.
    assert vocab_of("gpt2") == 50_257
    assert vocab_of("cl100k_base") == 100_257
    assert vocab_of("o200k_base") == 199_999


@pytest.mark.parametrize(
    "bad",
    ["", "byte", "bpe", "bpe:12", "bpe:1e4", "bpe:99999999", "bpe:512@", "other", "o200k", "bpe:", "a:1", "bytes[:257]"]
    + ["o200k_base[:256]", "o200k_base[:200000]", "o200k_base:32000", "o200k_base[:]", "tiktoken:o200k_base"],
)
def test_other_names_are_refused_here_and_by_the_harness_alike(bad):
    with pytest.raises(ValueError, match="bytes, bpe:V"):
        vocab_of(bad)
    with pytest.raises(InputError, match="tokenizer: got"):
        parse_tokenizer(bad)
