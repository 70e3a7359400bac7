"""Causal attention with rotary positions: one interface, the implementation chosen by platform."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.config import ModelConfig
from models.norm import rms_normalise
from models.rows import row_max, row_sum
from models.weights import weight

Implementation = Literal["chunked", "fused"]

# Queries a chunk: each sees only the keys up to its end. Measured at context 256 on 2 cores, a whole training step of
# 4 layers of width 128: no chunks 290 ms, chunks of 128 248 ms, of 64 223 ms.
QUERY_CHUNK = 64


def rotary_table(context: int, head_width: int, base: float) -> tuple[Float[Array, "T half"], Float[Array, "T half"]]:
    """Cosines and sines of the rotary angles (Su et al. 2021), half the head width of frequencies."""
    half = head_width // 2
    frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.arange(context, dtype=jnp.float32)[:, None] * frequency[None, :]
    return jnp.cos(angle), jnp.sin(angle)


def rotate(
    x: Float[Array, "BH T head"], table: tuple[Float[Array, "T half"], Float[Array, "T half"]]
) -> Float[Array, "BH T head"]:
    """Turn each pair (i, i + half) of features by its position's angle."""
    cos, sin = (part[None].astype(x.dtype) for part in table)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def causal_attention(
    q: Float[Array, "BH T head"],
    k: Float[Array, "BH T head"],
    v: Float[Array, "BH T head"],
    implementation: Implementation,
) -> Float[Array, "BH T head"]:
    """Softmax attention of each position over itself and what precedes it, scaled by 1/sqrt(head).

    Args:
        implementation: `chunked`, queries in chunks as batched matrix products, fastest on CPU; `fused`,
            `jax.nn.dot_product_attention`, whose lowering GPU and TPU compilers recognise. Both compute the softmax in
            float32 and agree to rounding.
    """
    if implementation == "fused":
        with jax.numpy_dtype_promotion("standard"):  # the library mixes bfloat16 and float32 inside
            out = jax.nn.dot_product_attention(q[:, :, None], k[:, :, None], v[:, :, None], is_causal=True)
        return out[:, :, 0]
    return _chunked(q * q.shape[2] ** -0.5, k, v)


def _spans(time: int) -> list[tuple[int, int]]:
    return [(start, min(start + QUERY_CHUNK, time)) for start in range(0, time, QUERY_CHUNK)]


@jax.custom_vjp
def _chunked(
    q: Float[Array, "BH T head"], k: Float[Array, "BH T head"], v: Float[Array, "BH T head"]
) -> Float[Array, "BH T head"]:
    """Attention of scaled queries. The gradient is written out so that the [T, T] arrays are passed over as seldom as
    can be: the weights stay unnormalised, and what normalises them is applied on the [T, head] side."""
    return _chunked_forward(q, k, v)[0]


def _chunked_forward(q, k, v):
    outputs, kept = [], []
    for start, end in _spans(q.shape[1]):
        scores = jnp.matmul(q[:, start:end], k[:, :end].swapaxes(1, 2), preferred_element_type=jnp.float32)
        future = jnp.arange(end)[None, :] > jnp.arange(start, end)[:, None]
        scores = jnp.where(future[None], -1e30, scores)
        weights = jnp.exp(scores - row_max(scores))
        scale = 1.0 / row_sum(weights)
        weights = weights.astype(v.dtype)
        mixed = jnp.matmul(weights, v[:, :end], preferred_element_type=jnp.float32)
        outputs.append((mixed * scale).astype(v.dtype))
        kept.append((weights, scale))
    out = jnp.concatenate(outputs, axis=1)
    return out, (q, k, v, out, kept)


def _chunked_backward(saved, cotangent):
    q, k, v, out, kept = saved
    # Summed as [head, T], turned once at the end: turning the [T, T] arrays instead took 33 of 184 ms a step.
    d_keys = d_values = jnp.zeros(k.swapaxes(1, 2).shape, jnp.float32)
    d_queries = []
    for (start, end), (weights, scale) in zip(_spans(q.shape[1]), kept, strict=True):
        d_mixed = cotangent[:, start:end].astype(jnp.float32) * scale
        inner = (d_mixed * out[:, start:end].astype(jnp.float32)).sum(-1, keepdims=True)
        d_mixed = d_mixed.astype(v.dtype)
        d_weights = jnp.matmul(d_mixed, v[:, :end].swapaxes(1, 2), preferred_element_type=jnp.float32)
        d_scores = (weights.astype(jnp.float32) * (d_weights - inner)).astype(q.dtype)
        d_queries.append(jnp.matmul(d_scores, k[:, :end]))
        d_keys = d_keys.at[:, :, :end].add(_over_queries(q[:, start:end], d_scores))
        d_values = d_values.at[:, :, :end].add(_over_queries(d_mixed, weights))
    d_keys, d_values = (z.swapaxes(1, 2).astype(k.dtype) for z in (d_keys, d_values))
    return jnp.concatenate(d_queries, axis=1), d_keys, d_values


def _over_queries(left: Float[Array, "BH queries head"], right: Float[Array, "BH queries keys"]):
    """[BH, head, keys], float32."""
    return jnp.einsum("bqh,bqk->bhk", left, right, preferred_element_type=jnp.float32)


_chunked.defvjp(_chunked_forward, _chunked_backward)


class Attention(nnx.Module):
    """Multi-head causal self-attention over flattened positions."""

    def __init__(self, config: ModelConfig):
        self.config = config
        width, std = config.width, config.width**-0.5
        self.query, self.key, self.value = (weight(width, width, std=std) for _ in range(3))
        self.out = weight(width, width, std=std * (2 * config.depth) ** -0.5)
        if config.qk_norm:
            self.query_scale, self.key_scale = (
                nnx.Param(jnp.ones(config.width // config.heads, jnp.float32)) for _ in range(2)
            )

    def __call__(
        self, x: Float[Array, "BT width"], batch: int, implementation: Implementation
    ) -> Float[Array, "BT width"]:
        config = self.config
        heads, head_width = config.heads, config.width // config.heads
        time = x.shape[0] // batch

        def split(weight: nnx.Param) -> Float[Array, "BH T head"]:
            z = (x @ weight[...]).reshape(batch, time, heads, head_width)
            return z.transpose(0, 2, 1, 3).reshape(batch * heads, time, head_width)

        q, k, v = split(self.query), split(self.key), split(self.value)
        if config.qk_norm:
            q, k = rms_normalise(q, self.query_scale[...]), rms_normalise(k, self.key_scale[...])
        table = rotary_table(time, head_width, config.rope_base)
        mixed = causal_attention(rotate(q, table), rotate(k, table), v, implementation)
        mixed = mixed.reshape(batch, heads, time, head_width).transpose(0, 2, 1, 3).reshape(x.shape)
        return mixed @ self.out[...]
