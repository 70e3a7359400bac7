"""Row reductions against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.cpu.row_ops import log_sum_exp, row_max, row_sum


@pytest.mark.parametrize("n", [1, 15, 16, 17, 48, 257])
def test_reductions_of_rows_are_those_of_numpy(n):
    x = np.random.default_rng(n).normal(size=(2, 5, n)).astype(np.float32)
    found = jax.jit(lambda x: (row_max(x), row_sum(x), log_sum_exp(x)))(jnp.asarray(x))
    wide = x.astype(np.float64)
    assert (np.asarray(found[0]) == x.max(-1, keepdims=True)).all()
    np.testing.assert_allclose(found[1], wide.sum(-1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(found[2], np.log(np.exp(wide).sum(-1)), rtol=1e-6)


@pytest.mark.parametrize("n", [17, 40, 64])
def test_the_gradient_of_log_sum_exp_is_the_softmax_even_of_large_numbers(n):
    x = np.random.default_rng(n).normal(size=(3, n)) * 20 + 500
    found = jax.jit(jax.grad(lambda x: log_sum_exp(x).sum()))(jnp.asarray(x, jnp.float32))
    x = np.asarray(x, np.float32).astype(np.float64)
    weights = np.exp(x - x.max(-1, keepdims=True))
    np.testing.assert_allclose(found, weights / weights.sum(-1, keepdims=True), atol=1e-5)
