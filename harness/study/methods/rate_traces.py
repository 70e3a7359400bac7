"""The learning rate at every step of runs, from their settings, and the sums of it that laws of annealing read."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

from harness.train.optimizer import SCHEDULES, Hyper, learning_rate

# The columns of the table of runs that make the rates of a run.
RATE_SETTINGS = ("steps", "lr", "warmup", "schedule", "final_lr_ratio", "decay_fraction")


class RateSums(NamedTuple):
    """What Tissue et al. 2024 (arXiv 2408.11029) sum over the rates of a run, after each step.

    Attributes:
        s1: the sum of the rate, warm-up included.
        s2: the sum of a momentum m_i = decay m_(i-1) + lr_(i-1) - lr_i, to which the warm-up adds nothing. Long after a
            fall of the rate by d it is d/(1 - decay).
    """

    s1: Float[np.ndarray, "steps"]
    s2: Float[np.ndarray, "steps"]


@functools.lru_cache(maxsize=256)
def rates_of(settings: tuple[Any, ...]) -> Float[np.ndarray, "steps"]:
    """The rate of every update of a run with these values of RATE_SETTINGS, as training has it."""
    steps, lr, warmup, schedule, final_lr_ratio, decay_fraction = settings
    numbers = dict.fromkeys(Hyper._fields, 0.0) | {
        "lr": float(lr),
        "final_lr_ratio": float(final_lr_ratio),
        "decay_steps": max(1, round(decay_fraction * steps)),
        "warmup_steps": round(warmup * steps),
        "schedule": SCHEDULES.index(schedule),
        "steps": int(steps),
    }
    hyper = Hyper._make(np.asarray(numbers[name]) for name in Hyper._fields)
    return np.asarray(jax.vmap(functools.partial(learning_rate, hyper))(np.arange(steps)), float)


@functools.lru_cache(maxsize=4096)
def _sums(settings: tuple[Any, ...], decay: float) -> RateSums:
    rates = rates_of(settings)
    falls = -np.diff(rates, prepend=rates[0])
    falls[: round(settings[2] * settings[0])] = 0.0
    return RateSums(np.cumsum(rates), np.cumsum(np.asarray(lfilter([1.0], [1.0, -decay], falls))))


def rate_sums(settings: Sequence[Any], decay: float) -> RateSums:
    """The sums after every step of a run with these values of RATE_SETTINGS."""
    return _sums(tuple(settings), decay)
