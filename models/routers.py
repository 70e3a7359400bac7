"""The four routers of a mixture: which experts each token visits, and with which weight.

Sizes: n rows (positions of all sequences, flattened), E experts, k experts that a token visits, J assignments of a row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from models.cpu.row_ops import count_earlier_higher


class Choice(NamedTuple):
    """The decision of a router.

    Attributes:
        wanted: the expert of each assignment, one-hot; all false if the assignment is absent.
        gates: weight of each assignment's output.
        balance: the load-balance loss before it is weighted; 1 for a uniform router.
    """

    wanted: Bool[Array, "n J experts"]
    gates: Float[Array, "n J"]
    balance: Float[Array, ""]


def balance_loss(fractions: Float[Array, " experts"], mean_probability: Float[Array, " experts"]) -> Float[Array, ""]:
    """The loss E sum_e f_e P_e (Fedus et al. 2022), with the share f_e of assignments and the mean probability P_e."""
    return fractions.shape[0] * (fractions * mean_probability).sum()


def choose_top(probability: Float[Array, "n experts"], k: int, batch_axis: str | None = None) -> Choice:
    """Each token visits its k likeliest experts: Switch (k = 1, gate p) or GShard (k = 2, gates renormalised to 1).

    With `batch_axis` (see `models.compute.Compute`) the balance loss takes the fractions of the whole batch. The loss
    is linear in the probabilities, so that the mean over the devices of the loss, and of its gradient, is the value for
    the whole batch.
    """
    gates, index = jax.lax.top_k(probability, k)
    wanted = jax.nn.one_hot(index, probability.shape[1], dtype=jnp.bool_)
    if k > 1:
        gates = gates / gates.sum(-1, keepdims=True)
    first = wanted[:, 0].astype(jnp.float32).mean(0)
    if batch_axis is not None:
        first = jax.lax.pmean(first, batch_axis)
    return Choice(wanted, gates, balance_loss(first, probability.mean(0)))


def choose_by_expert(probability: Float[Array, "n experts"], k: int, batch: int) -> Choice:
    """Each expert takes the tokens that are among the best k/E of their sequence *so far*.

    In expert choice (Zhou et al. 2022) an expert picks its tokens from the whole window, so that every position sees
    the future. Here expert e takes position t if fewer than (k/E)(t + 1) earlier positions of the sequence score
    higher. That is causal and does not depend on the rest of the batch. Each expert takes a share k/E of the tokens
    in expectation, unless its scores drift along the sequence.
    """
    scores = probability.reshape(batch, -1, probability.shape[1])
    rank = count_earlier_higher(jax.lax.stop_gradient(scores))
    return choose_by_rank(probability, rank, k, jnp.arange(scores.shape[1], dtype=jnp.float32)[None])


def choose_by_rank(
    probability: Float[Array, "n experts"],
    rank: Float[Array, "batch T experts"],
    k: int,
    position: Float[Array, "#batch T"],
) -> Choice:
    """`choose_by_expert`, given how many earlier positions of its sequence score higher than each row."""
    experts = probability.shape[1]
    taken = rank < (k / experts) * (position + 1)[:, :, None]
    wanted = taken.reshape(-1, experts)[:, :, None] & jnp.eye(experts, dtype=jnp.bool_)[None]
    return Choice(wanted, probability, jnp.float32(1.0))


def choose_biased(score: Float[Array, "n experts"], bias: Float[Array, " experts"], k: int, batch: int) -> Choice:
    """Select the k experts of largest score plus bias; the gates are their scores over the sum of these (DeepSeek-V3).

    The scores are sigmoids. The balance loss is computed per sequence: the mean over sequences of E sum_e f_e P_e.
    """
    experts = score.shape[1]
    _, index = jax.lax.top_k(score + jax.lax.stop_gradient(bias)[None], k)
    wanted = jax.nn.one_hot(index, experts, dtype=jnp.bool_)
    chosen = jnp.take_along_axis(score, index, axis=1)
    share = (wanted.any(1).astype(jnp.float32) / k).reshape(batch, -1, experts).mean(1)
    normalised = (score / score.sum(-1, keepdims=True)).reshape(batch, -1, experts).mean(1)
    return Choice(wanted, chosen / chosen.sum(-1, keepdims=True), jax.vmap(balance_loss)(share, normalised).mean())
