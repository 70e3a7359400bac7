"""What a model is: one frozen value for every member of the family, dense, parallel-block and mixture-of-experts."""

import dataclasses
import math
from typing import Literal, get_args

Block = Literal["sequential", "parallel"]
Activation = Literal["gelu", "swiglu"]
Routing = Literal["switch_top1", "top2", "expert_choice", "fine_grained_shared"]

ARCHITECTURES = ("dense", "parallel", "switch_top1", "top2", "expert_choice", "fine_grained_shared")


def _one_of(field: str, value: object, choices: object):
    if value not in get_args(choices):
        raise ValueError(f"{field} {value!r} is none of {', '.join(get_args(choices))}")


@dataclasses.dataclass(frozen=True)
class MoEConfig:
    """One mixture-of-experts feed-forward layer.

    Attributes:
        routing: which router. `switch_top1` (Switch Transformer), `top2` (GShard gates, dropless dispatch),
            `expert_choice` (each expert takes a fraction of the tokens, chosen causally), `fine_grained_shared`
            (DeepSeek-V3: many small experts, shared experts, sigmoid scores, bias balancing).
        experts: routed experts.
        experts_per_token: routed experts a token visits; on average, for `expert_choice`.
        expert_width: hidden width of one expert.
        shared_experts: experts every token visits, of the same width.
        every: every how many layers a feed-forward is a mixture (2: layers 1, 3, ...).
        capacity_factor: slots of an expert, in units of its mean load, when training; `None` drops nothing.
        eval_capacity_factor: the same, when evaluating.
        balance_weight: weight of the load-balance loss (1 x weight when the load is uniform).
        z_weight: weight of the router z-loss, mean squared logsumexp of the router logits (ST-MoE).
        bias_rate: step of the loss-free balancing of the selection bias; 0 has none.
    """

    routing: Routing
    experts: int
    experts_per_token: int
    expert_width: int
    shared_experts: int = 0
    every: int = 1
    capacity_factor: float | None = None
    eval_capacity_factor: float | None = None
    balance_weight: float = 0.0
    z_weight: float = 0.0
    bias_rate: float = 0.0

    def __post_init__(self):
        _one_of("routing", self.routing, Routing)
        if self.experts < 1 or not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} must lie in 1..experts ({self.experts})")
        if self.expert_width < 1 or self.every < 1 or self.shared_experts < 0:
            raise ValueError(f"expert_width, every must be positive and shared_experts not negative: {self}")
        for name in ("capacity_factor", "eval_capacity_factor"):
            factor = getattr(self, name)
            if factor is not None and not 0 < factor < math.inf:
                raise ValueError(f"{name} must be positive and finite, or None, got {factor}")
        for name in ("balance_weight", "z_weight", "bias_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer.

    Attributes:
        vocab: token ids, the end-of-document token included.
        context: positions a window holds.
        width: residual width.
        depth: blocks.
        heads: attention heads; `width / heads` must be even (rotary position pairs).
        ffn_width: hidden width of the dense feed-forward, and the active width a mixture is matched to.
        block: `sequential` (pre-LN) or `parallel` (attention and MLP read the same normalised input; GPT-J, PaLM).
        activation: `gelu` (two matrices) or `swiglu` (three).
        tied: the head is the embedding, transposed.
        qk_norm: normalise queries and keys per head.
        rope_base: base of the rotary frequencies.
        moe: the mixture, or None for a dense feed-forward.
    """

    vocab: int
    context: int
    width: int
    depth: int
    heads: int
    ffn_width: int
    block: Block = "sequential"
    activation: Activation = "gelu"
    tied: bool = True
    qk_norm: bool = False
    rope_base: float = 10_000.0
    moe: MoEConfig | None = None

    def __post_init__(self):
        _one_of("block", self.block, Block)
        _one_of("activation", self.activation, Activation)
        for name in ("vocab", "context", "width", "depth", "heads", "ffn_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must split into {self.heads} heads of even width")
        if not 1 < self.rope_base < math.inf:
            raise ValueError(f"rope_base must be above 1 and finite, got {self.rope_base}")

    def is_moe_layer(self, layer: int) -> bool:
        """Whether the feed-forward of this layer (0-based) is a mixture."""
        return self.moe is not None and (layer + 1) % self.moe.every == 0

    @property
    def architecture(self) -> str:
        """The name in ARCHITECTURES; a parallel mixture is `parallel_` and its routing."""
        routed = self.moe.routing if self.moe else ""
        if self.block == "parallel":
            return f"parallel_{routed}" if routed else "parallel"
        return routed or "dense"


def default_moe(routing: Routing, ffn_width: int, experts: int | None = None) -> MoEConfig:
    """The mixture of that routing whose *active* feed-forward width equals a dense `ffn_width`.

    Rules and constants as published: Switch (capacity 1.25/2.0, every second layer, balance 1e-2, z 1e-3), GShard and
    Mixtral (two of E, renormalised), expert choice (mean two experts a token), DeepSeekMoE/V3 (experts a quarter as
    wide, one of them shared, selection bias stepped by 1e-3, sequence-wise balance 1e-4).

    Raises:
        ValueError: `ffn_width` does not split into the experts' widths.
    """
    _one_of("routing", routing, Routing)
    parts = {"switch_top1": 1, "top2": 2, "expert_choice": 2, "fine_grained_shared": 4}[routing]
    if ffn_width % parts:
        raise ValueError(f"ffn_width {ffn_width} must be a multiple of {parts} for {routing}")
    width = ffn_width // parts
    if experts is None:
        experts = 16 if routing == "fine_grained_shared" else 8
    if routing == "switch_top1":
        return MoEConfig(routing, experts, 1, width, 0, 2, 1.25, 2.0, 1e-2, 1e-3)
    if routing == "top2":
        return MoEConfig(routing, experts, 2, width, balance_weight=1e-2, z_weight=1e-3)
    if routing == "expert_choice":
        return MoEConfig(routing, experts, 2, width, capacity_factor=1.25, eval_capacity_factor=2.0)
    return MoEConfig(routing, experts, 3, width, 1, balance_weight=1e-4, bias_rate=1e-3)


def make_config(
    architecture: str,
    *,
    vocab: int,
    context: int,
    width: int,
    depth: int,
    heads: int,
    ffn_width: int | None = None,
    activation: Activation = "gelu",
    tied: bool = True,
    qk_norm: bool = False,
    experts: int | None = None,
) -> ModelConfig:
    """The member of the family named `architecture`; the mixtures match a dense `ffn_width` in active width.

    Args:
        ffn_width: 4 x width by default; 8/3 x width, in multiples of 8, for `swiglu`, so that the parameters agree.

    Raises:
        ValueError: an unknown architecture, or sizes that do not fit together.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}")
    if ffn_width is None:
        ffn_width = 4 * width if activation == "gelu" else 8 * max(1, round(width / 3))
    moe = None if architecture in ("dense", "parallel") else default_moe(architecture, ffn_width, experts)
    block = "parallel" if architecture == "parallel" else "sequential"
    return ModelConfig(vocab, context, width, depth, heads, ffn_width, block, activation, tied, qk_norm, moe=moe)
