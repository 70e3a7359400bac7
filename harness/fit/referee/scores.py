"""How well a fitted law describes rows: the scatter of the fitted ones, and the errors on the held-out ones."""

import numpy as np
from jaxtyping import Float

from harness.fit.problem.centred import Problem
from harness.fit.problem.raw_units import predictions
from harness.fit.results.result import HeldOutErrors, Scatter


def _sd(values: Float[np.ndarray, "rows"]) -> float | None:
    return float(np.sqrt(np.mean(values**2))) if len(values) else None


def scatter_of(problem: Problem, theta: Float[np.ndarray, "parameters"], parameters: int) -> Scatter:
    """The scatter of the fitted rows under every definition of `Scatter`, because papers mean different things by it.

    Args:
        parameters: number of fitted directions, the p of sqrt(n/(n - p)).
    """
    law, fitted = problem.law, problem.fitted
    predicted, observed = predictions(problem, theta)[fitted], problem.observed[fitted]
    noise = problem.noise[fitted] * problem.scales[law.response]
    positive = observed > 0
    log_residual = np.log(observed[positive]) - np.log(predicted[positive])
    relative = np.abs(observed - predicted) / predicted
    noise_part = np.mean((noise[positive] / predicted[positive]) ** 2) if positive.any() else 0.0
    spread = _sd(log_residual)
    rows = int(fitted.sum())
    tau = problem.model.objective.own_values(theta).get("tau")
    shrink = np.sqrt(rows / max(rows - parameters, 1))
    return Scatter(
        tau=tau,
        tau_unbiased=None if tau is None else float(tau * shrink),
        log_residual_sd=spread,
        log_residual_sd_without_noise=None if spread is None else float(np.sqrt(max(spread**2 - noise_part, 0.0))),
        residual_sd=_sd(observed - predicted),
        median_abs_relative=float(np.median(relative)),
        median_noise_relative=float(np.median(noise / predicted)),
        rows_not_positive=int((~positive).sum()),
    )


def holdout_scores(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> HeldOutErrors:
    """Errors on the held-out rows, in the response's own units; empty scores if there are no such rows."""
    rows = ~problem.fitted
    return errors_of(problem.observed[rows], predictions(problem, theta)[rows])


def errors_of(observed: Float[np.ndarray, "rows"], predicted: Float[np.ndarray, "rows"]) -> HeldOutErrors:
    """Mean absolute relative error, root mean square error and R^2 of predictions; empty if there are none."""
    if not len(observed):
        return HeldOutErrors(0, None, None, None)
    total = np.sum((observed - observed.mean()) ** 2)
    return HeldOutErrors(
        rows=len(observed),
        mean_abs_relative_error=float(np.mean(np.abs(predicted / observed - 1.0))) if np.all(observed) else None,
        rmse=float(np.sqrt(np.mean((observed - predicted) ** 2))),
        r2=float(1.0 - np.sum((observed - predicted) ** 2) / total) if total > 0 else None,
    )
