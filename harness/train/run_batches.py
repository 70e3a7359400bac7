"""Opens the text of a run: its training batches (from `harness.data.mixture`) and its evaluation windows."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int32

from harness.data.mixture import Mixture, mixture_of, probe_stores, stores_of, train_batches
from harness.data.store import TokenStore, prepare
from harness.gaps.one_run import TextFacts
from harness.gaps.probes import Probe, domain_probe, effective_groups, own_probes, probe_sets
from harness.measures.declared import check_measures
from harness.record.columns import domain_probe_name
from models.intervention import TextRead, get_intervention, name_of, probes_of
from sweeps.config import DataConfig, RunConfig, online_span


@dataclasses.dataclass(frozen=True)
class RunBatches:
    """The text of one run, cut into windows.

    Attributes:
        last_probes: the probes at the last step.
        small_probes: the probes before it, which are parts of them.
        own_probes: those of interventions, at every evaluation.
        start: the leaves that the run starts from, as `harness.train.checkpoint.read_final` returns them; None if its
            first parameters are drawn.
    """

    config: RunConfig
    mixture: Mixture
    last_probes: Mapping[str, Probe]
    small_probes: Mapping[str, Probe]
    own_probes: Mapping[str, Probe]
    start: list[np.ndarray] | None = None

    def probes(self, step: int) -> Mapping[str, Probe]:
        """The probes after a step."""
        return {**(self.last_probes if step == self.config.steps else self.small_probes), **self.own_probes}

    def probe_tokens(self, step: int) -> Int32[np.ndarray, "W T+1"]:
        """The windows of all probes after a step, one probe after another."""
        return np.concatenate([probe.tokens for probe in self.probes(step).values()])

    def turns(self, start: int, stop: int, micro_batch: int) -> Int32[np.ndarray, "turns m T+1"]:
        """The micro-batches of turns start .. stop - 1."""
        config = self.config
        tokens = train_batches(self.mixture, config.seed, start, stop, micro_batch)
        for fields in config.interventions:
            change = get_intervention(name_of(fields)).batches
            if change:
                own = {name: self.own_probes[name].tokens for name in probes_of([fields])}
                reading = TextRead(config.seed, config.steps * config.batch, own)
                tokens = change(fields, reading, start * micro_batch, tokens)
        return tokens

    def split_losses(self, step: int, losses: Float[np.ndarray, "W T"]) -> dict[str, Float[np.ndarray, "windows T"]]:
        """Split the losses of `probe_tokens` by probe."""
        probes = self.probes(step)
        ends = np.cumsum([len(probe.tokens) for probe in probes.values()])
        return dict(zip(probes, np.split(losses, ends[:-1]), strict=True))

    def text_facts(self) -> TextFacts:
        """What `harness.gaps.one_run` needs to know of the text."""
        config, mixture = self.config, self.mixture
        groups = [
            effective_groups(config, mixture, online_span(end)[0], end) for end in (config.steps, config.first_epoch)
        ]
        return TextFacts(mixture.bytes_per_token, mixture.contamination, *groups)


def opener(cache: Path) -> Callable[[RunConfig], RunBatches]:
    """`open_batches` for many runs, which opens each text once: checking its 2,000 files for changes takes 10 to 120
    ms, and a small run trains for only a second."""
    opened = functools.cache(functools.partial(prepare, cache=cache))
    return lambda config: open_batches(config, functools.partial(stores_of, opened))


def open_batches(config: RunConfig, stores: Callable[[DataConfig], tuple[TokenStore, ...]]) -> RunBatches:
    """Open a run's text and cut its probes.

    InputError if the text's vocabulary is not the model's, the text is shorter than the run's unique tokens, or another
    domain's held-out text has other ids or is read by the run.
    """
    mixture = mixture_of(config, stores(config.data))
    other = None
    if config.data.half is not None:
        twin = config.twin()
        other = mixture_of(twin, stores(twin.data))
    others = probe_stores(config, mixture, stores)
    check_measures(config)

    def probes(size: int) -> dict[str, Probe]:
        of_domains = {domain_probe_name(store.domain): domain_probe(config, store, size) for store in others}
        return probe_sets(config, mixture, other, size) | of_domains

    last = probes(config.probe.windows)
    small = probes(config.probe_windows(-1)) if config.probe.small_windows else last
    return RunBatches(config, mixture, last, small, own_probes(config, mixture, last["heldout"]))
