"""Attention against its formula, written out in numpy with its gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.attention import Attention, attend, rotary_table, rotate
from models.config import TrainingObjective, make_config

IMPLEMENTATIONS = ("chunked", "fused")


def attention_and_gradient(q, k, v, cotangent, causal=True):
    """softmax(q k^T / sqrt(d)) v and its vector-Jacobian product, float64."""
    scale = q.shape[-1] ** -0.5
    seen = np.tri(q.shape[1], k=0 if causal else q.shape[1], dtype=bool)
    scores = np.where(seen, q @ k.transpose(0, 2, 1) * scale, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    dp = cotangent @ v.transpose(0, 2, 1)
    ds = p * (dp - (p * dp).sum(-1, keepdims=True)) * scale
    return p @ v, (ds @ k, ds.transpose(0, 2, 1) @ q, p.transpose(0, 2, 1) @ cotangent)


@pytest.mark.parametrize(
    ("time", "causal"), [(1, True), (63, True), (65, True), (130, True), (63, False), (130, False)]
)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_values_and_gradients_are_those_of_the_formula(implementation, time, causal):
    q, k, v, cotangent = (
        np.random.default_rng(time).normal(size=(4, 2, time, 6)) * np.array([2, 2, 1, 1])[:, None, None, None]
    )

    @jax.jit
    def both(q, k, v, cotangent):
        out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, implementation, causal), q, k, v)
        return out, pull(cotangent)

    found = both(*(jnp.asarray(z, jnp.float32) for z in (q, k, v, cotangent)))
    expected = attention_and_gradient(q, k, v, cotangent, causal)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_bfloat16_inputs_meet_a_float32_softmax(implementation):
    q, k, v = (jnp.asarray(z, jnp.bfloat16) for z in np.random.default_rng(0).normal(size=(3, 2, 70, 8)))
    found = jax.jit(lambda q, k, v: attend(q, k, v, implementation))(q, k, v)
    assert found.dtype == jnp.bfloat16
    q, k, v = (np.asarray(z, np.float64) for z in (q, k, v))
    exact, _ = attention_and_gradient(q, k, v, v)
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, atol=0.03)


def test_rotary_scores_depend_on_the_distance_alone():
    q, k = np.random.default_rng(1).normal(size=(2, 8))
    table = rotary_table(40, 8, 100.0)
    turned_q, turned_k = (
        np.asarray(rotate(jnp.broadcast_to(jnp.asarray(z, jnp.float32), (1, 40, 8)), table))[0] for z in (q, k)
    )
    scores = turned_q @ turned_k.T
    frequency = 100.0 ** (-np.arange(4) / 4)
    product = (q[:4] + 1j * q[4:]) * np.conj(k[:4] + 1j * k[4:])
    for i, j in ((0, 0), (7, 0), (39, 32), (39, 0), (12, 30)):
        assert scores[i, j] == pytest.approx((product * np.exp(1j * (i - j) * frequency)).real.sum(), abs=2e-5)
    for distance in range(-39, 40):
        assert np.ptp(np.diagonal(scores, distance)) < 2e-5
    np.testing.assert_allclose(np.linalg.norm(turned_q, axis=-1), np.linalg.norm(q), rtol=1e-5)


@pytest.mark.parametrize(("qk_norm", "objective"), [(False, None), (True, None), (True, TrainingObjective("masked"))])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_layer_is_the_plain_one(plain, implementation, qk_norm, objective):
    sizes: dict[str, Any] = {"vocab": 5, "context": 70, "width": 12, "depth": 1, "heads": 3}
    config = make_config("dense", **sizes, qk_norm=qk_norm, objective=objective)
    graph, shapes = nnx.split(nnx.eval_shape(lambda: Attention(config)))
    rng = np.random.default_rng(3)
    state = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 3, jnp.float32), shapes)
    x = rng.normal(size=(2, 70, 12))
    apply = jax.jit(lambda state, x: nnx.merge(graph, state)(x, 2, implementation))
    found = apply(state, jnp.asarray(x.reshape(140, 12), jnp.float32))
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), nnx.to_pure_dict(state))
    expected = np.concatenate([plain.attention(config, weights, sequence) for sequence in x])
    np.testing.assert_allclose(found, expected, atol=1e-5)
