"""How each claim of the gap law's source is judged: one rule a claim, fixed before the runs that it judges.

A rule turns numbers with intervals into one word. A number agrees with what a claim predicts if its whole 95 % interval
lies within a margin of the prediction, and contradicts it if the whole interval lies outside; otherwise the claim is
not resolved, and the ruling says which difference these runs could have shown.
"""

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from harness.fit.gap_law.surface import common_scatter, least_squares
from harness.fit.results.result import Estimate
from harness.fit.results.shown import factor, number, span

# Half the width of a 95 % interval, and the distance that is found in four of five repetitions, in standard errors.
HALF, FOUND = float(ndtri(0.975)), float(ndtri(0.975) + ndtri(0.8))


class Ruling(enum.StrEnum):
    """What the runs say of a claim."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not_supported"
    NOT_RESOLVED = "not_resolved"

    @property
    def words(self) -> str:
        """The ruling as a reader sees it: not supported, for example."""
        return self.value.replace("_", " ")


class DecidingNumber(ABC):
    """A number that decides a claim, as the runs have it; subclasses say what is claimed of it.

    Attributes:
        name: what the number is, in words.
        estimate, low, high: the number and its 95 % interval; None where the runs set no limit.
    """

    name: str
    estimate: float | None
    low: float | None
    high: float | None

    @property
    @abstractmethod
    def claimed(self) -> tuple[float, float]:
        """The least and the most that agree with the claim; infinite where it sets no limit."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval; infinite where the runs set no limit."""
        return -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high

    @property
    def ruling(self) -> Ruling:
        """Whether the interval lies within what is claimed, outside, or across its end."""
        (low, high), (least, most) = self.interval, self.claimed
        if least <= low and high <= most:
            return Ruling.SUPPORTED
        return Ruling.NOT_SUPPORTED if high < least or low > most else Ruling.NOT_RESOLVED

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The number, what is claimed of it, and the word, in plain numbers and strings."""


@dataclass(frozen=True)
class Measured(DecidingNumber):
    """A number that a claim predicts.

    Attributes:
        predicted: what the claim says it is.
        margin: how far from the prediction it may be and still agree.
    """

    name: str
    predicted: float
    margin: float
    estimate: float | None
    low: float | None
    high: float | None

    @property
    def claimed(self) -> tuple[float, float]:
        """All numbers within the margin of the prediction."""
        return self.predicted - self.margin, self.predicted + self.margin

    @property
    def could_show(self) -> float | None:
        """The difference from the prediction that these runs would show in four of five repetitions."""
        if self.low is None or self.high is None:
            return None
        return self.margin + (self.high - self.low) / 2 * FOUND / HALF

    def to_dict(self) -> dict[str, Any]:
        """The number, the prediction and its margin, what could have been seen, and the word."""
        return asdict(self) | {"could_show": self.could_show, "ruling": self.ruling}

    def __str__(self) -> str:
        if self.estimate is None:
            return f"{self.name} is not known ({number(self.predicted)} is claimed)"
        told = f"{number(self.estimate)} {span(self.low, self.high)}"
        told += factor(self.name, self.estimate, self.low, self.high)
        text = f"{self.name} is {told}, {number(self.predicted)} is claimed"
        return text if self.could_show is None else f"{text} (a difference of {number(self.could_show)} would show)"


@dataclass(frozen=True)
class JudgedClaim:
    """A claim of the source, the word for it, and the evidence.

    Attributes:
        id: S0-1 to S0-15, the claims in the order in which the source makes them.
        claim: what the source says.
        rows: the runs that the evidence is from, in words.
        evidence: the numbers that decide.
        reason: what decided beside the numbers, in a sentence; may be empty.
    """

    id: str
    claim: str
    ruling: Ruling
    rows: str
    evidence: tuple[DecidingNumber, ...]
    reason: str

    @property
    def finding(self) -> str:
        """The evidence in sentences."""
        numbers = "; ".join(map(str, self.evidence))
        first = numbers.split(" ")[0]
        # A constant such as a or alpha_N keeps its letter.
        large = numbers if len(first) == 1 or "_" in first else f"{numbers[:1].upper()}{numbers[1:]}"
        return " ".join(part for part in (numbers and f"{large}.", self.reason) if part)

    def to_dict(self) -> dict[str, Any]:
        """The claim in plain numbers and strings."""
        return asdict(self) | {"evidence": [each.to_dict() for each in self.evidence], "finding": self.finding}


def together(rulings: Sequence[Ruling]) -> Ruling:
    """The word for a claim of several parts: every part must agree, and one that contradicts is enough."""
    if Ruling.NOT_SUPPORTED in rulings:
        return Ruling.NOT_SUPPORTED
    return Ruling.NOT_RESOLVED if not rulings or Ruling.NOT_RESOLVED in rulings else Ruling.SUPPORTED


def measured(name: str, predicted: float, margin: float, estimate: Estimate, sign: float = 1.0) -> Measured:
    """A constant of a fit as evidence; with a `sign` of -1, minus the constant."""
    if not estimate.identified or estimate.estimate is None:
        return Measured(name, predicted, margin, None, None, None)
    ends = (estimate.ci_low, estimate.ci_high)
    low, high = ends if sign > 0 else (None if end is None else -end for end in reversed(ends))
    return Measured(name, predicted, margin, sign * estimate.estimate, low, high)


def normal(name: str, predicted: float, margin: float, estimate: float, se: float) -> Measured:
    """A number with a standard error as evidence."""
    return Measured(name, predicted, margin, estimate, estimate - HALF * se, estimate + HALF * se)


def common_ratio(ratio: ArrayLike, error: ArrayLike) -> tuple[float, float]:
    """The mean of ratios with errors of their own, and its standard error.

    Rows that scatter by more than their errors have a scatter in common, which enters the weights and the error of the
    mean as in `surface.common_scatter`. The estimate of DerSimonian and Laird, which takes the weights of the errors
    alone, is too small where errors grow with the ratios: 0.26 instead of 0.8 for the 32 cells of the gap law's study,
    whose ratios range from 0.6 to 17.
    """
    value, noise = np.asarray(ratio, float), np.asarray(error, float) ** 2
    scale, design = np.max(np.abs(value)), np.ones((len(value), 1))
    value, noise = value / scale, np.diag(noise / scale**2)
    scatter = common_scatter(design, value, noise, len(value) - 1)
    mean, variance, _ = least_squares(design, value, noise + scatter**2 * np.eye(len(value)))
    return float(scale * mean[0]), float(scale * variance[0, 0] ** 0.5)
