"""The gradient's noise and signal, on average over batches, are those of a known population of sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.train.optimizer import hyper_of
from harness.train.step import new_state, train_turn
from models.compute import Compute
from models.config import make_config
from models.objective import show
from models.transformer import mean_loss
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.shape import Shape

pytestmark = pytest.mark.usefixtures("hurried")
MODEL = make_config("dense", vocab=257, context=16, width=16, depth=2, heads=2)
BATCH = 8


@jax.jit
def gradients(params, tokens):
    """Of every sequence [n, d], without those of the vocabulary's table, flat."""

    def of_one(rows):
        gradient = jax.grad(
            lambda p: mean_loss(MODEL, p, state().biases, show(MODEL, rows[None]), compute=Compute(loss="plain"))[0]
        )(params)
        leaves = jax.tree_util.tree_leaves_with_path(gradient)
        kept = [leaf.ravel() for path, leaf in leaves if not any(getattr(k, "key", "") == "embedding" for k in path)]
        return jnp.concatenate(kept)

    return jax.vmap(of_one)(tokens)


def state(accumulates: bool = False):
    return new_state(Shape(MODEL, BATCH, accumulates, "adamw", 8), hyper(1)._replace(seed=jnp.int32(3)))


def population(tokens) -> tuple[float, float]:
    """|G|^2 and tr(Sigma) of a sequence's gradient among these sequences."""
    alone = np.asarray(gradients(state().params, tokens), np.float64)
    return float(np.sum(alone.mean(axis=0) ** 2)), float(np.sum(alone.var(axis=0)))


def hyper(turns: int):
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=10**6)
    run = RunConfig(model=MODEL, data=data, optimizer=OptimizerConfig(lr=0.01), steps=10, batch=BATCH * turns)
    return jax.tree.map(jnp.asarray, hyper_of(run, turns))


def tokens_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 257, (count, 17)).astype(np.int32)


def assert_unbiased(found, true: float):
    """Over many batches drawn from a population."""
    found = np.asarray(found, np.float64)
    assert abs(found.mean() - true) < 4 * found.std(ddof=1) / np.sqrt(len(found))
    assert found.std(ddof=1) / np.sqrt(len(found)) < 0.15 * abs(true)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["plain", "one_pass"])
@pytest.mark.parametrize("chunks", [2, 8])
def test_of_chunks(chunks, loss):
    sequences = tokens_of(32)
    drawn = np.random.default_rng(1).integers(0, 32, (400, BATCH))
    shape, begun, numbers = Shape(MODEL, BATCH, False, "adamw", 8), state(), hyper(1)
    turn = jax.jit(jax.vmap(lambda rows: train_turn(shape, Compute(loss=loss), begun, numbers, rows, chunks=chunks)[1]))
    metrics = turn(sequences[drawn])
    signal, noise = population(sequences)
    assert_unbiased(metrics.gradient_signal, signal)
    assert_unbiased(metrics.gradient_noise, noise)


@pytest.mark.slow
def test_of_the_turns_of_a_batch():
    sequences = tokens_of(32)
    drawn = np.random.default_rng(2).integers(0, 32, (400, 4, BATCH))
    shape, begun, numbers = Shape(MODEL, BATCH, True, "adamw", 8), state(accumulates=True), hyper(4)

    def batch(turns):
        turning, metrics = begun, None
        for rows in turns:
            turning, metrics = train_turn(shape, Compute(), turning, numbers, rows)
        return metrics

    metrics = jax.jit(jax.vmap(batch))(sequences[drawn])
    signal, noise = population(sequences)
    assert_unbiased(metrics.gradient_signal, signal)
    assert_unbiased(metrics.gradient_noise, noise)


def test_one_part_tells_nothing():
    shape = Shape(MODEL, BATCH, False, "adamw", 8)
    turn = jax.jit(lambda rows: train_turn(shape, Compute(), state(), hyper(1), rows)[1])
    metrics = turn(tokens_of(BATCH))
    assert np.isnan(metrics.gradient_signal) and np.isnan(metrics.gradient_noise)
