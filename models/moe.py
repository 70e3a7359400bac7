"""The mixture-of-experts feed-forward: a router, its experts, and what the layer reports.

Sizes: n rows (positions of all sequences, flattened), E experts, k experts that a token visits.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from models.complete_p import initial_depth, router_std
from models.compute import Compute
from models.config import ModelConfig, MoEConfig
from models.dispatch import block_rows, from_slots, route, to_slots
from models.ffn import FeedForward, expert_feed_forward, uses_loop
from models.memory import Memory
from models.routers import (
    Policy,
    choose_balanced,
    choose_biased,
    choose_by_expert,
    choose_by_hash,
    choose_sampled,
    choose_top,
)
from models.weights import weight


class SelectionBias(nnx.Variable):
    """A bias added to the scores for selection only; `step_bias` updates it without a gradient (DeepSeek-V3)."""


class RouterStats(NamedTuple):
    """What training records about the router of one mixture layer, or about all routers of a model.

    For a model `aux_loss` is the sum over its mixture layers, and the other statistics are means over them.

    Attributes:
        load_cv: standard deviation over mean of the experts' loads.
        drop_fraction: share of the assignments that are dropped.
        router_entropy: mean entropy of the router's distribution, nats; 0 for `hash`.
        aux_loss: sum of the weighted auxiliary losses, which is added to the training loss; for `reinforce` also what
            `models.routers.reinforce_loss` adds, whose value means nothing.
    """

    load_cv: Float[Array, ""]
    drop_fraction: Float[Array, ""]
    router_entropy: Float[Array, ""]
    aux_loss: Float[Array, ""]


class Routed(NamedTuple):
    """The report of one mixture layer.

    Attributes:
        load: the number of assignments that want each expert.
        policy: of a router that draws experts in training; else None.
    """

    stats: RouterStats
    load: Float[Array, " experts"]
    policy: Policy | None = None


class MixtureOfExperts(nnx.Module):
    """A router, its experts, and the shared experts that every token visits (one feed-forward of their joint width)."""

    def __init__(self, config: ModelConfig):
        moe = config.moe
        assert moe is not None
        self.moe = moe
        depth = initial_depth(config)
        if moe.routing != "hash":
            self.router = weight(config.width, moe.experts, std=router_std(config))
        if moe.routing == "reinforce":
            # With a row for a constant. At first it expects the reward of a model that knows nothing, -ln V.
            self.baseline = weight(config.width + 1, 1, std=0.0)
            self.first_reward = -math.log(config.vocab)
        self.experts = FeedForward(config.width, moe.expert_width, depth, config.activation, moe.experts)
        if moe.shared_experts:
            hidden = moe.shared_experts * moe.expert_width
            self.shared = FeedForward(config.width, hidden, depth, config.activation)
        if moe.routing == "fine_grained_shared":
            self.bias = SelectionBias(jnp.zeros(moe.experts, jnp.float32))

    def __call__(
        self,
        x: Float[Array, "n width"],
        batch: int,
        training: bool,
        compute: Compute,
        ids: Int[Array, " n"] | None = None,
        key: Key[Array, ""] | None = None,
        memory: Memory | None = None,
    ) -> tuple[Float[Array, "n width"], Routed]:
        """The output and report for `batch` sequences, those of this device if `compute.batch_axis` is set.

        Args:
            ids: a number for each row, by which `hash` chooses; other routers do not need it.
            key: with which `reinforce` draws in training; other routers do not need it.
            memory: what decoding keeps of the layer.
        """
        moe, batch_axis = self.moe, compute.batch_axis
        choice, logits, probability, policy = self._choose(x, batch, training, batch_axis, ids, key, memory)
        mean_load = x.shape[0] * moe.experts_per_token / moe.experts
        looped = uses_loop(self.experts.up[...], compute.experts)
        devices = 1 if batch_axis is None else jax.lax.axis_size(batch_axis)
        capacity = expert_capacity(moe, devices * x.shape[0], training)
        block = block_rows(mean_load, looped)
        if capacity is not None and not looped and batch_axis is None:
            block = capacity  # one block for each expert
        routing = route(choice.wanted, batch, capacity, block, batch_axis)
        slots = to_slots(x, routing)
        served = expert_feed_forward(slots, self.experts.weights(), routing.block_expert, compute.experts)
        y = from_slots(served, choice.gates, routing)
        if moe.shared_experts:
            y = y + self.shared(x)
        entropy = loss = jnp.float32(0.0)
        if logits is not None and probability is not None:
            z_loss = jnp.square(jax.nn.logsumexp(logits, axis=-1)).mean()
            entropy = -(probability * jnp.log(jnp.maximum(probability, 1e-20))).sum(-1).mean()
            loss = moe.balance_weight * choice.balance + moe.z_weight * z_loss
        load_cv = routing.load.std() / jnp.maximum(routing.load.mean(), 1e-9)
        return y, Routed(RouterStats(load_cv, routing.dropped, entropy, loss), routing.load, policy)

    def _choose(self, x, batch: int, training: bool, batch_axis: str | None, ids, key, memory: Memory | None):
        """(The choice, the logits and probabilities of the router or None, the policy or None)."""
        moe = self.moe
        if moe.routing == "hash":
            if ids is None:
                raise ValueError("hash chooses by the ids of tokens")
            return choose_by_hash(ids, moe.experts), None, None, None
        if moe.routing == "reinforce":
            # The noise of its gradient would be larger than the gradient of the blocks below: with it a model of 4
            # layers of width 48 had a held-out loss of 2.35 nats after 1e6 tokens, without it 2.01.
            x = jax.lax.stop_gradient(x)
        logits, policy = x.astype(jnp.float32) @ self.router[...].astype(jnp.float32), None
        probability = jax.nn.softmax(logits, axis=-1)
        if moe.routing == "expert_choice":
            choose = choose_by_expert if memory is None else memory.choose_by_expert
            choice = choose(probability, moe.experts_per_token, batch)
        elif moe.routing == "fine_grained_shared":
            probability = jax.nn.sigmoid(logits)
            choice = choose_biased(probability, self.bias[...], moe.experts_per_token, batch)
            probability = probability / probability.sum(-1, keepdims=True)
        elif moe.routing == "balanced":
            choice = choose_balanced(logits, training, batch_axis)
        elif moe.routing == "reinforce":
            if training and key is None:
                raise ValueError("reinforce draws experts with a key in training")
            choice, log_probability = choose_sampled(logits, key if training else None, batch_axis)
            if training:
                policy = Policy(log_probability, self._expected_reward(x))
        else:
            choice = choose_top(probability, moe.experts_per_token, batch_axis)
        return choice, logits, probability, policy

    def _expected_reward(self, x: Float[Array, "n width"]) -> Float[Array, " n"]:
        """The baseline, a linear function of each row."""
        matrix = self.baseline[...].astype(jnp.float32)
        return self.first_reward + (x.astype(jnp.float32) @ matrix[:-1] + matrix[-1:])[:, 0]


def expert_capacity(moe: MoEConfig, rows: int, training: bool) -> int | None:
    """Slots of one expert, ceil(factor k n / E), or None if no token is dropped."""
    factor = moe.capacity_factor if training else moe.eval_capacity_factor
    return None if factor is None else math.ceil(factor * moe.experts_per_token * rows / moe.experts)


def summarise(routed: list[Routed]) -> tuple[RouterStats, list[Float[Array, " experts"]]]:
    """Combine the layers' reports: statistics of the model (zeros without mixture layers), and each layer's loads."""
    if not routed:
        return RouterStats(*(jnp.zeros((), jnp.float32) for _ in RouterStats._fields)), []
    cv, dropped, entropy, loss = map(jnp.stack, zip(*(report.stats for report in routed), strict=True))
    return RouterStats(cv.mean(), dropped.mean(), entropy.mean(), loss.sum()), [report.load for report in routed]


def step_bias(bias: Float[Array, " experts"], load: Float[Array, " experts"], rate: float) -> Float[Array, " experts"]:
    """The bias after a loss-free balancing step, b + rate sign(mean load - load) (DeepSeek-V3)."""
    return bias + rate * jnp.sign(load.mean() - load)


def step_biases(config: ModelConfig, biases: nnx.State, loads: list[Float[Array, " experts"]]) -> nnx.State:
    """The selection biases after one step, given the loads of each mixture layer; empty if the model has none."""
    leaves, structure = jax.tree.flatten(biases)
    if not leaves or config.moe is None:
        return biases
    rate = config.moe.bias_rate
    return jax.tree.unflatten(structure, [step_bias(b, load, rate) for b, load in zip(leaves, loads, strict=True)])
