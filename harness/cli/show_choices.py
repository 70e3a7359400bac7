"""`isogap optima` and `frontier`: the best settings of groups of runs, and the best runs."""

from collections.abc import Sequence
from pathlib import Path

from harness.fit.allocation.best_settings import find_optima
from harness.fit.allocation.frontier_runs import runs_on_frontier
from harness.fit.problem.columns import own_columns
from harness.record.table import write_table
from harness.source import parse_roles, read_runs
from harness.tables.read import read_table
from harness.terminal import print_rows


def show_optima(
    table: Path, by: str, over: str, set_: Sequence[str], where: str | None, response: str, method: str,
    window: float | None, bootstrap: int, to: Path | None,
) -> None:  # fmt: skip
    """Print the best settings of every group of runs, and write them as a table."""
    frame, warnings = read_table(table, parse_roles(set_), where)
    for warning in warnings:
        print(f"{table}: {warning.message}")
    groups, settings = ([name.strip() for name in text.split(",")] for text in (by, over))
    rows = find_optima(
        frame, groups, settings, response, method=method, window=window, draws=bootstrap, source=str(table)
    )
    print_rows(rows.to_dict("records"))
    if to:
        write_table(rows, to)


def write_frontier(source: str, to: Path, set_: Sequence[str], where: str | None, method: str, bins: int) -> None:
    """Write the runs that no other beats with as much compute or less: the columns of the file, and computed roles."""
    frame = read_runs(source, reads=("flops", "L"), set=parse_roles(set_), where=where, tell=print)
    own = own_columns(frame)
    copies = [role for role, shown in frame.attrs["roles"].items() if role not in own and shown in own]
    rows = runs_on_frontier(frame, method, bins, source).drop(columns=["holdout", "file_row", *copies])
    print(f"{write_table(rows, to)} of {len(frame)} runs in {to}")
