"""Decoding from a cache against the full pass over whole windows, and sampling against probabilities."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from models.compute import Compute, compute_for
from models.config import ARCHITECTURES, BaseSize, ModelConfig, make_config
from models.decode import KeyValueCache, decode_step, decode_tokens, generate, prefill, sample_tokens
from models.intervention import get_intervention
from models.transformer import init, logits, token_losses

VARIANTS = [
    *((architecture, {}) for architecture in ARCHITECTURES),
    ("dense", {"activation": "swiglu", "tied": False, "qk_norm": True}),
    ("top2", {"base": BaseSize(4, 6, 2)}),
    ("expert_choice", {"qk_norm": True, "base": BaseSize(8, 1, 4)}),
]
# Prompts of three lengths; decoded with 8 more tokens each, together they cover all positions of a window of 20.
LENGTHS, LONGEST, NEW = jnp.asarray([1, 7, 12], jnp.int32), 12, 9


def dropless(config: ModelConfig) -> ModelConfig:
    if config.moe is None:
        return config
    return dataclasses.replace(config, moe=dataclasses.replace(config.moe, eval_capacity_factor=None))


@pytest.fixture(scope="module")
def decoded(tiny):
    """decoded(architecture, **options) -> (model, logits by decoding, logits of the full pass), [3, 20, vocab] each.

    The decoded tokens are given, not drawn; the logits of positions that were not decoded are NaN. In the full pass no
    token is dropped.
    """

    @functools.cache
    def build(architecture: str, **options):
        model = tiny(architecture, **options)
        rows = jnp.arange(3)

        @jax.jit
        def both(params, biases, tokens):
            # What stands behind a prompt is not to be read.
            prompts = jnp.where(jnp.arange(LONGEST)[None] < LENGTHS[:, None], tokens[:, :LONGEST], 3)
            first, cache = prefill(model.config, params, biases, prompts, LENGTHS, new=NEW, compute=Compute())

            def body(cache, count):
                given = tokens[rows, LENGTHS + count]
                found, cache = decode_step(model.config, params, biases, given, cache, compute=Compute())
                return cache, found

            _, others = jax.lax.scan(body, cache, jnp.arange(NEW - 1, dtype=jnp.int32))
            every = jnp.concatenate([first[None], others])
            places = LENGTHS[None] - 1 + jnp.arange(NEW, dtype=jnp.int32)[:, None]
            empty = jnp.full((*tokens.shape, model.config.vocab), jnp.nan)
            whole = logits(dropless(model.config), params, biases, tokens, compute=Compute())
            return empty.at[rows[None], places].set(every), whole

        return model, *map(np.asarray, both(model.params, model.biases, model.tokens[:, :-1]))

    return build


@pytest.mark.parametrize(("architecture", "options"), VARIANTS)
def test_decoded_logits_are_those_of_the_full_pass(decoded, architecture, options):
    _, found, expected = decoded(architecture, **options)
    computed = ~np.isnan(found[..., 0])
    assert computed.sum() == 3 * NEW and computed.any(0).all()
    np.testing.assert_allclose(found[computed], expected[computed], atol=1e-5)


@pytest.mark.parametrize("architecture", ["switch_top1", "expert_choice"])
def test_a_full_pass_with_capacity_differs_only_once_it_has_dropped_a_token(decoded, plain, architecture):
    """The tiny models have room for an expert's mean load, where the usual ones have twice as much."""
    model, found, _ = decoded(architecture)
    _, reports = plain.logits(model.config, model.params, model.biases, model.tokens[:, :-1], False)
    given = np.asarray(model.evaluate(model.params, model.biases, model.tokens))
    lost = np.any([(report.wanted & ~report.kept).any(-1) for report in reports], axis=0).reshape(3, 20)
    spared = (np.cumsum(lost, axis=1) == 0) & ~np.isnan(found[..., 0])
    changed = np.cumsum(lost, axis=1).astype(bool) & ~np.isnan(found[..., 0])
    assert spared.sum() > 3 and changed.sum() > 3
    np.testing.assert_allclose(found[spared], given[spared], atol=1e-5)
    assert np.abs(found[changed] - given[changed]).max() > 1e-2


@pytest.mark.parametrize("architecture", ["dense", "parallel"])
def test_bfloat16_decodes_to_its_rounding(tiny, architecture):
    model = tiny(architecture)
    compute = dataclasses.replace(compute_for("tpu"), experts="looped")
    prompts = model.tokens[:, :10]

    @jax.jit
    def both(params, biases, tokens):
        lengths = jnp.full(3, 10, jnp.int32)
        found, cache = prefill(model.config, params, biases, tokens[:, :10], lengths, new=2, compute=compute)
        after, _ = decode_step(model.config, params, biases, tokens[:, 10], cache, compute=compute)
        whole = logits(model.config, params, biases, tokens[:, :11], compute=Compute())
        return jnp.stack([found, after], 1), whole[:, 9:]

    found, exact = both(model.params, model.biases, model.tokens)
    assert prompts.shape == (3, 10) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, atol=0.05 * float(jnp.abs(exact).max()))


def test_the_most_probable_tokens_are_those_of_full_passes(tiny):
    model = tiny("fine_grained_shared")
    lengths = np.asarray([2, 5, 4])
    made = jax.jit(functools.partial(generate, model.config, new=6, compute=Compute()))
    keys = jax.random.split(jax.random.key(0), 3)
    arguments = model.tokens[:, :5], jnp.asarray(lengths, jnp.int32), keys, jnp.float32(0.0)
    found = np.asarray(made(model.params, model.biases, *arguments))
    tokens = np.zeros((3, 20), np.int32)
    for row, length in enumerate(lengths):
        tokens[row, :length] = model.tokens[row, :length]
    whole = jax.jit(functools.partial(logits, model.config, compute=Compute()))
    for count in range(6):
        scores = whole(model.params, model.biases, jnp.asarray(tokens))
        for row, length in enumerate(lengths):
            tokens[row, length + count] = np.argmax(scores[row, length + count - 1])
            assert found[row, count] == tokens[row, length + count]


@pytest.mark.parametrize("architecture", ["switch_top1", "expert_choice"])
def test_a_sequence_does_not_depend_on_those_beside_it(tiny, architecture):
    model = tiny(architecture)
    keys = jax.random.split(jax.random.key(3), 8)
    prompts = jnp.asarray(np.random.default_rng(1).integers(0, 17, (8, 6)), jnp.int32)
    lengths = jnp.asarray([6, 1, 3, 2, 6, 5, 4, 1], jnp.int32)
    made = jax.jit(functools.partial(generate, model.config, new=8, compute=Compute()))
    together = made(model.params, model.biases, prompts, lengths, keys, jnp.float32(1.0))
    some = [5, 2]
    alone = made(model.params, model.biases, prompts[np.array(some)], lengths[np.array(some)], keys[np.array(some)],
                 jnp.float32(1.0))  # fmt: skip
    np.testing.assert_array_equal(together[np.array(some)], alone)
    assert len(np.unique(np.asarray(together))) > 8


def test_copies_of_one_prompt_are_drawn_with_the_probabilities_of_the_model(tiny):
    """Pairs of tokens at temperature 0.7, from one prefilled prompt: chi-square over all 17 x 17 of them."""
    model, count, temperature = tiny("dense"), 8_000, 0.7
    prompt = model.tokens[:1, :5]

    @jax.jit
    def draw(params, biases, key):
        first, cache = prefill(
            model.config, params, biases, prompt, jnp.full(1, 5, jnp.int32), new=2, compute=Compute()
        )
        copies = jnp.zeros(count, jnp.int32)
        keys = jax.random.split(key, count)
        many = first[copies], cache.of(copies), keys, jnp.float32(temperature)
        return decode_tokens(model.config, params, biases, *many, new=2, compute=Compute())

    pairs = np.asarray(draw(model.params, model.biases, jax.random.key(4)))
    windows = jnp.concatenate([jnp.tile(prompt, (17, 1)), jnp.arange(17, dtype=jnp.int32)[:, None]], axis=1)
    scores = np.asarray(logits(model.config, model.params, model.biases, windows, compute=Compute()), np.float64)
    probability = np.exp(scores / temperature)
    probability /= probability.sum(-1, keepdims=True)
    expected = count * (probability[0, 4][:, None] * probability[:, 5]).reshape(-1)
    seen = np.bincount(pairs[:, 0] * 17 + pairs[:, 1], minlength=289)
    common = expected >= 5
    assert chisquare([*seen[common], seen[~common].sum()], [*expected[common], expected[~common].sum()]).pvalue > 1e-3


def test_a_token_of_one_in_a_hundred_thousand_comes_as_often():
    """A million draws: 10 are expected; at twice the temperature sqrt(10) in a thousand."""
    odds = jnp.log(jnp.asarray([[1.0, 1e-5]]))

    @jax.jit
    def count(key, temperature):
        keys = jax.random.split(key, 1_000_000)
        return sample_tokens(jnp.broadcast_to(odds, (1_000_000, 2)), keys, temperature).sum()

    assert 2 <= count(jax.random.key(0), jnp.float32(1.0)) <= 21  # 0.001 on either side
    assert count(jax.random.key(0), jnp.float32(2.0)) == pytest.approx(1e6 * 10**-2.5, rel=0.06)


def test_activations_of_few_bits_are_decoded_as_they_are_evaluated(tiny):
    model, kind = tiny("dense"), get_intervention("activations")
    assert kind.evaluation_tap is not None
    tap = kind.evaluation_tap(kind.fields("int4"))

    @jax.jit
    def both(params, biases, tokens):
        compute = Compute()
        lengths = jnp.full(3, 10, jnp.int32)
        found, cache = prefill(model.config, params, biases, tokens[:, :10], lengths, new=2, compute=compute, tap=tap)
        after, _ = decode_step(model.config, params, biases, tokens[:, 10], cache, compute=compute, tap=tap)
        losses, _, _ = token_losses(
            model.config, params, biases, tokens[:, :12], training=False, compute=compute, tap=tap
        )
        return jax.nn.log_softmax(jnp.stack([found, after], 1)), losses[:, 9:]

    scores, losses = both(model.params, model.biases, model.tokens)
    chosen = np.take_along_axis(np.asarray(scores), np.asarray(model.tokens[:, 10:12, None]), -1)[..., 0]
    np.testing.assert_allclose(-chosen, losses, atol=1e-5)


def test_positions_beyond_the_context_are_refused_in_one_line(tiny):
    model = tiny("dense")

    def begin(longest: int, new: int):
        arguments = jnp.zeros((1, longest), jnp.int32), jnp.full(1, longest, jnp.int32)
        return jax.eval_shape(
            lambda: prefill(model.config, model.params, model.biases, *arguments, new=new, compute=Compute())
        )

    _, cache = begin(15, 6)  # the sixth new token is not read
    assert isinstance(cache, KeyValueCache) and cache.known.shape == (1, 20)
    with pytest.raises(ValueError, match="21 positions, but the model was trained on 20") as refused:
        begin(15, 7)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="a token of a prompt"):
        begin(0, 3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_decoding_lowers_for_cuda_and_tpu(architecture):
    config = make_config(architecture, vocab=257, context=16, width=16, depth=2, heads=2)
    params, biases = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4))
    prompts, lengths = jax.ShapeDtypeStruct((4, 5), jnp.int32), jax.ShapeDtypeStruct((4,), jnp.int32)
    temperature = jax.ShapeDtypeStruct((), jnp.float32)
    for platform in ("cuda", "tpu"):
        made = jax.jit(functools.partial(generate, config, new=8, compute=compute_for(platform)))
        traced = made.trace(params, biases, prompts, lengths, keys, temperature)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert "bf16" in text and "tensor<4x2x12x8xbf16>" in text  # the keys of four sequences, in twelve slots
