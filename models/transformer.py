"""The decoder-only transformer, as pure functions of (config, parameters, tokens).

Sizes: B sequences, T positions, n = B T rows. Activations are flattened to [n, width]: weight gradients contracted over
one flattened axis ran at 112 GFLOP/s on 2 cores, over (B, T) far slower.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from models.attention import Attention, Implementation
from models.config import ModelConfig
from models.experts import Way
from models.ffn import FeedForward
from models.loss import cross_entropy, mean_cross_entropy
from models.moe import MixtureOfExperts, Routed, SelectionBias, step_bias
from models.norm import LayerNorm
from models.weights import draw, weight

# Small beside the blocks' outputs, so that an untrained model's loss is ln V.
TABLE_STD = 0.02


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a model is computed, which decides speed and rounding but not what is computed.

    Attributes:
        dtype: of activations and of the copy of the parameters they meet; norms, softmax, router and loss stay float32.
        attention: see `models.attention.causal_attention`.
        loss: of `mean_loss`; `one_pass`, whose gradient is computed with it, or `plain`.
        spare: columns of zeros added to hidden features whose rows a CPU's cache cannot hold side by side: the weight
            gradients of 512 features ran at 43 to 53 GFLOP/s on one core, of 528 at 70 to 76.
        experts: see `models.experts.expert_feed_forward`.
        batch_axis: the mesh axis over whose devices a caller has split the batch by hand: loads are then those of the
            whole batch, losses and the other statistics those of the device's share, to be averaged by the caller.
    """

    dtype: str = "float32"
    attention: Implementation = "chunked"
    loss: Literal["one_pass", "plain"] = "one_pass"
    spare: int = 16
    experts: Way = "looped"
    batch_axis: str | None = None


def compute_for(platform: str) -> Compute:
    """On `cpu` float32 (bfloat16 is no faster there: 130-150 against 140-175 GFLOP/s), chunked attention, the loss
    in one pass; on `cuda`, `rocm`, `gpu` and `tpu` bfloat16, fused attention and the plain loss."""
    return Compute() if platform == "cpu" else Compute("bfloat16", "fused", "plain", 0, "batched")


class RouterStats(NamedTuple):
    """Means over the mixture layers; zeros for a model without any.

    Attributes:
        load_cv: standard deviation over mean of the experts' loads.
        drop_fraction: share of assignments dropped.
        router_entropy: nats.
        aux_loss: sum over layers of the weighted auxiliary losses.
    """

    load_cv: Float[Array, ""]
    drop_fraction: Float[Array, ""]
    router_entropy: Float[Array, ""]
    aux_loss: Float[Array, ""]


class Block(nnx.Module):
    """One layer: y = x + Attn(LN x), y + MLP(LN y); or, in parallel, x + Attn(LN x) + MLP(LN x) with one norm."""

    def __init__(self, config: ModelConfig, layer: int):
        self.parallel = config.block == "parallel"
        self.norm = LayerNorm(config.width)
        self.attention = Attention(config)
        if not self.parallel:
            self.ffn_norm = LayerNorm(config.width)
        self.moe = MixtureOfExperts(config) if config.is_moe_layer(layer) else None
        if self.moe is None:
            self.ffn = FeedForward(config.width, config.ffn_width, config.depth, config.activation)

    def __call__(self, x, batch: int, training: bool, compute: Compute):
        normed = self.norm(x)
        x = x + self.attention(normed, batch, compute.attention)
        if not self.parallel:
            normed = self.ffn_norm(x)
        if self.moe is None:
            return x + self.ffn(normed, compute.spare), None
        y, routed = self.moe(normed, batch, training, compute.experts, compute.batch_axis)
        return x + y, routed


class Transformer(nnx.Module):
    """Embedding, blocks, final norm, head. Built by `init`; called through `token_losses` and `logits`."""

    def __init__(self, config: ModelConfig):
        self.embedding = weight(config.vocab, config.width, std=TABLE_STD)
        self.blocks = nnx.List([Block(config, layer) for layer in range(config.depth)])
        self.norm = LayerNorm(config.width)
        self.head = None if config.tied else weight(config.vocab, config.width, std=TABLE_STD)

    def hidden(self, embedded: Float[Array, "n width"], batch: int, training: bool, compute: Compute):
        """([n, width] after the final norm, one Routed a mixture layer) of rows of the embedding, B = batch."""
        x = embedded.astype(compute.dtype)
        routed = []
        for block in self.blocks:
            x, report = block(x, batch, training, compute)
            routed += [] if report is None else [report]
        return self.norm(x), routed

    def embed(self, tokens: Int[Array, "B T"]) -> Float[Array, "n width"]:
        """The embedding's rows, float32."""
        return self.embedding[...][tokens.reshape(-1)]

    def unembedding(self) -> Float[Array, "vocab width"]:
        """The matrix that turns hidden states into logits, float32."""
        return (self.embedding if self.head is None else self.head)[...]


@functools.lru_cache(maxsize=512)
def _declared(config: ModelConfig):
    """(graph, declared parameters, declared selection biases); shapes only."""
    return nnx.split(nnx.eval_shape(lambda: Transformer(config)), nnx.Param, SelectionBias)


def init(config: ModelConfig, key: Key[Array, ""]) -> tuple[nnx.State, nnx.State]:
    """Fresh (parameters, selection biases), float32; the biases are empty but for `fine_grained_shared`."""
    _, params, biases = _declared(config)
    return draw(params, key), jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), biases)


def is_table(path: tuple[Any, ...]) -> bool:
    """Whether a parameter is one of the vocabulary's tables, by its path."""
    return any(getattr(part, "key", None) in ("embedding", "head") for part in path)


def _model(config: ModelConfig, params: nnx.State, biases: nnx.State, compute: Compute) -> Transformer:
    # Norm scales and routers meet float32. The vocabulary's tables are cast after they are looked up and slice by slice
    # of the loss: their gradients add up every occurrence of a token, and a bfloat16 sum stalls (a common byte's was
    # 32% off in a batch of 4,096 tokens).
    def cast(path, leaf):
        wide = leaf.ndim == 1 or is_table(path) or any(getattr(part, "key", None) == "router" for part in path)
        return leaf if wide else leaf.astype(compute.dtype)

    cast_params = jax.tree_util.tree_map_with_path(cast, params)
    return nnx.merge(_declared(config)[0], cast_params, biases)


def token_losses(
    config: ModelConfig,
    params: nnx.State,
    biases: nnx.State,
    tokens: Int[Array, "B T+1"],
    *,
    training: bool,
    compute: Compute,
) -> tuple[Float[Array, "B T"], RouterStats, list[Float[Array, " experts"]]]:
    """Cross-entropy of each next token, nats, float32.

    Returns:
        losses, the router's statistics, and the load of each mixture layer's experts (for `step_biases`).
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    model = _model(config, params, biases, compute)
    hidden, routed = model.hidden(model.embed(inputs), inputs.shape[0], training, compute)
    losses = cross_entropy(hidden, model.unembedding(), targets.reshape(-1)).reshape(targets.shape)
    return losses, _stats(routed), [report.load for report in routed]


def mean_loss(
    config: ModelConfig, params: nnx.State, biases: nnx.State, tokens: Int[Array, "B T+1"], *, compute: Compute
) -> tuple[Float[Array, ""], RouterStats, list[Float[Array, " experts"]]]:
    """What training lowers: the mean of `token_losses` in training, and its other two results."""
    if compute.loss == "plain":
        losses, stats, loads = token_losses(config, params, biases, tokens, training=True, compute=compute)
        return losses.mean(), stats, loads
    taken = look_up(config, params, biases, tokens)
    return lookup_loss(config, params, biases, taken, tokens.shape[0], compute=compute)


class Lookup(NamedTuple):
    """What a batch takes from the vocabulary's tables, float32.

    Attributes:
        embedded: the embedding's rows for the inputs.
        wanted: the unembedding's rows for the targets.
        head: the unembedding, turned.
    """

    embedded: Float[Array, "n width"]
    wanted: Float[Array, "n width"]
    head: Float[Array, "width vocab"]


def look_up(config: ModelConfig, params: nnx.State, biases: nnx.State, tokens: Int[Array, "B T+1"]) -> Lookup:
    """All that a loss has to do with ids, for `lookup_loss`."""
    model = _model(config, params, biases, Compute())
    table = model.unembedding()
    return Lookup(model.embed(tokens[:, :-1]), table[tokens[:, 1:].reshape(-1)], table.T)


def lookup_loss(
    config: ModelConfig, params: nnx.State, biases: nnx.State, taken: Lookup, batch: int, *, compute: Compute
) -> tuple[Float[Array, ""], RouterStats, list[Float[Array, " experts"]]]:
    """`mean_loss`, in one pass, of what a batch has taken from the tables; by itself it makes no use of them, so that
    a batch in several pieces turns them, and adds to their gradients, once."""
    hidden, routed = _model(config, params, biases, compute).hidden(taken.embedded, batch, True, compute)
    loss = mean_cross_entropy(hidden, taken.head, taken.wanted)
    return loss, _stats(routed), [report.load for report in routed]


def logits(
    config: ModelConfig, params: nnx.State, biases: nnx.State, tokens: Int[Array, "B T"], *, compute: Compute
) -> Float[Array, "B T vocab"]:
    """Next-token logits in evaluation mode, float32."""
    model = _model(config, params, biases, compute)
    hidden, _ = model.hidden(model.embed(tokens), tokens.shape[0], False, compute)
    out = jnp.matmul(hidden, model.unembedding().T.astype(compute.dtype), preferred_element_type=jnp.float32)
    return out.reshape(*tokens.shape, config.vocab)


def _stats(routed: list[Routed]) -> RouterStats:
    if not routed:
        return RouterStats(*(jnp.zeros((), jnp.float32) for _ in RouterStats._fields))
    cv = jnp.stack([report.load.std() / jnp.maximum(report.load.mean(), 1e-9) for report in routed]).mean()
    dropped = jnp.stack([report.dropped for report in routed]).mean()
    entropy = jnp.stack([report.entropy for report in routed]).mean()
    return RouterStats(cv, dropped, entropy, jnp.stack([report.loss for report in routed]).sum())


def step_biases(config: ModelConfig, biases: nnx.State, loads: list[Float[Array, " experts"]]) -> nnx.State:
    """The selection biases after one step with these loads; unchanged for models without any."""
    leaves, structure = jax.tree.flatten(biases)
    if not leaves or config.moe is None:
        return biases
    rate = config.moe.bias_rate
    return jax.tree.unflatten(structure, [step_bias(b, load, rate) for b, load in zip(leaves, loads, strict=True)])
