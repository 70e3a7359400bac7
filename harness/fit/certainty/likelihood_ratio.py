"""The likelihood-ratio statistic of a fit: how much worse another point explains the rows, against a 95 % limit."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from harness.fit.certainty.dependence import Dependence, dependence_of
from harness.fit.problem.centred import Problem
from harness.fit.problem.model import StatisticalModel, features_of
from harness.fit.problem.program import in_chunks, program
from harness.fit.problem.raw_units import predictions

CONFIDENCE = 0.975  # quantile of Student's t at either end of a 95 % interval


@dataclass(frozen=True)
class LikelihoodRatio:
    """The statistic of a fit, and the limit that it exceeds at the true value of a quantity in 5 % of tables.

    Attributes:
        theta: the best point; `loss` is the minimised loss there.
        unit: what a rise of the loss by one adds to the statistic, if the rows are independent.
        limit: the square of Student's t for the rows and constants of the fit.
        spare: the degrees of freedom of that t: independent rows less fitted constants, times the efficiency of the
            objective; at most the number of clusters less one if the rows of a cluster depend on each other.
    """

    theta: Float[np.ndarray, "parameters"]
    loss: float
    unit: float
    limit: float
    spare: float
    dependence: Dependence

    def falls(
        self, thetas: Float[np.ndarray, "points parameters"], losses: Float[np.ndarray, "points"]
    ) -> Float[np.ndarray, "points"]:
        """The statistic at each point: twice the fall of the log likelihood, scaled for rows that depend on each other.

        The scale is the ratio of the two quadratic forms in the distance from the best point, the form of dependent
        rows over that of independent ones (the vertical adjustment of Chandler and Bate 2007).
        """
        falls = self.unit * np.maximum(losses - self.loss, 0.0)
        if self.dependence.information is None or self.dependence.fisher is None:
            return falls
        away = thetas - self.theta
        dependent, independent = (
            np.einsum("ki,ij,kj->k", away, matrix, away)
            for matrix in (self.dependence.information, self.dependence.fisher)
        )
        return falls * np.where(independent > 0, dependent / np.maximum(independent, 1e-300), 1.0)


def likelihood_ratio(problem: Problem, theta: Float[np.ndarray, "parameters"], loss: float) -> LikelihoodRatio:
    """The statistic about a fit whose minimised loss is `loss`."""
    objective, dependence = problem.model.objective, dependence_of(problem, theta)
    rows = int(problem.fitted.sum())
    count = len(problem.model.parameters) - (0 if objective.variance is None else 1)
    scale = problem.scales[problem.law.response]
    predicted = predictions(problem, theta)[problem.fitted] / scale
    residuals = objective.residuals(predicted, problem.response[problem.fitted])
    factor, efficiency = objective.evidence(residuals, max(rows - count, 1.0), problem.options)
    # The size of the errors is known as well as from this share of the rows by least squares. Without it 90 to 93 % of
    # intervals of 16 runs held the truth (`scripts/coverage.py a_low`).
    spare = max((dependence.rows - count) * efficiency, 1.0)
    if dependence.information is not None:
        # What distinguishes clusters is known from as many errors as there are clusters (Cameron and Miller 2015).
        clusters = len(np.unique(problem.cluster[problem.fitted]))
        spare = max(min(spare, clusters - 1.0), 1.0)
    student = stdtrit(spare, CONFIDENCE) ** 2
    # A scale that is a parameter of the likelihood is refitted at every point: there F is rows * log(1 + t^2/spare).
    limit = student if objective.variance is None else rows * np.log1p(student / spare)
    return LikelihoodRatio(theta, loss, 2.0 * factor, float(limit), spare, dependence)


@program
def _losses(model: StatisticalModel, thetas, columns, target, noise, options, weights):
    def at(theta):
        rows = model.objective.rows(features_of(model, theta, columns, noise), target, noise, options)
        return jnp.sum(jnp.where(weights > 0, weights * rows, 0.0))

    return jax.vmap(at)(thetas)


def losses_at(problem: Problem, thetas: Float[np.ndarray, "points parameters"]) -> Float[np.ndarray, "points"]:
    """The loss of the fitted rows at each point; infinite where it is not finite."""
    arrays = (problem.columns, problem.target, problem.noise, problem.options, problem.weights)
    losses = in_chunks(lambda part: _losses(problem.model, part, *arrays), thetas)
    return np.where(np.isfinite(losses), losses, np.inf)
