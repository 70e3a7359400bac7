"""How often the rule is right on simulated worlds: `python scripts/worlds.py [WORLD ...] [--tables 200] [--seed 0]`.

A line of JSON a world; about two seconds a table on one core.
"""

import argparse
import json
import time
from dataclasses import asdict

from harness.fit.worlds import WORLDS, get_world, trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worlds", nargs="*", default=[world.id for world in WORLDS])
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in given.worlds:
        start = time.perf_counter()
        found = trial(get_world(name), given.tables, given.seed)
        print(json.dumps(asdict(found) | {"seconds": round(time.perf_counter() - start)}), flush=True)


if __name__ == "__main__":
    main()
