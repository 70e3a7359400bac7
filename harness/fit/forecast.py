"""What a stored fit says about new points: predictions, and compute-optimal sizes, with intervals from its draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from harness.fit.law import bind, get_law, stacked
from harness.fit.problem import read_columns
from harness.fit.program import float64
from harness.fit.result import FitResult
from sweeps.errors import InputError

FLOPS_PER_PARAMETER_TOKEN = 6.0


def _interval(draws: Float[np.ndarray, "draws points"], points: int) -> tuple[np.ndarray, np.ndarray]:
    if not len(draws):
        return np.full(points, np.nan), np.full(points, np.nan)
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return low, high


def _point(result: FitResult) -> dict[str, float]:
    """The estimates; nan for one that has no finite value."""
    return {name: np.nan if value.estimate is None else value.estimate for name, value in result.parameters.items()}


def predict(result: FitResult, points: pd.DataFrame, *, source: str = "points") -> pd.DataFrame:
    """The fitted law at new points, in nats per token.

    Args:
        points: the law's columns by role, raw counts.

    Returns:
        the points with `prediction`; `low`, `high`: a 95 % confidence interval of the law's mean, from the bootstrap
        draws (nan without draws); `run_low`, `run_high`: a 95 % prediction interval for one new run, which has the
        scatter of the fitted runs on top (that of its measurement is not known and not in it).

    Raises:
        InputError: a column of the law is missing or unusable.
    """
    law = get_law(result.law)
    columns, names = read_columns(law, points, source)
    parameters = bind(law, names).parameters
    missing = [p.name for p in parameters if p.name not in result.parameters]
    if missing:
        raise InputError(source, "columns", ", ".join(missing), f"those of the fit: {', '.join(result.parameters)}")

    def of(values) -> jax.Array:
        return law.predict(stacked(parameters, values), columns) + jnp.zeros(len(points))

    with float64():
        center = np.asarray(of(_point(result)))
        draws = {name: np.asarray(values) for name, values in result.draws.items()}
        sampled = np.asarray(jax.vmap(of)(draws)) if draws else np.empty((0, len(points)))
    low, high = _interval(sampled, len(points))
    run_low, run_high = _interval(_with_scatter(result, sampled), len(points))
    return points.assign(prediction=center, low=low, high=high, run_low=run_low, run_high=run_high)


def _with_scatter(result: FitResult, sampled: Float[np.ndarray, "draws points"]) -> np.ndarray:
    """Draws of single runs: relative scatter where the objective has one, in logs where it works on logs."""
    normal = np.random.default_rng(0).standard_normal(sampled.shape)
    kind = result.objective["name"]
    if kind == "negative_log_likelihood":
        return sampled * (1.0 + (result.scatter["tau_unbiased"] or 0.0) * normal)
    if kind == "sum_squares":
        return sampled + result.scatter["residual_sd"] * normal
    return sampled * np.exp((result.scatter["log_residual_sd"] or 0.0) * normal)


def _optimum(flops, A, B, alpha, beta):
    """argmin of A/N^alpha + B/D^beta at C = 6 N D: N = g (C/6)^(beta/s), g^s = alpha A/(beta B), s = alpha + beta."""
    tokens_times_parameters = flops / FLOPS_PER_PARAMETER_TOKEN
    g = (alpha * A / (beta * B)) ** (1.0 / (alpha + beta))
    n = g * tokens_times_parameters ** (beta / (alpha + beta))
    return n, tokens_times_parameters / n


def allocate(result: FitResult, flops: ArrayLike) -> pd.DataFrame:
    """Compute-optimal N and D of a fitted `chinchilla` law for budgets of training FLOPs, C = 6 N D.

    Returns:
        a row per budget: flops, N, N_low, N_high, D, D_low, D_high, tokens_per_parameter, loss (nats per token); 95 %
        intervals from the bootstrap draws.

    Raises:
        InputError: another law, a budget that is not positive, or exponents that are not (no optimum then).
    """
    if result.law != "chinchilla":
        raise InputError(result.source, "law", result.law, "chinchilla, whose optimum has a closed form")
    budgets = np.atleast_1d(np.asarray(flops, float))
    if not np.all(np.isfinite(budgets) & (budgets > 0)):
        raise InputError("allocate", "flops", flops, "positive numbers")
    point = _point(result)
    E, A, B, alpha, beta = (point[name] for name in ("E", "A", "B", "alpha", "beta"))
    if not min(alpha, beta) > 0:
        raise InputError(
            result.source, "alpha, beta", (alpha, beta), "positive exponents, without which no optimum exists"
        )
    n, d = _optimum(budgets, A, B, alpha, beta)
    names = ("A", "B", "alpha", "beta")
    drawn = [np.asarray(result.draws.get(name, ()))[:, None] for name in names]
    keep = (drawn[2] > 0)[:, 0] & (drawn[3] > 0)[:, 0]
    sampled_n, sampled_d = _optimum(budgets, *(values[keep] for values in drawn))
    (n_low, n_high), (d_low, d_high) = (_interval(values, len(budgets)) for values in (sampled_n, sampled_d))
    loss = E + A * n**-alpha + B * d**-beta
    return pd.DataFrame(
        {
            "flops": budgets, "N": n, "N_low": n_low, "N_high": n_high, "D": d, "D_low": d_low, "D_high": d_high,
            "tokens_per_parameter": d / n, "loss": loss,
        }
    )  # fmt: skip
