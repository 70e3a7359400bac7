"""`isogap gaps`: every estimator of every cell's gap, or one run's gap in detail."""

import json
from collections.abc import Sequence
from typing import Any

from harness.files import open_folder
from harness.gaps.cells import cell_of, details, gap_rows
from harness.gaps.roles import CONTAMINATED
from harness.record.columns import ESTIMATORS
from harness.record.table import runs_table
from harness.terminal import lines, print_lines, working


def show_gaps(out: str, run_id: str | None, json_: bool) -> None:
    """Measure the gaps of a sweep's folder and print them."""
    folder = open_folder(out)
    with working("measuring"):
        if run_id is None:
            found = [row for row, _ in gap_rows(folder, runs_table(folder))]
        else:
            found = details(cell_of(folder, run_id))
    if json_:
        print(json.dumps(found, allow_nan=False))
    elif isinstance(found, dict):
        _print_details(found)
    else:
        _print_cells(found)


def _print_cells(rows: Sequence[dict[str, Any]]) -> None:
    """Print one line per cell: the estimators with their standard errors, then their placebos in standard errors."""
    shown = []
    for row in rows:
        line = {
            name: row[name]
            for name in ("run_id", "architecture", "domain", "tokenizer", "N_nonembedding", "D", "epochs")
        }
        line |= {"seeds": row["seeds"], "draws": row["draws"]}
        line |= {name: _measured(row, f"gap_{name}") for name in ESTIMATORS}
        line |= {"detectable": row["minimum_detectable_gap"], "law says": row["predicted_gap"]}
        line["tokens for it"] = row["eval_tokens_needed"]
        line |= {f"z {name}": row[f"placebo_{name}_z"] for name in ESTIMATORS}
        shown.append(line | {"lag": row["online_lag"], "converged": row["converged"]})
    print("\n".join(lines(shown)) if shown else "no finished run")
    for name, what in (("document_sd", "mean losses"), ("paired_sd", "differences between twins")):
        known = [row[name] for row in rows if row[name] is not None]
        if known:
            print(f"spread of {what} over groups of documents: {sum(known) / len(known):.3g} nats per token")
    leaking = sorted({row["domain"] for row in rows if (row["contamination"] or 0.0) > CONTAMINATED})
    if leaking:
        print(f"warning: more than 1 % of the held-out 13-grams stand in the training text of {', '.join(leaking)}")


def _measured(row: dict[str, Any], name: str) -> str:
    """An estimate with its standard error."""
    value, se = row[name], row[f"{name}_se"]
    return "" if value is None else f"{value:.4f} +- {se:.4f}"


def _print_details(found: dict[str, Any]) -> None:
    """Print a run's gap by recency and over its evaluations, and the false alarms of its placebos."""
    print(found["run_id"])
    for name in ("recency", "trajectory"):
        print()
        print_lines(name, found[name])
    alarms = ", ".join(f"{name} {count}" for name, count in found["placebos"].items())
    print(f"of 20 placebos beyond 1.96 standard errors: {alarms}")
