"""How often 95 % intervals of fits cover the truth, on simulated sweeps: `python scripts/coverage.py [--sweeps 200]`.

Three worlds: Chinchilla's law with 0.3 % and with 1 % noise on the loss (174 runs, N 1e6 to 1e9, 2 to 600 tokens a
parameter), and the gap law on a design that crosses u = 1 with 8 % scatter (174 runs). One line per parameter: the
share of sweeps in which it is identified, and of these the share whose interval covers it.

`--only isoflop` asks the same of approach 2: see `isoflop_tables`.
"""

import argparse
import time

import numpy as np
import pandas as pd

from harness.fit.allocation.isoflop import isoflop_optima
from harness.fit.allocation.lines import limits, runs_to_allocate
from harness.fit.fitting import fit
from harness.fit.gap_law.constants import predict_gap
from harness.fit.known_truth import interval_holds
from sweeps.errors import InputError
from sweeps.published_gap import PUBLISHED_GAP

TRUTH = {
    "chinchilla": {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658},
    "gap": PUBLISHED_GAP._asdict(),
}
RUNS = 174


def losses(seed: int, noise: float) -> pd.DataFrame:
    """Chinchilla's loss at the constants of Besiroglu et al. 2024."""
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(6, 9, RUNS)
    d = n * np.exp(rng.uniform(np.log(2), np.log(600), RUNS))
    p = TRUTH["chinchilla"]
    loss = p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p["beta"]
    return pd.DataFrame({"N": n, "D": d, "L": loss * np.exp(noise * rng.standard_normal(RUNS))})


def gaps(seed: int, scatter: float) -> pd.DataFrame:
    """The gap law with its published constants, u log-uniform in 1e-2 to 1e3."""
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(5, 9, RUNS)
    d = 10 ** rng.uniform(-2, 3, RUNS) * n**PUBLISHED_GAP.z
    return pd.DataFrame({"N": n, "D": d, "G": predict_gap(n, d) * (1 + scatter * rng.standard_normal(RUNS))})


def isoflop_table(seed: int, sizes: int, noise: float) -> pd.DataFrame:
    """Chinchilla's loss on five budgets of 1e18 to 1e20 FLOPs, each with sizes over a factor of 20 about the optimum.

    The middle of the sizes is off the optimum by up to a factor of 1.35, by another one at each budget.
    """
    rng, p = np.random.default_rng(seed), TRUTH["chinchilla"]
    budgets = np.geomspace(1e18, 1e20, 5)
    middle = np.log(optimal_size(budgets)) + rng.uniform(-0.3, 0.3, 5)
    n = np.exp(middle[:, None] + np.linspace(-1.5, 1.5, sizes)).ravel()
    d = np.repeat(budgets, sizes) / 6 / n
    loss = p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p["beta"]
    return pd.DataFrame({"N": n, "D": d, "L": loss * np.exp(noise * rng.standard_normal(len(n)))})


def optimal_size(flops: np.ndarray | float) -> np.ndarray | float:
    """N* of that loss: g (C/6)^a with a = beta/(alpha + beta)."""
    p = TRUTH["chinchilla"]
    total = p["alpha"] + p["beta"]
    return (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / total) * (flops / 6) ** (p["beta"] / total)


def isoflop_coverage(tables: int) -> None:
    """Approach 2 with 4, 6 and 9 sizes a budget: coverage of the exponent and of N* at 100 times the largest budget."""
    p, far = TRUTH["chinchilla"], np.log(1e22)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=400)
    parser.add_argument("--only", choices=("laws", "isoflop"))
    args = parser.parse_args()
    if args.only != "laws":
        isoflop_coverage(args.sweeps)
    if args.only == "isoflop":
        return
    for law, world, noise in (("chinchilla", losses, 0.003), ("chinchilla", losses, 0.01), ("gap", gaps, 0.08)):
        began, found = time.perf_counter(), {name: [] for name in TRUTH[law]}
        for seed in range(args.sweeps):
            result = fit(law, world(seed, noise), bootstrap=args.bootstrap, seed=seed, sensitivity=False)
            for name, truth in TRUTH[law].items():
                value = result.parameters[name]
                if value.identified:
                    found[name].append(interval_holds(value.ci_low, value.ci_high, truth) is not False)
        seconds = time.perf_counter() - began
        print(f"{law}, noise {noise:g}: {args.sweeps} sweeps in {seconds:.0f} s")
        for name, covered in found.items():
            share = np.mean(covered) if covered else np.nan
            print(f"  {name:8} identified {len(covered) / args.sweeps:.1%}, covered {share:.1%}")


if __name__ == "__main__":
    main()
