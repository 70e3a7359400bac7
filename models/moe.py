"""Mixture-of-experts feed-forwards: four routers over one dispatch.

Sizes: n rows (positions of all sequences, flattened), E experts, k experts a token.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from models.config import ModelConfig, MoEConfig
from models.dispatch import from_slots, route, to_slots
from models.experts import Way, are_looped, block_rows, expert_feed_forward
from models.ffn import FeedForward
from models.weights import weight


class SelectionBias(nnx.Variable):
    """Added to the scores for selection only, stepped by the load and not by the gradient (DeepSeek-V3)."""


class Choice(NamedTuple):
    """What a router decided.

    Attributes:
        wanted: the expert of each assignment, one-hot (all false where there is none).
        gates: weight of each assignment's output.
        balance: the load-balance loss, unweighted, 1 under a uniform router.
    """

    wanted: Bool[Array, "n J experts"]
    gates: Float[Array, "n J"]
    balance: Float[Array, ""]


class Routed(NamedTuple):
    """What a mixture layer reports.

    Attributes:
        loss: weighted auxiliary losses, to be added to the training loss.
        load: assignments wanted by each expert.
        dropped: share of them that found no slot.
        entropy: mean entropy of the router's distribution, nats.
    """

    loss: Float[Array, ""]
    load: Float[Array, " experts"]
    dropped: Float[Array, ""]
    entropy: Float[Array, ""]


def balance_loss(fractions: Float[Array, " experts"], mean_probability: Float[Array, " experts"]) -> Float[Array, ""]:
    """E sum_e f_e P_e (Fedus et al. 2022): f the share of assignments, P the mean router probability."""
    return fractions.shape[0] * (fractions * mean_probability).sum()


def choose_top(probability: Float[Array, "n experts"], k: int, batch_axis: str | None = None) -> Choice:
    """Each token takes its k likeliest experts: Switch (k = 1, gate p) or GShard (k = 2, gates renormalised to 1).

    Args:
        batch_axis: see `models.transformer.Compute`. The balance loss is linear in the probabilities: with the
            fractions of the whole batch, its mean over the devices is that of the whole batch, and so is its gradient.
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
    """Each expert takes the tokens that stand in the best k/E of its sequence *so far*.

    Expert choice (Zhou et al. 2022) lets an expert pick its tokens from the whole window, which shows every position
    the future. Here expert e takes position t if fewer than (k/E)(t + 1) earlier positions of the sequence score
    higher: causal, the same for every batch composition, and balanced in expectation for any order without drift.
    """
    experts = probability.shape[1]
    scores = probability.reshape(batch, -1, experts)
    time = scores.shape[1]
    earlier = jnp.arange(time)[None, :, None] > jnp.arange(time)[:, None, None]  # [s, t, 1]: s stands before t
    higher = scores[:, :, None, :] > scores[:, None, :, :]  # [batch, s, t, expert]
    rank = (higher & earlier[None]).sum(1).astype(jnp.float32)
    taken = rank < (k / experts) * (jnp.arange(time, dtype=jnp.float32) + 1)[None, :, None]
    wanted = taken.reshape(-1, experts)[:, :, None] & jnp.eye(experts, dtype=jnp.bool_)[None]
    return Choice(wanted, probability, jnp.float32(1.0))


def choose_biased(score: Float[Array, "n experts"], bias: Float[Array, " experts"], k: int, batch: int) -> Choice:
    """Sigmoid scores, selection by score plus bias, gates the chosen scores over their sum (DeepSeek-V3).

    The balance loss is per sequence: the mean over sequences of E sum_e f_e P_e.
    """
    experts = score.shape[1]
    _, index = jax.lax.top_k(score + jax.lax.stop_gradient(bias)[None], k)
    wanted = jax.nn.one_hot(index, experts, dtype=jnp.bool_)
    chosen = jnp.take_along_axis(score, index, axis=1)
    share = (wanted.any(1).astype(jnp.float32) / k).reshape(batch, -1, experts).mean(1)
    normalised = (score / score.sum(-1, keepdims=True)).reshape(batch, -1, experts).mean(1)
    return Choice(wanted, chosen / chosen.sum(-1, keepdims=True), jax.vmap(balance_loss)(share, normalised).mean())


class MixtureOfExperts(nnx.Module):
    """A router, its experts, and the shared experts every token visits (one feed-forward of their joint width)."""

    def __init__(self, config: ModelConfig):
        moe = config.moe
        assert moe is not None
        self.moe = moe
        self.router = weight(config.width, moe.experts, std=config.width**-0.5)
        self.experts = FeedForward(config.width, moe.expert_width, config.depth, config.activation, moe.experts)
        if moe.shared_experts:
            hidden = moe.shared_experts * moe.expert_width
            self.shared = FeedForward(config.width, hidden, config.depth, config.activation)
        if moe.routing == "fine_grained_shared":
            self.bias = SelectionBias(jnp.zeros(moe.experts, jnp.float32))

    def __call__(
        self, x: Float[Array, "n width"], batch: int, training: bool, way: Way, batch_axis: str | None = None
    ) -> tuple[Float[Array, "n width"], Routed]:
        """Args:
        way: see `models.experts.expert_feed_forward`.
        batch_axis: see `models.transformer.Compute`; only where `shares_batch`.
        """
        moe = self.moe
        logits = x.astype(jnp.float32) @ self.router[...].astype(jnp.float32)
        probability = jax.nn.softmax(logits, axis=-1)
        if moe.routing == "expert_choice":
            choice = choose_by_expert(probability, moe.experts_per_token, batch)
        elif moe.routing == "fine_grained_shared":
            probability = jax.nn.sigmoid(logits)
            choice = choose_biased(probability, self.bias[...], moe.experts_per_token, batch)
            probability = probability / probability.sum(-1, keepdims=True)
        else:
            choice = choose_top(probability, moe.experts_per_token, batch_axis)
        mean_load = x.shape[0] * moe.experts_per_token / moe.experts
        block = block_rows(mean_load, are_looped(self.experts.up[...], way))
        routing = route(choice.wanted, batch, capacity(moe, x.shape[0], training), block)
        slots = to_slots(x, routing)
        served = expert_feed_forward(slots, self.experts.weights(), routing.block_expert, way)
        y = from_slots(served, choice.gates, routing)
        if moe.shared_experts:
            y = y + self.shared(x)
        z_loss = jnp.square(jax.nn.logsumexp(logits, axis=-1)).mean()
        entropy = -(probability * jnp.log(jnp.maximum(probability, 1e-20))).sum(-1).mean()
        loss = moe.balance_weight * choice.balance + moe.z_weight * z_loss
        load = routing.load if batch_axis is None else jax.lax.psum(routing.load, batch_axis)
        return y, Routed(loss, load, routing.dropped, entropy)


def shares_batch(moe: MoEConfig | None) -> bool:
    """Whether the devices may each route their own sequences: where nothing is dropped, no token competes with one of
    another sequence, and only loads are counted over the batch."""
    return moe is None or moe.capacity_factor is None


def capacity(moe: MoEConfig, rows: int, training: bool) -> int | None:
    """Slots of one expert, ceil(factor k n / E), or None where nothing is ever dropped."""
    factor = moe.capacity_factor if training else moe.eval_capacity_factor
    return None if factor is None else math.ceil(factor * moe.experts_per_token * rows / moe.experts)


def step_bias(bias: Float[Array, " experts"], load: Float[Array, " experts"], rate: float) -> Float[Array, " experts"]:
    """b + rate sign(mean load - load): the loss-free balancing step of DeepSeek-V3."""
    return bias + rate * jnp.sign(load.mean() - load)
