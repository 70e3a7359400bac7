"""Approach 2: at each budget, the N of the lowest loss among the sizes that spent it (an isoFLOP profile).

With a known noise of the losses, the default follows Porian et al. (arXiv 2406.19146) and their code. The minimum of an
Akima curve of log L against log N is taken, unless it lies at an end of the sizes. The same is done for 1,000 noisy
copies of the losses. Then log N* is regressed on log C with weights 1/sd^2. The noise table of their code gives an sd
per range of losses, but the code looks up log L instead of L. So the noise behind their published intervals is the
table's lowest sd everywhere: .002 nats on RefinedWeb and .01 on OpenWebText2. Where the line misses the optima by more
than their errors allow, the intervals are widened.

Without a known noise, the default is a parabola for each budget with a cubic term that all share (`minima`), and the
errors are those that the optima show: their scatter about the line, with Student's t for its K - 2 degrees of freedom
(K budgets), and the error of the cubic term. `scripts/coverage.py f` simulates that; NEGATIVE_RESULTS.md
has what else was tried. The method `quadratic` is the parabola alone (Hoffmann et al., arXiv 2203.15556).
"""

import numpy as np
from jaxtyping import Float
from scipy.special import chdtrc

from harness.fit.allocation.lines import (
    FEWEST_BUDGETS,
    BudgetOptima,
    LossRuns,
    check_design,
    off_line,
    paired_normals,
    student_errors,
    student_factor,
)
from harness.fit.allocation.minima import (
    FEWEST_SIZES,
    Profile,
    Skew,
    akima_minimum,
    no_skew,
    polynomial_minimum,
    shared_skew,
    without_minimum,
)
from harness.fit.problem.fit_status import FitWarning
from sweeps.errors import InputError

# Runs whose log FLOPs differ by less than this belong to one budget.
SAME_BUDGET = 0.02
# Lower limit of the sd of log N*, as a fraction of the mean spacing of log N: however small the noise, an interpolating
# curve through few sizes does not locate its minimum better.
LEAST_SD = 0.33
# The same of a polynomial: on losses without noise whose profiles are a parabola and a cubic in L, not in log L, optima
# are off by 0.01 of the spacing.
LEAST_SD_OF_POLYNOMIALS = 0.02
# The line is said to miss its optima if such a chi-squared, or a larger one, has this probability.
MISSED = 0.05
_CURVES = {"akima": "Akima curves", "quadratic": "parabolas", "cubic": "parabolas with a shared cubic term"}


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
        method: akima, quadratic or cubic; by default akima with `sd` and cubic without.

    Raises:
        InputError: fewer than three profiles, or fewer than three whose lowest loss is inside the range of sizes.
    """
    method = method or ("cubic" if sd is None else "akima")
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
    log_l = np.log(np.maximum(np.column_stack([runs.loss, runs.loss[:, None] + noise]), 1e-300))
    on_budgets = [(np.log(runs.n[rows]), log_l[rows]) for rows in budgets]
    skew = shared_skew(on_budgets) if method == "cubic" else no_skew(log_l.shape[1])
    for rows, profile in zip(budgets, on_budgets, strict=True):
        optimum = _optimum_on_budget(profile, np.log(runs.d[rows]), None if method == "akima" else skew)
        budget = float(np.exp(np.log(runs.flops[rows]).mean()))
        if optimum is None:
            lost.append(budget)
        else:
            kept.append((budget, *optimum))
    if lost:
        listed = ", ".join(f"{budget:.3g}" for budget in lost)
        message = f"{len(lost)} of {len(budgets)} budgets left out, lowest at an end of N: {listed}"
        warnings.append(FitWarning("minimum_at_edge", message))
    curves = _CURVES[method]
    if len(kept) < FEWEST_BUDGETS:
        raise InputError(
            source, "flops", f"{len(kept)} of {len(budgets)} budgets with a minimum of the {curves} between the sizes",
            f"at least {FEWEST_BUDGETS}, or another --method",
        )  # fmt: skip
    flops, best, log_d, lowest, error, shift = (np.array(values) for values in zip(*kept, strict=True))
    named = f"approach 2, {curves} of log L in log N"
    if sd is None:
        log_n, equal = best[:, 0], np.ones(len(flops))
        residuals = off_line(np.log(flops), log_n, equal)
        spacing = float(np.mean(np.concatenate([np.diff(log_n) for log_n, _ in on_budgets])))
        errors = student_errors(residuals, rng, draws, LEAST_SD_OF_POLYNOMIALS * spacing)
        if skew.degrees:  # the error of the cubic term moves all optima together, which their scatter does not show
            errors = errors + student_factor(skew.degrees) * paired_normals(rng, draws, 1) * shift
        warnings.append(_unknown_noise(residuals))
        # At one budget a larger N means a smaller D.
        return BudgetOptima(
            flops, log_n, log_d[:, 0], np.exp(lowest), log_n + errors, log_d[:, 0] - errors, equal, named,
            tuple(warnings),
        ).doubted(without_minimum(on_budgets))  # fmt: skip
    # The median over the noisy copies is steadier than the optimum of the measured losses alone.
    log_n, log_d_ = (np.nanmedian(v[:, 1:], axis=1) if draws else v[:, 0] for v in (best, log_d))
    factor, missed = _widening(np.log(flops), log_n, error)
    return BudgetOptima(
        flops, log_n, log_d_, np.exp(lowest), log_n + factor * (best[:, 1:].T - log_n),
        log_d_ + factor * (log_d[:, 1:].T - log_d_), error**-2.0, named, (*warnings, *missed),
    ).doubted(without_minimum(on_budgets))  # fmt: skip


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
    degrees = len(log_c) - 2
    squares = float(np.sum((off_line(log_c, log_n, error**-2.0) / error) ** 2))
    if chdtrc(degrees, squares) > MISSED:
        return 1.0, ()
    factor = float(np.sqrt(squares / degrees)) * student_factor(degrees)
    message = (
        f"the line through {len(log_c)} optima misses them (chi-squared {squares:.1f} for {degrees} degrees "
        f"of freedom): the noise is larger, or the optima follow no power law; intervals are {factor:.1f} times as wide"
    )
    return factor, (FitWarning("line_misses_optima", message),)


def _optimum_on_budget(
    profile: Profile, log_d: Float[np.ndarray, "sizes"], skew: Skew | None
) -> tuple[np.ndarray, np.ndarray, float, float, float] | None:
    """The minimum of a polynomial with the given skew, or of an Akima curve if there is none.

    Returns log N and log D (for the losses, then for each noisy copy), the least log loss, the sd of log N over the
    copies, and how far log N moves with the skew's error; None if the measured losses, or most copies, have no minimum
    inside the range of sizes.
    """
    log_n, log_l = profile
    best, lowest = akima_minimum(log_n, log_l) if skew is None else polynomial_minimum(log_n, log_l, skew.value)
    shift = 0.0
    if skew is not None and skew.error:
        shift = float(polynomial_minimum(log_n, log_l, skew.value + skew.error)[0][0] - best[0])
    inside, draws = np.isfinite(best[1:]), log_l.shape[1] - 1
    if not np.isfinite(best[0] + shift) or (draws and inside.mean() < 0.5):
        return None
    # At one budget log D is linear in log N (exactly so for 6 N D), so that it can be interpolated.
    at_best = np.interp(best, log_n, log_d)
    at_best[~np.isfinite(best)] = np.nan
    spread = float(np.std(best[1:][inside])) if draws else 0.0
    least = (LEAST_SD if skew is None else LEAST_SD_OF_POLYNOMIALS) * float(np.mean(np.diff(log_n)))
    return best, at_best, lowest, max(spread, least) / (float(inside.mean()) if draws else 1.0), shift
