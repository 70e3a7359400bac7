"""Attention with rotary positions, to what came before or in both directions."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.complete_p import initial_depth, times
from models.compute import AttentionMethod
from models.config import ModelConfig
from models.cpu.chunked_attention import chunked_attention
from models.memory import Memory
from models.norm import rms_normalise
from models.weights import weight


def rotary_table(context: int, head_width: int, base: float) -> tuple[Float[Array, "T half"], Float[Array, "T half"]]:
    """Cosines and sines of the rotary angles (Su et al. 2021), one frequency for each pair of a head's features."""
    return rotary_rows(jnp.arange(context, dtype=jnp.float32), head_width, base)


def rotary_rows(
    positions: Float[Array, " T"], head_width: int, base: float
) -> tuple[Float[Array, "T half"], Float[Array, "T half"]]:
    """The rows of `rotary_table` at these positions."""
    half = head_width // 2
    frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, None] * frequency[None, :]
    return jnp.cos(angle), jnp.sin(angle)


def rotate(
    x: Float[Array, "BH T head"], table: tuple[Float[Array, "T half"], Float[Array, "T half"]]
) -> Float[Array, "BH T head"]:
    """Rotate each pair (i, i + half) of the features of x by the angle of its position."""
    cos, sin = (part[None].astype(x.dtype) for part in table)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def attend(
    q: Float[Array, "BH T head"],
    k: Float[Array, "BH T head"],
    v: Float[Array, "BH T head"],
    method: AttentionMethod,
    causal: bool = True,
) -> Float[Array, "BH T head"]:
    """Softmax attention of each position over itself and all earlier ones, or over all, scaled by 1/sqrt(head).

    `chunked` computes the queries in chunks, which is fastest on a CPU; `fused` calls
    `jax.nn.dot_product_attention`. Both compute the softmax in float32 and agree up to rounding.
    """
    if method == "fused":
        with jax.numpy_dtype_promotion("standard"):  # the library mixes bfloat16 and float32 inside
            out = jax.nn.dot_product_attention(q[:, :, None], k[:, :, None], v[:, :, None], is_causal=causal)
        return out[:, :, 0]
    return chunked_attention(q * q.shape[2] ** -0.5, k, v, causal)


class Attention(nnx.Module):
    """Multi-head self-attention, in both directions for the objective `masked` and else causal.

    The positions of all sequences are the rows of one matrix.
    """

    def __init__(self, config: ModelConfig):
        self.config = config
        width, std = config.width, config.width**-0.5
        self.query, self.key, self.value = (weight(width, width, std=std) for _ in range(3))
        self.out = weight(width, width, std=std * (2 * initial_depth(config)) ** -0.5)
        if config.qk_norm:
            self.query_scale, self.key_scale = (
                nnx.Param(jnp.ones(config.width // config.heads, jnp.float32)) for _ in range(2)
            )

    def __call__(
        self, x: Float[Array, "BT width"], batch: int, method: AttentionMethod, memory: Memory | None = None
    ) -> Float[Array, "BT width"]:
        """Attention within each of the `batch` sequences whose rows are stacked in x, or with what `memory` has."""
        config = self.config
        q, k, v = self._heads(x, batch)
        _, time, head_width = q.shape
        if memory is None:
            table = rotary_table(time, head_width, config.rope_base)
            mixed = attend(rotate(q, table), rotate(k, table), v, method, config.aim.kind != "masked")
        else:
            mixed = memory.attend(q, k, v, config.rope_base, method)
        mixed = mixed.reshape(batch, config.heads, time, head_width).transpose(0, 2, 1, 3).reshape(x.shape)
        return mixed @ self.out[...]

    def weights(self, x: Float[Array, "BT width"], batch: int) -> Float[Array, "BH T T"]:
        """How much each position attends to each, float32; a row sums to 1."""
        config = self.config
        q, k, _ = self._heads(x, batch)
        _, time, head_width = q.shape
        table = rotary_table(time, head_width, config.rope_base)
        scores = jnp.matmul(rotate(q, table), rotate(k, table).swapaxes(1, 2), preferred_element_type=jnp.float32)
        if config.aim.kind != "masked":
            scores = jnp.where(jnp.tril(jnp.ones((time, time), jnp.bool_))[None], scores, -jnp.inf)
        return jax.nn.softmax(scores * head_width**-0.5, axis=-1)

    def _heads(self, x: Float[Array, "BT width"], batch: int) -> tuple[Float[Array, "BH T head"], ...]:
        """The queries, keys and values of each head, before their positions turn them."""
        config = self.config
        heads, head_width = config.heads, config.head_width
        time = x.shape[0] // batch

        def split(weight: nnx.Param) -> Float[Array, "BH T head"]:
            z = (x @ weight[...]).reshape(batch, time, heads, head_width)
            return z.transpose(0, 2, 1, 3).reshape(batch * heads, time, head_width)

        q, k, v = split(self.query), split(self.key), split(self.value)
        if config.qk_norm:
            q, k = rms_normalise(q, self.query_scale[...]), rms_normalise(k, self.key_scale[...])
        if config.base:  # scores of 1/head_width, because trained queries and keys are no longer independent
            q = times(q, (config.base.head_width / head_width) ** 0.5)
        return q, k, v
