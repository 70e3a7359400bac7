"""Norms against their formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.norm import EPSILON, LayerNorm, layer_normalise, rms_normalise


def layer_norm(x, scale):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * scale


def rms_norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * scale


PAIRS = [(layer_normalise, layer_norm), (rms_normalise, rms_norm)]


@pytest.mark.parametrize(("norm", "formula"), PAIRS)
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1e-3, 1.0, 1e4]), offset=st.sampled_from([0.0, 10.0]))
def test_values_are_those_of_the_formula(norm, formula, seed, size, offset):
    rng = np.random.default_rng(seed)
    x = np.asarray(size * (rng.normal(size=(2, 3, 8)) + offset), np.float32)
    scale = np.asarray(rng.normal(size=8), np.float32)
    found = norm(jnp.asarray(x), jnp.asarray(scale))
    # a mean of 10 standard deviations costs the float32 variance a digit
    np.testing.assert_allclose(found, formula(x.astype(np.float64), scale.astype(np.float64)), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("norm", "formula"), PAIRS)
def test_bfloat16_is_normalised_in_float32_and_given_back(norm, formula):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 512)) + 3.0, jnp.bfloat16)
    found = norm(x, jnp.ones(512, jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    exact = formula(np.asarray(x, np.float64), 1.0)
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=2**-8, atol=1e-6)  # the last rounding alone


@pytest.mark.parametrize("norm", [layer_normalise, rms_normalise])
def test_a_zero_row_stays_zero_with_a_finite_gradient(norm):
    value, gradient = jax.value_and_grad(lambda x: norm(x, jnp.ones(6)).sum())(jnp.zeros((2, 6)))
    assert value == 0.0
    assert np.isfinite(gradient).all()


def test_the_module_learns_a_scale_from_one():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8)), jnp.float32)
    found = np.asarray(LayerNorm(8)(x))
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(-1), 1, atol=1e-4)
