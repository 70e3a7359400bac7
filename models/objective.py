"""How a window becomes an example: what the model is shown, what it predicts, and which predictions count.

What counts in evaluation is a function of the window's tokens alone, so that all runs are measured on the same tokens,
and so that the host, which adds up the losses of documents, knows it without the model. For this the functions of
tokens here are computed alike by numpy and by JAX.

Sizes: B windows of T + 1 tokens, P = T / patch positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from models.config import ModelConfig

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Key, UInt32


class Example(NamedTuple):
    """Windows as an objective shows them.

    Attributes:
        inputs: what the model sees; the vocabulary's size is the id of what is not shown.
        targets: the tokens that it predicts.
        weights: 1 for the targets that count and 0 for the others; None if all count.
    """

    inputs: Int[Array, "B T"]
    targets: Int[Array, "B T"]
    weights: Float[Array, "B T"] | None


def show(
    config: ModelConfig, tokens: Int[Array, "B T+1"], key: Key[Array, ""] | None = None, *, training: bool = False
) -> Example:
    """The example that an objective makes of windows.

    The targets are always the last T tokens. `next` shows the tokens before each; of the patch before the first target
    only the last token lies in the window, and the others are not shown. `masked` shows the targets themselves, without
    those that are hidden. These are drawn with the key, or, as in evaluation, by a hash of the window's targets; of
    forecasts they are the last ones.

    Args:
        training: whether forecasts of earlier positions count, too, as they do where `next` is trained.
    """
    import jax
    import jax.numpy as jnp

    aim, targets, blank = config.aim, tokens[:, 1:], config.vocab
    weights = None
    if aim.kind == "masked":
        places = (tokens.shape[0], targets.shape[1] // aim.patch)
        if aim.forecast:
            most = _share_of(aim.mask_share, places[1])
            ends = 1 if key is None else jax.random.randint(key, places[:1], 1, most + 1)
            hidden = _last(targets, aim.patch * ends)
        else:
            bits = _hashed(tokens, places[1]) if key is None else jax.random.bits(key, places, jnp.uint32)
            hidden = _hidden(aim.mask_share, aim.patch, bits)
        inputs, counts = jnp.where(hidden, blank, targets), hidden & _in_ranges(config, targets)
        return Example(inputs, targets, counts.astype(jnp.float32))
    inputs = tokens[:, : tokens.shape[1] - aim.patch]
    if aim.patch > 1:
        before = jnp.full((tokens.shape[0], aim.patch - 1), blank, tokens.dtype)
        inputs = jnp.concatenate([before, inputs], axis=1)
    measured = aim.forecast and not training
    if measured or aim.counted is not None:
        counts = _in_ranges(config, targets)
        weights = (counts & _last(targets, aim.patch) if measured else counts).astype(jnp.float32)
    return Example(inputs, targets, weights)


def counted(config: ModelConfig, tokens: Int[Any, "B T+1"]) -> Bool[Any, "B T"]:
    """Which targets count in evaluation, in numpy for numpy's arrays: where `show` without a key has the weight 1."""
    aim, targets = config.aim, tokens[:, 1:]
    counts = _in_ranges(config, targets)
    if aim.forecast:
        counts = counts & _last(targets, aim.patch)
    elif aim.kind == "masked":
        counts = counts & _hidden(aim.mask_share, aim.patch, _hashed(tokens, targets.shape[1] // aim.patch))
    return counts


def _in_ranges(config: ModelConfig, targets: Int[Any, "B T"]) -> Bool[Any, "B T"]:
    """Whether the loss of a target counts by its id."""
    ranges = config.aim.counted or ((0, config.vocab - 1),)
    inside = targets < 0
    for first, last in ranges:
        inside = inside | ((targets >= first) & (targets <= last))
    return inside


def _hidden(share: float, patch: int, bits: UInt32[Any, "B P"]) -> Bool[Any, "B T"]:
    """The tokens at the positions of the least bits: in each window the share of its positions, but at least one."""
    xp = bits.__array_namespace__()
    last = _share_of(share, bits.shape[1]) - 1
    least = xp.sort(bits, axis=1)[:, last : last + 1]
    return xp.repeat(bits <= least, patch, axis=1)


def _share_of(share: float, positions: int) -> int:
    """A share of the positions in whole ones, but at least one."""
    return max(1, round(share * positions))


def _last(targets: Int[Any, "B T"], ends: Int[Any, " B"] | int) -> Bool[Any, "B T"]:
    """The last so many targets of each window."""
    xp = targets.__array_namespace__()
    before = xp.broadcast_to(targets.shape[1] - xp.asarray(ends), targets.shape[:1])
    return xp.arange(targets.shape[1])[None] >= before[:, None]


def _hashed(tokens: Int[Any, "B T+1"], positions: int) -> UInt32[Any, "B P"]:
    """32 pseudo-random bits for each position of a window, which all of its targets decide."""
    xp = tokens.__array_namespace__()
    targets = tokens[:, 1:].astype(xp.uint32)
    steps = xp.arange(1, targets.shape[1] + 1, dtype=xp.uint32) * xp.uint32(0x9E3779B9)  # so that the order counts
    seed = xp.sum(_mixed(targets + steps[None]), axis=1, dtype=xp.uint32)
    return _mixed(_mixed(seed)[:, None] + steps[None, :positions])


def _mixed(x: UInt32[Any, " *any"]) -> UInt32[Any, " *any"]:
    """A bijection of 32 bits in which every bit of x decides about half of all (the finaliser of MurmurHash3)."""
    u = x.__array_namespace__().uint32
    x = (x ^ (x >> u(16))) * u(0x85EBCA6B)
    x = (x ^ (x >> u(13))) * u(0xC2B2AE35)
    return x ^ (x >> u(16))
