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


def parts_of(tokens, params, sequences: int) -> list[np.ndarray]:
    """The gradients of parts of a batch, without those of the vocabulary's table, flat."""

    def gradient(rows):
        leaves = jax.tree_util.tree_leaves_with_path(
            jax.grad(lambda p: mean_loss(MODEL, p, state().biases, rows, compute=Compute(loss="plain"))[0])(params)
        )
        kept = [leaf.ravel() for path, leaf in leaves if not any(getattr(k, "key", "") == "embedding" for k in path)]
        return np.asarray(jnp.concatenate(kept), np.float64)

    return [gradient(rows) for rows in np.split(tokens, len(tokens) // sequences)]


def state(accumulates: bool = False):
    return new_state(Shape(MODEL, BATCH, accumulates, "adamw", 8), jnp.uint32(3))


def expected(tokens, sequences: int) -> tuple[float, float]:
    """|G|^2 and tr(Sigma) of a sequence: the variance of the parts' gradients, and the mean's square less its share."""
    parts = np.stack(parts_of(tokens, state().params, sequences))
    count = len(parts)
    variance = float(np.sum(parts.var(axis=0, ddof=1)))
    mean = parts.mean(axis=0)
    return float(mean @ mean) - variance / count, variance * sequences


def hyper(turns: int):
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=10**6)
    run = RunConfig(model=MODEL, data=data, optimizer=OptimizerConfig(lr=0.01), steps=10, batch=BATCH * turns)
    return jax.tree.map(jnp.asarray, hyper_of(run, turns))


def tokens_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 257, (count, 17)).astype(np.int32)


@pytest.mark.parametrize("loss", ["plain", "chunked"])
@pytest.mark.parametrize("pieces", [2, 4, 8])
def test_of_pieces(pieces, loss):
    tokens = tokens_of(BATCH)
    turn = jax.jit(train_turn, static_argnums=(0, 1), static_argnames=("pieces",))
    shape = Shape(MODEL, BATCH, False, "adamw", 8)
    _, metrics = turn(shape, Compute(loss=loss), state(), hyper(1), tokens, pieces=pieces)
    signal, noise = expected(tokens, BATCH // pieces)
    assert float(metrics.gradient_signal) == pytest.approx(signal, rel=1e-3, abs=1e-6)
    assert float(metrics.gradient_noise) == pytest.approx(noise, rel=1e-3)


def test_of_the_turns_of_a_batch():
    tokens = tokens_of(4 * BATCH)
    shape, turning = Shape(MODEL, BATCH, True, "adamw", 8), state(accumulates=True)
    metrics = None
    for rows in np.split(tokens, 4):
        turning, metrics = train_turn(shape, Compute(), turning, hyper(4), rows)
    assert metrics is not None
    signal, noise = expected(tokens, BATCH)
    assert float(metrics.gradient_signal) == pytest.approx(signal, rel=1e-3, abs=1e-6)
    assert float(metrics.gradient_noise) == pytest.approx(noise, rel=1e-3)


def test_one_part_tells_nothing():
    shape = Shape(MODEL, BATCH, False, "adamw", 8)
    _, metrics = train_turn(shape, Compute(), state(), hyper(1), tokens_of(BATCH))
    assert np.isnan(metrics.gradient_signal) and np.isnan(metrics.gradient_noise)


def test_more_noise_and_no_more_signal_in_less_text():
    """Both are of the gradient, not of the batch: twice the sequences leave them where they were."""
    found = {}
    for size in (64, 128):
        signal, noise = zip(*(expected(tokens_of(1024)[k * size : (k + 1) * size], 1) for k in range(8)), strict=True)
        found[size] = np.mean(signal), np.mean(noise)
    assert found[64][1] == pytest.approx(found[128][1], rel=0.05)
    assert found[64][0] == pytest.approx(found[128][0], rel=0.2)
