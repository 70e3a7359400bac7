"""Normalisations, which compute in float32 whatever the type of their inputs."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.cpu.row_ops import row_sum

EPSILON = 1e-5


def _scaled(x: Float[Array, "*rows features"], scale: Float[Array, " features"], dtype: jnp.dtype):
    return (x * scale.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + scale.shape)).astype(dtype)


def layer_normalise(x: Float[Array, "*rows features"], scale: Float[Array, " features"]):
    """Zero mean and unit variance over the features, times a scale; no shift is added (useless: Xu et al. 2019)."""
    wide = x.astype(jnp.float32)
    centred = wide - _row_mean(wide)
    return _scaled(centred * jax.lax.rsqrt(_row_mean(jnp.square(centred)) + EPSILON), scale, x.dtype)


def rms_normalise(x: Float[Array, "*rows features"], scale: Float[Array, " features"]):
    """Unit mean square over the features, times a scale (Zhang and Sennrich 2019)."""
    wide = x.astype(jnp.float32)
    return _scaled(wide * jax.lax.rsqrt(_row_mean(jnp.square(wide)) + EPSILON), scale, x.dtype)


def _row_mean(x: Float[Array, "*rows features"]) -> Float[Array, "*rows 1"]:
    return row_sum(x) / x.shape[-1]


class LayerNorm(nnx.Module):
    """`layer_normalise` with its learned scale."""

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))

    def __call__(self, x: Float[Array, "*rows features"]) -> Float[Array, "*rows features"]:
        return layer_normalise(x, self.scale[...])
