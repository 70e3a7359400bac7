"""Are two groups' exponents the same for all purposes? Two one-sided tests (Schuirmann 1987), and what they could show.

That a difference is not detected is no evidence of equality. Two exponents are equal to within a margin if the 90 %
interval of their difference lies inside the margin: both one-sided tests at 5 %. A design with a wide interval can show
neither that they are equal nor that they differ, so each difference is given with the smallest margin that the design
could have shown.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from harness.fit.certainty.bootstrap import resample
from harness.fit.certainty.intervals import AT_BOUND_SHARE, estimates_of, fixed_value, percentiles
from harness.fit.fitting import SolvedFit
from harness.fit.problem.raw_units import combination_values, raw_map, raw_point, raw_values
from harness.fit.results.result import Estimate
from harness.fit.shared.nested import Constants, NestedModel

EQUIVALENCE_LEVEL = 90.0  # % of an interval that stands for two one-sided tests at 5 %
POWER = 0.8  # probability for which `margin_shown` is given
# Half the width of an interval of `EQUIVALENCE_LEVEL`, in standard errors.
HALF_WIDTH = ndtri(0.5 + EQUIVALENCE_LEVEL / 200)
# The margin, in standard errors, within which two equal exponents are shown to be equal with probability `POWER`.
SHOWN = HALF_WIDTH + ndtri(0.5 + POWER / 2)


@dataclass(frozen=True)
class Difference:
    """The difference between two groups of a quantity that has no unit.

    Attributes:
        quantity: an exponent, or a combination of exponents, which may be identified where each alone is not.
        difference, se, ci_low, ci_high, margin_shown: None where a group does not identify the quantity; the interval
            is one of 90 %.
        equivalent: whether the interval lies inside the margin.
        differs: whether the interval leaves 0 out and the difference is larger than the margin.
        power: the chance that two equal exponents would have been shown to be equivalent by this design.
        margin_shown: the margin for which that chance is 80 %.
    """

    quantity: str
    groups: tuple[str, str]
    difference: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    equivalent: bool
    differs: bool
    power: float
    margin_shown: float | None

    @property
    def identified(self) -> bool:
        return self.difference is not None


@dataclass(frozen=True)
class Ratio:
    """The ratio of a prefactor between two groups that share the exponents, with its 95 % interval.

    `model` is the nested model, which says which prefactors groups have of their own. The numbers are None where the
    rows do not identify the ratio.
    """

    model: str
    parameter: str
    groups: tuple[str, str]
    ratio: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class GroupDraws:
    """The fit of one group alone: its rows and constants, and the value and draws of each quantity it identifies."""

    rows: int
    estimates: dict[str, Estimate]
    point: dict[str, float]
    draws: dict[str, Float[np.ndarray, "draws"]]


def draw_group(fitted: SolvedFit, kinds: Constants, draws: int, seed: int) -> GroupDraws:
    """Bootstrap, over clusters, the exponents and combinations of exponents that one group's rows identify.

    The draws are spread about their mean by sqrt(n/(n-p)): the residuals of a fit are smaller than its errors.
    """
    problem, identified = fitted.problem, fitted.identified
    thetas, ends = resample(problem, fitted.solutions, draws, seed)
    sampled = raw_values(problem, thetas)
    point = raw_point(problem, identified.theta)
    raw = raw_map(problem, identified.theta)[0]
    rows = int(problem.fitted.sum())
    wider = float(np.sqrt(rows / max(rows - len(problem.law.parameters), 1)))
    identified_values: dict[str, tuple[float, np.ndarray]] = {}
    for combination in problem.law.combinations:
        fixed = fixed_value(problem, identified, raw, combination)
        if combination.label in kinds.combinations and fixed is not None:
            identified_values[combination.label] = (fixed[0], combination_values(problem, thetas, combination))
    for index, parameter in enumerate(problem.law.parameters):
        name = parameter.name
        stopped = np.mean(ends[:, index] != 0) > AT_BOUND_SHARE
        if name in kinds.exponents and identified.identified[index] and not stopped:
            identified_values[name] = (point[name], sampled[name])
    return GroupDraws(
        rows,
        estimates_of(problem, identified, sampled=thetas, ends=ends),
        {name: value for name, (value, _) in identified_values.items()},
        {name: values.mean() + wider * (values - values.mean()) for name, (_, values) in identified_values.items()},
    )


def group_differences(
    groups: Mapping[str, GroupDraws], quantities: Sequence[str], margin: float
) -> tuple[Difference, ...]:
    """The difference of every quantity in every pair of groups; groups are fitted apart, so draws are independent."""
    return tuple(
        _difference(quantity, groups, pair, margin)
        for quantity in quantities
        for pair in itertools.combinations(groups, 2)
    )


def _difference(quantity: str, groups: Mapping[str, GroupDraws], pair: tuple[str, str], margin: float) -> Difference:
    first, second = (groups[name] for name in pair)
    if quantity not in first.point or quantity not in second.point:
        return Difference(quantity, pair, None, None, None, None, False, False, 0.0, None)
    difference = float(first.point[quantity] - second.point[quantity])
    spread = np.subtract.outer(first.draws[quantity], second.draws[quantity])
    low, high = map(float, percentiles(spread.ravel(), EQUIVALENCE_LEVEL))
    se = float((high - low) / 2 / HALF_WIDTH)
    return Difference(
        quantity=quantity,
        groups=pair,
        difference=difference,
        se=se,
        ci_low=low,
        ci_high=high,
        equivalent=-margin <= low and high <= margin,
        differs=abs(difference) > margin and not low <= 0.0 <= high,
        power=float(max(0.0, 2 * ndtr(margin / max(se, 1e-12) - HALF_WIDTH) - 1)),
        margin_shown=float(SHOWN * se),
    )


def prefactor_ratios(
    model: NestedModel, null: Float[np.ndarray, "directions parameters"], refits: Float[np.ndarray, "draws parameters"]
) -> tuple[Ratio, ...]:
    """The ratios of groups' own prefactors, with the spread of refits to tables simulated from the model.

    Args:
        null: directions in raw coordinates that the rows leave open.
    """
    problem = model.problem
    point = raw_point(problem, model.theta)
    sampled = raw_values(problem, refits)
    place = {p.name: index for index, p in enumerate(problem.law.parameters)}
    ratios = []
    for name in model.own:
        own = [p for p in problem.law.parameters if p.of == name and p.transform == "log"]
        for first, second in itertools.combinations(own, 2):
            pair = (first.name[len(name) + 1 : -1], second.name[len(name) + 1 : -1])
            contrast = np.zeros(len(place))
            contrast[place[first.name]], contrast[place[second.name]] = 1.0, -1.0
            if len(null) and np.linalg.norm(null @ contrast) > 1e-2:
                ratios.append(Ratio(model.id, name, pair, None, None, None))
                continue
            spread = np.log(sampled[first.name]) - np.log(sampled[second.name])
            low, high = np.exp(percentiles(spread))
            ratio = point[first.name] / point[second.name]
            ratios.append(Ratio(model.id, name, pair, ratio, float(low), float(high)))
    return tuple(ratios)
