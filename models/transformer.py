"""The decoder-only transformer, as pure functions of (config, parameters, tokens).

Sizes: B sequences, T positions, n = B T rows. Activations are flattened to [n, width], because weight gradients ran
at 112 GFLOP/s on 2 cores as sums over one flattened axis, and far slower as sums over (B, T).
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from models.attention import Attention
from models.complete_p import initial_depth, times
from models.compute import Compute
from models.config import ModelConfig
from models.cpu.one_pass_loss import mean_cross_entropy
from models.ffn import FeedForward
from models.intervention import Tap, no_tap
from models.loss import cross_entropy
from models.memory import Memory
from models.moe import MixtureOfExperts, RouterStats, SelectionBias, summarise
from models.norm import LayerNorm
from models.weights import draw_parameters, is_table, weight

# Spread of the embedding and the head: small beside the blocks' outputs, so that an untrained model has the loss ln V.
TABLE_STD = 0.02


class TransformerBlock(nnx.Module):
    """One layer: y = x + Attn(LN x), y + MLP(LN y); or, in parallel, x + Attn(LN x) + MLP(LN x) with one norm."""

    def __init__(self, config: ModelConfig, layer: int):
        self.parallel = config.block == "parallel"
        self.share = 1 / config.depth_ratio
        self.norm = LayerNorm(config.width)
        self.attention = Attention(config)
        if not self.parallel:
            self.ffn_norm = LayerNorm(config.width)
        self.moe = MixtureOfExperts(config) if config.is_moe_layer(layer) else None
        if self.moe is None:
            self.ffn = FeedForward(config.width, config.ffn_width, initial_depth(config), config.activation)

    def __call__(
        self,
        x: Float[Array, "n width"],
        batch: int,
        training: bool,
        compute: Compute,
        tap: Tap,
        memory: Memory | None = None,
    ):
        """(The layer's output, the report of its mixture or None)."""
        normed = tap("branch_in", self.norm(x))
        x = x + tap("branch_out", times(self.attention(normed, batch, compute.attention, memory), self.share))
        if not self.parallel:
            normed = tap("branch_in", self.ffn_norm(x))
        if self.moe is None:
            return x + tap("branch_out", times(self.ffn(normed, compute.padding), self.share)), None
        y, routed = self.moe(normed, batch, training, compute, memory)
        return x + tap("branch_out", times(y, self.share)), routed


class Transformer(nnx.Module):
    """Embedding, blocks, final norm, head. Built by `init`; called through `token_losses`, `mean_loss` and `logits`."""

    def __init__(self, config: ModelConfig):
        self.embedding = weight(config.vocab, config.width, std=TABLE_STD)
        self.blocks = nnx.List([TransformerBlock(config, layer) for layer in range(config.depth)])
        self.norm = LayerNorm(config.width)
        self.share = 1 / config.width_ratio
        self.head = None if config.tied else weight(config.vocab, config.width, std=TABLE_STD)

    def embed(self, tokens: Int[Array, "B T"]) -> Float[Array, "n width"]:
        """The rows of the embedding, float32."""
        return self.embedding[...][tokens.reshape(-1)]

    def hidden(
        self,
        embedded: Float[Array, "n width"],
        batch: int,
        training: bool,
        compute: Compute,
        tap: Tap,
        memories: Sequence[Memory] | None = None,
    ):
        """(What the unembedding turns into logits, each mixture layer's report) of `batch` embedded sequences.

        In decoding each layer has a memory.
        """
        x = tap("embedded", embedded.astype(compute.dtype))
        routed = []
        for layer, block in enumerate(self.blocks):
            memory = memories[layer] if memories else None
            x, report = block(tap("block_in", x), batch, training, compute, tap, memory)
            x = tap("block_out", x)
            routed += [] if report is None else [report]
        return times(self.norm(tap("final", x)), self.share), routed

    def unembedding(self) -> Float[Array, "vocab width"]:
        """The matrix that turns hidden states into logits, float32."""
        return (self.embedding if self.head is None else self.head)[...]

    def logits(self, hidden: Float[Array, "n width"], compute: Compute) -> Float[Array, "n vocab"]:
        """The logits of hidden states, float32."""
        head = self.unembedding().T.astype(compute.dtype)
        return jnp.matmul(hidden, head, preferred_element_type=jnp.float32)


@functools.lru_cache(maxsize=512)
def _declared(config: ModelConfig):
    """(Graph, parameters, selection biases) of a model as shapes, without values."""
    return nnx.split(nnx.eval_shape(lambda: Transformer(config)), nnx.Param, SelectionBias)


def init(config: ModelConfig, key: Key[Array, ""]) -> tuple[nnx.State, nnx.State]:
    """Draw new (parameters, selection biases), float32; only `fine_grained_shared` has biases."""
    _, params, biases = _declared(config)
    return draw_parameters(params, key), jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), biases)


def build_model(config: ModelConfig, params: nnx.State, biases: nnx.State, compute: Compute) -> Transformer:
    """The model as a module, with the matrices in the type of the activations."""

    # Norm scales and routers stay float32. So do the vocabulary's tables, whose rows are cast after the look-up, and in
    # the loss chunk by chunk: their gradients add up every occurrence of a token, and a sum in bfloat16 stops growing
    # (the gradient of a common byte was 32% off in a batch of 4,096 tokens).
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
    tap: Tap = no_tap,
) -> tuple[Float[Array, "B T"], RouterStats, list[Float[Array, " experts"]]]:
    """(Cross-entropy of each next token in nats, float32; the routers' statistics; each mixture layer's loads)."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    model = build_model(config, params, biases, compute)
    hidden, routed = model.hidden(model.embed(inputs), inputs.shape[0], training, compute, tap)
    losses = cross_entropy(hidden, model.unembedding(), targets.reshape(-1)).reshape(targets.shape)
    return losses, *summarise(routed)


class Lookup(NamedTuple):
    """What the `one_pass` loss reads from the vocabulary's tables, float32; empty for the `plain` loss.

    Attributes:
        head: the unembedding, transposed.
        rows: the embedding's rows for the inputs, and the unembedding's rows for the targets.
    """

    head: Float[Array, "width vocab"] | None = None
    rows: tuple[Float[Array, "n width"], Float[Array, "n width"]] | None = None


def look_up(
    config: ModelConfig, params: nnx.State, biases: nnx.State, tokens: Int[Array, "B T+1"], *, compute: Compute
) -> Lookup:
    """What `mean_loss` reads from the tables. A caller that splits a batch into chunks looks up once for all chunks."""
    if compute.loss == "plain":
        return Lookup()
    model = build_model(config, params, biases, compute)
    table = model.unembedding()
    rows = model.embed(tokens[:, :-1]), table[tokens[:, 1:].reshape(-1)]
    return Lookup(table.T, rows)


def mean_loss(
    config: ModelConfig,
    params: nnx.State,
    biases: nnx.State,
    tokens: Int[Array, "B T+1"],
    *,
    compute: Compute,
    lookup: Lookup | None = None,
    tap: Tap = no_tap,
) -> tuple[Float[Array, ""], RouterStats, list[Float[Array, " experts"]]]:
    """The loss that training lowers: the mean of `token_losses` in training; and that function's other results.

    If the `lookup` of these tokens is given, the `one_pass` loss does not read the tables itself.
    """
    if compute.loss == "plain":
        losses, stats, loads = token_losses(config, params, biases, tokens, training=True, compute=compute, tap=tap)
        return losses.mean(), stats, loads
    head, rows = lookup or look_up(config, params, biases, tokens, compute=compute)
    assert head is not None and rows is not None
    embedded, wanted = rows
    model = build_model(config, params, biases, compute)
    hidden, routed = model.hidden(embedded, tokens.shape[0], True, compute, tap)
    return mean_cross_entropy(hidden, head, wanted), *summarise(routed)


def logits(
    config: ModelConfig, params: nnx.State, biases: nnx.State, tokens: Int[Array, "B T"], *, compute: Compute
) -> Float[Array, "B T vocab"]:
    """Next-token logits in evaluation mode, float32."""
    model = build_model(config, params, biases, compute)
    hidden, _ = model.hidden(model.embed(tokens), tokens.shape[0], False, compute, no_tap)
    return model.logits(hidden, compute).reshape(*tokens.shape, config.vocab)
