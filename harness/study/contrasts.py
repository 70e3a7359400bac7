"""Numbers with intervals that the judges of studies share: means over pairs of cells, slopes, constants of laws."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from harness.fit.fitting import fit
from sweeps.errors import InputError


class Interval95(NamedTuple):
    """A number with its 95 % interval; None for what the runs do not tell."""

    estimate: float | None
    low: float | None
    high: float | None

    def map_log(self) -> "Interval95":
        """The natural logs of a positive number and of its limits; a limit of 0 or below is none."""
        return Interval95(*(math.log(value) if value is not None and value > 0 else None for value in self))

    def clip(self, least: float = -math.inf, most: float = math.inf) -> "Interval95":
        """The part of the interval that lies between the least and the most that the number can be.

        The truth lies between them, so that this part holds it as often as the whole interval does. Correlations of few
        ranks need it: Fisher's z is infinite for a correlation of 1, which they often are.
        """
        ends = (None if end is None else min(max(end, least), most) for end in (self.low, self.high))
        return Interval95(self.estimate, *ends)

    def holds(self, value: float) -> bool:
        """Whether a value lies inside; a limit that is not known is none. False for a number that is not known."""
        low, high = (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)
        return self.estimate is not None and low <= value <= high


NOT_KNOWN = Interval95(None, None, None)


def symmetric(value: float, half: float) -> Interval95:
    """A number with an interval that reaches as far to either side."""
    return Interval95(float(value), float(value - half), float(value + half))


def mean_interval(values: ArrayLike) -> Interval95:
    """The mean of independent values with its interval by Student's t; of one value without any."""
    known = np.asarray(values, float)
    if len(known) == 0:
        return NOT_KNOWN
    mean = float(known.mean())
    if len(known) == 1:
        return Interval95(mean, None, None)
    half = float(known.std(ddof=1) / math.sqrt(len(known)) * stdtrit(len(known) - 1, 0.975))
    return symmetric(mean, half)


def basic_interval(values: ArrayLike, least: float = -math.inf) -> Interval95:
    """The first value with the basic interval of the bootstrap from the others, those of copies with new errors.

    The copies are about it as it is about the truth: a mean of absolute errors is too large in both, for errors of runs
    add to it, and the interval lies lower than the percentiles of copies. It reaches as far as the value at least.

    Args:
        least: the least value that is possible.
    """
    known = np.asarray(values, float)
    low, high = 2 * known[0] - np.percentile(known[1:], [97.5, 2.5])
    return Interval95(float(known[0]), max(least, float(min(low, known[0]))), float(max(high, known[0])))


def percentile_interval(values: ArrayLike) -> Interval95:
    """The first value with the middle 95 % of the others, those of copies with new errors.

    It reaches as far as the value at least, and is unknown if any value is not finite.
    """
    known = np.asarray(values, float)
    if not np.isfinite(known).all():
        return NOT_KNOWN
    low, high = np.percentile(known[1:], [2.5, 97.5])
    return Interval95(float(known[0]), float(min(low, known[0])), float(max(high, known[0])))


def log_ratio(first: ArrayLike, second: ArrayLike) -> Interval95:
    """The log of the ratio of two positive means over the same independent units, two at least.

    The interval is Student's t of the difference of each unit's shares in the means, to first order in it.
    """
    one, two = np.asarray(first, float), np.asarray(second, float)
    error = float(np.std(one / one.mean() - two / two.mean(), ddof=1)) / math.sqrt(len(one))
    return symmetric(math.log(one.mean() / two.mean()), error * float(stdtrit(len(one) - 1, 0.975)))


def ratio_of_means(first: ArrayLike, second: ArrayLike) -> Interval95:
    """The ratio of two means over the same independent units; of one unit without an interval.

    The interval has the ratios r at which Student's t test does not reject that the mean of first - r second is 0
    (Fieller 1954). It has no ends where the second mean is not beyond doubt.
    """
    one, two = np.asarray(first, float), np.asarray(second, float)
    if len(one) == 0:
        return NOT_KNOWN
    ratio = float(one.mean() / two.mean())
    if len(one) == 1:
        return Interval95(ratio, None, None)
    share = float(stdtrit(len(one) - 1, 0.975)) ** 2 / len(one)
    (var_one, both), (_, var_two) = np.cov(one, two)
    square, middle = two.mean() ** 2 - share * var_two, one.mean() * two.mean() - share * both
    if square <= 0:
        return Interval95(ratio, None, None)
    half = math.sqrt(max(middle**2 - square * (one.mean() ** 2 - share * var_one), 0.0))
    return Interval95(ratio, float((middle - half) / square), float((middle + half) / square))


def difference(first: Interval95, second: Interval95) -> Interval95:
    """The difference of two independent numbers; the halves of their intervals add in squares."""
    (one, one_low, one_high), (two, two_low, two_high) = first, second
    if one is None or two is None:
        return NOT_KNOWN
    value = one - two
    low = None if one_low is None or two_high is None else value - math.hypot(one - one_low, two_high - two)
    high = None if one_high is None or two_low is None else value + math.hypot(one_high - one, two - two_low)
    return Interval95(value, low, high)


def paired(first: pd.DataFrame, second: pd.DataFrame, keys: Sequence[str], loss: str = "L") -> pd.DataFrame:
    """The rows of two arms that agree in `keys`, with `effect`, the log loss of the first less that of the second.

    Args:
        first, second: rows of runs or cells; at most one of the second has the same keys.
        loss: the column of the loss, in any unit.

    Returns:
        the rows of the first arm that have a partner, with `effect` and with `other`, the partner's loss.
    """
    partner = second[list(keys)].assign(other=second[loss])
    both = first.merge(partner, on=list(keys), validate="many_to_one")
    return both.assign(effect=np.log(both[loss].astype(float) / both["other"].astype(float)))


def slopes(x: ArrayLike, y: ArrayLike, levels: ArrayLike | None = None) -> list[Interval95]:
    """The slopes of y in every column of x by least squares, with intervals by Student's t from the scatter.

    Args:
        x: [rows] or [rows, columns].
        levels: the group of each row; each group has a level of its own. By default there is one level.

    Returns:
        one interval a column; unknown ones where the rows do not tell the slopes.
    """
    columns, values = np.asarray(x, float), np.asarray(y, float)
    columns = columns[:, None] if columns.ndim == 1 else columns
    groups = np.zeros(len(values), int) if levels is None else np.unique(np.asarray(levels), return_inverse=True)[1]
    dummies = np.eye(groups.max() + 1)[groups] if len(groups) else np.zeros((0, 1))
    design = np.column_stack([columns, dummies])
    degrees = len(values) - design.shape[1]
    if degrees < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return [NOT_KNOWN] * columns.shape[1]
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ values
    residuals = values - design @ found
    errors = np.sqrt(np.diag(inverse) * float(residuals @ residuals) / degrees) * float(stdtrit(degrees, 0.975))
    return [symmetric(value, error) for value, error, _ in zip(found, errors, range(columns.shape[1]), strict=False)]


def constants_of(law: str, rows: pd.DataFrame) -> tuple[str, dict[str, Interval95]]:
    """Fit a law: the status of the fit, and its constants with their intervals; unknown where they are not identified.

    Rows that are too few or do not suit the law give the status `not fitted`, with the reason, and no constants.
    """
    try:
        found = fit(law, rows, bootstrap=0, sensitivity=False)
    except InputError as error:
        return f"not fitted: {error}", {}
    return str(found.status), {
        name: Interval95(each.estimate, each.ci_low, each.ci_high) if each.identified else NOT_KNOWN
        for name, each in found.parameters.items()
    }
