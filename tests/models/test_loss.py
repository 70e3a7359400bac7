"""The loss and its gradient in chunks, against the formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models.loss as loss
from models.cpu.one_pass_loss import mean_cross_entropy
from models.loss import cross_entropy


def inputs(seed: int, size: float, dtype: str):
    """13 rows of width 4, a vocabulary of 7, and targets."""
    rng = np.random.default_rng(seed)
    hidden, unembedding = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((13, 4), (7, 4)))
    return (hidden * size).astype(dtype), unembedding, jnp.asarray(rng.integers(0, 7, 13))


def in_float64(hidden, unembedding, dtype: str):
    """The matrices as the loss multiplies them, and the probabilities of each row."""
    h, u = np.asarray(hidden, np.float64), np.asarray(unembedding.astype(dtype), np.float64)
    p = np.exp(h @ u.T)
    return h, u, p / p.sum(1, keepdims=True)


@pytest.mark.parametrize("limit", [5, 40, 100, 13 * 7])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loss_in_chunks_is_the_whole_one(monkeypatch, limit, dtype):
    """13 rows of 7 logits: a row at a time (also where one row is too many), 3 chunks with a padded last, and whole."""
    hidden, unembedding, targets = inputs(0, 1, dtype)

    def both(hidden, unembedding):
        out, pull = jax.vjp(lambda h, u: cross_entropy(h, u, targets), hidden, unembedding)
        return out, pull(jnp.arange(13, dtype=jnp.float32))

    monkeypatch.setattr(loss, "LOGITS_LIMIT", limit)
    losses, (to_hidden, to_unembedding) = jax.jit(lambda h, u: both(h, u))(hidden, unembedding)
    h, u, p = in_float64(hidden, unembedding, dtype)
    error = (p - np.eye(7)[targets]) * np.arange(13)[:, None]
    tolerance = 1e-5 if dtype == "float32" else 0.05
    assert losses.dtype == to_unembedding.dtype == jnp.float32
    np.testing.assert_allclose(losses, -np.log(p[np.arange(13), targets]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(to_hidden, np.float64), error @ u, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(to_unembedding, error.T @ h, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("limit", [5, 40, 100, 13 * 7])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_mean_in_one_pass_has_the_gradient_of_the_formula(monkeypatch, limit, dtype):
    """Of large logits too, and under a cotangent that is not 1."""
    hidden, unembedding, targets = inputs(1, 10, dtype)
    monkeypatch.setattr(loss, "LOGITS_LIMIT", limit)
    mean, (to_hidden, to_unembedding) = jax.jit(
        jax.value_and_grad(lambda h, u: 3 * mean_cross_entropy(h, u.T, u[targets]), argnums=(0, 1))
    )(hidden, unembedding)
    h, u, p = in_float64(hidden, unembedding, dtype)
    error = 3 * (p - np.eye(7)[targets]) / 13
    tolerance = 1e-5 if dtype == "float32" else 0.05
    assert to_hidden.dtype == dtype and mean.dtype == to_unembedding.dtype == jnp.float32
    assert mean == pytest.approx(-3 * np.log(p[np.arange(13), targets]).mean(), rel=1e-5)
    np.testing.assert_allclose(np.asarray(to_hidden, np.float64), error @ u, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(to_unembedding, error.T @ h, rtol=tolerance, atol=tolerance)
