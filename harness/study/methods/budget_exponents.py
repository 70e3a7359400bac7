"""The exponent a of the compute-optimal size N* ~ C^a from the runs of a study, by three approaches."""

import math

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.interpolate import make_interp_spline

from harness.fit.allocation.isoflop import isoflop_optima
from harness.fit.allocation.lines import FEWEST_BUDGETS, BudgetOptima, limits, regress, runs_to_allocate
from harness.fit.allocation.lower_edge import lower_edge
from harness.fit.allocation.minima import FEWEST_SIZES, polynomial_minimum, shared_skew
from harness.fit.certainty.intervals import percentiles
from harness.fit.fitting import fit
from harness.fit.problem.sizes import FLOPS_PER_PARAMETER_TOKEN
from harness.study.contrasts import NOT_KNOWN, Interval95
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS, cell_losses, pooled_sd
from sweeps.errors import InputError

# Runs whose budgets differ by less than this, in logs, have one budget.
ONE_BUDGET = 0.05
REPLICATES = 300


def cells_on_budgets(ended: pd.DataFrame) -> pd.DataFrame:
    """The cells of one recipe's finished runs, by budget and size.

    `budget` is in FLOPs, 6 N_total D, `sd` the standard deviation of the log L of one run, and `log_sd` that over the
    root of the number of runs.
    """
    cells = cell_losses(ended)
    flops = np.log(FLOPS_PER_PARAMETER_TOKEN * cells["N_total"].to_numpy(float) * cells["D"].to_numpy(float))
    order = np.argsort(flops, kind="stable")
    number = np.cumsum(np.diff(flops[order], prepend=flops[order[0]]) > ONE_BUDGET)
    budget = np.empty(len(flops))
    for each in np.unique(number):
        budget[order[number == each]] = np.exp(flops[order[number == each]].mean())
    cells = cells.assign(budget=budget).sort_values(["budget", "N_total"]).reset_index(drop=True)
    # The noise falls as the budget grows, and there are few runs a cell: each budget is pooled with two smaller ones.
    budgets = np.unique(cells["budget"])
    place = np.searchsorted(budgets, cells["budget"].to_numpy(float))
    of_budget = [pooled_sd(cells.loc[(place <= k) & (place >= k - 2)])[0] for k in range(len(budgets))]
    sd = np.array(of_budget)[place]
    return cells.assign(sd=sd, log_sd=sd / np.sqrt(cells["runs"].to_numpy(float)))


def counted_cells(cells: pd.DataFrame, head: bool) -> pd.DataFrame:
    """The cells in roles, with or without the head in N and in C = 6 N D."""
    n = cells["N_total" if head else "N_nonembedding"].astype(float)
    flops = FLOPS_PER_PARAMETER_TOKEN * n * cells["D"]
    table = pd.DataFrame({"N": n, "D": cells["D"].astype(float), "L": cells["L"], "flops": flops})
    return table.assign(L_se=table["L"] * cells["log_sd"])


def exponent_of_edge(ended: pd.DataFrame, head: bool) -> Interval95:
    """Approach 1: the lower edge of the curves of loss against compute of all runs."""
    n = ended["N_total" if head else "N_nonembedding"].to_numpy(float)
    counts = [len(curve) for curve in ended[CURVE_TOKENS]]
    sizes, tokens = np.repeat(n, counts), np.concatenate([*ended[CURVE_TOKENS], []]).astype(float)
    loss = np.concatenate([*ended[CURVE_LOSS], []]).astype(float)
    table = pd.DataFrame({"N": sizes, "D": tokens, "L": loss, "run": np.repeat(ended["run_id"].to_numpy(), counts)})
    try:
        edge = lower_edge(runs_to_allocate(table.assign(flops=FLOPS_PER_PARAMETER_TOKEN * sizes * tokens)))
    except InputError:
        return NOT_KNOWN
    return _found(edge)


def exponent_of_profiles(table: pd.DataFrame) -> tuple[BudgetOptima | None, Interval95]:
    """Approach 2: the minima of the profiles, parabolas with a shared cubic term, with the noise of repeated runs."""
    sd = table["L_se"].to_numpy(float)
    try:
        optima = isoflop_optima(runs_to_allocate(table), sd if np.isfinite(sd).all() else None, "cubic")
    except InputError:
        return None, NOT_KNOWN
    return optima, _found(optima)


def exponent_of_law(table: pd.DataFrame) -> Interval95:
    """Approach 3: beta/(alpha + beta) of L = E + A/N^alpha + B/D^beta."""
    try:
        fitted = fit("chinchilla", table.drop(columns=["flops", "L_se"]), bootstrap=0, sensitivity=False)
    except InputError:
        return NOT_KNOWN
    share = fitted.combinations.get("beta/(alpha + beta)")
    if share is None or share.ci_low is None or share.ci_high is None:
        return NOT_KNOWN
    return Interval95(share.estimate, share.ci_low, share.ci_high)


def _found(optima: BudgetOptima) -> Interval95:
    (low,), (high,) = limits(optima.n.draws[:, 1:])
    return Interval95(*(float(each) if math.isfinite(each) else None for each in (optima.n.exponent, low, high)))


def effect_of_head(cells: pd.DataFrame) -> tuple[Interval95, Interval95]:
    """a without the head, and a without it minus a with it, from the same noisy copies of the losses."""
    rng, logs = np.random.default_rng(0), np.log(cells["L"].to_numpy(float))
    noise = cells["log_sd"].fillna(0.0).to_numpy(float)
    copies = np.vstack([logs, logs + noise * rng.standard_normal((REPLICATES, len(logs)))])
    exponents = {head: _between_budgets(cells, copies, head) for head in (True, False)}
    without, less = exponents[False], exponents[False] - exponents[True]
    if not np.isfinite(cells["log_sd"].to_numpy(float)).all():
        one, other = (float(each[0]) if math.isfinite(each[0]) else None for each in (without, less))
        return Interval95(one, None, None), Interval95(other, None, None)
    return _of_copies(without), _of_copies(less)


def _of_copies(values: Float[np.ndarray, "copies"]) -> Interval95:
    """The first value with the 95 % interval of the others; unknown unless nearly all copies have one."""
    copies = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or len(copies) < 0.975 * REPLICATES:
        return NOT_KNOWN
    low, high = percentiles(copies)
    return Interval95(float(values[0]), float(low), float(high))


def _between_budgets(cells: pd.DataFrame, copies: Float[np.ndarray, "copies cells"], head: bool) -> np.ndarray:
    """The exponent a of every copy of the log losses by approach 2, at budgets between those of the runs.

    Runs that spent one budget with the head spent different ones without it. So each size's log L is interpolated in
    its log C, by a spline, at the geometric means of neighbouring budgets as a size of the middle counts them. With the
    head this gives the exponent of the runs' own budgets by the same steps.
    """
    table = counted_cells(cells, head)
    log_c = np.log(table["flops"].to_numpy(float))
    budget = cells["budget"].to_numpy(float)
    middle = np.array([log_c[budget == value].mean() for value in np.unique(budget)])
    levels = (middle[1:] + middle[:-1]) / 2
    parts = []
    for size in np.unique(table["N"]):
        rows = np.flatnonzero(table["N"] == size)
        inside = levels[(levels >= log_c[rows[0]]) & (levels <= log_c[rows[-1]])]
        if len(rows) > 1 and len(inside):
            spline = make_interp_spline(log_c[rows], copies[:, rows], k=min(3, len(rows) - 1), axis=1)
            parts.append((np.full(len(inside), size), inside, spline(inside)))
    if not parts:
        return np.full(len(copies), np.nan)
    n, at, logs = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    shared = [np.flatnonzero(at == level) for level in levels]
    on_budgets = [(np.log(n[rows]), logs[:, rows].T) for rows in shared if len(rows) > FEWEST_SIZES]
    if len(on_budgets) < FEWEST_BUDGETS:
        return np.full(len(copies), np.nan)
    skew = shared_skew(on_budgets)
    best = np.stack([polynomial_minimum(*profile, skew.value)[0] for profile in on_budgets], axis=-1)
    log_c = np.array([at[rows[0]] for rows in shared if len(rows) > FEWEST_SIZES])
    found = np.isfinite(best).sum(axis=1) >= FEWEST_BUDGETS
    return np.where(found, regress(log_c - log_c.mean(), best, np.ones(len(log_c)))[1], np.nan)
