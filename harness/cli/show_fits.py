"""`isogap fit`, `compare` and `predict`: laws that are fitted to runs, and their predictions for new ones."""

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from harness.cli.render import render
from harness.fit.compare import compare
from harness.fit.fitting import fit
from harness.fit.forecast import doubts, predict
from harness.fit.groups import compare_by, fit_by, points_of_groups
from harness.fit.known_truth import check_law, compare_with_truth, read_truth, truth_table
from harness.fit.laws.held import parse_held, with_held
from harness.fit.laws.registry import get_law, listed
from harness.fit.problem.objective import HuberOptions, check_objective
from harness.fit.results.result import FitResult
from harness.fit.results.shown import NOT_DETERMINED, TextTable, finite_rows, is_determined, number, warning_lines
from harness.fit.two_steps import predict_through
from harness.source import open_runs, parse_roles, read_fit, read_fits, read_points, read_runs
from harness.terminal import print_rows, working
from sweeps.errors import InputError

RANKED = (
    "law", "status", "heldout_score", "heldout_error", "p_best", "reach", "delta_aicc", "delta_bic", "delta_cv",
    "delta_cv_se", "rows", "degrees",
)  # fmt: skip


def show_fit(
    source: str, law: str | None, set_: Sequence[str], fix: Sequence[str], by: str | None, objective: str | None,
    delta: float, quantile: float, truth: Path | None, json_: Path | None, where: str | None, holdout: str | None,
    holdout_rows: bool, estimator: str, units: str, figure: Path | None, **choices: Any,
) -> None:  # fmt: skip
    """Fit a law, print the fit, write it as JSON, and draw it.

    Raises:
        InputError: unusable options or rows.
    """
    if law is None:
        expected = (
            f"a law: `isogap fit {source} --law chinchilla` for losses, `--law gap` for gaps; `isogap laws` lists all"
        )
        raise InputError("fit", "--law", None, expected)
    law = with_held(law, parse_held(fix))
    check_objective(objective, delta, quantile)
    if figure is not None:
        if by is not None:
            raise InputError("--figure", "value", str(figure), "no --by: a figure shows one fit")
        from harness.report.fit_image import check_figure, write_fit_figure  # plotly, which a fit alone does not need

        check_figure(figure)
    if truth is not None and by is not None:
        raise InputError("--truth", "value", str(truth), "no --by: the truth is of the table as a whole")
    known = None if truth is None else read_truth(truth)
    if known is not None:
        check_law(known, get_law(law))
    frame = read_runs(
        source, law, set=parse_roles(set_), where=where, holdout=holdout, estimator=estimator, units=units, tell=print
    )
    choices |= {"objective": objective, "options": HuberOptions(delta, quantile), "source": source}
    result = None
    with working("fitting"):
        if by is None:
            result = fit(law, frame, **choices)
            shown = [*result.shown(), *(result.holdout.listed() if holdout_rows else ())]
            if known is not None:
                result = replace(result, truth=tuple(compare_with_truth(result, known)))
                shown.append(truth_table(result.truth, known))
            text, written = render(shown, 110), result.to_dict()
        else:
            fits, pooled, warnings = fit_by(law, frame, by, **choices)
            held_out = [f"held out, all groups: {pooled}"] if pooled.rows else []
            listed = pooled.listed() if holdout_rows else ()
            text = render([_groups_table(fits), *held_out, *listed, *warning_lines(warnings)], 160)
            groups = {name: result.to_dict() for name, result in fits.items()}
            written = {"by": by, "groups": groups, "holdout": asdict(pooled)}
    print(text, end="")
    if json_:
        json_.write_text(json.dumps(written, indent=1, allow_nan=False))
    if figure is not None and result is not None:
        write_fit_figure(figure, result, frame)


def _groups_table(fits: Mapping[str, FitResult]) -> TextTable:
    """The fits of several groups, one row per group."""
    first = next(iter(fits.values()))
    names = list(dict.fromkeys(name for result in fits.values() for name in result.parameters))
    rows = []
    for group, result in fits.items():
        known = {name: value for name, value in result.parameters.items() if value.identified}
        cells = (f"{number(known[n].estimate)} +- {number(known[n].se)}" if n in known else "-" for n in names)
        rows.append((group, str(result.rows), str(result.status), *cells, number(result.holdout.r2)))
    columns = ("group", "rows", "status", *names, "r2 held out")
    return TextTable(f"{first.law}: {first.formula}", columns, rows, {"group", "status"})


def show_comparison(
    source: str, laws: str, set_: Sequence[str], fix: Sequence[str], by: str | None, json_: Path | None,
    **choices: Any,
) -> None:  # fmt: skip
    """Fit several laws to the same rows, print their ranking, and write it as JSON: a list, or one per group.

    Where the laws are of a gap and none is detected, that is printed and written in place of the ranking.
    """
    held = parse_held(fix)
    ids = [with_held(law, held) for law in listed(laws)]
    frame = read_runs(source, ids, set=parse_roles(set_), tell=print, **choices)
    with working("fitting"):
        if by is None:
            groups, warnings = {"": compare(ids, frame, source=source)}, ()
        else:
            groups, warnings = compare_by(ids, frame, by, source=source)
    ranks = {}
    for name, ranked in groups.items():
        title = f"{by} {name}" if by else None
        if ranked.nothing:
            ranks[name] = ranked.nothing.to_dict()
            print(f"{title}: {ranked.nothing.finding}" if title else ranked.nothing.finding)
            continue
        ranks[name] = finite_rows(row.to_dict() for row in ranked)
        print_rows([{column: row[column] for column in RANKED} for row in ranks[name]], title)
        print("".join(f"{line}\n" for line in warning_lines(ranked.warnings)), end="")
    print("".join(f"{line}\n" for line in warning_lines(warnings)), end="")
    if json_:
        json_.write_text(json.dumps({"by": by, "groups": ranks} if by else ranks[""], indent=1, allow_nan=False))


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
        from harness.forecasts.registry_file import read_forecasts  # 0.1 s, mostly pydantic, that a fit does not need
        from harness.forecasts.score import score_lines

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
        from harness.forecasts.register import register_fits

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
    print(json.dumps(finite_rows(rows), indent=1, allow_nan=False)) if json_ else print_rows(
        [_told(row) for row in rows]
    )


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """A prediction for a reader: in words where its interval is so wide that the runs do not determine it."""
    return dict(row) if is_determined(row["low"], row["high"]) else {**row, "prediction": NOT_DETERMINED}


def _warnings(
    by: str | None, fits: Mapping[str, FitResult], points: Mapping[str, pd.DataFrame], first: FitResult | None
) -> list[str]:
    """A line for each doubt about the points of a group."""
    lines = []
    for name, own in points.items():
        about = f"{by} {name}: " if by else ""
        lines += warning_lines(replace(w, message=about + w.message) for w in doubts(first or fits[name], own))
    return lines
