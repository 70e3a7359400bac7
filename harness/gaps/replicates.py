"""The gap of a cell from its draws: their mean and its error, from the spread between draws and from within them.

A draw has an error of its own, from how its documents differ. The spread between draws contains that error, and also
what one draw cannot show of itself: how the gap varies with the text, the seed and the order of the data. It is known
badly where draws are few. So the variances of all cells are moderated together, by the empirical Bayes method of Smyth
(2004, "Linear models and empirical Bayes methods", section 6): a cell's variance is that between its draws, drawn
towards `ratio` times the variance within them. How strongly, the cells themselves say: `Prior.degrees` is large if the
ratio is alike in all cells.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import chi2, t

from harness.gaps.estimators import NO_GAP, Gap

# Above so many degrees of freedom a variance counts as known; trigamma(1e6 / 2) is no longer told from 0.
MOST_DEGREES = 1e6
# Of three cells, how much the ratio varies is known too badly: on three designs of 64 pairs of twins each, 95 %
# intervals from 3 or 4 of the draws covered the mean of the others in 89 to 90 %; by Student's t of each cell alone in
# 93 to 98 %.
FEWEST_CELLS = 10


class Draws(NamedTuple):
    """The gaps of the draws of a cell, with the standard error that each has from within, nats per token."""

    gaps: Float[np.ndarray, "draws"]
    errors: Float[np.ndarray, "draws"]

    @property
    def between(self) -> float:
        """The variance between draws."""
        return float(np.var(self.gaps, ddof=1))

    @property
    def within(self) -> float:
        """The mean variance of a draw from within."""
        return float(np.mean(self.errors**2))

    @property
    def degrees(self) -> int:
        """The degrees of freedom of the variance between draws."""
        return len(self.gaps) - 1


class CellGap(NamedTuple):
    """The mean gap over the draws of a cell.

    Attributes:
        gap, se: the mean and its standard error, nats per token.
        degrees: degrees of freedom of the error; infinite for a single draw.
        draw_sd: standard deviation of one draw about the cell's gap.
        agreement: p-value of the test that draws scatter as their errors from within say; None for a single draw.
    """

    gap: float
    se: float
    degrees: float
    draw_sd: float
    agreement: float | None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, by Student's t."""
        half = float(t.ppf(0.975, self.degrees)) * self.se
        return self.gap - half, self.gap + half


class Prior(NamedTuple):
    """What the cells together say of their variances.

    Attributes:
        ratio: variance between draws over variance within them.
        degrees: how many degrees of freedom this is worth in a cell.
    """

    ratio: float
    degrees: float


def cell_gaps(cells: Sequence[Draws]) -> list[CellGap]:
    """The gaps of cells by one estimator. A cell without draws has none."""
    prior = prior_of(cells)
    nothing = CellGap(*NO_GAP, math.inf, math.inf, None)
    return [_moderated(cell, prior) if len(cell.gaps) else nothing for cell in cells]


def prior_of(cells: Sequence[Draws]) -> Prior:
    """How the variances between draws relate to those within, by the moments of their logs (Smyth 2004, section 6.2).

    From fewer than `FEWEST_CELLS` cells of several draws nothing is taken, which is 0 degrees of freedom.
    """
    several = [cell for cell in cells if cell.degrees > 0 and cell.between > 0.0 and cell.within > 0.0]
    if len(several) < FEWEST_CELLS:
        return Prior(1.0, 0.0)
    degrees = np.asarray([cell.degrees for cell in several], float)
    ratios = np.asarray([cell.between / cell.within for cell in several])
    centred = np.log(ratios) - digamma(degrees / 2) + np.log(degrees / 2)
    excess = float(np.var(centred, ddof=1) - np.mean(polygamma(1, degrees / 2)))
    if excess <= polygamma(1, MOST_DEGREES / 2):
        found = MOST_DEGREES
    else:
        # trigamma falls from infinity to 0, about as 1/x^2 below 1 and as 1/x above.
        half = brentq(lambda half: float(polygamma(1, half)) - excess, 0.1 / (1 + excess), MOST_DEGREES)
        found = 2 * cast(float, half)
    mean = float(np.mean(centred))
    return Prior(math.exp(mean + float(digamma(found / 2)) - math.log(found / 2)), found)


def _moderated(cell: Draws, prior: Prior) -> CellGap:
    count, gap = len(cell.gaps), float(np.mean(cell.gaps))
    if not cell.degrees:
        # What the spread between draws of other cells says holds for this one, too.
        variance = cell.within * prior.ratio if prior.degrees else cell.within
        return CellGap(gap, math.sqrt(variance), prior.degrees or math.inf, math.sqrt(variance), None)
    degrees = prior.degrees + cell.degrees
    variance = (prior.degrees * prior.ratio * cell.within + cell.degrees * cell.between) / degrees
    agreement = float(chi2.sf(cell.degrees * cell.between / cell.within, cell.degrees)) if cell.within else None
    return CellGap(gap, math.sqrt(variance / count), degrees, math.sqrt(variance), agreement)


def draws_for(cell: Draws, found: CellGap, se: float, most: int) -> int:
    """How many draws in all make a cell's standard error at most `se`: those there are, if they do, and at most `most`.

    At most twice as many as there are, because the spread that says so is itself known only roughly. It is not taken
    for smaller than the errors from within, which it contains, and the variance is raised by 2 over its degrees of
    freedom: draws of text have long tails (a kurtosis of 8 and 13 in two designs of 64), so that the spread of few is
    mostly too small, and the search ended at 1.3 times the wanted error.
    """
    draws = len(cell.gaps)
    if not math.isfinite(found.draw_sd):
        return draws
    variance = max(found.draw_sd**2, cell.within) * (1 + 2 / found.degrees)
    return max(draws, min(math.ceil(variance / se**2 - 1e-9), 2 * draws, most))


def as_gap(found: CellGap) -> Gap:
    """The gap and its standard error."""
    return Gap(found.gap, found.se)
