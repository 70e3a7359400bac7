"""`isogap predict`: the predictions of a fit at new points, registered as forecasts if asked for; and their scores."""

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from harness.cli.render import render
from harness.fit.forecast import doubts, predict
from harness.fit.groups import points_of_groups
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult
from harness.fit.results.shown import finite_rows, warning_lines
from harness.fit.two_steps import predict_through
from harness.forecasts.register import register_fits
from harness.forecasts.registry_file import read_forecasts
from harness.forecasts.score import score_lines
from harness.source import open_runs, parse_roles, read_fit, read_fits, read_points
from harness.terminal import print_rows
from sweeps.errors import InputError


def show_predictions(
    source: str, at: Sequence[str], points: Path | None, set_: Sequence[str], group: str | None,
    through: Path | None, register: Path | None, score: Path | None, where: str | None, estimator: str, units: str,
    json_: bool,
) -> None:  # fmt: skip
    """Print the predictions of a stored fit at new points, and register them; or score registered forecasts.

    Args:
        source: the file of a fit; with `score` the runs.
        through: the fit of a first step: the points are its law's, and its predictions what the other law reads.
        register: a file of forecasts, to which the predictions are added.
        score: a file of forecasts, which are scored on the runs.

    Raises:
        InputError: unusable points or runs, a group that the fit does not have, a fit that does not lead to this one,
            options that do not go together, or a file of forecasts that is damaged.
    """
    # What is told is not JSON, so it goes to stderr beside it.
    tell = functools.partial(print, file=sys.stderr if json_ else sys.stdout)
    of_points = {"--at": at, "--points": points, "--group": group, "--through": through, "--register": register}
    of_runs = {"--where": where, "--estimator": estimator != "best", "--units": units != "tokens"}
    if given := [name for name, value in (of_runs if score is None else of_points).items() if value]:
        without = (
            "no such option without --score: it chooses among runs"
            if score is None
            else ("no such option with --score: the points are those of the forecasts")
        )
        raise InputError("predict", "options", ", ".join(given), without)
    if score is not None:
        scores = score_lines(
            read_forecasts(score), open_runs(source), set=parse_roles(set_), where=where, estimator=estimator,
            units=units, tell=tell,
        )  # fmt: skip
        print(scores.to_json() if json_ else render(scores.shown()).rstrip())
        return
    if register is not None and through is not None:
        raise InputError("predict", "--register", str(register), "no --through: a forecast is of one fit")
    by, fits = read_fits(Path(source))
    if group is not None and group not in fits:
        raise InputError(source, "--group", group, f"one of the groups {', '.join(fits)}" if by else "a fit with --by")
    first = None if through is None else read_fit(through)
    law = get_law((first or next(iter(fits.values()))).law)
    frame, named = read_points(at, points, law, parse_roles(set_), by, tell=tell), str(points or "--at")
    own, unknown = points_of_groups(by, fits, frame, named)
    if unknown:
        tell(f"no prediction for points of groups that were not fitted: {', '.join(unknown)}")
    chosen = {name: rows for name, rows in own.items() if group in (None, name)}
    registered = None
    if register is not None and chosen:
        registered = register_fits(register, {name: fits[name] for name in chosen}, frame, by=by, source=named)
    if registered is not None and json_:
        print(json.dumps(registered.to_dict(), indent=1, allow_nan=False))
    else:
        _print_predictions(by, fits, chosen, first, json_)
    for line in (*_warnings(by, fits, chosen, first), *(registered.shown() if registered and not json_ else ())):
        tell(line)


def _print_predictions(
    by: str | None, fits: Mapping[str, FitResult], points: Mapping[str, pd.DataFrame], first: FitResult | None,
    json_: bool,
) -> None:  # fmt: skip
    """Print the predictions of each group at its points."""
    rows = []
    for name, own in points.items():
        predicted = predict(fits[name], own) if first is None else predict_through(fits[name], first, own)
        rows += [({by: name} if by else {}) | row for row in predicted.to_dict("records")]
    print(json.dumps(finite_rows(rows), indent=1, allow_nan=False)) if json_ else print_rows(rows)


def _warnings(
    by: str | None, fits: Mapping[str, FitResult], points: Mapping[str, pd.DataFrame], first: FitResult | None
) -> list[str]:
    """A line for each doubt about the points of a group."""
    lines = []
    for name, own in points.items():
        about = f"{by} {name}: " if by else ""
        lines += warning_lines(replace(w, message=about + w.message) for w in doubts(first or fits[name], own))
    return lines
