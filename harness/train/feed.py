"""What the runs of a pack read: their windows step by step, and the windows they are measured on."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int32

from harness.data.batches import batches
from harness.data.probes import Probe, probe_sets
from harness.data.store import TokenStore, prepare
from sweeps.config import RunConfig
from sweeps.errors import InputError


@dataclasses.dataclass(frozen=True)
class Feed:
    """The data of one run.

    Attributes:
        probe_tokens: the windows of the probes, one after another, each padded to the configured number with its first.
    """

    config: RunConfig
    store: TokenStore
    probes: dict[str, Probe]
    probe_tokens: Int32[np.ndarray, "W T+1"]

    def turns(self, start: int, stop: int, micro_batch: int) -> Int32[np.ndarray, "turns m T+1"]:
        """The windows of turns start .. stop - 1: those of the run's steps, a micro-batch at a time."""
        config = self.config
        unique, seed = config.data.unique_tokens, config.seed
        return batches(self.store.train, config.model.context, unique, seed, range(start, stop), micro_batch)

    def split_losses(self, losses: Float[np.ndarray, "W T"]) -> dict[str, Float[np.ndarray, "windows T"]]:
        """The losses of each probe, padding dropped."""
        size = self.config.probe.windows
        return {
            name: losses[place * size : place * size + len(probe.tokens)]
            for place, (name, probe) in enumerate(self.probes.items())
        }


def opener(cache: Path | None) -> Callable[[RunConfig], Feed]:
    """`open_feed` for many runs, which opens each text once: to see that none of its 2,000 files has changed takes
    10 to 120 ms, and a small run trains for a second."""
    stores = functools.cache(lambda domain, tokenizer, fraction: prepare(domain, tokenizer, cache, fraction))

    def feed(config: RunConfig) -> Feed:
        data = config.data
        return open_feed(config, stores(data.domain, data.tokenizer, data.heldout_fraction))

    return feed


def open_feed(config: RunConfig, store: TokenStore) -> Feed:
    """Cut a run's probes from its text.

    Raises:
        InputError: the text's vocabulary is another than the model's, or it holds fewer tokens than the run's unique
            tokens.
    """
    if store.vocab != config.model.vocab:
        raise InputError(config.run_id, "model.vocab", config.model.vocab, f"{store.vocab}, that of {store.tokenizer}")
    unique = config.data.unique_tokens
    if unique > len(store.train):
        expected = f"at most {len(store.train)}, what the train split of {store.domain} holds in {store.tokenizer}"
        raise InputError(config.run_id, "data.unique_tokens", unique, expected)
    size = config.probe.windows
    probes = probe_sets(store, config.model.context, unique, config.seed, config.steps, config.batch, size)
    padded = [np.concatenate([p.tokens, np.repeat(p.tokens[:1], size - len(p.tokens), 0)]) for p in probes.values()]
    return Feed(config, store, probes, np.concatenate(padded))
