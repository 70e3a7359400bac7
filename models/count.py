"""The one accountant: parameters and floating-point operations of a configuration, in every convention papers use.

Sizes, plans, utilisation, isoFLOP budgets and fits all ask here, so that no two figures disagree on what was counted.
A multiply and an add are two operations. Everything is per token unless said otherwise, in exact integers.
"""

import functools
from dataclasses import dataclass
from typing import Literal

from models.config import ModelConfig

Which = Literal["total", "nonembedding", "active"]


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters.

    Attributes:
        total: every number in the parameter tree, norm scales and the selection bias of `fine_grained_shared` included.
        nonembedding: total without the token embedding and without an untied head; the final norm stays (Kaplan's N).
        active: total without the routed experts that a token does not visit (on average, for `expert_choice`).
        active_nonembedding: both at once.
        trainable: total without the selection biases, which no gradient reaches.
        embedding: of the token embedding; a tied head is this same matrix.
        head: of the matrix that makes the logits, tied or not.
    """

    total: int
    nonembedding: int
    active: int
    active_nonembedding: int
    trainable: int
    embedding: int
    head: int

    @property
    def head_share(self) -> float:
        """Share of the total that the logits' matrix holds; near 1 says that N is mostly vocabulary."""
        return self.head / self.total

    def of(self, which: Which) -> int:
        """N under the named convention."""
        return {"total": self.total, "nonembedding": self.nonembedding, "active": self.active}[which]


@dataclass(frozen=True)
class Flops:
    """Floating-point operations per token. Training is three times the forward pass: the backward pass costs two.

    Attributes:
        forward: all matrix products; attention over the full context x context mask; the embedding lookup is free.
        forward_causal: the same, with the (context + 1) / 2 keys that a token sees on average.
        forward_padded: forward, when each expert computes all slots of its capacity: factor x visits instead of visits.
        head: the part of `forward` that makes the logits.
        train: 3 x forward.
        train_causal: 3 x forward_causal.
        six_n: 6 N with N = active parameters, embeddings included ("6ND"; Hoffmann et al. 2022, equation 4's C).
        kaplan: 3 (2 N + 2 depth context width), N = active non-embedding parameters (Kaplan et al. 2020, 2.1).
        hoffmann: training, the embedding as a product, the softmax and the full mask counted (Hoffmann, appendix F).
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


@dataclass(frozen=True)
class _FeedForward:
    """One feed-forward layer: its parameters, those no gradient reaches, and those a token visits.

    `matrices` and `padded` are the elements of the matrices a token is multiplied by: visited, and with full capacity.
    """

    parameters: int
    untrained: int
    active: int
    matrices: int
    padded: float


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
        head=embedding,
    )


@functools.lru_cache(maxsize=1 << 16)
def flops(config: ModelConfig) -> Flops:
    """The operations per token of a model at its full context."""
    layers, counts = _layers(config), count(config)
    attention = 4 * config.width**2 * config.depth
    matrices = attention + sum(layer.matrices for layer in layers)
    scores = config.context * config.width * config.depth
    head = 2 * counts.head
    forward = 2 * matrices + 4 * scores + head
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
        palm=6 * (matrices + counts.head) + 12 * scores,
    )


def _layers(config: ModelConfig) -> list[_FeedForward]:
    """The feed-forward of every block."""
    mixtures = sum(config.is_moe_layer(layer) for layer in range(config.depth))
    dense = _mlp(config, config.ffn_width)
    plain = _FeedForward(dense, 0, dense, dense, dense)
    return [plain] * (config.depth - mixtures) + [_mixture(config)] * mixtures


def _mlp(config: ModelConfig, hidden: int) -> int:
    return (3 if config.activation == "swiglu" else 2) * config.width * hidden


def _mixture(config: ModelConfig) -> _FeedForward:
    moe = config.moe
    if moe is None:
        return _FeedForward(0, 0, 0, 0, 0)
    expert = _mlp(config, moe.expert_width)
    always = config.width * moe.experts + _mlp(config, moe.shared_experts * moe.expert_width)
    bias = moe.experts if moe.routing == "fine_grained_shared" else 0
    visited = always + moe.experts_per_token * expert
    return _FeedForward(
        parameters=always + moe.experts * expert + bias,
        untrained=bias,
        active=visited + bias,
        matrices=visited,
        padded=always + (moe.capacity_factor or 1.0) * moe.experts_per_token * expert,
    )
