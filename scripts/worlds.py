"""How often the verdict, and `universality`, are right on simulated worlds; a line of JSON each, seconds a table.

python scripts/worlds.py [WORLD ...] [--tables 200] [--seed 0]
python scripts/worlds.py --groups 2 [--rows 174] [--ratio 1.6] [--apart 0.1] [--tables 100]
python scripts/worlds.py --null [--tables 200]
"""

import argparse
import json
import time

import numpy as np
import pandas as pd

from harness.fit.allocation.allocation import allocate_runs
from harness.fit.compare import compare
from harness.fit.fitting import fit
from harness.fit.gap_law.constants import SOURCE_RUNS
from harness.fit.results.no_gap import NoGap
from harness.fit.shared.collapse import judge_collapse
from harness.fit.shared.universality import judge_universality
from harness.theory.verdict_worlds import VERDICT_WORLDS, draw_world, try_universality, try_verdict
from sweeps.errors import InputError

NULL_LAWS = ["gap", "gap_n_free", "gap_free_n"]


def flat_losses(seed: int) -> pd.DataFrame:
    """Losses of 3 nats with .5 % of noise whatever N and D: no best N on four budgets whose seven sizes follow C^.5."""
    rng = np.random.default_rng(seed)
    flops, at = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e18, 1e20, 4), np.geomspace(0.2, 5, 7)))
    n = 2e8 * np.sqrt(flops / 1e19) * at
    loss = 3.0 * np.exp(0.005 * rng.standard_normal(len(n)))
    return pd.DataFrame({"N": n, "D": flops / 6 / n, "L": loss})


def try_null(tables: int, seed: int = 0) -> dict:
    """How many claims are made about gaps that are zero, and about the best N where the loss does not depend on N.

    A claim is: of `fit`, an identified constant; of `compare`, a ranking; of `collapse` and `universality`, any answer
    but that there is no gap; of `allocate`, an interval of the exponent of N* that excludes 0. Losses that depend on
    C alone would not do for approach 3: a sum of powers of N and D has a best N whatever it is fitted to.
    """
    asked = ("fit", "compare", "collapse", "universality", *(f"allocate {approach}" for approach in (1, 2, 3)))
    claims = dict.fromkeys(asked, 0)
    for index in range(seed, seed + tables):
        table = draw_world(VERDICT_WORLDS["no_gap"], index)
        table = table.assign(group=np.resize(["a", "b"], len(table)))
        fitted = fit("gap", table, bootstrap=20, sensitivity=False)
        claims["fit"] += any(value.identified for value in fitted.parameters.values())
        claims["compare"] += compare(NULL_LAWS, table).nothing is None
        claims["collapse"] += not isinstance(judge_collapse(table, permutations=9), NoGap)
        claims["universality"] += not isinstance(judge_universality(table, "group", bootstrap=9), NoGap)
        for approach in (1, 2, 3):
            try:
                found = allocate_runs(flat_losses(index), [1e21], approach, bootstrap=100).exponents.get("N")
            except InputError:
                continue
            claimed = found and ((found.low or 0.0) > 0.0 or (found.high or 0.0) < 0.0)
            claims[f"allocate {approach}"] += bool(claimed)
    return {"tables": tables, "claims": claims, "shares": {name: made / tables for name, made in claims.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("worlds", nargs="*", default=list(VERDICT_WORLDS))
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", type=int, default=0, help="of runs; the law is true in each")
    parser.add_argument("--rows", type=int, default=SOURCE_RUNS)
    parser.add_argument("--ratio", type=float, default=1.0, help="of the last group's A to the others'")
    parser.add_argument("--apart", type=float, default=0.0, help="the last group's alpha above the others'")
    parser.add_argument("--bootstrap", type=int, default=99)
    parser.add_argument("--null", action="store_true", help="how many claims are made where there is nothing")
    given = parser.parse_args()
    if given.null:
        start = time.perf_counter()
        print(json.dumps(try_null(given.tables, given.seed) | {"seconds": round(time.perf_counter() - start)}))
        return
    if given.groups:
        start = time.perf_counter()
        trial = try_universality(
            given.tables, given.seed, bootstrap=given.bootstrap, rows=given.rows, groups=given.groups,
            ratio=given.ratio, apart=given.apart,
        )  # fmt: skip
        print(json.dumps(trial | {"seconds": round(time.perf_counter() - start)}), flush=True)
        return
    for name in given.worlds:
        start = time.perf_counter()
        trial = try_verdict(VERDICT_WORLDS[name], given.tables, given.seed)
        print(json.dumps(trial | {"seconds": round(time.perf_counter() - start)}), flush=True)


if __name__ == "__main__":
    main()
