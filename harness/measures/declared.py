"""What the model of a finished run does, measured at its end beside its losses: `measures: [layers]` in a sweep.

Each measure is one file here, which defines a `Measure` under its own name in capitals. `sweeps.rules.MEASURES` lists
the names, because a sweep is read without this package.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from harness.data.mixture import Mixture
from models.decode import TrainedModel
from sweeps.config import RunConfig


@dataclass(frozen=True)
class Measure:
    """A measurement of a model.

    Attributes:
        of: (the run, its text, the windows of its held-out probe, its model) -> column of the table of runs -> number.
        check: raises InputError for a run on which it cannot be made, before the run is trained.
    """

    of: Callable[[RunConfig, Mixture, Int32[np.ndarray, "W T+1"], TrainedModel], Mapping[str, float]]
    check: Callable[[RunConfig], None] = lambda run: None


@functools.cache
def get_measure(name: str) -> Measure:
    """The measure of this name, one of `sweeps.rules.MEASURES`."""
    return getattr(importlib.import_module(f"harness.measures.{name}"), name.upper())


def check_measures(config: RunConfig) -> None:
    """InputError if one of a run's measures cannot be made on it."""
    for name in config.probe.measures:
        get_measure(name).check(config)


def measure_all(
    config: RunConfig, text: Mixture, heldout: Int32[np.ndarray, "W T+1"], model: TrainedModel
) -> dict[str, float]:
    """The numbers of all measures of a run, by their columns."""
    found: dict[str, float] = {}
    for name in config.probe.measures:
        found |= get_measure(name).of(config, text, heldout, model)
    return found
