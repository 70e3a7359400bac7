"""`isogap fit`, `compare`, `predict`, `optima` and `frontier`: what is fitted to runs, or chosen among them."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.cli.fit_text import render_fit, render_groups, render_truth
from harness.fit.allocation.best_settings import find_optima
from harness.fit.allocation.frontier_runs import runs_on_frontier
from harness.fit.compare import compare
from harness.fit.fitting import fit
from harness.fit.forecast import predict
from harness.fit.groups import fit_by
from harness.fit.known_truth import check_law, read_truth
from harness.fit.known_truth import compare_with_truth as compare_truth
from harness.fit.laws.registry import get_law
from harness.fit.problem.objective import HuberOptions, check_objective
from harness.fit.table import read_table
from harness.record.table import write_table
from harness.source import parse_roles, read_fit, read_points, read_runs
from harness.terminal import print_rows, working
from sweeps.errors import InputError

RANKED = (
    "law", "status", "heldout_score", "heldout_error", "p_best", "reach", "delta_aicc", "delta_bic", "delta_cv",
    "delta_cv_se", "rows", "degrees",
)  # fmt: skip


def show_fit(
    source: str, law: str, set_: Sequence[str], by: str | None, objective: str | None, delta: float, quantile: float,
    truth: Path | None, json_: Path | None, where: str | None, holdout: str | None, estimator: str, units: str,
    **choices: Any,
) -> None:  # fmt: skip
    """Fit a law, print the fit, and write it as JSON.

    Raises:
        InputError: unusable options or rows.
    """
    check_objective(objective, delta, quantile)
    if truth is not None and by is not None:
        raise InputError("--truth", "value", str(truth), "no --by: the truth is of the table as a whole")
    known = None if truth is None else read_truth(truth)
    if known is not None:
        check_law(known, get_law(law))
    frame = read_runs(
        source, law, set=parse_roles(set_), where=where, holdout=holdout, estimator=estimator, units=units, tell=print
    )
    choices |= {"objective": objective, "options": HuberOptions(delta, quantile), "source": source}
    with working("fitting"):
        if by is None:
            result = fit(law, frame, **choices)
            text = render_fit(result)
            if known is not None:
                constants = compare_truth(result, known)
                text += render_truth(constants, known)
                result = replace(result, truth=tuple(constants))
            written = result.to_dict()
        else:
            fits, pooled, warnings = fit_by(law, frame, by, **choices)
            text = render_groups(fits, pooled, warnings)
            groups = {name: result.to_dict() for name, result in fits.items()}
            written = {"by": by, "groups": groups, "holdout": asdict(pooled)}
    print(text, end="")
    if json_:
        json_.write_text(json.dumps(written, indent=1, allow_nan=False))


def show_comparison(source: str, laws: str, set_: Sequence[str], json_: Path | None, **choices: Any) -> None:
    """Fit several laws to the same rows, print their ranking, and write it as JSON."""
    ids = [law.strip() for law in laws.split(",")]
    frame = read_runs(source, ids, set=parse_roles(set_), tell=print, **choices)
    with working("fitting"):
        rows = [row.to_dict() for row in compare(ids, frame, source=source)]
    print_rows([{name: row[name] for name in RANKED} for row in rows])
    if json_:
        json_.write_text(_json(rows))


def show_predictions(fitted: Path, at: Sequence[str], points: Path | None, json_: bool) -> None:
    """Print what a stored fit says of new points."""
    rows = predict(read_fit(fitted), read_points(at, points)).to_dict("records")
    print(_json(rows)) if json_ else print_rows(rows)


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
    """Write the runs that no other beats with as much compute or less."""
    frame = read_runs(source, "frontier", set=parse_roles(set_), where=where, tell=print)
    rows = runs_on_frontier(frame, method, bins, source).drop(columns="holdout")
    print(f"{write_table(rows, to)} of {len(frame)} runs in {to}")


def _json(rows: list[dict[Any, Any]]) -> str:
    """Rows as strict JSON, with null for numbers that are not finite, such as limits without bootstrap draws."""
    finite = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in rows
    ]
    return json.dumps(finite, indent=1, allow_nan=False)
