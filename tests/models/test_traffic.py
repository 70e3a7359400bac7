"""Bytes moved: a count by hand, the compiler's own count, and what must hold for every shape."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from models.compute import Compute
from models.config import ARCHITECTURES, ModelConfig, TrainingObjective, make_config
from models.count import count, flops, token_flops
from models.decode import decode_step, prefill
from models.traffic import UPDATES, decode_traffic, experts_visited, step_traffic
from models.transformer import init, token_losses

# Width 8, one block, two heads, four hidden features, five ids, context 3.
SMALL = ModelConfig(vocab=5, context=3, width=8, depth=1, heads=2, ffn_width=4)


def test_a_small_model_by_hand():
    norms, projections, turned, products, out, sums = 2 * 16, 6 * 8, 4 * 8, 4 * 8, 2 * 8, 2 * 24
    feed_forward = (8 + 4) + 2 * 4 + (4 + 8)
    ends = 2 * 8 + 2 * 8 + (8 + 5) + 5  # embedding, last norm, logits, loss
    features = norms + projections + turned + products + out + sums + feed_forward + ends
    scores = 2 * 3 + 2 * 2 * 3 + 2 * 3  # written, in and out of the softmax, read
    n = 5 * 8 + 4 * 64 + 2 * 32 + 3 * 8
    step = step_traffic(SMALL, batch=7)
    assert count(SMALL).total == n
    assert step.activations == 4 * 3 * 21 * features and step.scores == 4 * 3 * 21 * scores
    assert step.parameters == 4 * n * (3 + UPDATES["adamw"]) and step.cache == 0
    twice = step_traffic(SMALL, batch=7, turns=2)
    assert twice.parameters - step.parameters == 4 * n * (3 + 2 * 3)  # one more pass, and the sums of both
    token = decode_traffic(SMALL, batch=7, slots=3)
    assert token.parameters == 4 * n
    assert token.activations == 4 * 7 * features and token.scores == 4 * 7 * scores
    assert token.cache == 4 * 7 * 2 * 8 * (3 + 1)  # keys and values: three slots read, one written
    halved = decode_traffic(SMALL, batch=7, slots=3, activation_bytes=2)
    assert halved.cache == token.cache / 2 and halved.parameters == token.parameters
    assert halved.total == halved.parameters + halved.activations + halved.scores + halved.cache


def compiled_bytes(config, function, *arguments, **options):
    """What XLA counts for a function of parameters, biases and arguments."""
    params, biases = jax.eval_shape(functools.partial(init, config), jax.random.key(0))
    cost = jax.jit(function, **options).lower(params, biases, *arguments).compile().cost_analysis()
    assert cost is not None
    return cost["bytes accessed"]


def compiled_gradient(config, batch):
    """What XLA counts for the gradient of a step, and what we count."""

    def loss(params, biases, tokens):
        compute = Compute(loss="plain", padding=0)
        return token_losses(config, params, biases, tokens, training=True, compute=compute)[0].mean()

    tokens = jax.ShapeDtypeStruct((batch, config.context + 1), jnp.int32)
    expected = step_traffic(config, batch).total - 4 * UPDATES["adamw"] * count(config).total
    return compiled_bytes(config, jax.grad(loss), tokens), expected


@pytest.mark.parametrize("patch", [4, 16])
def test_the_compiler_counts_as_much_of_patches(patch):
    """Each place in a patch has a product of its own, whose logits are read and written again."""
    objective = TrainingObjective(patch=patch)
    config = make_config("dense", vocab=65, context=256, width=64, depth=4, heads=4, objective=objective)
    found, expected = compiled_gradient(config, 8)
    assert 0.8 < found / expected < 1.6


@pytest.mark.parametrize(
    ("width", "depth", "vocab", "context", "batch"), [(64, 2, 257, 64, 8), (192, 2, 257, 64, 4), (64, 2, 4096, 64, 4)]
)
def test_the_compiler_counts_as_much(width, depth, vocab, context, batch):
    """XLA fuses some of what is done by element, and counts a whole cache where one slot is written."""
    config = make_config("dense", vocab=vocab, context=context, width=width, depth=depth, heads=4)
    found, expected = compiled_gradient(config, batch)
    assert 0.8 < found / expected < 1.6
    params, biases = jax.eval_shape(functools.partial(init, config), jax.random.key(0))
    compute = Compute(loss="plain", padding=0)
    begin = functools.partial(prefill, config, new=context - 4, compute=compute)
    prompts = jax.ShapeDtypeStruct((1, 4), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)
    _, cache = jax.eval_shape(begin, params, biases, *prompts)
    step = functools.partial(decode_step, config, compute=compute)
    found = compiled_bytes(config, step, prompts[1], cache, donate_argnums=3)
    assert 0.9 < found / decode_traffic(config, 1, context - 1).total < 2.2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_orders_that_always_hold(architecture):
    config = make_config(architecture, vocab=257, context=64, width=32, depth=2, heads=2)
    sizes, one, many = count(config), decode_traffic(config, 1, 32), decode_traffic(config, 64, 32)
    wider = decode_traffic(dataclasses.replace(config, vocab=514), 1, 32)
    assert one.parameters <= 4 * sizes.total and many.parameters <= 4 * sizes.total
    assert one.parameters == pytest.approx(4 * sizes.active, rel=1e-9)  # one token reads what is active
    assert wider.parameters - one.parameters == 4 * 257 * 32
    assert many.cache == 64 * one.cache and many.activations == 64 * one.activations
    assert step_traffic(config, 8).parameters == pytest.approx(4 * (3 + UPDATES["adamw"]) * sizes.total, rel=0.01)
    assert step_traffic(config, 8, optimizer="sgd").total < step_traffic(config, 8).total
    untied = decode_traffic(dataclasses.replace(config, tied=False), 1, 32)
    assert untied.parameters == one.parameters  # of the second table one row is read


def test_visited_experts_are_the_occupied_cells():
    config = make_config("top2", vocab=5, context=4, width=8, depth=1, heads=2).moe
    assert config is not None
    assert experts_visited(config, 1) == pytest.approx(2) and experts_visited(config, 0) == 0
    assert experts_visited(config, 2) == pytest.approx(8 * (1 - 0.75**2)) and experts_visited(config, 1e3) == 8


def test_a_patch_moves_what_a_position_does_and_its_own_tokens():
    # Twelve tokens in four positions: as the model of four positions, with two rows, products and logits more in each.
    whole = step_traffic(dataclasses.replace(SMALL, context=4), batch=7)
    patched = dataclasses.replace(SMALL, context=12, objective=TrainingObjective(patch=3))
    step = step_traffic(patched, batch=7)
    assert step.scores == whole.scores
    assert step.activations - whole.activations == 4 * 3 * 28 * 2 * (8 + 8 + 2 * 5)
    assert step.parameters == 4 * count(patched).total * (3 + UPDATES["adamw"])


def test_a_token_costs_what_its_positions_cost():
    assert token_flops(SMALL, SMALL.context) == flops(SMALL).forward
    assert token_flops(SMALL, 11) - token_flops(SMALL, 10) == 2 * 2 * 8  # a dot product and a weighted sum of 8
