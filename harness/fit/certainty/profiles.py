"""The profile likelihood of every constant of a law, between the ends of its confidence set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from harness.fit.certainty.confidence_set import ConfidenceSet
from harness.fit.certainty.information import errors_near
from harness.fit.certainty.likelihood_ratio import LikelihoodRatio, losses_at
from harness.fit.problem.centred import Problem
from harness.fit.problem.model import bounds_of
from harness.fit.problem.raw_units import raw_coordinates, raw_map, raw_values
from harness.fit.results.result import LikelihoodProfile
from harness.fit.search.solver import minimise_cases

# Values of a constant on either side of the best fit at which the other constants are refitted.
VALUES = 6
# Where the partner of a constant is tried, in standard errors that it has at a fixed value of the constant: around the
# straight line to the edge of the set first, then twice around the best of these.
PARTNER_STEPS = (np.arange(-4.0, 4.5), np.arange(-0.75, 1.0, 0.25), np.arange(-0.1, 0.11, 0.05))


@dataclass(frozen=True)
class _Curve:
    """The values of a constant at which the other constants are refitted.

    A constant in the units of the table is that of the search, or it follows from that and a partner: A of A/N^alpha is
    A' s^alpha for the search's A' of columns in the unit s. The coordinates of both are linear in each other.

    Attributes:
        constant, partner: their indices; None without a partner.
        slopes: the derivatives of the raw coordinate by those of the constant and of the partner.
        starts: points at which the constant has its values, [values, parameters].
        error: the partner's standard error at a fixed value.
    """

    constant: int
    partner: int | None
    slopes: tuple[float, float]
    starts: Float[np.ndarray, "values parameters"]
    error: float

    @property
    def free(self) -> Bool[np.ndarray, "parameters"]:
        """Which constants are refitted."""
        places = np.arange(self.starts.shape[1])
        return (places != self.constant) & (places != (-1 if self.partner is None else self.partner))

    def around(self, points: Float[np.ndarray, "values parameters"], steps: Float[np.ndarray, "steps"]):
        """Points at the same values of the constant with other values of the partner, [values, steps, parameters]."""
        tried = np.repeat(points[:, None], len(steps) if self.partner is not None else 1, axis=1)
        if self.partner is not None:
            moved = self.error * steps
            tried[:, :, self.partner] += moved
            tried[:, :, self.constant] -= moved * self.slopes[1] / self.slopes[0]
        return tried


def profiles_of(problem: Problem, ratio: LikelihoodRatio, region: ConfidenceSet) -> dict[str, LikelihoodProfile]:
    """The likelihood-ratio statistic of each constant at some of its values, all other constants refitted.

    The values lie between the best fit and the farthest points of the confidence set, in the units of the table. A
    constant that follows from more than two of the search's has no profile.
    """
    curves = _curves(problem, ratio, region)
    best = [curve.starts for curve in curves]
    for steps in PARTNER_STEPS:
        best = _refitted(problem, curves, [curve.around(at, steps) for curve, at in zip(curves, best, strict=True)])
    return {
        problem.law.parameters[curve.constant].name: profile
        for curve, points in zip(curves, best, strict=True)
        if (profile := _profile(problem, ratio, curve.constant, points)) is not None
    }


def _curves(problem: Problem, ratio: LikelihoodRatio, region: ConfidenceSet) -> list[_Curve]:
    thetas = np.concatenate([region.thetas, region.traced])
    points = raw_coordinates(problem, thetas)
    usable = np.flatnonzero(np.isfinite(points).all(axis=1))
    if 0 not in usable:
        return []
    thetas, points = thetas[usable], points[usable]
    _, slopes = raw_map(problem, ratio.theta)
    errors = errors_near(problem, ratio.theta)
    shares = np.arange(1, VALUES + 1) / VALUES
    curves = []
    for index in range(len(problem.law.parameters)):
        others = [int(j) for j in np.flatnonzero(np.abs(slopes[index]) > 1e-9) if j != index]
        ends = [
            end
            for end in (points[:, index].argmin(), points[:, index].argmax())
            if points[end, index] != points[0, index]
        ]
        if len(others) > 1 or not slopes[index, index] or not ends:
            continue
        partner = others[0] if others else None
        starts = np.concatenate([thetas[0] + shares[:, None] * (thetas[end] - thetas[0]) for end in ends])
        error = 0.0
        if partner is not None:
            # The spread of the partner, less what it shares with the constant.
            alone, raw = errors[:, partner], errors @ slopes[index]
            rest = alone - raw * (alone @ raw) / max(raw @ raw, 1e-300)
            error = float(np.linalg.norm(rest)) * np.sqrt(ratio.limit) / 2
        pair = float(slopes[index, index]), 0.0 if partner is None else float(slopes[index, partner])
        curves.append(_Curve(index, partner, pair, starts, error))
    return curves


def _refitted(
    problem: Problem, curves: Sequence[_Curve], tried: Sequence[Float[np.ndarray, "values steps parameters"]]
) -> list[Float[np.ndarray, "values parameters"]]:
    """The best of the points tried at each value, with the other constants refitted."""
    if not curves:
        return []
    low, high = bounds_of(problem.model)
    flat = [points.reshape(-1, len(low)) for points in tried]
    inside = [((points >= low) & (points <= high)).all(axis=1) for points in flat]
    free = np.concatenate([np.tile(curve.free, (len(points), 1)) for curve, points in zip(curves, flat, strict=True)])
    found = minimise_cases(problem, np.clip(np.concatenate(flat), low, high)[:, None], free=free).theta
    losses = np.where(np.concatenate(inside), losses_at(problem, found), np.inf)
    best, begin = [], 0
    for points in tried:
        values, steps = points.shape[:2]
        part = slice(begin, begin := begin + values * steps)
        chosen = losses[part].reshape(values, steps).argmin(axis=1)
        best.append(found[part].reshape(points.shape)[np.arange(values), chosen])
    return best


def _profile(
    problem: Problem, ratio: LikelihoodRatio, constant: int, points: Float[np.ndarray, "values parameters"]
) -> LikelihoodProfile | None:
    thetas = np.concatenate([ratio.theta[None], points])
    values = raw_values(problem, thetas)[problem.law.parameters[constant].name]
    falls = ratio.falls(thetas, losses_at(problem, thetas))
    known = np.isfinite(values) & np.isfinite(falls)
    order = np.argsort(values[known], kind="stable")
    if not known[0]:
        return None
    return LikelihoodProfile(tuple(map(float, values[known][order])), tuple(map(float, falls[known][order])))
