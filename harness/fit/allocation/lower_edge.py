"""Approach 1: the sizes on the lower edge of all curves of loss against compute, and lines through them.

The method `envelope` takes, at each budget, the size whose curve is lowest (Hoffmann et al., arXiv 2203.15556). `hull`
takes the corners of the lower convex hull of log L against log C (Gemstones, arXiv 2502.06857). A hull always has the
point of least compute as a corner, whatever its loss. On simulated curves (sixteen sizes, 1e18 to 1e21 FLOPs, exponent
a = .513 of N* in C) this biases a by -.07 to -.08, where the envelope is unbiased to .002.

In 40 simulations of each kind (profiles or curves, with a noise of .1 or .4 % of the loss), 90 to 100 % of the 95 %
intervals held the truth. At the smaller noise the intervals are several times wider than necessary.
"""

import numpy as np
from jaxtyping import Float

from harness.fit.allocation.frontier_runs import hull_records
from harness.fit.allocation.isoflop import profiles
from harness.fit.allocation.lines import FEWEST_BUDGETS, BudgetOptima, LossRuns, check_design, off_line, student_errors
from harness.fit.allocation.minima import FEWEST_SIZES, without_minimum
from sweeps.errors import InputError

# Number of budgets at which an envelope is taken if runs do not share budgets.
BUDGETS = 60


def lower_edge(
    runs: LossRuns, method: str = "envelope", draws: int = 1000, seed: int = 0, source: str = "table"
) -> BudgetOptima:
    """The optima on the lower edge.

    A replicate is the points plus newly drawn errors (`student_errors`): one error per budget where runs share budgets,
    else one per size on the edge. The sd of the errors is that of the residuals, but at least that of a uniform error
    over one spacing of the sizes. At one budget a larger N means a smaller D, so that errors of log D are those of
    log N with the sign changed. Raises InputError if the design cannot show an optimum, or the edge has
    fewer than three points or sizes.
    """
    warnings = check_design(runs.n, runs.d, source)
    shared = profiles(runs)
    # Checkpoints share budgets by chance, and only for some sizes: their runs are treated as curves.
    checkpoints = runs.labelled and 2 * len(np.unique(runs.curve)) < len(runs.n)
    on_budgets = 2 * sum(map(len, shared)) > len(runs.n) and not checkpoints
    if method == "hull":
        edge = _corners(runs)
    else:
        edge = _lowest(runs, shared) if on_budgets else _envelope(runs)
    log_c, log_n, log_d, log_l = edge[:, np.isfinite(edge[1])]
    sizes, size = np.unique(log_n, return_inverse=True)
    if len(sizes) < FEWEST_BUDGETS:
        raise InputError(
            source, "N", f"{len(sizes)} sizes on the lower edge of all runs",
            f"at least {FEWEST_BUDGETS}, each between a smaller and a larger one that spent as much",
        )  # fmt: skip
    spaced = [np.log(runs.n[rows]) for rows in shared] if on_budgets else [np.log(np.unique(runs.n))]
    gap = float(np.mean(np.concatenate([np.diff(log_sizes) for log_sizes in spaced])))
    independent = np.arange(len(log_c)) if on_budgets else size
    off = off_line(log_c, log_n, np.ones(len(log_c)))
    mean_off = np.bincount(independent, off) / np.bincount(independent)
    errors = student_errors(mean_off, np.random.default_rng(seed), draws, gap / np.sqrt(12.0))[:, independent]
    flat = ()
    if on_budgets:
        flat = without_minimum([(np.log(runs.n[rows]), np.log(runs.loss[rows, None])) for rows in shared])
    points = "lowest curve at each budget" if method == "envelope" else "corners of the lower convex hull"
    return BudgetOptima(
        np.exp(log_c), log_n, log_d, np.exp(log_l), log_n + errors, log_d - errors, np.ones(len(log_c)),
        f"approach 1, {points}", warnings,
    ).doubted(flat)  # fmt: skip


def _lowest(runs: LossRuns, shared: list[np.ndarray]) -> Float[np.ndarray, "4 budgets"]:
    """log C, log N, log D, log L of the run of lowest loss at each budget; nan where its N is the least or largest."""
    edge = np.full((4, len(shared)), np.nan)
    for i, rows in enumerate(shared):
        best = runs.loss[rows].argmin()
        if 0 < best < len(rows) - 1:
            row = rows[best]
            edge[:, i] = np.log([runs.flops[row], runs.n[row], runs.d[row], runs.loss[row]])
    return edge


def _envelope(runs: LossRuns) -> Float[np.ndarray, "4 budgets"]:
    """log C, log N, log D, log L of the lowest curve at `BUDGETS` budgets; nan unless its N lies between others."""
    levels = np.linspace(np.log(runs.flops.min()), np.log(runs.flops.max()), BUDGETS)
    curves = []
    for curve in np.unique(runs.curve):
        rows = np.flatnonzero(runs.curve == curve)
        rows = rows[np.lexsort((runs.loss[rows], runs.flops[rows]))]
        rows = rows[np.unique(runs.flops[rows], return_index=True)[1]]
        log_c = np.log(runs.flops[rows])
        log_d, log_l = (
            np.interp(levels, log_c, np.log(values[rows]), left=end, right=end)
            for values, end in ((runs.d, np.nan), (runs.loss, np.inf))
        )
        curves.append([np.where(np.isfinite(log_l), np.log(runs.n[rows]).mean(), np.nan), log_d, log_l])
    log_n, log_d, log_l = np.swapaxes(curves, 0, 1)
    edge = np.full((4, BUDGETS), np.nan)
    for i, level in enumerate(levels):
        best, reached = log_l[:, i].argmin(), log_n[np.isfinite(log_n[:, i]), i]
        if len(reached) >= FEWEST_SIZES and reached.min() < log_n[best, i] < reached.max():
            edge[:, i] = level, log_n[best, i], log_d[best, i], log_l[best, i]
    return edge


def _corners(runs: LossRuns) -> Float[np.ndarray, "4 corners"]:
    """log C, log N, log D, log L at the falling corners of the lower convex hull of log L against log C."""
    corners = hull_records(runs.flops, runs.loss)
    return np.log(np.stack([values[corners] for values in (runs.flops, runs.n, runs.d, runs.loss)]))
