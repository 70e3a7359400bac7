"""Approach 2: at each budget, the N of the lowest loss among the sizes that spent it (an isoFLOP profile).

With a known noise of the losses, the default follows Porian et al. (arXiv 2406.19146) and their code. The minimum of an
Akima curve of log L against log N is taken, unless it lies at an end of the sizes. The same is done for 1,000 noisy
copies of the losses. Then log N* is regressed on log C with weights 1/sd^2. The noise table of their code gives an sd
per range of losses, but the code looks up log L instead of L. So the noise behind their published intervals is the
table's lowest sd everywhere: .002 nats on RefinedWeb and .01 on OpenWebText2. Where the line misses the optima by more
than their errors allow, the intervals are widened.

Without a known noise, the default is the parabola of Hoffmann et al. (arXiv 2203.15556) about the lowest loss, and the
errors are those that the optima show: their scatter about the line, with Student's t for its K - 2 degrees of freedom
(K budgets). `scripts/coverage.py --only isoflop` simulates that; NEGATIVE_RESULTS.md has what else was tried.
"""

import numpy as np
from jaxtyping import Float
from scipy.interpolate import Akima1DInterpolator
from scipy.special import chdtrc

from harness.fit.allocation.lines import (
    FEWEST_BUDGETS,
    BudgetOptima,
    LossRuns,
    check_design,
    regress,
    student_errors,
    student_factor,
)
from harness.fit.problem.fit_status import FitWarning
from sweeps.errors import InputError

# Runs whose log FLOPs differ by less than this belong to one budget.
SAME_BUDGET = 0.02
FEWEST_SIZES = 3
# Points per interval between two sizes at which a curve is evaluated.
FINENESS = 25
# Lower limit of the sd of log N*, as a fraction of the mean spacing of log N: however small the noise, an interpolating
# curve through few sizes does not locate its minimum better.
LEAST_SD = 0.33
# A parabola is fitted to the sizes within this factor of the best: farther out, profiles are steeper toward small N.
# With a factor of 3 the intervals of 9 sizes a budget were wider than those of 4 sizes over the same range.
WITHIN = 4.0
# The line is said to miss its optima if such a chi-squared, or a larger one, has this probability.
MISSED = 0.05


def profiles(runs: LossRuns) -> list[np.ndarray]:
    """The rows of each budget with at least three sizes: per size the row of lowest loss, in order of N."""
    order = np.argsort(runs.flops, kind="stable")
    apart = np.diff(np.log(runs.flops[order])) > SAME_BUDGET
    best_of_sizes = []
    for rows in np.split(order, np.flatnonzero(apart) + 1):
        if np.ptp(np.log(runs.flops[rows])) > 2 * SAME_BUDGET:
            continue  # FLOPs that rise in small steps are the checkpoints of a curve, not one budget
        rows = rows[np.lexsort((runs.loss[rows], runs.n[rows]))]
        best = rows[np.unique(runs.n[rows], return_index=True)[1]]
        if len(best) >= FEWEST_SIZES:
            best_of_sizes.append(best)
    return best_of_sizes


def isoflop_optima(
    runs: LossRuns, sd: Float[np.ndarray, "rows"] | None = None, method: str | None = None, draws: int = 1000,
    seed: int = 0, source: str = "table",
) -> BudgetOptima:  # fmt: skip
    """Find the optimum of every isoFLOP profile.

    Args:
        sd: standard deviation of each loss over seeds, nats; without it, the errors are those that the scatter of the
            optima about their line shows.
        method: akima or quadratic; by default akima with `sd` and quadratic without.

    Raises:
        InputError: fewer than three profiles, or fewer than three whose lowest loss is inside the range of sizes.
    """
    method = method or ("quadratic" if sd is None else "akima")
    curve = "Akima curve" if method == "akima" else "parabola"
    warnings = list(check_design(runs.n, runs.d, source))
    budgets = profiles(runs)
    if len(budgets) < FEWEST_BUDGETS:
        raise InputError(
            source, "flops", f"{len(budgets)} budgets of {FEWEST_SIZES} sizes or more",
            f"at least {FEWEST_BUDGETS} (approach 2 compares sizes at one budget; --approach 3 needs no budgets)",
        )  # fmt: skip
    if 2 * (used := sum(map(len, budgets))) < len(runs.n):
        message = (
            f"{used} of {len(runs.n)} rows are profiles: the others share no budget, or are not the best of a size"
        )
        warnings.append(FitWarning("few_on_budgets", message))
    rng, kept, lost = np.random.default_rng(seed), [], []
    noise = np.zeros((len(runs.loss), 0)) if sd is None else sd[:, None] * rng.standard_normal((len(sd), draws))
    for rows in budgets:
        budget = float(np.exp(np.log(runs.flops[rows]).mean()))
        optimum = _optimum_on_budget(runs, rows, runs.loss[rows, None] + noise[rows], method)
        if optimum is None:
            lost.append(budget)
        else:
            kept.append((budget, *optimum))
    if lost:
        listed = ", ".join(f"{budget:.3g}" for budget in lost)
        message = f"{len(lost)} of {len(budgets)} budgets left out, lowest at an end of N: {listed}"
        warnings.append(FitWarning("minimum_at_edge", message))
    if len(kept) < FEWEST_BUDGETS:
        raise InputError(
            source, "flops", f"{len(kept)} of {len(budgets)} budgets whose {curve} has its minimum between the sizes",
            f"at least {FEWEST_BUDGETS}, or another --method",
        )  # fmt: skip
    flops, best, log_d, lowest, error = (np.array(values) for values in zip(*kept, strict=True))
    named = f"approach 2, {curve}s of log L in log N"
    if sd is None:
        log_n, log_d = best[:, 0], log_d[:, 0]
        x, flat = np.log(flops) - np.log(flops).mean(), np.ones(len(flops))
        at_mean, slope = regress(x, log_n, flat)
        residuals = log_n - at_mean - slope * x
        errors = student_errors(residuals, rng, draws)
        warnings.append(_unknown_noise(residuals))
        # At one budget a larger N means a smaller D.
        return BudgetOptima(
            flops, log_n, log_d, np.exp(lowest), log_n + errors, log_d - errors, flat, named, tuple(warnings)
        )
    # The median over the noisy copies is steadier than the optimum of the measured losses alone.
    log_n, log_d_ = (np.nanmedian(v[:, 1:], axis=1) if draws else v[:, 0] for v in (best, log_d))
    factor, missed = _widening(np.log(flops), log_n, error)
    return BudgetOptima(
        flops, log_n, log_d_, np.exp(lowest), log_n + factor * (best[:, 1:].T - log_n),
        log_d_ + factor * (log_d[:, 1:].T - log_d_), error**-2.0, named, (*warnings, *missed),
    )  # fmt: skip


def _unknown_noise(residuals: Float[np.ndarray, "budgets"]) -> FitWarning:
    """Say that the noise is unknown, where the errors come from instead, and what so few optima cost."""
    degrees = len(residuals) - 2
    scatter = float(np.sqrt(residuals @ residuals / degrees))
    message = (
        f"the noise of the losses is not known (--noise, or a column L_se): intervals are from the scatter of "
        f"{len(residuals)} optima about their line, {np.expm1(scatter):.1%} of N, with {degrees} degrees of freedom "
        f"({student_factor(degrees):.1f} times as wide as with many)"
    )
    return FitWarning("noise_unknown", message)


def _widening(
    log_c: Float[np.ndarray, "budgets"], log_n: Float[np.ndarray, "budgets"], error: Float[np.ndarray, "budgets"]
) -> tuple[float, tuple[FitWarning, ...]]:
    """The factor by which errors of the line grow because it misses the optima, and the warning; 1 if it does not.

    It is the scale factor sqrt(chi-squared/(K - 2)) of the Particle Data Group, and Student's t for its degrees.
    """
    x, degrees = log_c - log_c.mean(), len(log_c) - 2
    at_mean, slope = regress(x, log_n, error**-2.0)
    squares = float(np.sum(((log_n - at_mean - slope * x) / error) ** 2))
    if chdtrc(degrees, squares) > MISSED:
        return 1.0, ()
    factor = float(np.sqrt(squares / degrees)) * student_factor(degrees)
    message = (
        f"the line N* ~ C^{slope:.3f} misses its {len(log_c)} optima (chi-squared {squares:.1f} for {degrees} degrees "
        f"of freedom): the noise is larger, or the optima follow no power law; intervals are {factor:.1f} times as wide"
    )
    return factor, (FitWarning("line_misses_optima", message),)


def _optimum_on_budget(
    runs: LossRuns, rows: np.ndarray, noisy: Float[np.ndarray, "sizes draws"], method: str
) -> tuple[np.ndarray, np.ndarray, float, float] | None:
    """Log N and log D of the minimum (for the losses, then for each noisy copy), the least log loss, the sd of log N.

    None if the measured losses, or most copies, have no minimum inside the range of sizes.
    """
    log_n, draws = np.log(runs.n[rows]), noisy.shape[1]
    log_l = np.log(np.maximum(np.column_stack([runs.loss[rows], noisy]), 1e-300))
    best, lowest = (_akima if method == "akima" else _parabola)(log_n, log_l)
    inside = np.isfinite(best[1:])
    if not np.isfinite(best[0]) or (draws and inside.mean() < 0.5):
        return None
    # At one budget log D is linear in log N (exactly so for 6 N D), so that it can be interpolated.
    log_d = np.interp(best, log_n, np.log(runs.d[rows]))
    log_d[~np.isfinite(best)] = np.nan
    spread = float(np.std(best[1:][inside])) if draws else 0.0
    least = LEAST_SD * float(np.mean(np.diff(log_n))) if method == "akima" else 1e-3
    return best, log_d, lowest, max(spread, least) / (float(inside.mean()) if draws else 1.0)


def _akima(log_n: Float[np.ndarray, "sizes"], log_l: Float[np.ndarray, "sizes draws"]) -> tuple[np.ndarray, float]:
    """Log N at each Akima curve's minimum (nan if that is an end), and the least log loss of the first curve."""
    grid = np.linspace(log_n[0], log_n[-1], (len(log_n) - 1) * FINENESS)
    curves = Akima1DInterpolator(log_n, log_l)(grid)
    at = curves.argmin(axis=0)
    inside = (at > 0) & (at < len(grid) - 1)
    return np.where(inside, grid[at], np.nan), float(curves[at[0], 0])


def _parabola(log_n: Float[np.ndarray, "sizes"], log_l: Float[np.ndarray, "sizes draws"]) -> tuple[np.ndarray, float]:
    """Log N at each parabola's minimum, and the least log loss of the first parabola.

    A parabola is fitted to each column near its lowest loss; nan if it has no minimum or has it outside the sizes.
    """
    near = _near(log_n, log_l[:, 0])
    center = log_n[near].mean()
    curvature, slope, level = np.polyfit(log_n[near] - center, log_l[near], 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        best = np.where(curvature > 0, center - slope / (2 * curvature), np.nan)
        lowest = level - slope**2 / (4 * curvature)
    inside = (best > log_n[0]) & (best < log_n[-1])
    return np.where(inside, best, np.nan), float(lowest[0])


def _near(log_n: Float[np.ndarray, "sizes"], log_l: Float[np.ndarray, "sizes"]) -> np.ndarray:
    """Which sizes are within the factor `WITHIN` of the best; at least the four nearest to it, itself included."""
    distance = np.abs(log_n - log_n[log_l.argmin()])
    return distance <= max(np.log(WITHIN), np.sort(distance)[: FEWEST_SIZES + 1][-1])
