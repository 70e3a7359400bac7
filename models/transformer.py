"""The transformer, as pure functions of (config, parameters, tokens).

Sizes: B sequences of T tokens, at T positions each, or with patches of p tokens at T / p; n rows, one for each position
of all sequences. Activations are flattened to [n, width], because weight gradients ran
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
from models.moe import MixtureOfExperts, Routed, RouterStats, SelectionBias, summarise
from models.norm import LayerNorm
from models.objective import Example, show
from models.routers import reinforce_loss
from models.weights import draw_parameters, is_router, is_table, weight

# Spread of the embedding and the head: small beside the blocks' outputs, so that an untrained model has the loss ln V.
TABLE_STD = 0.02
# With which a layer's number is folded into the key of its router: above all numbers of interventions.
_ROUTER = 2**16


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
        ids: Int[Array, " n"] | None = None,
        key: Key[Array, ""] | None = None,
        memory: Memory | None = None,
    ) -> tuple[Float[Array, "n width"], Routed | None]:
        """(The layer's output, the report of its mixture or None); `ids` and `key` are for its router."""
        normed = tap("branch_in", self.norm(x))
        x = x + tap("branch_out", times(self.attention(normed, batch, compute.attention, memory), self.share))
        if not self.parallel:
            normed = tap("branch_in", self.ffn_norm(x))
        if self.moe is None:
            return x + tap("branch_out", times(self.ffn(normed, compute.padding), self.share)), None
        y, routed = self.moe(normed, batch, training, compute, ids, key, memory)
        return x + tap("branch_out", times(y, self.share)), routed


class Transformer(nnx.Module):
    """Embedding, blocks, final norm, head. Built by `init`; called through `token_losses`, `mean_loss` and `logits`.

    With patches the tables hold a vocabulary for each place in a patch, one after another. The embedding has a further
    row after each vocabulary where the objective has a blank.
    """

    def __init__(self, config: ModelConfig):
        self.vocab, self.patch = config.vocab, config.aim.patch
        self.rows = config.vocab + config.aim.has_blank  # of the embedding, for each place in a patch
        self.embedding = weight(self.patch * self.rows, config.width, std=TABLE_STD)
        self.blocks = nnx.List([TransformerBlock(config, layer) for layer in range(config.depth)])
        self.norm = LayerNorm(config.width)
        self.share = 1 / config.width_ratio
        self.head = None if config.tied else weight(self.patch * config.vocab, config.width, std=TABLE_STD)

    def embed(self, inputs: Int[Array, "B T"]) -> Float[Array, "n width"]:
        """The rows of the embedding, float32; of a patch their sum."""
        if self.patch == 1:
            return self.embedding[...][inputs.reshape(-1)]
        places = jnp.arange(self.patch, dtype=inputs.dtype) * self.rows
        return self.embedding[...][inputs.reshape(-1, self.patch) + places[None]].sum(1)

    def hidden(
        self,
        embedded: Float[Array, "n width"],
        inputs: Int[Array, "B T"],
        training: bool,
        compute: Compute,
        tap: Tap,
        key: Key[Array, ""] | None = None,
        memories: Sequence[Memory] | None = None,
    ) -> tuple[Float[Array, "n width"], list[Routed]]:
        """(What the unembedding turns into logits, each mixture layer's report) of embedded sequences.

        Args:
            inputs: the tokens that were embedded, by which some routers choose.
            key: with which some routers draw in training.
            memories: what decoding keeps of each layer.
        """
        x = tap("embedded", embedded.astype(compute.dtype))
        ids, routed = self._ids(inputs), []
        for layer, block in enumerate(self.blocks):
            own = None if key is None else jax.random.fold_in(key, _ROUTER + layer)
            memory = memories[layer] if memories else None
            x, report = block(tap("block_in", x), inputs.shape[0], training, compute, tap, ids, own, memory)
            x = tap("block_out", x)
            routed += [] if report is None else [report]
        return times(self.norm(tap("final", x)), self.share), routed

    def _ids(self, inputs: Int[Array, "B T"]) -> Int[Array, " n"]:
        """A number for each position, which its tokens decide."""
        ids, *others = inputs.reshape(-1, self.patch).T
        for other in others:
            ids = ids * 31 + other
        return ids

    def unembedding(self) -> Float[Array, "*patch vocab width"]:
        """The matrix that turns hidden states into logits, float32; with patches one for each place."""
        table = (self.embedding if self.head is None else self.head)[...]
        if table.shape[0] == self.vocab:
            return table
        places = table.reshape(self.patch, -1, table.shape[1])[:, : self.vocab]
        return places[0] if self.patch == 1 else places

    def losses(self, hidden: Float[Array, "n width"], targets: Int[Array, "B T"]) -> Float[Array, "B T"]:
        """The cross-entropy of each target in nats, float32."""
        table = self.unembedding()
        if self.patch == 1:
            return cross_entropy(hidden, table, targets.reshape(-1)).reshape(targets.shape)
        places = table, targets.reshape(-1, self.patch).T
        return jax.lax.map(lambda place: cross_entropy(hidden, *place), places).T.reshape(targets.shape)

    def logits(self, hidden: Float[Array, "n width"], compute: Compute) -> Float[Array, "n logits"]:
        """The logits of hidden states, float32; with patches of one place after another."""
        head = self.unembedding().reshape(-1, hidden.shape[1]).T.astype(compute.dtype)
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
        wide = leaf.ndim == 1 or is_table(path) or is_router(path)
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
    key: Key[Array, ""] | None = None,
) -> tuple[Float[Array, "B T"], RouterStats, list[Float[Array, " experts"]]]:
    """(Cross-entropy of each target in nats, float32; the routers' statistics; each mixture layer's loads).

    The targets are the last T tokens. Those that do not count (`models.objective.counted`) have the loss 0.

    Args:
        key: what training draws with, if it draws anything (`ModelConfig.draws`). Without it tokens are masked as in
            evaluation.
    """
    example = show(config, tokens, key if training else None, training=training)
    losses, routed = _example_losses(config, params, biases, example, training, compute, tap, key)
    return losses if example.weights is None else losses * example.weights, *summarise(routed)


def _example_losses(
    config: ModelConfig,
    params: nnx.State,
    biases: nnx.State,
    example: Example,
    training: bool,
    compute: Compute,
    tap: Tap,
    key: Key[Array, ""] | None,
) -> tuple[Float[Array, "B T"], list[Routed]]:
    """(The losses of all targets, each mixture layer's report)."""
    model = build_model(config, params, biases, compute)
    hidden, routed = model.hidden(model.embed(example.inputs), example.inputs, training, compute, tap, key)
    return model.losses(hidden, example.targets), routed


class Lookup(NamedTuple):
    """What the `one_pass` loss reads from the vocabulary's tables, float32; empty for the `plain` loss.

    Attributes:
        head: the unembedding, transposed.
        rows: the embedding's rows for the inputs, and the unembedding's rows for the targets.
    """

    head: Float[Array, "width vocab"] | None = None
    rows: tuple[Float[Array, "n width"], Float[Array, "n width"]] | None = None


def _in_one_pass(config: ModelConfig, compute: Compute) -> bool:
    """Whether the loss is computed in one pass: where all targets count alike, and none is wanted by itself."""
    by_token = config.moe is not None and config.moe.routing == "reinforce"
    return compute.loss == "one_pass" and config.objective is None and not by_token


def look_up(config: ModelConfig, params: nnx.State, biases: nnx.State, example: Example, *, compute: Compute) -> Lookup:
    """What `mean_loss` reads from the tables. A caller that splits a batch into chunks looks up once for all chunks."""
    if not _in_one_pass(config, compute):
        return Lookup()
    model = build_model(config, params, biases, compute)
    table = model.unembedding()
    rows = model.embed(example.inputs), table[example.targets.reshape(-1)]
    return Lookup(table.T, rows)


def mean_loss(
    config: ModelConfig,
    params: nnx.State,
    biases: nnx.State,
    example: Example,
    *,
    compute: Compute,
    lookup: Lookup | None = None,
    tap: Tap = no_tap,
    key: Key[Array, ""] | None = None,
    total: Float[Array, ""] | None = None,
) -> tuple[Float[Array, ""], RouterStats, list[Float[Array, " experts"]]]:
    """The loss that training lowers: the mean of `token_losses` in training; and that function's other results.

    For routers that learn by reinforcement, what lets them is part of the statistics' `aux_loss`.

    Args:
        example: what `models.objective.show` makes of windows.
        lookup: that of this example, so that the `one_pass` loss does not read the tables itself.
        key: what routers draw with, if they do.
        total: what the sum over the targets that count is divided by; by default their number.
    """
    if _in_one_pass(config, compute):
        head, rows = lookup or look_up(config, params, biases, example, compute=compute)
        assert head is not None and rows is not None
        embedded, wanted = rows
        model = build_model(config, params, biases, compute)
        hidden, routed = model.hidden(embedded, example.inputs, True, compute, tap)
        return mean_cross_entropy(hidden, head, wanted), *summarise(routed)
    losses, routed = _example_losses(config, params, biases, example, True, compute, tap, key)
    stats, loads = summarise(routed)
    weights = jnp.ones_like(losses) if example.weights is None else example.weights
    total = jnp.maximum(weights.sum(), 1.0) if total is None else total
    mean = losses.mean() if example.weights is None else (losses * weights).sum() / total
    policies = [report.policy for report in routed if report.policy is not None]
    if policies:
        lost, counts = (each.reshape(-1, config.aim.patch).sum(1) for each in (losses * weights, weights))
        stats = stats._replace(aux_loss=stats.aux_loss + reinforce_loss(policies, lost, counts, total))
    return mean, stats, loads


def logits(
    config: ModelConfig, params: nnx.State, biases: nnx.State, inputs: Int[Array, "B T"], *, compute: Compute
) -> Float[Array, "B T vocab"]:
    """The logits of each target in evaluation mode, float32: of the next token, or of what the objective predicts.

    Args:
        inputs: what is shown, as in `models.objective.Example`.
    """
    model = build_model(config, params, biases, compute)
    hidden, _ = model.hidden(model.embed(inputs), inputs, False, compute, no_tap)
    return model.logits(hidden, compute).reshape(*inputs.shape, config.vocab)
