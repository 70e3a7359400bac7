"""Completions of many prompts by one compiled program: each prompt is read once, however many completions it gets."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from models.compute import compute_for
from models.config import ModelConfig
from models.decode import KeyValueCache, TrainedModel, check_positions, decode_tokens, prefill
from models.intervention import Tap
from sweeps.errors import InputError


class Begun(NamedTuple):
    """Prompts that were read: the logits after each, and their cache."""

    logits: Float[Array, "items vocab"]
    cache: KeyValueCache


class Writer:
    """A model that completes prompts of a certain length, in programs that are compiled once.

    Args:
        longest: ids of the longest prompt.
        new: ids of a completion.
        prompts: the number of prompts that are read together.
        rows: the number of completions that are written together.

    Raises:
        InputError: more positions than the model was trained on, or a model that does not write token by token.
    """

    def __init__(self, model: TrainedModel, longest: int, new: int, prompts: int, rows: int):
        aim = model.config.aim
        if not aim.decodes:
            found = f"{aim.kind}, patch {aim.patch}"
            raise InputError("decoding", "objective", found, "a model of the objective next, without patches")
        try:
            check_positions(model.config, longest, new)
        except ValueError as error:
            raise InputError("decoding", "positions", longest + new - 1, str(error)) from None
        self.model, self.prompts, self.rows = model, prompts, rows
        self._read, self._write = _programs(model.config, new, model.tap)

    def read(self, prompts: Int32[np.ndarray, "items P"], lengths: Int32[np.ndarray, " items"]) -> Begun:
        """Read at most as many prompts as are read together."""
        fill = np.arange(self.prompts) % len(prompts)
        _, params, biases, _ = self.model
        return Begun(*self._read(params, biases, prompts[fill], lengths[fill]))

    def write(
        self,
        begun: Begun,
        items: Int[np.ndarray, " rows"],
        streams: Int[np.ndarray, "rows 2"],
        seed: int,
        temperature: float,
    ) -> Int32[np.ndarray, "rows new"]:
        """Complete `rows` copies of prompts.

        Args:
            items: which of the prompts that were read each row goes on from.
            streams: two numbers for each row, which with the seed decide what is drawn.
        """
        _, params, biases, _ = self.model
        order = items.astype(np.int32), streams.astype(np.uint32), np.uint32(seed), np.float32(temperature)
        return np.asarray(self._write(params, biases, *begun, *order))


@functools.lru_cache(maxsize=32)
def _programs(config: ModelConfig, new: int, tap: Tap) -> tuple[Callable, Callable]:
    compute = compute_for(jax.default_backend())

    def write(params, biases, logits, cache: KeyValueCache, items, streams, seed, temperature):
        def key(stream):
            return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream[0]), stream[1])

        begun = logits[items], cache.of(items), jax.vmap(key)(streams)
        return decode_tokens(config, params, biases, *begun, temperature, new=new, compute=compute, tap=tap)

    return jax.jit(functools.partial(prefill, config, new=new, compute=compute, tap=tap)), jax.jit(write)
