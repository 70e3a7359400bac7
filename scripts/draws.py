"""Whether draws do what they promise, on the runs of a sweep with many of them: `python scripts/draws.py DIR`.

The folder holds cells of 32 draws or more. Some draws are taken at random, all cells together; the others say what the
truth is.

coverage   in how many cells the 95 % interval of the mean of K draws holds the mean of the others, whose own error is
           added to the interval's
wanted     the error that `draws: {se: S}` reaches, for an S that K draws of a cell give: the standard deviation over
           all draws divided by the root of the number at which the rule stops, relative to S; root mean square
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import t

from harness.gaps.cells import draws_of, read_cells
from harness.gaps.replicates import Draws, cell_gaps, draws_for
from harness.record.table import runs_table
from sweeps.grid import FIRST_DRAWS

FEWEST = 32


def some_of(cell: Draws, chosen: np.ndarray) -> Draws:
    return Draws(cell.gaps[chosen], cell.errors[chosen])


def coverage(cells: list[Draws], count: int, rng: np.random.Generator) -> list[bool]:
    orders = [rng.permutation(len(cell.gaps)) for cell in cells]
    taken = [some_of(cell, order[:count]) for cell, order in zip(cells, orders, strict=True)]
    held = []
    for cell, order, found in zip(cells, orders, cell_gaps(taken), strict=True):
        others = cell.gaps[order[count:]]
        error = np.hypot(found.se, others.std(ddof=1) / np.sqrt(len(others)))
        held.append(abs(found.gap - others.mean()) <= t.ppf(0.975, found.degrees) * error)
    return held


def reached(cell: Draws, wanted: float, rng: np.random.Generator) -> float:
    order, count, before = rng.permutation(len(cell.gaps)), FIRST_DRAWS, 0
    while count != before:
        taken, before = some_of(cell, order[:count]), count
        count = draws_for(taken, cell_gaps([taken])[0], wanted, len(order))
    return cell.gaps.std(ddof=1) / np.sqrt(count) / wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--estimator", default="twin", choices=("twin", "probe"))
    parser.add_argument("--repeats", type=int, default=500)
    args = parser.parse_args()
    table = runs_table(args.folder)
    by_id = {row["run_id"]: row for row in table.to_dict("records")}
    every = [draws_of(args.estimator, cell, by_id) for cell in read_cells(args.folder, table)]
    cells = [cell for cell in every if len(cell.gaps) >= FEWEST]
    rng = np.random.default_rng(0)
    print(f"{len(cells)} cells of {', '.join(str(len(cell.gaps)) for cell in cells)} draws")
    for count in (2, 3, 4, 8, 16):
        held = np.mean([coverage(cells, count, rng) for _ in range(args.repeats)], axis=0)
        print(f"coverage of {count:2} draws: {held.mean():.1%} (by cell {', '.join(f'{each:.1%}' for each in held)})")
    for count in (10, 16, 24):
        wanted = [cell.gaps.std(ddof=1) / np.sqrt(count) for cell in cells]
        pairs = [*zip(cells, wanted, strict=True)]
        found = np.asarray([[reached(*pair, rng) for pair in pairs] for _ in range(args.repeats)])
        by_cell = ", ".join(f"{each:.2f}" for each in np.sqrt(np.mean(found**2, axis=0)))
        print(
            f"wanted that of {count} draws: reached {by_cell} of it by cell; within 20 % in {np.mean(found <= 1.2):.1%}"
        )


if __name__ == "__main__":
    main()
