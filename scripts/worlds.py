"""How often the verdict, and `universality`, are right on simulated worlds; a line of JSON each, seconds a table.

python scripts/worlds.py [WORLD ...] [--tables 200] [--seed 0]
python scripts/worlds.py --groups 2 [--rows 174] [--ratio 1.6] [--apart 0.1] [--tables 100]
"""

import argparse
import json
import time

from harness.fit.gap_law.constants import SOURCE_RUNS
from harness.theory.verdict_worlds import VERDICT_WORLDS, try_universality, try_verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worlds", nargs="*", default=list(VERDICT_WORLDS))
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", type=int, default=0, help="of runs; the law is true in each")
    parser.add_argument("--rows", type=int, default=SOURCE_RUNS)
    parser.add_argument("--ratio", type=float, default=1.0, help="of the last group's A to the others'")
    parser.add_argument("--apart", type=float, default=0.0, help="the last group's alpha above the others'")
    parser.add_argument("--bootstrap", type=int, default=99)
    given = parser.parse_args()
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
