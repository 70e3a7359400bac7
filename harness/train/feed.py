"""What the runs of a pack read: their windows step by step, and the windows they are measured on."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int32

from harness.data.mixture import Mixture, mixture_of, stores_of, train_batches
from harness.data.store import TokenStore, prepare
from harness.gaps.one_run import TextFacts
from harness.gaps.probes import Probe, effective_groups, probe_sets
from sweeps.config import DataConfig, RunConfig, online_span


@dataclasses.dataclass(frozen=True)
class Feed:
    """The data of one run.

    Attributes:
        probe_tokens: the windows of the probes, one after another, each padded to the configured number with its first.
    """

    config: RunConfig
    mixture: Mixture
    probes: dict[str, Probe]
    probe_tokens: Int32[np.ndarray, "W T+1"]

    def turns(self, start: int, stop: int, micro_batch: int) -> Int32[np.ndarray, "turns m T+1"]:
        """The windows of turns start .. stop - 1: those of the run's steps, a micro-batch at a time."""
        return train_batches(self.mixture, self.config.seed, start, stop, micro_batch)

    def split_losses(self, losses: Float[np.ndarray, "W T"]) -> dict[str, Float[np.ndarray, "windows T"]]:
        """The losses of each probe, padding dropped."""
        size = self.config.probe.windows
        return {
            name: losses[place * size : place * size + len(probe.tokens)]
            for place, (name, probe) in enumerate(self.probes.items())
        }

    def text_facts(self) -> TextFacts:
        """What `harness.gaps.one_run` asks of the text."""
        config, mixture = self.config, self.mixture
        groups = [
            effective_groups(config, mixture, online_span(end)[0], end) for end in (config.steps, config.first_epoch)
        ]
        return TextFacts(mixture.bytes_per_token, mixture.contamination, *groups)


def opener(cache: Path | None) -> Callable[[RunConfig], Feed]:
    """`open_feed` for many runs, which opens each text once: to see that none of its 2,000 files has changed takes
    10 to 120 ms, and a small run trains for a second."""
    opened = functools.cache(functools.partial(prepare, cache=cache))
    return lambda config: open_feed(config, functools.partial(stores_of, opened))


def open_feed(config: RunConfig, stores: Callable[[DataConfig], tuple[TokenStore, ...]]) -> Feed:
    """Cut a run's probes from its text.

    Raises:
        InputError: the text's vocabulary is another than the model's, or it holds fewer tokens than the run's unique
            tokens.
    """
    mixture = mixture_of(config, stores(config.data))
    other = None
    if config.data.half is not None:
        twin = config.twin()
        other = mixture_of(twin, stores(twin.data))
    probes, size = probe_sets(config, mixture, other), config.probe.windows
    padded = [np.concatenate([p.tokens, np.repeat(p.tokens[:1], size - len(p.tokens), 0)]) for p in probes.values()]
    return Feed(config, mixture, probes, np.concatenate(padded))
