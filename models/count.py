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
        embedding: parameters of the token embedding. The head has as many, whether or not it is the same matrix, but
            for the rows that stand for what is not shown (`models.config.TrainingObjective.has_blank`).
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

    With patches the blocks compute one position for several tokens, among which their operations are divided; the
    quotients are rounded to whole operations.

    Attributes:
        forward: all matrix products, with attention over the full context x context scores; embedding lookups are free.
        forward_causal: as `forward`, but with the (context + 1) / 2 keys that a token sees on average; with attention
            in both directions it is `forward`.
        forward_padded: as `forward`, but each expert computes all slots of its capacity: visits x capacity factor.
        head: the part of `forward` that makes the logits.
        train: 3 x forward.
        train_causal: 3 x forward_causal.
        six_n: 6 N with N = active parameters, embeddings included (C = 6ND in Hoffmann et al. 2022, equation 4); with
            patches D is positions.
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
    embedding, head = _tables(config)
    nonembedding = blocks + config.width + sum(layer.parameters for layer in layers)
    total = nonembedding + embedding + head
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
    attention, positions = 4 * config.width**2 * config.depth, config.positions

    def per_token(of_position):
        return of_position if config.aim.patch == 1 else round(of_position / config.aim.patch)

    matrices = attention + sum(layer.matrices for layer in layers)
    scores = positions * config.width * config.depth
    of_head = 2 * config.vocab * config.width
    forward = per_token(2 * matrices + 4 * scores) + of_head
    seen = 4 * scores if config.aim.kind == "masked" else 2 * (positions + 1) * config.width * config.depth
    forward_causal = per_token(2 * matrices + seen) + of_head
    padded = per_token(2 * (attention + sum(layer.padded for layer in layers)) + 4 * scores) + of_head
    softmax = per_token(3 * config.heads * positions * config.depth)
    return Flops(
        forward=forward,
        forward_causal=forward_causal,
        forward_padded=padded,
        head=of_head,
        train=3 * forward,
        train_causal=3 * forward_causal,
        six_n=per_token(6 * counts.active),
        kaplan=per_token(3 * (2 * counts.active_nonembedding + 2 * scores)),
        hoffmann=3 * (of_head + forward + softmax),
        palm=per_token(6 * matrices + 12 * scores) + 3 * of_head,
    )


def parts(config: ModelConfig) -> dict[str, int]:
    """The parameters that a gradient reaches, by what they are part of; together they are `Counts.trainable`.

    `embedding` is the vocabulary's tables, with an untied head; `ffn` the feed-forward layers without their routers, to
    which the baselines of those that learn by REINFORCE belong.
    """
    counts = count(config)
    routers = sum(config.is_moe_layer(layer) for layer in range(config.depth)) * _router(config)
    found = {
        "embedding": sum(_tables(config)),
        "attention": 4 * config.width**2 * config.depth,
        "router": routers,
        "ffn": sum(layer.parameters - layer.untrained for layer in _layers(config)) - routers,
    }
    return found | {"norms": counts.trainable - sum(found.values())}


def _tables(config: ModelConfig) -> tuple[int, int]:
    """The parameters of the embedding, and of a head of its own: a vocabulary for each place in a patch."""
    rows = config.aim.patch * config.vocab
    blanks = config.aim.patch if config.aim.has_blank else 0
    return (rows + blanks) * config.width, 0 if config.tied else rows * config.width


def _router(config: ModelConfig) -> int:
    """The parameters of the router of one mixture layer, which multiply each token."""
    moe = config.moe
    if moe is None or moe.routing == "hash":
        return 0
    baseline = config.width + 1 if moe.routing == "reinforce" else 0
    return config.width * moe.experts + baseline


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
    always = _router(config) + moe.shared_experts * expert
    bias = moe.experts if moe.routing == "fine_grained_shared" else 0
    visited = always + moe.experts_per_token * expert
    padded = always + (moe.capacity_factor or 1.0) * moe.experts_per_token * expert
    mixture = _FeedForward(always + moe.experts * expert + bias, bias, visited + bias, visited, padded)
    mixtures = sum(config.is_moe_layer(layer) for layer in range(config.depth))
    return layers[mixtures:] + [mixture] * mixtures
