"""Are two groups' exponents the same for all purposes? Two one-sided tests (Schuirmann 1987), and what they could show.

Not to reject a difference is no evidence against it. Equal to within a margin are two exponents whose difference has
its 90 % interval inside the margin: both one-sided tests at 5 %. A design with a wide interval can show neither that
they are equal nor that they differ, so the smallest margin that it could have shown stands beside each difference.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from harness.fit.certainty.bootstrap import resample
from harness.fit.certainty.intervals import AT_BOUND_SHARE, estimates_of, fixed_value
from harness.fit.fitting import SolvedFit
from harness.fit.problem.raw_units import raw_map, raw_values
from harness.fit.results.result import Estimate
from harness.fit.shared.nested import Constants, NestedModel

EQUIVALENCE_LEVEL = 0.90
RATIO_LEVEL = 0.95
POWER = 0.8
# Two equal exponents are shown to be equal with that power within a margin of this many standard errors.
SHOWN = ndtri(0.5 + EQUIVALENCE_LEVEL / 2) + ndtri(0.5 + POWER / 2)


@dataclass(frozen=True)
class Difference:
    """The difference of a quantity without a unit between two groups.

    Attributes:
        quantity: an exponent, or a combination of exponents that is identified where they are not.
        ci_low, ci_high: 90 % interval; None, as all numbers, where a group does not identify the quantity.
        equivalent: the interval lies inside the margin.
        differs: the interval leaves 0 out, and the difference is larger than the margin.
        power: the chance that two equal exponents would have been shown equivalent here.
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
    """A prefactor of one group over that of another, the exponents being shared, with its 95 % interval.

    `model` says which prefactors are the groups' own; the numbers are None where the rows do not identify the ratio.
    """

    model: str
    parameter: str
    groups: tuple[str, str]
    ratio: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class GroupDraws:
    """A group's own fit: its rows and constants, and point and draws of the quantities that it identifies."""

    rows: int
    estimates: dict[str, Estimate]
    point: dict[str, float]
    draws: dict[str, Float[np.ndarray, "draws"]]


def draw_group(fitted: SolvedFit, kinds: Constants, free: Sequence[str], draws: int, seed: int) -> GroupDraws:
    """Exponents and combinations of them (`free`) that one group's rows identify, with a bootstrap over clusters.

    The draws are spread about their mean by sqrt(n/(n-p)): the residuals of a fit are smaller than its errors.
    """
    problem, identified = fitted.problem, fitted.identified
    thetas, ends = resample(problem, fitted.solutions, identified, draws, seed)
    sampled = raw_values(problem, thetas)
    point = {name: float(value[0]) for name, value in raw_values(problem, identified.theta[None]).items()}
    raw = raw_map(problem, identified.theta)[0]
    rows = int(problem.fitted.sum())
    wider = float(np.sqrt(rows / max(rows - identified.degrees, 1)))
    found: dict[str, tuple[float, np.ndarray]] = {}
    for index, parameter in enumerate(problem.law.parameters):
        name = parameter.name
        stopped = np.mean(ends[:, index] != 0) > AT_BOUND_SHARE
        if name in kinds.exponents and identified.identified[index] and not stopped:
            found[name] = (point[name], sampled[name])
    for combination in problem.law.combinations:
        if combination.label in found or combination.label not in free:
            continue
        fixed = fixed_value(problem, identified, raw, combination)
        if fixed is not None:
            found[combination.label] = (fixed[0], np.asarray(combination.value(sampled)))
    return GroupDraws(
        rows,
        estimates_of(problem, identified, thetas, ends),
        {name: value for name, (value, _) in found.items()},
        {name: several.mean() + wider * (several - several.mean()) for name, (_, several) in found.items()},
    )


def group_differences(
    groups: Mapping[str, GroupDraws], quantities: Sequence[str], margin: float
) -> tuple[Difference, ...]:
    """Every quantity in every pair of groups; groups were fitted apart, so that their draws are independent."""
    found = []
    for quantity in quantities:
        for one, other in itertools.combinations(groups, 2):
            if quantity not in groups[one].point or quantity not in groups[other].point:
                found.append(Difference(quantity, (one, other), None, None, None, None, False, False, 0.0, None))
                continue
            apart = groups[one].point[quantity] - groups[other].point[quantity]
            spread = np.subtract.outer(groups[one].draws[quantity], groups[other].draws[quantity])
            low, high = np.quantile(spread, [(1 - EQUIVALENCE_LEVEL) / 2, (1 + EQUIVALENCE_LEVEL) / 2])
            se = float((high - low) / 2 / ndtri(0.5 + EQUIVALENCE_LEVEL / 2))
            power = max(0.0, 2 * ndtr(margin / max(se, 1e-12) - ndtri(0.5 + EQUIVALENCE_LEVEL / 2)) - 1)
            found.append(
                Difference(
                    quantity,
                    (one, other),
                    float(apart),
                    se,
                    float(low),
                    float(high),
                    bool(-margin <= low and high <= margin),
                    bool(abs(apart) > margin and not low <= 0.0 <= high),
                    float(power),
                    float(SHOWN * se),
                )
            )
    return tuple(found)


def prefactor_ratios(
    model: NestedModel, null: Float[np.ndarray, "directions parameters"], refits: Float[np.ndarray, "draws parameters"]
) -> tuple[Ratio, ...]:
    """Of the prefactors that groups have of their own, with the spread of refits to tables simulated from the model.

    Args:
        null: directions in raw coordinates that the rows leave open.
    """
    problem = model.problem
    point = raw_values(problem, model.theta[None])
    sampled = raw_values(problem, refits)
    place = {p.name: index for index, p in enumerate(problem.law.parameters)}
    found = []
    for name in model.own:
        own = [p for p in problem.law.parameters if p.of == name and p.transform == "log"]
        for one, other in itertools.combinations(own, 2):
            pair = (one.name[len(name) + 1 : -1], other.name[len(name) + 1 : -1])
            contrast = np.zeros(len(place))
            contrast[place[one.name]], contrast[place[other.name]] = 1.0, -1.0
            if len(null) and np.linalg.norm(null @ contrast) > 1e-2:
                found.append(Ratio(model.id, name, pair, None, None, None))
                continue
            spread = np.log(sampled[one.name]) - np.log(sampled[other.name])
            low, high = np.exp(np.quantile(spread, [(1 - RATIO_LEVEL) / 2, (1 + RATIO_LEVEL) / 2]))
            ratio = point[one.name][0] / point[other.name][0]
            found.append(Ratio(model.id, name, pair, float(ratio), float(low), float(high)))
    return tuple(found)
