"""The work of `isogap import`: a tracker's runs as a table for `isogap fit`, and their curves as another."""

from pathlib import Path

from harness.record.table import check_ending, write_table
from harness.tables.trackers.runs import import_runs
from harness.terminal import working
from sweeps.errors import InputError


def write_imported(tracker: str, store: str | None, to: Path, curves: Path | None) -> str:
    """Write the table of runs, and that of curves if it is asked for; say what is in them.

    Raises:
        InputError: what `import_runs` raises; files of other endings, or one that is also another or the store.
    """
    for path in filter(None, (to, curves)):
        check_ending(path)
    named = [Path(name).resolve() for name in (to, curves, store) if name]
    if len(set(named)) < len(named):
        raise InputError(to, "--to", str(to), "a file of its own, which is neither the store nor that of the curves")
    source = store or tracker
    with working(f"reading {source}"):
        imported = import_runs(tracker, store, curves=curves is not None, tell=lambda told: print(f"{source}: {told}"))
    if curves and imported.curves.empty:
        raise InputError(source, "--curves", str(curves), "a store that holds the metrics of single steps")
    written = [f"{write_table(imported.runs, to)} runs in {to}"]
    if curves:
        written.append(f"{write_table(imported.curves, curves)} rows, one a run and step, in {curves}")
    return "\n".join(written)
