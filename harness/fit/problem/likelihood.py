"""The likelihood: the log density of every row under a law and its objective, in the units of the table."""

import numpy as np
from jaxtyping import Float

from harness.fit.problem.centred import Problem
from harness.fit.problem.raw_units import predictions


def log_likelihood_rows(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> Float[np.ndarray, "rows"]:
    """Log density of each row's response, in raw units, under the density that the objective implies.

    Where the objective has no scale of its own, the scale of the density is estimated from the fitted rows.
    """
    objective, observed = problem.model.objective, problem.observed
    predicted = predictions(problem, theta)
    residuals = objective.residuals(predicted, observed)
    if objective.variance is not None:
        noise = problem.noise * problem.scales[problem.law.response]
        scale = objective.variance(predicted, noise, objective.own_values(theta))
    else:
        scale = objective.likely_scale(residuals[problem.fitted], problem.options)
    density = objective.log_density(residuals, scale, problem.options)
    return density - np.log(observed) if objective.log else density
