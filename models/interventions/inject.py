"""Injection: held-out windows of text are put into the training batches, each a number of times.

So it is known what was read how often and when, beside windows of the same text that never were (How Much Can We Forget
about Data Contamination?, arXiv 2410.03249).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Ge, Interval

from models.intervention import Intervention, TextRead

if TYPE_CHECKING:
    from jaxtyping import Int, Int32


@dataclass(frozen=True)
class Inject:
    """The fields.

    Attributes:
        copies: how often each window is read.
        windows: the number of windows that are injected; as many others are the control. All are held out. An injected
            window takes the place of one of the text, which is then not read there.
        start, end: the shares of the run between which they are read, at random moments.
    """

    copies: Annotated[int, Ge(0)] = 0
    windows: Annotated[int, Ge(1)] = 16
    start: Annotated[float, Interval(ge=0, le=1)] = 0.0
    end: Annotated[float, Interval(ge=0, le=1)] = 1.0

    def __post_init__(self):
        if self.start > self.end:
            raise ValueError(f"inject_start {self.start:g} must not be after inject_end {self.end:g}")


def _probes(fields: Inject) -> dict[str, int]:
    return {"injected": fields.windows, "control": fields.windows}


def injected_places(fields: Inject, reading: TextRead) -> Int[np.ndarray, "copies windows"]:
    """The numbers, among all windows that a run reads, at which each injected window stands."""
    first, stop = _span(fields, reading.total)
    wanted = fields.copies * fields.windows
    chosen = np.random.default_rng((reading.seed, 1)).choice(stop - first, wanted, replace=False)
    return (first + chosen).reshape(fields.copies, fields.windows)


def _span(fields: Inject, total: int) -> tuple[int, int]:
    """The numbers of the first window that may be replaced, and of the first one after the last."""
    return round(fields.start * total), round(fields.end * total)


def _check(fields: Inject, total: int) -> None:
    first, stop = _span(fields, total)
    if fields.copies * fields.windows > stop - first:
        each = f"inject_windows {fields.windows} times inject_copies {fields.copies}"
        raise ValueError(f"{each} is more than the {stop - first} windows that are read in that time")


def _batches(
    fields: Inject, reading: TextRead, first: int, tokens: Int32[np.ndarray, "turns m T+1"]
) -> Int32[np.ndarray, "turns m T+1"]:
    """Replace the windows from number `first` on by those that are injected there."""
    at = injected_places(fields, reading) - first
    flat = tokens.reshape(-1, tokens.shape[-1]).copy()
    inside = (at >= 0) & (at < len(flat))
    flat[at[inside]] = reading.windows["injected"][np.nonzero(inside)[1]]
    return flat.reshape(tokens.shape)


INJECT = Intervention(Inject, probes=_probes, batches=_batches, check=_check)
