"""How well a fitted law describes rows: the scatter of the fitted ones, and the errors on the held-out ones."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from harness.fit.problem.centred import Problem
from harness.fit.problem.raw_units import predictions
from harness.fit.results.held_out import HeldOutErrors, HeldOutRow, HeldOutRun
from harness.fit.results.result import Scatter
from harness.fit.results.shown import Known


def _sd(values: Float[np.ndarray, "rows"]) -> Known:
    """The root of the mean square, also of numbers whose squares are too large to be one; None without numbers."""
    if not len(values):
        return None
    size = float(np.max(np.abs(values)))
    return size * float(np.sqrt(np.mean((values / size) ** 2))) if size > 0 else 0.0


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


def holdout_scores(
    problem: Problem, theta: Float[np.ndarray, "parameters"], listed: Sequence[HeldOutRow] = ()
) -> HeldOutErrors:
    """Errors on the held-out rows, in the response's own units; `listed` as for `errors_of`."""
    rows = ~problem.fitted
    return errors_of(problem.observed[rows], predictions(problem, theta)[rows], listed)


def errors_of(
    observed: Float[np.ndarray, "rows"], predicted: Float[np.ndarray, "rows"], listed: Sequence[HeldOutRow] = ()
) -> HeldOutErrors:
    """Mean absolute relative error, root mean square error and R^2 of predictions; empty if there are none.

    Args:
        listed: rows with their intervals, for the coverage and for the errors by run.
    """
    if not len(observed):
        return HeldOutErrors(0, None, None, None)
    rmse, spread = _sd(observed - predicted), _sd(observed - observed.mean())
    with np.errstate(all="ignore"):
        r2 = 1.0 - np.square(np.divide(rmse, spread))
    by_run: dict[str, list[HeldOutRow]] = {}
    for row in listed:
        by_run.setdefault(row.run, []).append(row)
    return HeldOutErrors(
        rows=len(observed),
        mean_abs_relative_error=float(np.mean(np.abs(predicted / observed - 1.0))) if np.all(observed) else None,
        rmse=rmse,
        r2=float(r2) if np.isfinite(r2) else None,
        coverage=coverage_of(listed),
        by_run=tuple(_run_errors(run, rows) for run, rows in by_run.items() if len(rows) > 1),
        by_row=tuple(listed),
    )


def coverage_of(rows: Sequence[HeldOutRow]) -> float | None:
    """The share of rows that the interval of a new run holds; None where there are no intervals."""
    covered = [row.covered for row in rows if row.covered is not None]
    return float(np.mean(covered)) if covered else None


def interval_score(low: ArrayLike, high: ArrayLike, observed: ArrayLike, level: float = 0.95) -> np.ndarray:
    """The interval score of Gneiting and Raftery (2007, equation 43): the width, and a penalty for what lies outside.

    It is proper: a forecaster who states the quantiles (1 - level)/2 and (1 + level)/2 has the least expected score. It
    is in the unit of the response, and smaller is better.

    Args:
        low, high: the ends of the interval that is to hold the observation with the probability `level`.
    """
    below, above, value = (np.asarray(part, float) for part in (low, high, observed))
    outside = np.maximum(below - value, 0.0) + np.maximum(value - above, 0.0)
    return above - below + 2.0 / (1.0 - level) * outside


def _run_errors(run: str, rows: Sequence[HeldOutRow]) -> HeldOutRun:
    errors = np.array([row.predicted - row.observed for row in rows])
    return HeldOutRun(run, len(rows), float(errors.mean()), _sd(errors), coverage_of(rows))


def row_numbers(frame: pd.DataFrame) -> Int[np.ndarray, "rows"]:
    """The number of every row, from 1: in its file, or else in the table."""
    return np.asarray(frame["file_row"] if "file_row" in frame.columns else np.arange(1, len(frame) + 1), int)


def names_of_runs(problem: Problem, frame: pd.DataFrame) -> list[str]:
    """The name of every row's run: what the columns `run` or `cluster` say, else the number of the run's first row."""
    named = next((name for name in ("run", "cluster") if name in frame.columns), None)
    if named is not None:
        return [str(value) for value in frame[named]]
    _, first = np.unique(problem.cluster, return_index=True)
    return [f"of row {number}" for number in row_numbers(frame)[first][problem.cluster]]
