"""Nested models of one law for groups of rows: all constants shared, own prefactors, or all own; and tests of them.

The law's `rescale` tells the kinds of constants apart. A constant that changes with a unit is a prefactor: two
tokenizers count tokens differently, so it cannot be the same for both. One without a unit is an exponent, or a shape
where the law declares that. The likelihood ratio of two such models does not have a chi-squared distribution (a kink is
not regular, and constants that the rows do not identify count for nothing). So it is compared with its simulated
distribution: tables from the smaller model, with its scatter and the rows' known errors, are fitted by both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.certainty.identifiability import rank_of
from harness.fit.compare import aicc
from harness.fit.fitting import SolvedFit
from harness.fit.laws.law import Law, Parameter, by_group, forward
from harness.fit.problem.centred import Problem, centre
from harness.fit.problem.likelihood import log_likelihood_rows
from harness.fit.problem.program import float64
from harness.fit.problem.raw_units import predictions
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise, minimise_cases
from harness.fit.search.starts import grid_of_starts
from sweeps.errors import InputError

ALL_SHARED, OWN_LEVEL, OWN_PREFACTORS, ALL_OWN = "shared", "own level", "own prefactors", "all own"


@dataclass(frozen=True)
class Constants:
    """A law's constants by their unit: `level` changes with the unit of the response, `prefactors` with any unit.

    `combinations` are the declared combinations that do not change with any unit.
    """

    level: tuple[str, ...]
    prefactors: tuple[str, ...]
    exponents: tuple[str, ...]
    shapes: tuple[str, ...]
    combinations: tuple[str, ...]


def kinds_of_constants(law: Law) -> Constants:
    """Sort a law's constants by kind; where columns are not centred, those searched in logs count as prefactors."""
    values = {p.name: 1.1 * p.starts[len(p.starts) // 2] + 0.03 for p in law.parameters}
    scales = {name: 1.7 + 0.1 * i for i, name in enumerate((*law.columns, law.response))}
    with float64():
        moved, level_moved = (
            {name: float(value) for name, value in law.rescale(values, units).items()}
            for units in (scales, dict.fromkeys(scales, 1.0) | {law.response: 1.7})
        )
        combinations = tuple(
            c.label for c in law.combinations if np.isclose(float(c.value(moved)), float(c.value(values)))
        )
    if law.centred:
        level, prefactors = (
            tuple(name for name in values if not np.isclose(other[name], values[name], rtol=1e-9))
            for other in (level_moved, moved)
        )
    else:
        level = prefactors = tuple(p.name for p in law.parameters if p.transform == "log" and p.name not in law.shapes)
    exponents = tuple(name for name in values if name not in (*prefactors, *law.shapes))
    return Constants(level, prefactors, exponents, law.shapes, combinations)


@dataclass(frozen=True)
class NestedModel:
    """One of the nested models, solved.

    Attributes:
        own: the constants of which every group has its own.
        theta: the best point.
        degrees: number of directions that the rows determine, plus one for the scale of the residuals.
    """

    id: str
    own: tuple[str, ...]
    problem: Problem
    solutions: Solutions
    degrees: int

    @property
    def theta(self) -> Float[np.ndarray, "parameters"]:
        return self.solutions.theta[self.solutions.best]

    @property
    def log_likelihood(self) -> float:
        return float(np.sum(log_likelihood_rows(self.problem, self.theta)))

    @property
    def aicc(self) -> float:
        return aicc(self.log_likelihood, self.degrees, len(self.problem.response))


def recentred(fitted: SolvedFit, theta: Float[np.ndarray, "parameters"], scales: dict[str, float]) -> dict[str, float]:
    """Convert a point of a fit to columns divided by other scales: constant -> coordinate of the search."""
    law = fitted.problem.law
    values = {p.name: np.exp(x) if p.transform == "log" else x for p, x in zip(law.parameters, theta, strict=False)}
    with float64():
        moved = law.rescale(values, {k: v / scales[k] for k, v in fitted.problem.scales.items()})
        return {p.name: float(forward(p, moved[p.name])) for p in law.parameters}


def widened(
    smaller: Problem, theta: Float[np.ndarray, "... parameters"], larger: Problem
) -> Float[np.ndarray, "... wider"]:
    """Convert a point of a smaller model to a larger one: every group takes the shared values."""
    names = [p.name for p in smaller.model.parameters]
    index = [names.index(p.name if p.name in names else p.of or p.name) for p in larger.model.parameters]
    return theta[..., index]


def _from_groups(problem: Problem, groups: Sequence[SolvedFit]) -> Float[np.ndarray, "parameters"]:
    """A start from the groups' own fits: the groups' values of their own constants, and the mean of shared ones."""
    points = []
    for fitted in groups:
        best = fitted.solutions.theta[fitted.solutions.best]
        added = {p.name: x for p, x in zip(fitted.problem.model.parameters, best, strict=True)}
        points.append(added | recentred(fitted, best, problem.scales))

    def start(p: Parameter) -> float:
        return points[p.index][p.of] if p.of else float(np.mean([point[p.name] for point in points]))

    return np.array([start(p) for p in problem.model.parameters])


def nest(
    law: Law, frame: pd.DataFrame, objective: str | None, whole: SolvedFit, groups: Sequence[SolvedFit], source: str
) -> dict[str, NestedModel]:
    """Fit the nested models, starting from a smaller model and the groups' fits; small ones also from the law's starts.

    Args:
        frame: a table with a column `group`.
        whole: the law fitted to all rows.
        groups: the law fitted to each group alone, in the order of the sorted names.
    """
    kinds = kinds_of_constants(law)
    every = tuple(p.name for p in law.parameters)
    with_another = {
        f"{OWN_PREFACTORS}, {name}": (*kinds.prefactors, name) for name in (*kinds.exponents, *kinds.shapes)
    }
    ladder = {ALL_SHARED: (), OWN_LEVEL: kinds.level, OWN_PREFACTORS: kinds.prefactors, **with_another, ALL_OWN: every}
    # Models with the same constants are one model, under the last of their names.
    steps = {frozenset(own): name for name, own in ladder.items()}
    models: dict[str, NestedModel] = {}
    for own, name in steps.items():
        if not own:
            theta = whole.solutions.theta[whole.solutions.best]
            models[name] = NestedModel(name, (), whole.problem, whole.solutions, rank_of(whole.problem, theta) + 1)
            continue
        ordered = tuple(n for n in every if n in own)
        problem = centre(by_group(law, ordered), frame, objective=objective, source=source)
        base = models[OWN_PREFACTORS] if OWN_PREFACTORS in models else models[ALL_SHARED]
        starts = [widened(base.problem, best_and_runners_up(base.solutions, 3), problem)]
        starts.append(_from_groups(problem, groups)[None])
        if name in (OWN_LEVEL, OWN_PREFACTORS):
            starts.append(grid_of_starts(problem))
        solutions = minimise(problem, np.concatenate(starts))
        theta = solutions.theta[solutions.best]
        if not np.isfinite(solutions.loss).any():
            raise InputError(source, law.response, f"{len(frame)} rows", f"numbers for which {law.formula} is finite")
        models[name] = NestedModel(name, ordered, problem, solutions, rank_of(problem, theta) + 1)
    return models


def _correlation(residuals: Float[np.ndarray, "rows"], cluster: np.ndarray) -> float:
    """The correlation of residuals in a cluster, by analysis of variance; 0 if every row is a cluster of its own."""
    _, codes, sizes = np.unique(cluster, return_inverse=True, return_counts=True)
    rows, clusters = len(residuals), len(sizes)
    if rows == clusters or clusters < 2:
        return 0.0
    means = np.bincount(codes, residuals) / sizes
    within = np.sum((residuals - means[codes]) ** 2) / (rows - clusters)
    between = np.sum(sizes * (means - residuals.mean()) ** 2) / (clusters - 1)
    typical = (rows - np.sum(sizes**2) / rows) / (clusters - 1)
    return float(np.clip((between - within) / max(between + (typical - 1) * within, 1e-300), 0.0, 1.0))


def simulate_responses(model: NestedModel, draws: int, seed: int) -> Float[np.ndarray, "draws rows"]:
    """Responses (centred) as the fitted model would give them again on the same rows.

    With the objective `normal` they are normal, with the known errors and the fitted scatter, and rows of a cluster are
    as correlated as their residuals. Other objectives declare no error: there the fitted residuals take random signs,
    one sign per cluster.
    """
    problem, rng = model.problem, np.random.default_rng(seed)
    mean = predictions(problem, model.theta) / problem.scales[problem.law.response]
    clusters = problem.cluster.max() + 1
    shape = (draws, len(mean))
    objective = problem.model.objective
    if objective.variance is not None:
        spread = np.sqrt(objective.variance(mean, problem.noise, objective.own_values(model.theta)))
        shared = _correlation((problem.response - mean) / spread, problem.cluster)
        normal = np.sqrt(1 - shared) * rng.standard_normal(shape)
        normal += np.sqrt(shared) * rng.standard_normal((draws, clusters))[:, problem.cluster]
        return mean + spread * normal
    sign = rng.choice([-1.0, 1.0], (draws, clusters))[:, problem.cluster]
    if objective.log:
        return mean * np.exp(sign * (np.log(problem.response) - np.log(mean)))
    return mean + sign * (problem.response - mean)


def refit(
    problem: Problem, responses: Float[np.ndarray, "draws rows"], starts: Float[np.ndarray, "draws starts parameters"]
) -> Float[np.ndarray, "draws parameters"]:
    """The best parameters for every row of responses."""
    targets = np.log(responses) if problem.model.objective.log else responses
    return minimise_cases(problem, starts, targets=lambda draw: targets[draw]).theta


def _likelihoods(
    problem: Problem, responses: Float[np.ndarray, "draws rows"], thetas: Float[np.ndarray, "draws parameters"]
) -> Float[np.ndarray, "draws"]:
    return np.array(
        [
            np.sum(log_likelihood_rows(replace(problem, response=response), theta))
            for response, theta in zip(responses, thetas, strict=True)
        ]
    )


@dataclass(frozen=True)
class RatioTest:
    """A test of a smaller model against a larger one that contains it.

    Attributes:
        likelihood_ratio: 2 (log L of the larger model - log L of the smaller).
        p_value: the share of tables simulated from the smaller model with at least this ratio.
        reference: the mean ratio of those tables; for a chi-squared it would be the number of `directions`.
        directions: number of directions that the larger model fixes beyond the smaller.
    """

    smaller: str
    larger: str
    likelihood_ratio: float
    p_value: float
    reference: float
    directions: int
    draws: int


def ratio_tests(
    smaller: NestedModel, larger: Sequence[NestedModel], draws: int, seed: int
) -> tuple[list[RatioTest], Float[np.ndarray, "draws parameters"]]:
    """Test a model against larger ones on one set of simulated tables; also return its own refits to them."""
    responses = simulate_responses(smaller, draws, seed)
    own = np.tile(best_and_runners_up(smaller.solutions, 2), (draws, 1, 1))
    refits = refit(smaller.problem, responses, own)
    base = _likelihoods(smaller.problem, responses, refits)
    tests = []
    for model in larger:
        again = widened(smaller.problem, refits, model.problem)[:, None]
        starts = np.concatenate([again, np.broadcast_to(model.theta, again.shape)], axis=1)
        wider = _likelihoods(model.problem, responses, refit(model.problem, responses, starts))
        null = np.maximum(2 * (wider - base), 0.0)
        ratio = max(2 * (model.log_likelihood - smaller.log_likelihood), 0.0)
        p_value = float((1 + np.sum(null >= ratio)) / (1 + draws))
        directions = model.degrees - smaller.degrees
        tests.append(RatioTest(smaller.id, model.id, ratio, p_value, float(null.mean()), directions, draws))
    return tests, refits
