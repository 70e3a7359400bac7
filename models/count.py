"""Counts the parameters and floating-point operations of a configuration, in every convention that papers use.

Sizes, plans, utilisation, isoFLOP budgets and fits all take their counts from here, so that they agree on what was
counted. A multiply and an add are two operations. Operations are counted per token, in exact integers
(`forward_padded` is a float).
"""

import functools
from dataclasses import dataclass
from typing import Literal, NamedTuple

from models.config import ModelConfig

Which = Literal["total", "nonembedding", "active"]


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters.

    Attributes:
        total: all numbers in the parameter tree, norm scales and the selection bias of `fine_grained_shared` included.
        nonembedding: total without the token embedding and without an untied head; the final norm stays (Kaplan's N).
        active: total without the routed experts that a token does not visit (on average, for `expert_choice`).
        active_nonembedding: nonembedding without those experts.
        trainable: total without the selection biases, which no gradient reaches.
        embedding: parameters of the token embedding; the head has as many, whether or not it is the same matrix.
    """

    total: int
    nonembedding: int
    active: int
    active_nonembedding: int
    trainable: int
    embedding: int

    @property
    def head_share(self) -> float:
        """The share of the matrix that makes the logits in the total; near 1, the model is mostly vocabulary."""
        return self.embedding / self.total

    def of(self, which: Which) -> int:
        """N under the named convention."""
        return {"total": self.total, "nonembedding": self.nonembedding, "active": self.active}[which]


@dataclass(frozen=True)
class Flops:
    """Floating-point operations per token. The backward pass costs two forward passes, so training three.

    Attributes:
        forward: all matrix products, with attention over the full context x context scores; embedding lookups are free.
        forward_causal: as `forward`, but with the (context + 1) / 2 keys that a token sees on average.
        forward_padded: as `forward`, but each expert computes all slots of its capacity: visits x capacity factor.
        head: the part of `forward` that makes the logits.
        train: 3 x forward.
        train_causal: 3 x forward_causal.
        six_n: 6 N with N = active parameters, embeddings included (C = 6ND in Hoffmann et al. 2022, equation 4).
        kaplan: 3 (2 N + 2 depth context width), N = active non-embedding parameters (Kaplan et al. 2020, 2.1).
        hoffmann: training, counting the embedding as a product, the softmax and the full mask (Hoffmann, appendix F).
        palm: 6 N + 12 depth width context, N = active matrices, the head included (Chowdhery et al. 2022, appendix B).
    """

    forward: int
    forward_causal: int
    forward_padded: float
    head: int
    train: int
    train_causal: int
    six_n: int
    kaplan: int
    hoffmann: int
    palm: int

    @property
    def head_share(self) -> float:
        """Share of the forward pass spent on the logits."""
        return self.head / self.forward


@functools.lru_cache(maxsize=1 << 16)
def count(config: ModelConfig) -> Counts:
    """The parameters of a model, as in the tree that `models.transformer.init` makes."""
    layers = _layers(config)
    attention = 4 * config.width**2 + (2 * config.width // config.heads if config.qk_norm else 0)
    norms = config.width * (1 if config.block == "parallel" else 2)
    blocks = config.depth * (attention + norms)
    embedding = config.vocab * config.width
    nonembedding = blocks + config.width + sum(layer.parameters for layer in layers)
    total = nonembedding + embedding * (1 if config.tied else 2)
    idle = sum(layer.parameters - layer.active for layer in layers)
    return Counts(
        total=total,
        nonembedding=nonembedding,
        active=total - idle,
        active_nonembedding=nonembedding - idle,
        trainable=total - sum(layer.untrained for layer in layers),
        embedding=embedding,
    )


@functools.lru_cache(maxsize=1 << 16)
def flops(config: ModelConfig) -> Flops:
    """The operations per token of a model, at its full context."""
    layers, counts = _layers(config), count(config)
    attention = 4 * config.width**2 * config.depth
    matrices = attention + sum(layer.matrices for layer in layers)
    scores = config.context * config.width * config.depth
    head = 2 * counts.embedding
    forward = token_flops(config, config.context)
    forward_causal = 2 * matrices + 2 * (config.context + 1) * config.width * config.depth + head
    padded = 2 * (attention + sum(layer.padded for layer in layers)) + 4 * scores + head
    softmax = 3 * config.heads * config.context * config.depth
    return Flops(
        forward=forward,
        forward_causal=forward_causal,
        forward_padded=padded,
        head=head,
        train=3 * forward,
        train_causal=3 * forward_causal,
        six_n=6 * counts.active,
        kaplan=3 * (2 * counts.active_nonembedding + 2 * scores),
        hoffmann=3 * (2 * counts.embedding + forward + softmax),
        palm=6 * (matrices + counts.embedding) + 12 * scores,
    )


def token_flops(config: ModelConfig, positions: int) -> int:
    """The operations of the forward pass of one token that attends to so many positions."""
    matrices = 4 * config.width**2 * config.depth + sum(layer.matrices for layer in _layers(config))
    return 2 * matrices + 4 * positions * config.width * config.depth + 2 * count(config).embedding


def parts(config: ModelConfig) -> dict[str, int]:
    """The parameters that a gradient reaches, by what they are part of; together they are `Counts.trainable`.

    `embedding` is the vocabulary's tables, with an untied head; `ffn` the feed-forward layers without their routers.
    """
    counts, moe = count(config), config.moe
    mixtures = sum(config.is_moe_layer(layer) for layer in range(config.depth))
    routers = mixtures * config.width * moe.experts if moe else 0
    found = {
        "embedding": counts.embedding * (1 if config.tied else 2),
        "attention": 4 * config.width**2 * config.depth,
        "router": routers,
        "ffn": sum(layer.parameters - layer.untrained for layer in _layers(config)) - routers,
    }
    return found | {"norms": counts.trainable - sum(found.values())}


class _FeedForward(NamedTuple):
    """The counts of one feed-forward layer.

    `untrained` parameters get no gradient; `active` ones are used by a token. `matrices` is the number of matrix
    elements that multiply a token; `padded` is that number when experts also compute the empty slots of their capacity.
    """

    parameters: int
    untrained: int
    active: int
    matrices: int
    padded: float


def _layers(config: ModelConfig) -> list[_FeedForward]:
    """The feed-forward of every block, the dense ones first."""
    moe, matrix = config.moe, (3 if config.activation == "swiglu" else 2) * config.width
    dense = matrix * config.ffn_width
    layers = [_FeedForward(dense, 0, dense, dense, dense)] * config.depth
    if moe is None:
        return layers
    expert = matrix * moe.expert_width
    always = config.width * moe.experts + moe.shared_experts * expert
    bias = moe.experts if moe.routing == "fine_grained_shared" else 0
    visited = always + moe.experts_per_token * expert
    padded = always + (moe.capacity_factor or 1.0) * moe.experts_per_token * expert
    mixture = _FeedForward(always + moe.experts * expert + bias, bias, visited + bias, visited, padded)
    mixtures = sum(config.is_moe_layer(layer) for layer in range(config.depth))
    return layers[mixtures:] + [mixture] * mixtures
