"""The work of `isogap simulate`: a world's table, the truth beside it, and how to go on."""

from pathlib import Path
from typing import Any

import pandas as pd

from harness.cli.table import function_named
from harness.fit.known_truth import fit_command, path_of, write_truth
from harness.record.table import write_table
from harness.terminal import working


def write_world(simulator: str, to: Path, **settings: Any) -> str:
    """Simulate a world and write its table and its truth; return a description, and commands that use the table.

    Args:
        simulator: `module:function`, which takes the settings and returns a table and its truth.
    """
    with working("simulating"):
        table, truth = function_named(simulator)(**settings)
    write_truth(truth, to)
    rows = write_table(table, to)
    told = [f"{rows} rows in {to}, the truth in {path_of(to)} ({truth.cost})", truth.regime]
    told += [f"    {name} = {value:.6g}" for name, value in truth.parameters.items()]
    told += [fit_command(to, truth), f"isogap report {to}"]
    if truth.oracle == "students":
        told += _about_students(table)
    if truth.oracle == "lottery":
        told += _about_lottery(table)
    return "\n".join(told)


def _about_students(table: pd.DataFrame) -> list[str]:
    from harness.theory.students import cell_means, frontier_slope

    grid = cell_means(table)
    told = [f"the bound is exceeded in {grid['violated'].tolist().count(True)} of {len(grid)} cells of n and T"]
    if min(len(set(table[name])) for name in ("n", "T", "seed")) > 2:
        fitted = frontier_slope(table)
        told.append(f"compute-optimal T* grows as p*^{fitted.slope:.2f} [{fitted.low:.2f}, {fitted.high:.2f}]")
    return told


def _about_lottery(table: pd.DataFrame) -> list[str]:
    from harness.theory.lottery import loss_slope

    fitted = loss_slope(table.loc[table["members"] == 1])
    return [f"the mean error falls as width^{fitted.slope:.3f} [{fitted.low:.3f}, {fitted.high:.3f}]"]


def write_estimators(replicates: int, seed: int, to: Path | None, **world: Any) -> list[dict[str, Any]]:
    """Try every estimator of the gap in a world of twins; the rows are returned, and written if a file is given."""
    from harness.theory.twin_worlds import TwinWorld, try_estimators

    with working("simulating"):
        rows = try_estimators(TwinWorld(**world), replicates, seed)
    if to:
        write_table(pd.DataFrame(rows), to)
    return rows
