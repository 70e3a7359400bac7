"""What the model of a finished run does, measured at its end beside its losses: `measures: [layers]` in a sweep.

Each measure is one file here, which defines a function under its own name: (the run, the windows of its held-out probe,
its last parameters, its selection biases) -> column of the table of runs -> number. `sweeps.rules.MEASURES` lists the
names, because a sweep is read without this package.
"""

import functools
import importlib
from collections.abc import Callable, Mapping

import numpy as np
from flax import nnx
from jaxtyping import Int32

from sweeps.config import RunConfig

Measure = Callable[[RunConfig, Int32[np.ndarray, "W T+1"], nnx.State, nnx.State], Mapping[str, float]]


@functools.cache
def get_measure(name: str) -> Measure:
    """The measure of this name, one of `sweeps.rules.MEASURES`."""
    return getattr(importlib.import_module(f"harness.measures.{name}"), name)


def measure_all(
    config: RunConfig, heldout: Int32[np.ndarray, "W T+1"], params: nnx.State, biases: nnx.State
) -> dict[str, float]:
    """The numbers of all measures of a run, by their columns."""
    found: dict[str, float] = {}
    for name in config.probe.measures:
        found |= get_measure(name)(config, heldout, params, biases)
    return found
