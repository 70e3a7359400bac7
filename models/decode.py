"""Decoding: what follows a prompt, token by token, from a cache of the keys and values of earlier positions.

Sizes: B sequences, P tokens of the longest prompt, `new` tokens that are decoded, S slots of the cache, H heads. Slots
0 .. P-1 are for the prompts, which are left-aligned; each new token takes the next slot in all sequences alike, so that
an update writes one slice. Positions are those of each sequence, whatever its slot.

No mixture drops a token here, whatever its capacity in evaluation: a sequence does not depend on those beside it.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from models.attention import attend, rotary_rows, rotary_table, rotate
from models.compute import AttentionMethod, Compute
from models.config import ModelConfig
from models.intervention import Tap, no_tap
from models.routers import Choice, choose_by_expert, choose_by_rank
from models.transformer import Transformer, build_model


class TrainedModel(NamedTuple):
    """A model as it is evaluated.

    Attributes:
        params, biases: as `models.transformer.init` makes them.
        tap: what activations go through.
    """

    config: ModelConfig
    params: nnx.State
    biases: nnx.State
    tap: Tap = no_tap


class LayerCache(NamedTuple):
    """What one layer keeps.

    Attributes:
        keys: turned by their positions.
        scores: probabilities of the router of `expert_choice`; None for other layers.
    """

    keys: Float[Array, "B H S head"]
    values: Float[Array, "B H S head"]
    scores: Float[Array, "B S experts"] | None


class KeyValueCache(NamedTuple):
    """What is kept of B sequences; every leaf but `filled` has a leading axis of sequences.

    Attributes:
        known: which slots hold a token of the sequence; the others are between a shorter prompt and the new tokens, or
            are not filled yet.
        position: the position of the next token, which is the number of tokens so far.
        filled: the number of slots that are in use, in all sequences alike.
    """

    layers: tuple[LayerCache, ...]
    known: Bool[Array, "B S"]
    position: Int[Array, " B"]
    filled: Int[Array, ""]

    def of(self, sequences: Int[Array, " n"]) -> "KeyValueCache":
        """The cache of some of the sequences, or of copies of them."""
        layers, known, position = jax.tree.map(lambda leaf: leaf[sequences], (self.layers, self.known, self.position))
        return KeyValueCache(layers, known, position, self.filled)


def check_positions(config: ModelConfig, prompt: int, new: int) -> None:
    """Refuse to decode beyond the positions of training; the last new token is not read, and needs none.

    Raises:
        ValueError: no new token, an empty prompt, more than `config.context` positions, or a model that does not
            predict the next token alone.
    """
    if not config.aim.decodes:
        raise ValueError("decoding needs a model that predicts the next token, without masks and patches")
    if prompt < 1 or new < 1:
        raise ValueError(f"decoding needs a token of a prompt and a new one, not {prompt} and {new}")
    if prompt + new - 1 > config.context:
        raise ValueError(
            f"a prompt of {prompt} tokens and {new} new ones take {prompt + new - 1} positions, but the model was "
            f"trained on {config.context}"
        )


def prefill(
    config: ModelConfig,
    params: nnx.State,
    biases: nnx.State,
    prompts: Int[Array, "B P"],
    lengths: Int[Array, " B"],
    *,
    new: int,
    compute: Compute,
    tap: Tap = no_tap,
) -> tuple[Float[Array, "B vocab"], KeyValueCache]:
    """(The logits of the token after each prompt, the cache), from one pass over all prompts.

    Args:
        lengths: the number of tokens of each prompt, from 1 to P; what stands after them is not read.
        new: the number of tokens for which the cache shall have room.

    Raises:
        ValueError: see `check_positions`.
    """
    batch, longest = prompts.shape
    check_positions(config, longest, new)
    slots = longest + new - 1
    model = _model(config, params, biases, compute)
    writers = [_Writer(batch, slots) for _ in range(config.depth)]
    hidden, _ = model.hidden(model.embed(prompts), prompts, False, _compute(compute), tap, memories=writers)
    last = hidden.reshape(batch, longest, -1)[jnp.arange(batch), lengths - 1]
    known = jnp.arange(slots)[None] < lengths[:, None]
    cache = KeyValueCache(tuple(writer.written() for writer in writers), known, lengths, jnp.int32(longest))
    return model.logits(last, compute), cache


def decode_step(
    config: ModelConfig,
    params: nnx.State,
    biases: nnx.State,
    tokens: Int[Array, " B"],
    cache: KeyValueCache,
    *,
    compute: Compute,
    tap: Tap = no_tap,
) -> tuple[Float[Array, "B vocab"], KeyValueCache]:
    """(The logits of the token after these, the cache with these), for one more token of each sequence.

    The cache must have a slot left, see `prefill`.
    """
    return _step(_model(config, params, biases, compute), tokens, cache, compute, tap)


def decode_tokens(
    config: ModelConfig,
    params: nnx.State,
    biases: nnx.State,
    logits: Float[Array, "B vocab"],
    cache: KeyValueCache,
    keys: Key[Array, " B"],
    temperature: Float[Array, ""],
    *,
    new: int,
    compute: Compute,
    tap: Tap = no_tap,
) -> Int[Array, "B new"]:
    """Draw `new` tokens for each sequence, from what `prefill` returned.

    Args:
        new: at most the number for which `prefill` made room.
        keys: a key for each sequence, on which alone, beside its prompt, its tokens depend.
        temperature: by which logits are divided before the softmax; 0 takes the most probable token.
    """
    model = _model(config, params, biases, compute)

    def draw(logits: Float[Array, "B vocab"], number: Int[Array, ""]) -> Int[Array, " B"]:
        of_token = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        return sample_tokens(logits, of_token, temperature)

    def body(carry, number):
        tokens, cache = carry
        logits, cache = _step(model, tokens, cache, compute, tap)
        drawn = draw(logits, number)
        return (drawn, cache), drawn

    first = draw(logits, jnp.int32(0))
    _, rest = jax.lax.scan(body, (first, cache), jnp.arange(1, new, dtype=jnp.int32))
    return jnp.concatenate([first[None], rest]).T


def generate(
    config: ModelConfig,
    params: nnx.State,
    biases: nnx.State,
    prompts: Int[Array, "B P"],
    lengths: Int[Array, " B"],
    keys: Key[Array, " B"],
    temperature: Float[Array, ""],
    *,
    new: int,
    compute: Compute,
    tap: Tap = no_tap,
) -> Int[Array, "B new"]:
    """The tokens that follow the prompts: `prefill`, then `decode_tokens`."""
    begun = prefill(config, params, biases, prompts, lengths, new=new, compute=compute, tap=tap)
    return decode_tokens(config, params, biases, *begun, keys, temperature, new=new, compute=compute, tap=tap)


def sample_tokens(
    logits: Float[Array, "B vocab"], keys: Key[Array, " B"], temperature: Float[Array, ""]
) -> Int[Array, " B"]:
    """A token of each row with the probabilities softmax(logits / temperature); at 0 the most probable one.

    The largest of logits + temperature x Gumbel noise has these probabilities. The noise has as many bits as float32
    can hold: with the usual 23 the rarest tokens, a hundred thousandth, would be off by a hundredth.
    """
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:], jnp.float32, mode="high"))(keys)
    return jnp.argmax(logits + temperature * noise, axis=-1).astype(jnp.int32)


def _compute(compute: Compute) -> Compute:
    """Padding speeds up weight gradients alone, and would copy the matrices."""
    return dataclasses.replace(compute, padding=0)


def _model(config: ModelConfig, params: nnx.State, biases: nnx.State, compute: Compute) -> Transformer:
    """The model, whose mixtures drop nothing."""
    if config.moe is not None:
        config = dataclasses.replace(config, moe=dataclasses.replace(config.moe, eval_capacity_factor=None))
    return build_model(config, params, biases, compute)


def _step(
    model: Transformer, tokens: Int[Array, " B"], cache: KeyValueCache, compute: Compute, tap: Tap
) -> tuple[Float[Array, "B vocab"], KeyValueCache]:
    known = jax.lax.dynamic_update_slice_in_dim(cache.known, jnp.ones_like(cache.known[:, :1]), cache.filled, 1)
    cache = cache._replace(known=known)
    readers = [_Reader(layer, cache) for layer in cache.layers]
    inputs = tokens[:, None]
    hidden, _ = model.hidden(model.embed(inputs), inputs, False, _compute(compute), tap, memories=readers)
    layers = tuple(reader.kept for reader in readers)
    return model.logits(hidden, compute), KeyValueCache(layers, known, cache.position + 1, cache.filled + 1)


class _Writer:
    """The memory of a layer in the pass over the prompts: it computes as ever, and keeps what later tokens need."""

    def __init__(self, batch: int, slots: int):
        self.batch, self.slots = batch, slots
        self.pair: tuple[Array, Array] | None = None
        self.scores: Array | None = None

    def attend(self, q: Array, k: Array, v: Array, rope_base: float, method: AttentionMethod) -> Array:
        time, head_width = q.shape[1:]
        table = rotary_table(time, head_width, rope_base)
        k = rotate(k, table)
        parts = (z.reshape(self.batch, -1, time, head_width) for z in (k, v))
        keys, values = (jnp.pad(z, ((0, 0), (0, 0), (0, self.slots - time), (0, 0))) for z in parts)
        self.pair = keys, values
        return attend(rotate(q, table), k, v, method)

    def choose_by_expert(self, probability: Array, k: int, batch: int) -> Choice:
        scores = probability.reshape(batch, -1, probability.shape[1])
        self.scores = jnp.pad(scores, ((0, 0), (0, self.slots - scores.shape[1]), (0, 0)))
        return choose_by_expert(probability, k, batch)

    def written(self) -> LayerCache:
        """What the layer keeps."""
        assert self.pair is not None
        return LayerCache(*self.pair, self.scores)


class _Reader:
    """The memory of a layer for one more token of each sequence.

    Attributes:
        kept: what the layer keeps, from its call on with the new token.
    """

    def __init__(self, kept: LayerCache, cache: KeyValueCache):
        self.kept, self.known, self.position, self.filled = kept, cache.known, cache.position, cache.filled

    def attend(self, q: Array, k: Array, v: Array, rope_base: float, method: AttentionMethod) -> Array:
        batch, heads, _, head_width = self.kept.keys.shape
        table = rotary_rows(self.position.astype(jnp.float32), head_width, rope_base)

        def turn(z: Array) -> Array:  # as rows of one window of each head, with the positions of the sequences
            return rotate(z.reshape(batch, heads, head_width).swapaxes(0, 1), table).swapaxes(0, 1)

        keys = jax.lax.dynamic_update_slice_in_dim(self.kept.keys, turn(k)[:, :, None], self.filled, 2)
        new = v.reshape(batch, heads, 1, head_width)
        values = jax.lax.dynamic_update_slice_in_dim(self.kept.values, new, self.filled, 2)
        self.kept = self.kept._replace(keys=keys, values=values)
        scores = jnp.einsum("bhd,bhsd->bhs", turn(q) * head_width**-0.5, keys, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(jnp.where(self.known[:, None], scores, -1e30), axis=-1).astype(v.dtype)
        mixed = jnp.einsum("bhs,bhsd->bhd", weights, values, preferred_element_type=jnp.float32)
        return mixed.astype(v.dtype).reshape(q.shape)

    def choose_by_expert(self, probability: Array, k: int, batch: int) -> Choice:
        earlier = self.kept.scores
        assert earlier is not None
        # The new token's own slot is known already, and still holds a zero, which is higher than nothing.
        rank = ((earlier > probability[:, None]) & self.known[:, :, None]).sum(1, keepdims=True).astype(jnp.float32)
        scores = jax.lax.dynamic_update_slice_in_dim(earlier, probability[:, None], self.filled, 1)
        self.kept = self.kept._replace(scores=scores)
        return choose_by_rank(probability, rank, k, self.position.astype(jnp.float32)[:, None])
