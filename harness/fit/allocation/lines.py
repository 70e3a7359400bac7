"""Compute-optimal N and D: what the three approaches of Hoffmann et al. (arXiv 2203.15556) share.

Approaches 1 (`lower_edge`) and 2 (`isoflop`) find the optimum at each measured budget and draw lines through the
optima, N* ~ C^a and D* ~ C^b; approach 3 (`parametric`) minimises a fitted loss along a budget. This module has the
lines, their values at other budgets, the check of the design, and the loss along the optima.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from harness.fit.certainty.intervals import percentiles
from harness.fit.fitting import fit
from harness.fit.forecast import predict
from harness.fit.problem.columns import check_roles, column_of
from harness.fit.problem.fit_status import FitStatus, FitWarning
from harness.fit.problem.sizes import FLOPS_PER_PARAMETER_TOKEN, FROM_FLOPS, beyond
from sweeps.errors import InputError

READ = ("N", "D", "L")  # the roles of a table from which sizes are allocated
SIX_ND = "6 N D"
# Two limits of the sd of log D about its regression line in log N: a table below FIXED_DESIGN is refused, one below
# NARROW_DESIGN gets a warning. Where D follows N, the design alone fixes the optimum.
FIXED_DESIGN, NARROW_DESIGN = 0.1, 0.7
FEWEST_BUDGETS = 3  # needed for a line through the optima
FEWEST_LOSSES = 5  # optima needed for a fit of the loss along them
# Limits are not given if more than this share of the replicates has no optimum.
MOST_WITHOUT = 0.025


@dataclass(frozen=True)
class LossRuns:
    """Losses with their sizes and budgets; a row is a run, or a checkpoint of a run.

    Attributes:
        n, d, flops, loss: parameters, tokens, training FLOPs, nats per token.
        curve: a number per row; rows with the same number are one curve of loss against compute (of one run or one N).
        labelled: whether the table names the runs, so that several rows may be checkpoints of one run.
        counted: how FLOPs were counted, in words.
    """

    n: Float[np.ndarray, "rows"]
    d: Float[np.ndarray, "rows"]
    flops: Float[np.ndarray, "rows"]
    loss: Float[np.ndarray, "rows"]
    curve: np.ndarray
    labelled: bool
    counted: str


@dataclass(frozen=True)
class PowerLaw:
    """The line log y = log_mean + exponent (log C - center), with draws of log_mean and exponent."""

    center: float
    log_mean: float
    exponent: float
    draws: Float[np.ndarray, "draws 2"]

    def log_at(self, log_flops: ArrayLike) -> np.ndarray:
        return self.log_mean + self.exponent * (np.asarray(log_flops) - self.center)

    def log_draws_at(self, log_flops: Float[np.ndarray, "budgets"]) -> Float[np.ndarray, "draws budgets"]:
        return self.draws[:, :1] + self.draws[:, 1:] * (np.asarray(log_flops) - self.center)


@dataclass(frozen=True)
class BudgetOptima:
    """The optima that approach 1 or 2 found, one per budget.

    Attributes:
        log_n, log_d: logs of the best N and of the D that it is trained on.
        log_n_draws, log_d_draws: the same in the replicates; nan where a replicate has no optimum.
        weights: the weights of the budgets in the regressions.
        method: how the optima were found, in words.
    """

    flops: Float[np.ndarray, "budgets"]
    log_n: Float[np.ndarray, "budgets"]
    log_d: Float[np.ndarray, "budgets"]
    loss: Float[np.ndarray, "budgets"]
    log_n_draws: Float[np.ndarray, "draws budgets"]
    log_d_draws: Float[np.ndarray, "draws budgets"]
    weights: Float[np.ndarray, "budgets"]
    method: str
    warnings: tuple[FitWarning, ...] = field(default=())

    def doubted(self, warnings: tuple[FitWarning, ...]) -> "BudgetOptima":
        """The same without replicates, and so without limits, if there is a warning that says why."""
        if not warnings:
            return self
        none = self.log_n_draws[:0]
        return replace(self, log_n_draws=none, log_d_draws=none, warnings=(*self.warnings, *warnings))

    @property
    def n(self) -> PowerLaw:
        """The power law of N* in C."""
        return power_law_in_compute(self.flops, self.log_n, self.weights, self.log_n_draws)

    @property
    def d(self) -> PowerLaw:
        """The power law of D* in C."""
        return power_law_in_compute(self.flops, self.log_d, self.weights, self.log_d_draws)


def runs_to_allocate(frame: pd.DataFrame, source: str = "table") -> LossRuns:
    """Read N, D, L, `flops` (6 N D if there is no such column) and `run` (if there is one) from a table with roles.

    Raises InputError if a column is missing or unusable.
    """
    check_roles(frame, READ, source)
    n, d, loss = (column_of(frame, role, source) for role in READ)
    has_flops = "flops" in frame.columns
    flops = column_of(frame, "flops", source) if has_flops else FLOPS_PER_PARAMETER_TOKEN * n * d
    sources = frame.attrs.get("roles", {})
    computed = [f", of which {role} = {rule}" for role, rule in FROM_FLOPS.items() if sources.get(role) == rule]
    counted = "".join(["the column flops", *computed]) if has_flops else SIX_ND
    labelled = "run" in frame.columns
    labels = frame["run"].astype(str) if labelled else pd.Series(n)
    return LossRuns(n, d, flops, loss, pd.factorize(labels)[0], labelled, counted)


def check_design(n: Float[np.ndarray, "rows"], d: Float[np.ndarray, "rows"], source: str) -> tuple[FitWarning, ...]:
    """Return a warning if D nearly follows N.

    Raises InputError if D is a power of N in all rows, such as a fixed number of tokens per parameter.
    """
    log_n, log_d = np.log(n), np.log(d)
    slope = 0.0 if np.ptp(log_n) < 1e-6 else float(np.polyfit(log_n - log_n.mean(), log_d, 1)[0])
    spread = float(np.std(log_d - slope * log_n))
    if np.ptp(log_n) < FIXED_DESIGN:
        raise InputError(source, "N", f"{n.min():.4g} to {n.max():.4g}", "runs of several sizes")
    if spread < FIXED_DESIGN:
        raise InputError(
            source, "N, D", f"D ~ N^{slope:.2f} in all rows, to {np.expm1(spread):.1%}",
            "a design in which D varies at given N: in this one every budget has one size, and an optimum is not to be "
            "told from the design",
        )  # fmt: skip
    if spread < NARROW_DESIGN:
        message = f"D follows N^{slope:.2f} to a factor of {np.exp(spread):.2f} (one s.d.): optima are poorly separated"
        return (FitWarning("narrow_design", message),)
    return ()


def regress(
    log_x: Float[np.ndarray, "points"], log_y: Float[np.ndarray, "*draws points"], weights: Float[np.ndarray, "points"]
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares of y on x: the line's value at x = 0, and its slope; points that are nan do not count."""
    weight = np.where(np.isfinite(log_y), weights, 0.0)
    y, total = np.where(weight > 0, log_y, 0.0), weight.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a replicate may have no optimum at all
        mean_x, mean_y = (weight * log_x).sum(axis=-1) / total, (weight * y).sum(axis=-1) / total
        away = log_x - mean_x[..., None]
        slope = (weight * away * y).sum(axis=-1) / (weight * away**2).sum(axis=-1)
    return mean_y - slope * mean_x, slope


def off_line(
    log_x: Float[np.ndarray, "points"], log_y: Float[np.ndarray, "points"], weights: Float[np.ndarray, "points"]
) -> Float[np.ndarray, "points"]:
    """The residuals of y about its line in x."""
    x = log_x - log_x.mean()
    at_mean, slope = regress(x, log_y, weights)
    return log_y - at_mean - slope * x


def power_law_in_compute(
    flops: Float[np.ndarray, "budgets"], log_y: Float[np.ndarray, "budgets"],
    weights: Float[np.ndarray, "budgets"] | None = None, log_draws: Float[np.ndarray, "draws budgets"] | None = None,
) -> PowerLaw:  # fmt: skip
    """Fit y ~ C^exponent by weighted regression of logs, once to the optima and once to every draw of them."""
    weights = np.ones(len(flops)) if weights is None else weights
    center = float(np.mean(np.log(flops)))
    log_mean, exponent = regress(np.log(flops) - center, log_y, weights)
    drawn = np.empty((0, len(flops))) if log_draws is None else log_draws
    draws = np.stack(regress(np.log(flops) - center, drawn, weights), axis=-1)
    return PowerLaw(center, float(log_mean), float(exponent), draws)


def student_errors(
    residuals: Float[np.ndarray, "points"], rng: np.random.Generator, draws: int, least: float = 0.0
) -> Float[np.ndarray, "draws points"]:
    """Draws of errors like those that n residuals about a line show, for 95 % limits with n - 2 degrees of freedom.

    They are normal and scaled by `student_factor`, so that the 95 % limits of the lines through points with these
    errors are those of least squares. Draws from Student's distribution itself would need many more for that. Their sd
    is at least `least`.
    """
    degrees = len(residuals) - 2
    sd = max(float(np.sqrt(residuals @ residuals / degrees)), least)
    return sd * student_factor(degrees) * paired_normals(rng, draws, len(residuals))


def paired_normals(rng: np.random.Generator, draws: int, values: int) -> Float[np.ndarray, "draws values"]:
    """Normal draws in pairs of opposite sign, so that percentiles of what is linear in them are symmetric."""
    half = rng.standard_normal((draws - draws // 2, values))
    return np.concatenate([half, -half])[:draws]


def student_factor(degrees: int) -> float:
    """How many times wider a 95 % interval is with Student's t than with a normal distribution."""
    return float(stdtrit(degrees, 0.975) / stdtrit(np.inf, 0.975))


def limits(draws: Float[np.ndarray, "draws values"]) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile limits of each value; nan without draws, or if more than 2.5 % of its draws are not finite."""
    low, high = np.full((2, draws.shape[1]), np.nan)
    for i, values in enumerate(draws.T):
        known = values[np.isfinite(values)]
        if len(known) and len(known) >= (1 - MOST_WITHOUT) * len(values):
            low[i], high[i] = percentiles(known)
    return low, high


def check_budgets(flops: ArrayLike) -> Float[np.ndarray, "budgets"]:
    """Budgets to allocate, as an array; InputError if one is not a positive number."""
    budgets = np.atleast_1d(np.asarray(flops, float))
    if not np.all(np.isfinite(budgets) & (budgets > 0)):
        raise InputError("allocate", "flops", flops, "positive numbers")
    return budgets


def table_of(
    budgets: Float[np.ndarray, "budgets"], point: Mapping[str, np.ndarray], draws: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """A table with a row per budget: each quantity and its 95 % limits from the draws, NAME_low and NAME_high."""
    columns = {"flops": budgets}
    for name, values in point.items():
        low, high = limits(draws[name])
        columns |= {name: values, f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(columns)


def at_budgets(frontier: BudgetOptima, flops: ArrayLike) -> tuple[pd.DataFrame, tuple[FitWarning, ...]]:
    """N*, D*, D*/N* and the loss at each budget, along the lines through the optima, with 95 % limits; and warnings.

    The loss is predicted by the law `compute_power`, fitted to the losses at the optima; a bootstrap gives its limits.
    Raises InputError for a budget that is not positive.
    """
    budgets = check_budgets(flops)
    n, d, logs = frontier.n, frontier.d, np.log(budgets)
    point = {"N": n.log_at(logs), "D": d.log_at(logs)}
    draws = {"N": n.log_draws_at(logs), "D": d.log_draws_at(logs)}
    point["tokens_per_parameter"] = point["D"] - point["N"]
    draws["tokens_per_parameter"] = draws["D"] - draws["N"]
    table = table_of(
        budgets, {name: np.exp(v) for name, v in point.items()}, {name: np.exp(v) for name, v in draws.items()}
    )
    warnings = list(beyond(budgets, float(frontier.flops.max()), "budget"))
    losses = pd.DataFrame({"flops": frontier.flops, "L": frontier.loss, "cluster": frontier.log_n})
    if len(losses) < FEWEST_LOSSES:
        warnings.append(FitWarning("no_loss", f"{len(losses)} optima are too few for L = E + A/C^alpha"))
        return table.assign(loss=np.nan, loss_low=np.nan, loss_high=np.nan), tuple(warnings)
    fitted = fit("compute_power", losses, sensitivity=False, source="optima")
    if fitted.status is not FitStatus.CONVERGED:
        warnings.append(FitWarning("loss_fit", f"L = E + A/C^alpha along the optima: {fitted.status}"))
    loss = predict(fitted, pd.DataFrame({"flops": budgets}))
    return table.assign(loss=loss["prediction"], loss_low=loss["low"], loss_high=loss["high"]), tuple(warnings)


def shift_from_half(flops: ArrayLike, z: float, anchor: float) -> np.ndarray:
    """How many times larger N is under D = kappa N^z than under D ~ N, at C = 6 N D: (C/C0)^(1/(1+z) - 1/2).

    C0, the `anchor`, is the budget at which the two rules agree. D = kappa N^z holds D/N^z fixed; it is a rule for
    sizes, not an optimum, since it minimises no loss. Raises InputError unless z is above -1 and the anchor positive.
    """
    if not z > -1:
        raise InputError("allocate", "--z", z, "a number above -1")
    if not 0 < anchor < np.inf:
        raise InputError("allocate", "--anchor", anchor, "a positive number of FLOPs")
    return (check_budgets(flops) / anchor) ** (1.0 / (1.0 + z) - 0.5)
