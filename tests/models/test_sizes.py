"""Shapes for target sizes: held to the accountant, to a brute-force search, and to published shapes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import ARCHITECTURES, make_config
from models.count import count
from models.sizes import TOLERANCE, SizeError, aspect_ratio, choose_heads, shape_for

KINDS = ["total", "nonembedding", "active"]


@given(
    st.floats(3, 9),
    st.sampled_from(KINDS),
    st.sampled_from(ARCHITECTURES),
    st.sampled_from([257, 512, 32_000, 128_000]),
    st.sampled_from(["gelu", "swiglu"]),
    st.booleans(),
)
@settings(max_examples=100)
def test_every_target_is_met_or_refused(exponent, which, architecture, vocab, activation, tied):
    target = round(10**exponent)
    try:
        config = shape_for(target, which, architecture, vocab, 128, activation=activation, tied=tied)
    except SizeError as error:
        # A refusal names the closest shape, and only a vocabulary or a tiny target forces one.
        assert error.error >= TOLERANCE
        assert abs(count(error.closest).of(which) / target - 1) == pytest.approx(error.error)
        embedding = 0 if which == "nonembedding" else count(error.closest).embedding
        assert embedding > target / 4 or target < 3e4, error
        return
    assert abs(count(config).of(which) / target - 1) < TOLERANCE
    assert config.architecture == architecture and config.vocab == vocab and config.tied == tied
    assert config.width % (2 * config.heads) == 0
    assert config.moe is None or any(config.is_moe_layer(layer) for layer in range(config.depth))
    assert config.depth <= max(2, config.width / 2)


@given(st.floats(4.5, 9), st.sampled_from(ARCHITECTURES))
@settings(max_examples=40)
def test_shapes_are_sensible_where_the_vocabulary_leaves_room(exponent, architecture):
    config = shape_for(round(10**exponent), "nonembedding", architecture, 257, 128)
    head_width = config.width // config.heads
    assert 8 <= head_width <= 80
    if exponent > 6:
        assert config.width % (64 if config.width >= 256 else 8) == 0
        assert 8 <= config.width / config.depth <= 160


@pytest.mark.parametrize("target", [500, 1000, 1500, 2500, 4000])
@pytest.mark.parametrize("architecture", ["dense", "top2"])
def test_tiny_refusals_are_true(target, architecture):
    """No even width of default feed-forward, at any depth up to half the width, is close when shape_for says so."""
    errors = []
    for width in range(2, 64, 2):
        for depth in range(1, max(1, width // 2) + 1):
            config = make_config(
                architecture, vocab=257, context=64, width=width, depth=depth, heads=choose_heads(width)
            )
            errors.append(abs(count(config).total / target - 1))
    try:
        shape_for(target, "total", architecture, 257, 64)
    except SizeError as error:
        assert error.error <= min(errors) + 1e-12
        assert min(errors) >= TOLERANCE


def test_a_vocabulary_larger_than_the_target_is_said_so():
    with pytest.raises(SizeError, match=r"vocabulary of 32,000 has 10,000 total parameters.*has 64,0\d\d"):
        shape_for(10_000, "total", "dense", 32_000, 128)


def test_the_rule_meets_gpt3():
    # Brown et al. 2020, table 2.1: Small 768 x 12, XL 2048 x 24.
    assert aspect_ratio(12 * 768**2 * 12) == pytest.approx(64, rel=0.03)
    assert aspect_ratio(12 * 2048**2 * 24) == pytest.approx(2048 / 24, rel=0.15)
    small = shape_for(124_400_000, "total", "dense", 50_257, 1024)
    assert small.width == 768 and small.depth == 12 and small.heads == 12


def test_a_given_aspect_is_followed():
    for aspect in (16, 32, 100):
        config = shape_for(10_000_000, "nonembedding", "dense", 257, 128, aspect=aspect)
        assert config.width / config.depth == pytest.approx(aspect, rel=0.35)


@pytest.mark.parametrize(
    "bad",
    [
        {"target": 0},
        {"target": 10**14},
        {"aspect": 0.0},
        {"architecture": "rnn"},
        {"architecture": "top2", "experts": 1},
    ],
)
def test_arguments_out_of_range_are_refused(bad):
    arguments = {"target": 10**5, "which": "total", "architecture": "dense", "vocab": 257, "context": 64} | bad
    with pytest.raises(ValueError):
        shape_for(**arguments)
