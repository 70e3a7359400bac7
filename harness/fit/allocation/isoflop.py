"""Approach 2: at each budget, the N of the lowest loss among the sizes that spent it (an isoFLOP profile).

The default follows Porian et al. (arXiv 2406.19146) and their code. The minimum of an Akima curve of log L against
log N is taken, unless it lies at an end of the sizes. The same is done for 1,000 noisy copies of the losses. Then log
N* is regressed on log C with weights 1/sd^2. The noise table of their code gives an sd per range of losses, but the
code looks up log L instead of L. So the noise behind their published intervals is the table's lowest sd everywhere:
.002 nats on RefinedWeb and .01 on OpenWebText2. The method `quadratic` is the parabola of Hoffmann et al. (arXiv
2203.15556) about the lowest loss.
"""

import numpy as np
from jaxtyping import Float
from scipy.interpolate import Akima1DInterpolator

from harness.fit.allocation.lines import FEWEST_BUDGETS, BudgetOptima, LossRuns, check_design
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
WITHIN = 3.0


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
    runs: LossRuns, sd: Float[np.ndarray, "rows"] | None = None, method: str = "akima", draws: int = 1000,
    seed: int = 0, source: str = "table",
) -> BudgetOptima:  # fmt: skip
    """Find the optimum of every isoFLOP profile.

    Args:
        method: akima or quadratic.
        sd: standard deviation of each loss over seeds, nats; without it, the scatter of the profiles about cubics is
            taken.

    Raises:
        InputError: fewer than three profiles, or fewer than three whose lowest loss is inside the range of sizes.
    """
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
    if sd is None:
        typical = profile_scatter(runs, budgets)
        sd = typical * runs.loss
        message = f"the losses' noise is taken from their scatter about cubics: {typical:.2%}"
        warnings.append(FitWarning("noise_from_scatter", message))
    rng, kept, lost = np.random.default_rng(seed), [], []
    for rows in budgets:
        budget = float(np.exp(np.log(runs.flops[rows]).mean()))
        noisy = runs.loss[rows, None] + sd[rows, None] * rng.standard_normal((len(rows), draws))
        optimum = _optimum_on_budget(runs, rows, noisy, method)
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
            source, "flops", f"{len(kept)} of {len(budgets)} budgets with their lowest loss inside the range of sizes",
            f"at least {FEWEST_BUDGETS}",
        )  # fmt: skip
    flops, best, log_d, lowest, error = (np.array(values) for values in zip(*kept, strict=True))
    # The median over the noisy copies is steadier than the optimum of the measured losses alone.
    log_n, log_d_ = (np.nanmedian(v[:, 1:], axis=1) if draws else v[:, 0] for v in (best, log_d))
    return BudgetOptima(
        flops, log_n, log_d_, np.exp(lowest), best[:, 1:].T, log_d[:, 1:].T, error**-2.0,
        f"approach 2, {'Akima curves' if method == 'akima' else 'parabolas'} of log L in log N", tuple(warnings),
    )  # fmt: skip


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


def profile_scatter(runs: LossRuns, budgets: list[np.ndarray]) -> float:
    """Relative sd of the losses about a cubic fitted near each profile's minimum; 0 if none has five sizes there."""
    squares, degrees = 0.0, 0
    for rows in budgets:
        log_n, log_l = np.log(runs.n[rows]), np.log(runs.loss[rows])
        near = _near(log_n, log_l)
        if (left := int(near.sum()) - 4) > 0:
            x = log_n[near] - log_n[near].mean()
            residuals = log_l[near] - np.polyval(np.polyfit(x, log_l[near], 3), x)
            squares, degrees = squares + float(residuals @ residuals), degrees + left
    return float(np.sqrt(squares / degrees)) if degrees else 0.0
