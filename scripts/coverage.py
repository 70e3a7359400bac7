"""How often 95 % intervals of fits cover the truth, on simulated sweeps: `python scripts/coverage.py [--sweeps 200]`.

Three worlds: Chinchilla's law with 0.3 % and with 1 % noise on the loss (174 runs, N 1e6 to 1e9, 2 to 600 tokens a
parameter), and the gap law on a design that crosses u = 1 with 8 % scatter (174 runs). One line per parameter: the
share of sweeps in which it is identified, and of these the share whose interval covers it.
"""

import argparse
import time

import numpy as np
import pandas as pd

from harness.fit.fitting import fit
from harness.fit.gap_law.constants import predict_gap
from harness.fit.known_truth import interval_holds
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=400)
    args = parser.parse_args()
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
