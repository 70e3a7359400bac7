"""Cross-entropy of the next token, computed in chunks of rows if there are many logits.

Sizes: n rows, V ids of the vocabulary.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.config import LOGITS_LIMIT
from models.cpu.row_ops import log_sum_exp


def cross_entropy(
    hidden: Float[Array, "n width"], unembedding: Float[Array, "V width"], targets: Int[Array, " n"]
) -> Float[Array, " n"]:
    """The cross-entropy -log softmax(hidden unembedding^T)[target] of each row in nats, float32.

    At most LOGITS_LIMIT logits exist at once. If there are more, the backward pass computes each chunk's logits again.
    """

    def chunk_losses(rows, targets):
        scores = jnp.matmul(rows, unembedding.T.astype(rows.dtype), preferred_element_type=jnp.float32)
        chosen = jnp.take_along_axis(scores, targets[:, None], axis=1)[:, 0]
        return log_sum_exp(scores) - chosen

    rows = hidden.shape[0]
    chunks, size = row_chunks(rows, unembedding.shape[0])
    if chunks == 1:
        return chunk_losses(hidden, targets)
    split = split_rows(hidden, chunks, size), split_rows(targets, chunks, size)
    losses = jax.lax.map(lambda chunk: jax.checkpoint(chunk_losses)(*chunk), split)
    return losses.reshape(-1)[:rows]


def row_chunks(rows: int, vocab: int) -> tuple[int, int]:
    """(Number of chunks, rows per chunk) that keep to LOGITS_LIMIT; `split_rows` pads the last chunk to that size."""
    chunks = -(-rows // max(1, LOGITS_LIMIT // vocab))
    return chunks, -(-rows // chunks)


def split_rows(x: Array, chunks: int, size: int) -> Array:
    """The rows of x as [chunks, size, ...], filled up with zeros."""
    padding = ((0, chunks * size - x.shape[0]),) + ((0, 0),) * (x.ndim - 1)
    return jnp.pad(x, padding).reshape(chunks, size, *x.shape[1:])
