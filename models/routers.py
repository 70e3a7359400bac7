"""The routers of a mixture: which experts each token visits, and with which weight.

Sizes: n rows (positions of all sequences, flattened), E experts, k experts that a token visits, J assignments of a row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from models.assignment import balanced_assignment
from models.cpu.row_ops import count_earlier_higher

# Weight of the squared error of the baseline of `reinforce_loss`, which decides no update of the others' but by the
# clipping of the common norm.
BASELINE_WEIGHT = 0.01


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


def choose_by_hash(ids: Int[Array, " n"], experts: int) -> Choice:
    """Each token visits the expert that its id has, with the gate 1 (hash layers, Roller et al. 2021).

    An id is multiplied with 2^32 over the golden ratio, which spreads any run of consecutive ids evenly (Knuth, The Art
    of Computer Programming 3, 6.4).
    """
    spread = (ids.astype(jnp.uint32) * jnp.uint32(0x9E3779B9)) >> jnp.uint32(16)
    expert = (spread * jnp.uint32(experts)) >> jnp.uint32(16)
    return _one_each(expert.astype(jnp.int32), experts, jnp.ones(ids.shape, jnp.float32))


def choose_balanced(logits: Float[Array, "n experts"], training: bool, batch_axis: str | None = None) -> Choice:
    """S-BASE (Lewis et al. 2021; Clark et al. 2022): equal loads in training, the likeliest expert in evaluation.

    In training the assignment has the largest sum of logits of all with equal loads, those of all devices if there is a
    `batch_axis`. So what a token visits depends on all tokens of the batch, later ones too, as published; in evaluation
    it depends on the token alone. The gate is the probability of the expert.
    """
    fixed = jax.lax.stop_gradient(logits)
    if not training:
        expert = fixed.argmax(axis=1)
    elif batch_axis is None:
        expert = balanced_assignment(fixed)
    else:  # every device solves the whole problem and takes its part, so that their number does not matter
        whole = balanced_assignment(jax.lax.all_gather(fixed, batch_axis, tiled=True))
        start = jax.lax.axis_index(batch_axis) * logits.shape[0]
        expert = jax.lax.dynamic_slice_in_dim(whole, start, logits.shape[0])
    gates = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), expert[:, None], axis=1)[:, 0]
    return _one_each(expert, logits.shape[1], gates)


def choose_sampled(
    logits: Float[Array, "n experts"], key: Key[Array, ""] | None, batch_axis: str | None = None
) -> tuple[Choice, Float[Array, " n"]]:
    """RL-R (Clark et al. 2022): each token visits an expert drawn from the policy softmax(logits), with the gate 1.

    So the router learns by reinforcement alone (`reinforce_loss`), but for the load-balance loss.

    Returns:
        the choice, in evaluation (without a key) of the likeliest expert; and the log-probability of what was chosen.
    """
    expert = logits.argmax(axis=1) if key is None else jax.random.categorical(key, logits, axis=1)
    log_policy = jax.nn.log_softmax(logits, axis=1)
    choice = _one_each(expert, logits.shape[1], jnp.ones(expert.shape, jnp.float32))
    fractions = choice.wanted[:, 0].astype(jnp.float32).mean(0)
    if batch_axis is not None:
        fractions = jax.lax.pmean(fractions, batch_axis)
    balance = balance_loss(fractions, jnp.exp(log_policy).mean(0))
    return choice._replace(balance=balance), jnp.take_along_axis(log_policy, expert[:, None], axis=1)[:, 0]


def _one_each(expert: Int[Array, " n"], experts: int, gates: Float[Array, " n"]) -> Choice:
    """The choice of one expert for each row, without a load-balance loss."""
    return Choice(jax.nn.one_hot(expert[:, None], experts, dtype=jnp.bool_), gates[:, None], jnp.float32(1.0))


class Policy(NamedTuple):
    """What REINFORCE needs to know of a router, of each row.

    Attributes:
        log_probability: of the expert that was drawn.
        baseline: the reward that was expected.
    """

    log_probability: Float[Array, " n"]
    baseline: Float[Array, " n"]


def reinforce_loss(
    policies: list[Policy], losses: Float[Array, " n"], weights: Float[Array, " n"], total: Float[Array, ""]
) -> Float[Array, ""]:
    """What is added to a loss so that its gradient is also that by which experts are drawn (Williams 1992).

    Every drawn expert has the reward of its own row, less the row's loss. What it does to the losses of other rows,
    through attention, is not counted. The gradient of -(reward - baseline) log(policy), at a fixed reward and baseline,
    is that of the expected loss; the baseline makes it less noisy, and learns by the square of its error.

    Args:
        losses: of each row, a sum over what it predicts; no gradient goes through them here.
        weights: how much counts of what each row predicts, so that losses / weights is its mean.
        total: what the sum over rows is divided by.
    """
    reward = -jax.lax.stop_gradient(losses) / jnp.maximum(weights, 1e-9)
    added = jnp.float32(0.0)
    for policy in policies:
        error = reward - policy.baseline
        surprise = jax.lax.stop_gradient(error)
        terms = BASELINE_WEIGHT * jnp.square(error) - surprise * policy.log_probability
        added = added + (weights * terms).sum() / total
    return added
