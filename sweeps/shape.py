"""What runs must have in common to be trained by one compiled program."""

import dataclasses
import functools
import hashlib
import json
from typing import Literal

from models.config import ModelConfig
from models.count import flops
from sweeps.config import RunConfig

# Tokens of a micro-batch, by platform. On two cores a longer one does not lower the time for each token, because its
# activations no longer fit the caches; on accelerators a longer one fills the device.
MICRO_TOKENS = {"cpu": 2048}
MICRO_TOKENS_ELSEWHERE = 2**15


@dataclasses.dataclass(frozen=True)
class Shape:
    """All that shapes a compiled program; seeds, optimizer's numbers, data and lengths are arrays inside it.

    Attributes:
        micro_batch: sequences whose gradient is computed at once, in one turn. A batch is 1, 2, 4, ... of them.
        accumulates: whether batches are longer than one micro-batch, so that gradients are added up.
        optimizer: the kind of optimizer.
        probe_windows: windows that an evaluation computes at once, of all probes together.
    """

    model: ModelConfig
    micro_batch: int
    accumulates: bool
    optimizer: Literal["adamw", "sgd"]
    probe_windows: int

    @functools.cached_property
    def signature(self) -> str:
        """12 hex digits of the hash of all fields."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def turn_tokens(self) -> int:
        """Tokens of one turn of one run."""
        return self.micro_batch * self.model.context

    @property
    def turn_flops(self) -> int:
        """Training operations of one turn of one run."""
        return flops(self.model).train * self.turn_tokens


def micro_tokens_of(platform: str) -> int:
    """Tokens of a batch computed at once on a platform."""
    return MICRO_TOKENS.get(platform, MICRO_TOKENS_ELSEWHERE)


def shape_of(config: RunConfig, micro_tokens: int) -> Shape:
    """The shape of the program that trains a run.

    The batch is halved while it is even and longer than `micro_tokens`, so that runs whose batches differ by powers of
    two share a program. A mixture of experts keeps its batch whole: loads and capacities are those of a batch.
    """
    micro = config.batch
    while config.model.moe is None and micro % 2 == 0 and micro * config.model.context > micro_tokens:
        micro //= 2
    kind, windows = config.optimizer.kind, config.probe_sets * config.probe.windows
    return _shape(config.model, micro, micro != config.batch, kind, windows)


# Equal shapes are one object, so that a sweep of 10,000 runs hashes each shape once.
_shape = functools.lru_cache(maxsize=1 << 12)(Shape)


def turns_per_step(config: RunConfig, shape: Shape) -> int:
    """The number of turns of one step of a run."""
    return config.batch // shape.micro_batch


def turns_of(config: RunConfig, shape: Shape) -> int:
    """The number of turns of a whole run."""
    return config.steps * turns_per_step(config, shape)
