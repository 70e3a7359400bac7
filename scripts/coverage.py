"""How often 95 % intervals cover the truth, on simulated tables: `python scripts/coverage.py [LINE ...]`.

Lines, all of Chinchilla's law unless said:
a_low, a_high  16 runs, 4 sizes by 4 ratios of tokens to parameters, 0.4 % noise: two worlds with a weakly known floor
b              81 runs, 9 sizes by 9 token counts, 1.5 % noise, a weakly known floor (E 1.81, alpha 0.20)
c_0.3, c_1     174 runs, N 1e6 to 1e9, 2 to 600 tokens a parameter, 0.3 % or 1 % noise
d              the gap law, 174 runs that cross u = 1, 8 % scatter
e              127 checkpoints of each of 6 runs: errors that fade along the curve (0.9 a checkpoint, sd 0.6 %), and an
               error of the whole run (sd 0.2 %)
f              isoFLOP profiles of 4, 6 or 9 sizes a budget, for approach 2 (`isoflop_coverage`)
g              not intervals but the power that `isogap plan --power` tells of 48 cells, against the share of simulated
               sweeps in which the verdict's own fits tell the law from all rivals (`power_against_sweeps`)

A row per quantity: in how many tables it is identified, how often its interval covers the truth there and in all
tables, in how many tables it lies below and above the truth, and the median width of closed intervals relative to the
truth. N* is the best size at 100 times the largest budget; `new run` is the loss of one run of 30 times the largest
compute.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.fit.allocation.allocation import allocate_fit
from harness.fit.allocation.isoflop import isoflop_optima
from harness.fit.allocation.lines import limits, runs_to_allocate
from harness.fit.allocation.parametric import optimum_on_budgets
from harness.fit.compare import aicc
from harness.fit.fitting import fit
from harness.fit.forecast import predict
from harness.fit.gap_law.constants import predict_gap
from harness.fit.gap_law.contest import solve_contest
from harness.fit.gap_law.power import power_of
from harness.fit.gap_law.rule import CLEARLY_BETTER, RIVALS, TESTED_LAW
from harness.fit.laws.registry import get_law
from harness.fit.results.result import covers
from sweeps.errors import InputError
from sweeps.published_gap import PUBLISHED_GAP

SIZES, RATIOS = np.array([1.9e8, 3.7e8, 7.6e8, 1.28e9]), np.array([20.0, 40.0, 100.0, 200.0])
CURVES = np.array([5.3e7, 6.4e7, 1.6e8, 2.07e8, 3.23e8, 4.82e8])
CHINCHILLA = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
RUNS = 174


class World(NamedTuple):
    """A law with its true constants, and a table of it for each seed."""

    law: str
    truth: dict[str, float]
    table: Callable[[int], pd.DataFrame]


def true_loss(truth: dict[str, float], n, d):
    return truth["E"] + truth["A"] * n ** -truth["alpha"] + truth["B"] * d ** -truth["beta"]


def _noisy(truth: dict[str, float], n, d, errors) -> pd.DataFrame:
    return pd.DataFrame({"N": n, "D": d, "L": true_loss(truth, n, d) * np.exp(errors)})


def ladder(truth: dict[str, float], seed: int) -> pd.DataFrame:
    n = np.repeat(SIZES, len(RATIOS))
    d = n * np.tile(RATIOS, len(SIZES))
    return _noisy(truth, n, d, 0.004 * np.random.default_rng(seed).standard_normal(len(n)))


def cells(truth: dict[str, float], seed: int) -> pd.DataFrame:
    n, d = np.repeat(np.geomspace(2e7, 2e9, 9), 9), np.tile(np.geomspace(5e8, 5e10, 9), 9)
    return _noisy(truth, n, d, 0.015 * np.random.default_rng(seed).standard_normal(len(n)))


def scattered(noise: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(6, 9, RUNS)
    d = n * np.exp(rng.uniform(np.log(2), np.log(600), RUNS))
    return _noisy(CHINCHILLA, n, d, noise * rng.standard_normal(RUNS))


def gaps(seed: int) -> pd.DataFrame:
    """The gap law with its published constants, u log-uniform in 1e-2 to 1e3."""
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(5, 9, RUNS)
    d = 10 ** rng.uniform(-2, 3, RUNS) * n**PUBLISHED_GAP.z
    return pd.DataFrame({"N": n, "D": d, "G": predict_gap(n, d) * (1 + 0.08 * rng.standard_normal(RUNS))})


def checkpoints(truth: dict[str, float], seed: int) -> pd.DataFrame:
    rng, count = np.random.default_rng(seed), 127
    tokens = 3.48e7 * np.arange(1, count + 1) * 1000.0
    errors = np.empty((len(CURVES), count))
    errors[:, 0] = rng.standard_normal(len(CURVES))
    for step in range(1, count):
        errors[:, step] = 0.9 * errors[:, step - 1] + np.sqrt(1 - 0.9**2) * rng.standard_normal(len(CURVES))
    errors = 0.006 * errors + 0.002 * rng.standard_normal((len(CURVES), 1))
    n, d = np.repeat(CURVES, count), np.tile(tokens, len(CURVES))
    return _noisy(truth, n, d, errors.ravel()).assign(cluster=np.repeat(np.arange(len(CURVES)), count))


def _chinchilla(table: Callable[..., pd.DataFrame], **truth: float) -> World:
    return World("chinchilla", truth, lambda seed: table(truth, seed))


WORLDS = {
    "a_low": _chinchilla(ladder, E=0.462, A=7.8875, B=41.03, alpha=0.17186, beta=0.23688),
    "a_high": _chinchilla(ladder, E=1.81, A=23.0, B=60.0, alpha=0.184, beta=0.181),
    "b": _chinchilla(cells, E=1.81, A=20.0, B=400.0, alpha=0.20, beta=0.28),
    "c_0.3": World("chinchilla", CHINCHILLA, lambda seed: scattered(0.003, seed)),
    "c_1": World("chinchilla", CHINCHILLA, lambda seed: scattered(0.01, seed)),
    "d": World("gap", PUBLISHED_GAP._asdict(), gaps),
    "e": _chinchilla(checkpoints, E=1.6, A=130.0, B=3000.0, alpha=0.30, beta=0.40),
}


class Found(NamedTuple):
    """One interval, and whether the fit calls the quantity identified."""

    identified: bool
    low: float | None
    high: float | None
    truth: float


def quantities(world: World, seed: int, bootstrap: int) -> dict[str, Found]:
    """The intervals of every constant and, for a loss, of beta/(alpha + beta), N* and a new run."""
    table = world.table(seed)
    result = fit(world.law, table, bootstrap=bootstrap, seed=seed, sensitivity=False)
    found = {
        name: Found(entry.identified, entry.ci_low, entry.ci_high, world.truth[name])
        for name, entry in result.parameters.items()
        if name in world.truth
    }
    if world.law != "chinchilla":
        return found
    compute = 6.0 * table.N * table.D
    budget = np.array([100.0 * compute.max()])
    true = {name: np.array([value]) for name, value in world.truth.items()}
    optimum = optimum_on_budgets(get_law("chinchilla"), true, budget)
    allocated = allocate_fit(result, budget)
    exponent, row = allocated.exponents["N"], allocated.budgets.iloc[0]
    label = "beta/(alpha + beta)"
    known = label in result.combinations
    found[label] = Found(known, exponent.low, exponent.high, float(optimum["N_exponent"][0, 0]))
    found["N*"] = Found(known, row.N_low, row.N_high, float(optimum["N"][0, 0]))
    largest = table.iloc[compute.argmax()]
    point = pd.DataFrame({"N": [largest.N * 30**0.5], "D": [largest.D * 30**0.5]})
    ahead = predict(result, point).iloc[0]
    noise = np.exp(_new_error(world, seed))
    run = float(true_loss(world.truth, point.N[0], point.D[0]) * noise)
    found["new run"] = Found(True, ahead.run_low, ahead.run_high, run)
    return found


def _new_error(world: World, seed: int) -> float:
    """The log error of a new run, drawn as those of the table are: from the table of another seed."""
    other = world.table(seed + 1_000_000)
    return float(np.log(other.L.iloc[-1] / true_loss(world.truth, other.N.iloc[-1], other.D.iloc[-1])))


def report(name: str, tables: list[dict[str, Found]], seconds: float) -> None:
    print(f"{name}: {len(tables)} tables in {seconds:.0f} s", flush=True)
    for quantity in tables[0]:
        rows = [table[quantity] for table in tables]
        low = [np.nan if row.low is None else row.low for row in rows]
        high = [np.nan if row.high is None else row.high for row in rows]
        covered = np.array([covers(_end(a), _end(b), row.truth) for a, b, row in zip(low, high, rows, strict=True)])
        known = np.array([row.identified for row in rows])
        above = sum(row.truth < a for a, row in zip(low, rows, strict=True))
        below = sum(row.truth > b for b, row in zip(high, rows, strict=True))
        widths = (np.array(high) - low) / np.array([row.truth for row in rows])
        width = np.median(widths[np.isfinite(widths)]) if np.isfinite(widths).any() else np.nan
        share = f"{covered[known].mean():.1%}" if known.any() else "-"
        print(
            f"  {quantity:20} identified {known.mean():6.1%}, covered {share:>6} of these, {covered.mean():6.1%} of"
            f" all; interval below {below}, above {above}; width {width:.3g}",
            flush=True,
        )


def _end(value: float) -> float | None:
    return None if np.isnan(value) else value


def isoflop_table(seed: int, sizes: int, noise: float) -> pd.DataFrame:
    """Chinchilla's loss on five budgets of 1e18 to 1e20 FLOPs, each with sizes over a factor of 20 about the optimum.

    The middle of the sizes is off the optimum by up to a factor of 1.35, by another one at each budget.
    """
    rng, p = np.random.default_rng(seed), CHINCHILLA
    budgets = np.geomspace(1e18, 1e20, 5)
    middle = np.log(optimal_size(budgets)) + rng.uniform(-0.3, 0.3, 5)
    n = np.exp(middle[:, None] + np.linspace(-1.5, 1.5, sizes)).ravel()
    d = np.repeat(budgets, sizes) / 6 / n
    loss = p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p["beta"]
    return pd.DataFrame({"N": n, "D": d, "L": loss * np.exp(noise * rng.standard_normal(len(n)))})


def optimal_size(flops: np.ndarray | float) -> np.ndarray | float:
    """N* of that loss: g (C/6)^a with a = beta/(alpha + beta)."""
    p = CHINCHILLA
    total = p["alpha"] + p["beta"]
    return (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / total) * (flops / 6) ** (p["beta"] / total)


def isoflop_coverage(tables: int) -> None:
    """Approach 2 with 4, 6 and 9 sizes a budget: coverage of the exponent and of N* at 100 times the largest budget."""
    p, far = CHINCHILLA, np.log(1e22)
    truths = p["beta"] / (p["alpha"] + p["beta"]), float(np.log(optimal_size(1e22)))
    print("approach 2: share of 95 % intervals that cover, and their median width (of N* as a factor)")
    for given in (False, True):
        for noise in (0.003, 0.015):
            for sizes in (4, 6, 9):
                spans = []
                for seed in range(tables):
                    runs = runs_to_allocate(isoflop_table(seed, sizes, noise))
                    try:
                        line = isoflop_optima(runs, noise * runs.loss if given else None).n
                    except InputError:
                        continue  # fewer than three optima
                    drawn = np.column_stack([line.draws[:, 1], line.log_draws_at(np.array([far]))])
                    spans.append(np.column_stack(limits(drawn)))
                low, high = np.moveaxis(np.array(spans), -1, 0)
                covered = ~((low > truths) | (high < truths)).T  # no limits exclude nothing
                widths = np.nanmedian(high - low, axis=0)
                print(
                    f"  noise {noise:.1%}, {'given' if given else 'not given'}, {sizes} sizes: "
                    f"exponent {covered[0].mean():.1%} ({widths[0]:.3f}), "
                    f"N* {covered[1].mean():.1%} (x{np.exp(widths[1]):.2f}), refused {1 - len(spans) / tables:.1%}, "
                    f"without limits {np.isnan(low[:, 0]).mean():.1%}"
                )


def power_against_sweeps(tables: int) -> None:
    """Power told and found on both sides of u = 1, at errors of these shares of the gap."""
    n, u = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e4, 3e6, 6), np.geomspace(0.05, 100, 8)))
    design = pd.DataFrame({"N": n, "D": u * n**PUBLISHED_GAP.z})
    truth = predict_gap(design.N, design.D)
    for error in (0.3, 0.4, 0.5, 0.6):
        cells = design.assign(G_se=error * truth)
        told = power_of(cells.assign(U=cells.D), times=(1.0,), simulations=tables, seed=1).foreseen[0].power
        rng, clear = np.random.default_rng(99), 0
        for _ in range(tables):
            gaps = truth + cells.G_se * rng.standard_normal(len(cells))
            fits, _ = solve_contest(cells.assign(G=gaps), (TESTED_LAW, *RIVALS))
            found = {law: aicc(fit.log_likelihood, fit.degrees, len(cells)) for law, fit in fits.items()}
            clear += min(found[rival] for rival in RIVALS) - found[TESTED_LAW] > CLEARLY_BETTER
        print(f"errors of {error:.0%}: power told {told:.1%}, found {clear / tables:.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", nargs="*", default=[*WORLDS, "f", "g"], metavar="LINE")
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=0)
    args = parser.parse_args()
    for name in args.lines:
        if name == "f":
            isoflop_coverage(args.tables)
            continue
        if name == "g":
            power_against_sweeps(args.tables)
            continue
        began = time.perf_counter()
        tables = [quantities(WORLDS[name], seed, args.bootstrap) for seed in range(args.tables)]
        report(name, tables, time.perf_counter() - began)


if __name__ == "__main__":
    main()
