"""Cross-entropy of the next token: of each row, or the mean over rows with its gradient computed on the way.

Sizes: n rows, V ids of the vocabulary.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.rows import log_sum_exp, row_max, row_sum

# Logits of more elements than this (64 MB) are computed a slice of the rows at a time.
LOGITS_LIMIT = 2**24


def cross_entropy(
    hidden: Float[Array, "n width"], unembedding: Float[Array, "V width"], targets: Int[Array, " n"]
) -> Float[Array, " n"]:
    """-log softmax(hidden unembedding^T)[target], nats, float32; never more than LOGITS_LIMIT logits at once, which
    the backward pass computes again."""

    def rows_loss(rows, wanted):
        scores = jnp.matmul(rows, unembedding.T.astype(rows.dtype), preferred_element_type=jnp.float32)
        chosen = jnp.take_along_axis(scores, wanted[:, None], axis=1)[:, 0]
        return log_sum_exp(scores) - chosen

    rows = hidden.shape[0]
    pieces, size = _pieces(rows, unembedding.shape[0])
    if pieces == 1:
        return rows_loss(hidden, targets)
    split = _split(hidden, pieces, size), _split(targets, pieces, size)
    losses = jax.lax.map(lambda piece: jax.checkpoint(rows_loss)(*piece), split)
    return losses.reshape(-1)[:rows]


@jax.custom_vjp
def mean_cross_entropy(
    hidden: Float[Array, "n width"], head: Float[Array, "width V"], wanted: Float[Array, "n width"]
) -> Float[Array, ""]:
    """The mean of `cross_entropy` by `head`, the unembedding's transpose, and `wanted`, its rows for the targets.

    The gradient of a mean is known before the backward pass: it is computed with the loss, slice by slice of the rows,
    so that no logit is computed twice and no slice outlives its turn. For CPUs: a step of width 128 with 50,304 ids
    took 2,490 ms of CPU time by `cross_entropy`, 2,060 this way. As the products want the unembedding turned, who calls
    this several times turns it once, and its gradient once: that took a quarter of a step of 50,304 ids.
    """
    return _mean_forward(hidden, head, wanted)[0]


def _mean_forward(hidden, head, wanted):
    rows, vocab = hidden.shape[0], head.shape[1]
    cast_head = head.astype(hidden.dtype)

    def piece(rows, toward, share):
        # The exponentials stay unnormalised: what normalises them is applied on the [n, width] side of the products.
        scores = jnp.matmul(rows, cast_head, preferred_element_type=jnp.float32)
        top = row_max(scores)
        weights = jnp.exp(scores - top)
        total = row_sum(weights)
        weights = weights.astype(rows.dtype)
        wide, scale = rows.astype(jnp.float32), share / total
        toward = toward.astype(rows.dtype).astype(jnp.float32)
        loss = (share * (jnp.log(total) + top - row_sum(wide * toward))).sum()
        d_rows = jnp.einsum("nv,wv->nw", weights, cast_head, preferred_element_type=jnp.float32)
        d_rows = d_rows * scale - toward * share
        # As [width, V]: the product whose result is [V, width] took 47 ms a slice of 256 rows, this one 28.
        scaled = (wide * scale).astype(rows.dtype)
        d_head = jnp.matmul(scaled.T, weights, preferred_element_type=jnp.float32)
        return loss, d_rows.astype(rows.dtype), d_head

    pieces, size = _pieces(rows, vocab)
    share = jnp.full((rows, 1), 1 / rows, jnp.float32)
    if pieces == 1:
        loss, d_hidden, d_head = piece(hidden, wanted, share)
    else:

        def add(carry, slices):
            loss, d_rows, d_head = piece(*slices)
            return (carry[0] + loss, carry[1] + d_head), d_rows

        nothing = jnp.float32(0.0), jnp.zeros(head.shape, jnp.float32)
        split = tuple(_split(z, pieces, size) for z in (hidden, wanted, share))  # rows of padding have no share
        (loss, d_head), d_hidden = jax.lax.scan(add, nothing, split)
        d_hidden = d_hidden.reshape(-1, hidden.shape[1])[:rows]
    return loss, (d_hidden, d_head, (hidden.astype(jnp.float32) * -share).astype(wanted.dtype))


def _mean_backward(gradients, cotangent):
    d_hidden, d_head, d_wanted = gradients
    return (cotangent * d_hidden.astype(jnp.float32)).astype(d_hidden.dtype), cotangent * d_head, cotangent * d_wanted


mean_cross_entropy.defvjp(_mean_forward, _mean_backward)


def _pieces(rows: int, vocab: int) -> tuple[int, int]:
    """(number of slices, rows of each): of one size, the last one padded by fewer rows than there are slices."""
    pieces = -(-rows // max(1, LOGITS_LIMIT // vocab))
    return pieces, -(-rows // pieces)


def _split(x: Array, pieces: int, size: int) -> Array:
    spare = ((0, pieces * size - x.shape[0]),) + ((0, 0),) * (x.ndim - 1)
    return jnp.pad(x, spare).reshape(pieces, size, *x.shape[1:])
