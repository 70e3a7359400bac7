"""One constant of a law in two groups: its difference and its ratio, with errors.

The questions are those of Hestness et al. (does an architecture change the exponent, or only the prefactor?) and of
Yao et al. (is the exponent out of distribution the same as in distribution?). Groups measured on the same runs share
their noise: a column `cluster` that names the run makes the bootstrap draw both together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.fit.certainty.intervals import deviation, interval
from harness.fit.certainty.sign_flip import no_gap
from harness.fit.fitting import fit
from harness.fit.laws.law import Law, by_group
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import centre
from harness.fit.results.result import FitResult
from harness.fit.results.shown import Showable, TextTable, number, span
from sweeps.errors import InputError


@dataclass(frozen=True)
class ExponentComparison(Showable):
    """A constant of a law, compared between two groups.

    Attributes:
        groups: the names of the groups. The difference is the second group's constant minus the first's; the ratio is
            the second's over the first's.
        values, value_intervals: the constant in each group, with 95 % intervals.
        difference, difference_se, difference_interval: the difference, with the bootstrap's errors.
        ratio, ratio_interval: the ratio, with the bootstrap's interval.
        fit: the fit to both groups together.
    """

    groups: tuple[str, str]
    values: tuple[float, float]
    value_intervals: tuple[tuple[float | None, float | None], tuple[float | None, float | None]]
    difference: float
    difference_se: float
    difference_interval: tuple[float | None, float | None]
    ratio: float
    ratio_interval: tuple[float | None, float | None]
    fit: FitResult

    def shown(self) -> list[TextTable]:
        """The constant in each group, the difference and the ratio, with their 95 % intervals."""
        first, second = self.groups
        rows = [
            *zip(
                self.groups, map(number, self.values), (span(*limits) for limits in self.value_intervals), strict=True
            ),
            (f"{second} - {first}", number(self.difference), span(*self.difference_interval)),
            (f"{second} / {first}", number(self.ratio), span(*self.ratio_interval)),
        ]
        return [TextTable(f"a constant of {self.fit.law}", ("group", "value", "95 % interval"), rows, {"group"})]


def compare_exponents(
    law: str | Law,
    frame: pd.DataFrame,
    parameter: str,
    groups: tuple[str, str],
    *,
    own: Sequence[str] | None = None,
    bootstrap: int = 200,
    seed: int = 0,
) -> ExponentComparison:
    """Fit a law to two groups at once and compare one of its constants.

    Args:
        frame: the law's columns and `group`; rows of other groups are left out.
        own: the constants that each group has for itself; all of them by default.
        bootstrap: number of draws, at least 2.

    Raises:
        InputError: a group without rows, a constant that is not one of `own`, unusable columns, or gaps that are not
            shown to lie above zero.
    """
    law = get_law(law)
    own = tuple(own or (p.name for p in law.parameters))
    if parameter not in own:
        raise InputError("contrast", "parameter", parameter, f"one of {', '.join(own)}")
    labels = frame["group"].astype(str) if "group" in frame.columns else pd.Series("", index=frame.index)
    known = set(labels)
    for group in groups:
        if group not in known:
            raise InputError("contrast", "group", group, f"one of {', '.join(sorted(known))}")
    rows = frame.loc[labels.isin(groups)].reset_index(drop=True)
    if nothing := no_gap(centre(law, rows), f"comparison of {parameter}"):
        raise InputError("contrast", law.response, nothing.finding, "gaps that lie above zero")
    result = fit(by_group(law, own), rows, bootstrap=max(bootstrap, 2), seed=seed, sensitivity=False)
    names = [f"{parameter}[{group}]" for group in groups]
    first, second = (float(result.parameters[name].estimate or np.nan) for name in names)
    drawn = [np.asarray(result.draws[name]) for name in names]
    difference, ratio = drawn[1] - drawn[0], drawn[1] / drawn[0]
    return ExponentComparison(
        groups,
        (first, second),
        (interval(drawn[0]), interval(drawn[1])),
        second - first,
        deviation(difference),
        interval(difference),
        second / first,
        interval(ratio),
        result,
    )
