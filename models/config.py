"""The configuration of a model, and the list of architectures with what each of them sets.

README.md says which other files a new architecture touches.
"""

import dataclasses
import math
from typing import Literal, cast, get_args

BlockKind = Literal["sequential", "parallel"]
Activation = Literal["gelu", "swiglu"]
Routing = Literal["switch_top1", "top2", "expert_choice", "fine_grained_shared", "hash", "balanced", "reinforce"]
ObjectiveKind = Literal["next", "masked"]

ARCHITECTURES = ("dense", "parallel", *get_args(Routing))
# The most logits that exist at once (64 MB). More are computed in chunks of rows, and again in the backward pass.
LOGITS_LIMIT = 2**24


def _one_of(field: str, value: object, choices: object):
    if value not in get_args(choices):
        raise ValueError(f"{field} {value!r} is none of {', '.join(get_args(choices))}")


@dataclasses.dataclass(frozen=True)
class MoEConfig:
    """A mixture of experts in place of the dense feed-forward of some layers.

    Attributes:
        routing: the router: `switch_top1` (Switch Transformer), `top2` (GShard gates, nothing dropped),
            `expert_choice` (each expert takes a fraction of the tokens, chosen causally), `fine_grained_shared`
            (DeepSeek-V3: many small experts, shared experts, sigmoid scores, bias balancing), and three of Clark et al.
            2022: `hash` (by the token's id), `balanced` (S-BASE: equal loads in training, by optimal transport),
            `reinforce` (RL-R: the router is a policy, whose reward is the log-likelihood of the token).
        experts: number of routed experts.
        experts_per_token: number of routed experts that a token visits; for `expert_choice` on average.
        expert_width: hidden width of one expert.
        shared_experts: number of experts, of the same width, that every token visits.
        every: 1 makes every layer a mixture, 2 every second layer (0-based layers 1, 3, ...).
        capacity_factor: slots of an expert in training, as a multiple of its mean load; `None` drops no token.
        eval_capacity_factor: the capacity factor in evaluation.
        balance_weight: weight of the load-balance loss, which is 1 when the load is uniform.
        z_weight: weight of the router z-loss, mean squared logsumexp of the router logits (ST-MoE).
        bias_rate: size of a step of the selection bias, which balances loads without a loss; 0 keeps the bias at 0.
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
        if self.routing in ("hash", "balanced") and self.experts > 2**16:
            raise ValueError(f"{self.routing} has at most {2**16} experts, got {self.experts}")
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
class BaseSize:
    """The size of model whose learning rate other sizes take over (CompleteP, `models.complete_p`).

    Attributes:
        width, depth: of that model.
        head_width: width of its attention heads.
    """

    width: int
    depth: int
    head_width: int

    def __post_init__(self):
        for name in ("width", "depth", "head_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of the base must be positive, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class TrainingObjective:
    """What a model is trained to predict; `models.objective` says how a window is shown.

    Attributes:
        kind: `next` predicts each token from those before it; `masked` predicts hidden tokens from all others, by
            attention in both directions (BERT, Devlin et al. 2018).
        mask_share: of `masked`, the share of a window's positions that are hidden; for `next` it is at its default.
        counted: the first and last ids of ranges of target tokens whose loss counts, in rising order; None for all.
        patch: consecutive tokens of a position, which embeds as many and predicts as many, independently of each other
            given what it sees.
        forecast: whether evaluation is of forecasts: the last position of a window alone, from all before it. `masked`
            then hides positions at the end of windows and no others: in training as many of them as are drawn evenly
            from one up to the share, in evaluation the last. `next` is trained as without it.
    """

    kind: ObjectiveKind = "next"
    mask_share: float = 0.15
    counted: tuple[tuple[int, int], ...] | None = None
    patch: int = 1
    forecast: bool = False

    def __post_init__(self):
        _one_of("objective", self.kind, ObjectiveKind)
        if not 0 < self.mask_share < 1:
            raise ValueError(f"mask_share must lie between 0 and 1, got {self.mask_share}")
        if self.kind == "next":
            object.__setattr__(self, "mask_share", TrainingObjective.mask_share)  # one value for one meaning
        if self.patch < 1:
            raise ValueError(f"patch must be positive, got {self.patch}")
        ends = [end for pair in self.counted or () for end in pair]
        if self.counted == () or ends != sorted(ends) or (ends and ends[0] < 0):
            raise ValueError(f"counted must be ranges of ids in rising order, got {self.counted}")

    @property
    def weighs(self) -> bool:
        """Whether there are targets that do not count in training."""
        return self.kind == "masked" or self.counted is not None

    @property
    def decodes(self) -> bool:
        """Whether a model can write token by token: it predicts the next one, without masks and patches."""
        return self.kind == "next" and self.patch == 1

    @property
    def has_blank(self) -> bool:
        """Whether there is an id, the vocabulary's size, for a token that is not shown."""
        return self.kind == "masked" or self.patch > 1


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A transformer: a decoder, or with the objective `masked` an encoder of the same blocks.

    Attributes:
        vocab: number of token ids, the end-of-document token included.
        context: tokens of a window.
        width: width of the residual stream.
        depth: number of blocks.
        heads: attention heads; `width / heads` must be even (rotary position pairs).
        ffn_width: hidden width of the dense feed-forward; a mixture's active width is matched to it.
        block: `sequential` (pre-LN) or `parallel` (attention and MLP read the same normalised input; GPT-J, PaLM).
        activation: `gelu` (two matrices) or `swiglu` (three).
        tied: whether the head is the embedding, transposed.
        qk_norm: whether queries and keys are normalised per head.
        rope_base: base of the rotary frequencies.
        moe: the mixture, or None for a dense feed-forward.
        base: the base size of CompleteP, or None for the standard parametrisation.
        objective: what is predicted; None for the default, every next token.
    """

    vocab: int
    context: int
    width: int
    depth: int
    heads: int
    ffn_width: int
    block: BlockKind = "sequential"
    activation: Activation = "gelu"
    tied: bool = True
    qk_norm: bool = False
    rope_base: float = 10_000.0
    moe: MoEConfig | None = None
    base: BaseSize | None = None
    objective: TrainingObjective | None = None

    def __post_init__(self):
        _one_of("block", self.block, BlockKind)
        _one_of("activation", self.activation, Activation)
        for name in ("vocab", "context", "width", "depth", "heads", "ffn_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must split into {self.heads} heads of even width")
        if not 1 < self.rope_base < math.inf:
            raise ValueError(f"rope_base must be above 1 and finite, got {self.rope_base}")
        if self.objective == TrainingObjective():
            object.__setattr__(self, "objective", None)  # one value for one meaning
        if self.context % self.aim.patch:
            raise ValueError(f"context {self.context} must be a multiple of patch {self.aim.patch}")
        if self.aim.counted and self.aim.counted[-1][1] >= self.vocab:
            raise ValueError(f"counted ends at {self.aim.counted[-1][1]}, but the vocabulary has {self.vocab} ids")

    @property
    def aim(self) -> TrainingObjective:
        """The objective."""
        return self.objective or TrainingObjective()

    @property
    def positions(self) -> int:
        """Positions of a window: its tokens, or its patches."""
        return self.context // self.aim.patch

    @property
    def draws(self) -> bool:
        """Whether a training step draws anything at random: what is masked, or which experts are tried."""
        return self.aim.kind == "masked" or (self.moe is not None and self.moe.routing == "reinforce")

    @property
    def head_width(self) -> int:
        """Features of one attention head."""
        return self.width // self.heads

    @property
    def width_ratio(self) -> float:
        """Width over the base's; 1 in the standard parametrisation."""
        return self.width / self.base.width if self.base else 1.0

    @property
    def depth_ratio(self) -> float:
        """Depth over the base's; 1 in the standard parametrisation."""
        return self.depth / self.base.depth if self.base else 1.0

    def is_moe_layer(self, layer: int) -> bool:
        """Whether the feed-forward of this layer (0-based) is a mixture."""
        return self.moe is not None and (layer + 1) % self.moe.every == 0

    @property
    def architecture(self) -> str:
        """The name in ARCHITECTURES; a mixture in parallel blocks is called `parallel_ROUTING`."""
        routing = self.moe.routing if self.moe else ""
        if self.block == "parallel":
            return f"parallel_{routing}" if routing else "parallel"
        return routing or "dense"


# The published mixtures: routing -> (number of experts that a token visits, shared ones included; all other constants).
# Sources: Switch (Fedus et al. 2022); GShard and Mixtral; expert choice (Zhou et al. 2022) with two experts per token
# on average; DeepSeekMoE and V3 with experts a quarter as wide, one of them shared, and a balance loss per sequence;
# Clark et al. 2022 with one expert for a token in every second layer.
_PUBLISHED: dict[Routing, tuple[int, MoEConfig]] = {
    "switch_top1": (1, MoEConfig("switch_top1", 8, 1, 1, 0, 2, 1.25, 2.0, balance_weight=1e-2, z_weight=1e-3)),
    "top2": (2, MoEConfig("top2", 8, 2, 1, balance_weight=1e-2, z_weight=1e-3)),
    "expert_choice": (2, MoEConfig("expert_choice", 8, 2, 1, capacity_factor=1.25, eval_capacity_factor=2.0)),
    "fine_grained_shared": (4, MoEConfig("fine_grained_shared", 16, 3, 1, 1, balance_weight=1e-4, bias_rate=1e-3)),
    "hash": (1, MoEConfig("hash", 8, 1, 1, every=2)),
    "balanced": (1, MoEConfig("balanced", 8, 1, 1, every=2, capacity_factor=1.0)),
    "reinforce": (1, MoEConfig("reinforce", 8, 1, 1, every=2, balance_weight=1e-2)),
}


def default_moe(routing: Routing, ffn_width: int, experts: int | None = None, every: int | None = None) -> MoEConfig:
    """The published mixture of a routing, whose experts are so wide that a token visits `ffn_width` hidden features.

    `experts` and `every` are the published ones where they are None. ValueError if `ffn_width` is not a multiple of the
    number of experts that a token visits.
    """
    _one_of("routing", routing, Routing)
    visited, published = _PUBLISHED[routing]
    if ffn_width % visited:
        raise ValueError(f"ffn_width {ffn_width} must be a multiple of {visited} for {routing}")
    experts = published.experts if experts is None else experts
    every = published.every if every is None else every
    return dataclasses.replace(published, experts=experts, every=every, expert_width=ffn_width // visited)


def is_published(moe: MoEConfig) -> bool:
    """Whether a mixture is the published one of its routing, whatever the width of its experts."""
    return moe == dataclasses.replace(_PUBLISHED[moe.routing][1], expert_width=moe.expert_width)


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
    moe_every: int | None = None,
    base: BaseSize | None = None,
    objective: TrainingObjective | None = None,
) -> ModelConfig:
    """The configuration of a model of a named architecture; mixtures are those of `default_moe`.

    By default `ffn_width` is 4 x width; for `swiglu` it is 8/3 x width, rounded to a multiple of 8, which gives about
    as many parameters. ValueError if the architecture is unknown, or the sizes do not fit together.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}")
    if ffn_width is None:
        ffn_width = 4 * width if activation == "gelu" else 8 * max(1, round(width / 3))
    moe = (
        None
        if architecture in ("dense", "parallel")
        else default_moe(cast(Routing, architecture), ffn_width, experts, moe_every)
    )
    block = "parallel" if architecture == "parallel" else "sequential"
    return ModelConfig(
        vocab, context, width, depth, heads, ffn_width, block, activation, tied, qk_norm, moe=moe, base=base,
        objective=objective,
    )  # fmt: skip
