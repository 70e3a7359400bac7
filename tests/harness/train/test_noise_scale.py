"""The gradient's noise and signal against gradients taken one sequence at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.train.optimizer import hyper_of
from harness.train.step import new_state, train_turn
from models.config import make_config
from models.transformer import Compute, mean_loss
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.shape import Shape

MODEL = make_config("dense", vocab=257, context=16, width=16, depth=2, heads=2)
BATCH = 8


@jax.jit
def gradients(params, tokens):
    """Of every sequence [n, d], without those of the vocabulary's table, flat."""

    def of_one(rows):
        gradient = jax.grad(
            lambda p: mean_loss(MODEL, p, state().biases, rows[None], compute=Compute(loss="plain"))[0]
        )(params)
        leaves = jax.tree_util.tree_leaves_with_path(gradient)
        kept = [leaf.ravel() for path, leaf in leaves if not any(getattr(k, "key", "") == "embedding" for k in path)]
        return jnp.concatenate(kept)

    return jax.vmap(of_one)(tokens)


def state(accumulates: bool = False):
    return new_state(Shape(MODEL, BATCH, accumulates, "adamw", 8), jnp.uint32(3))


def expected(tokens, sequences: int) -> tuple[float, float]:
    """|G|^2 and tr(Sigma) of a sequence: the variance of the parts' gradients, and the mean's square less its share."""
    alone = np.asarray(gradients(state().params, tokens), np.float64)
    parts = alone.reshape(-1, sequences, alone.shape[-1]).mean(axis=1)
    count = len(parts)
    variance = float(np.sum(parts.var(axis=0, ddof=1)))
    mean = parts.mean(axis=0)
    return float(mean @ mean) - variance / count, variance * sequences


def hyper(turns: int):
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=10**6)
    run = RunConfig(model=MODEL, data=data, optimizer=OptimizerConfig(lr=0.01), steps=10, batch=BATCH * turns)
    return jax.tree.map(jnp.asarray, hyper_of(run, turns))


take_turn = jax.jit(train_turn, static_argnums=(0, 1), static_argnames=("pieces",))


def tokens_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 257, (count, 17)).astype(np.int32)


@pytest.mark.parametrize("loss", ["plain", "one_pass"])
@pytest.mark.parametrize("pieces", [2, 8])
def test_of_pieces(pieces, loss):
    tokens = tokens_of(BATCH)
    shape = Shape(MODEL, BATCH, False, "adamw", 8)
    _, metrics = take_turn(shape, Compute(loss=loss), state(), hyper(1), tokens, pieces=pieces)
    signal, noise = expected(tokens, BATCH // pieces)
    assert float(metrics.gradient_signal) == pytest.approx(signal, rel=1e-3, abs=1e-6)
    assert float(metrics.gradient_noise) == pytest.approx(noise, rel=1e-3)


def test_of_the_turns_of_a_batch():
    tokens = tokens_of(4 * BATCH)
    shape, turning = Shape(MODEL, BATCH, True, "adamw", 8), state(accumulates=True)
    metrics = None
    for rows in np.split(tokens, 4):
        turning, metrics = take_turn(shape, Compute(), turning, hyper(4), rows)
    assert metrics is not None
    signal, noise = expected(tokens, BATCH)
    assert float(metrics.gradient_signal) == pytest.approx(signal, rel=1e-3, abs=1e-6)
    assert float(metrics.gradient_noise) == pytest.approx(noise, rel=1e-3)


def test_one_part_tells_nothing():
    shape = Shape(MODEL, BATCH, False, "adamw", 8)
    _, metrics = take_turn(shape, Compute(), state(), hyper(1), tokens_of(BATCH))
    assert np.isnan(metrics.gradient_signal) and np.isnan(metrics.gradient_noise)
