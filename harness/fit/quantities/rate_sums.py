"""The sums of a learning-rate schedule up to every row of a series, as laws of whole training curves read them.

A series has rows (run, step, lr, loss), in any order and not at every step. Between two rows the rate is taken to
change linearly; a change between two flat stretches is a jump at the row that first shows the new rate. A series whose
first row stands at a step after 1 is taken to have warmed up linearly from rate 0 at step 0 to that row.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Stretches(NamedTuple):
    """The intervals between consecutive rows of one run, in order of time; the first is the warm-up, or has length 0.

    Attributes:
        rows: the row of the table that ends each interval.
        steps: the interval's length in steps.
        lr_from, lr_to: the rate at its two ends.
        jump: whether the rate stays at `lr_from` until the interval's last step, then jumps to `lr_to`.
    """

    rows: Int[np.ndarray, "stretches"]
    steps: Float[np.ndarray, "stretches"]
    lr_from: Float[np.ndarray, "stretches"]
    lr_to: Float[np.ndarray, "stretches"]
    jump: np.ndarray

    @property
    def area(self) -> Float[np.ndarray, "stretches"]:
        """The sum of the rate over each interval, from the step after its first row to the step of its last row."""
        mean = np.where(self.jump, self.lr_from, 0.5 * (self.lr_from + self.lr_to))
        return mean * self.steps + np.where(self.jump, 1.0, 0.5) * (self.lr_to - self.lr_from)


def runs_of(columns: Mapping[str, Any]) -> Iterator[Stretches]:
    """The schedule of every run of a table with the columns `run`, `step` and `lr`."""
    for run in np.unique(columns["run"]):
        rows = np.flatnonzero(columns["run"] == run)
        rows = rows[np.argsort(columns["step"][rows], kind="stable")]
        step, lr = columns["step"][rows], columns["lr"][rows]
        warm = step[0] > 1
        before = np.concatenate([[0.0 if warm else lr[0]], lr[:-1]])
        flat = before == lr
        flat_around = np.concatenate([[False], flat[:-1]]) & np.concatenate([flat[1:], [True]])
        steps = np.diff(step, prepend=0.0 if warm else step[0])
        yield Stretches(rows, steps, before, lr, flat_around & ~flat)


def summed_rates(columns: Mapping[str, Any]) -> Float[np.ndarray, "rows"]:
    """S1, the sum of the rate over all steps up to each row, warm-up included."""
    total = np.zeros(len(columns["step"]))
    for run in runs_of(columns):
        total[run.rows] = np.cumsum(run.area)
    return total


def annealed(columns: Mapping[str, Any], decay: Float[np.ndarray, "decays"]) -> Float[np.ndarray, "rows decays"]:
    """S2 of Tissue et al. times 1 - decay, for several decays. S2 is the sum over the steps up to each row of the
    momentum m_i = decay m_(i-1) + lr_(i-1) - lr_i. Long after an annealing by d the result is d.
    The warm-up adds nothing.
    """
    total = np.zeros((len(columns["step"]), len(decay)))
    for run in runs_of(columns):
        momentum, area = np.zeros(len(decay)), np.zeros(len(decay))
        for k, (row, steps) in enumerate(zip(run.rows, run.steps, strict=True)):
            drop = 0.0 if k == 0 else run.lr_from[k] - run.lr_to[k]
            sudden = drop if run.jump[k] else 0.0
            rate = 0.0 if run.jump[k] else drop / max(steps, 1.0)
            left = decay**steps
            spread = decay * (1.0 - left) / (1.0 - decay)
            area = area + momentum * spread + rate / (1.0 - decay) * (steps - spread) + sudden
            momentum = momentum * left + rate * (1.0 - left) / (1.0 - decay) + sudden
            total[row] = area * (1.0 - decay)
    return total
