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


def rate_of(rule: dict, **run: float) -> float:
    sizes = {"params": 1e6, "width": 64, "batch_tokens": 4096, "tokens": 2**21} | run
    return TypeAdapter(RateRule).validate_python(rule).rate(**sizes)  # pyright: ignore[reportArgumentType]


def test_learning_rate_rules():
    # GPT-3's table 2.1: from 6e-4 at 1.25e8 to 0.6e-4 at 1.75e11 parameters.
    gpt3 = {"rule": "params", "c": 6e-4 * 125**0.318, "p": 0.318}
    assert rate_of(gpt3, params=1.25e8) == pytest.approx(6e-4, rel=1e-4)
    assert rate_of(gpt3, params=1.75e11) == pytest.approx(6e-5, rel=0.01)
    assert rate_of({"rule": "width", "c": 0.02}, width=100) == 0.002


def test_a_rate_in_batch_and_tokens():
    # marin's issue 6044 (2026) works out Adam's rate: 0.06602 D^-0.395 width^-0.150 sqrt(B) at D = 1.007e13, width 2560
    # and B = 33.55M tokens is 0.000861.
    power = {"width": {"at": 1, "p": -0.150}, "batch_tokens": {"at": 1, "p": 0.5}, "tokens": {"at": 1, "p": -0.395}}
    rule = {"rule": "power", "c": 0.06602, **power}
    assert rate_of(rule, tokens=1.007e13, width=2560, batch_tokens=33.55e6) == pytest.approx(0.000861, rel=1e-3)
    # Delphi's form: the anchor's rate at the anchor; four times the batch double it, 16 times the tokens 16^-0.3 it.
    delphi = {
        "rule": "power", "c": 3e-3, "batch_tokens": {"at": 4096, "p": 0.5}, "tokens": {"at": 2**21, "p": -0.3},
    }  # fmt: skip
    assert rate_of(delphi) == rate_of(delphi, width=512, params=1e9) == 3e-3
    assert rate_of(delphi, batch_tokens=4 * 4096) == 6e-3
    assert rate_of(delphi, tokens=2**25) == pytest.approx(3e-3 * 16**-0.3, rel=1e-5)
    assert rate_of({"rule": "power", "c": 1.0, "params": {"at": "1e6", "p": "-0.5"}}, params=4e6) == 0.5


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"rule": "params", "c": 1.0}, "p with rule `params`"),
        ({"rule": "width", "c": 1.0, "p": 0.5}, "p with rule `params`"),
        ({"rule": "power", "c": 1.0, "p": 0.5, "width": {"at": 64, "p": 1}}, "p with rule `params`"),
        ({"rule": "power", "c": 1.0}, "one or more of params, width, batch_tokens, tokens with rule `power`"),
        ({"rule": "width", "c": 1.0, "tokens": {"at": 1, "p": 1}}, "and only with it"),
        ({"rule": "power", "c": 1.0, "width": {"at": 0, "p": 1}}, "greater than 0"),
        ({"rule": "power", "c": 1.0, "width": {"at": 64, "p": 5}}, "less than or equal to 4"),
        ({"rule": "power", "c": 1.0, "width": {"at": 64}}, "Field required"),
        ({"rule": "power", "c": 1.0, "depth": {"at": 4, "p": 1}}, "Extra inputs"),
    ],
)
def test_other_mappings_are_no_rules(bad, complaint):
    with pytest.raises(ValidationError, match=complaint):
        rate_of(bad)


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
