"""`isogap fit`, `compare` and `predict`: laws that are fitted to runs, and their predictions for new ones."""

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.cli.render import render
from harness.fit.compare import compare
from harness.fit.fitting import fit
from harness.fit.forecast import doubts, predict
from harness.fit.groups import compare_by, fit_by
from harness.fit.known_truth import check_law, compare_with_truth, read_truth, truth_table
from harness.fit.laws.held import parse_held, with_held
from harness.fit.laws.registry import get_law, listed
from harness.fit.problem.objective import HuberOptions, check_objective
from harness.fit.results.result import FitResult
from harness.fit.results.shown import TextTable, finite_rows, number, warning_lines
from harness.fit.two_steps import predict_through
from harness.source import parse_roles, read_fit, read_fits, read_points, read_runs
from harness.terminal import print_rows, working
from sweeps.errors import InputError

RANKED = (
    "law", "status", "heldout_score", "heldout_error", "p_best", "reach", "delta_aicc", "delta_bic", "delta_cv",
    "delta_cv_se", "rows", "degrees",
)  # fmt: skip


def show_fit(
    source: str, law: str, set_: Sequence[str], fix: Sequence[str], by: str | None, objective: str | None,
    delta: float, quantile: float, truth: Path | None, json_: Path | None, where: str | None, holdout: str | None,
    holdout_rows: bool, estimator: str, units: str, figure: Path | None, **choices: Any,
) -> None:  # fmt: skip
    """Fit a law, print the fit, write it as JSON, and draw it.

    Raises:
        InputError: unusable options or rows.
    """
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
    fitted: Path, at: Sequence[str], points: Path | None, set_: Sequence[str], group: str | None,
    through: Path | None, json_: bool,
) -> None:  # fmt: skip
    """Print the predictions of a stored fit at new points; of a fit to several groups, those of each of them.

    With another fit to go `through`, the points are that fit's, and its predictions what the law reads.

    Raises:
        InputError: unusable points, a group that the fit does not have, or a fit that does not lead to this one.
    """
    by, fits = read_fits(fitted)
    if group is not None and group not in fits:
        raise InputError(fitted, "--group", group, f"one of the groups {', '.join(fits)}" if by else "a fit with --by")
    chosen = fits if group is None else {group: fits[group]}
    # What is told is not JSON, so it goes to stderr beside it.
    told = functools.partial(print, file=sys.stderr if json_ else sys.stdout)
    first = None if through is None else read_fit(through)
    law = get_law((first or next(iter(chosen.values()))).law)
    frame = read_points(at, points, law, parse_roles(set_), by, tell=told)
    if by is not None and by in frame.columns:
        named = set(frame[by].astype(str))
        if named.isdisjoint(fits):
            raise InputError(points or "--at", by, ", ".join(sorted(named)), f"one of the groups {', '.join(fits)}")
        if unknown := named - fits.keys():
            told(f"no prediction for points of groups that were not fitted: {', '.join(sorted(unknown))}")
    rows, warnings = [], []
    for name, result in chosen.items():
        # Points that name their group are of that group only.
        own = frame if by not in frame.columns else frame.loc[frame[by].astype(str) == name].reset_index(drop=True)
        if len(own):
            predicted = predict(result, own) if first is None else predict_through(result, first, own)
            rows += [({by: name} if by else {}) | row for row in predicted.to_dict("records")]
            about = f"{by} {name}: " if by else ""
            found = doubts(first or result, own)
            warnings += [replace(warning, message=about + warning.message) for warning in found]
    print(json.dumps(finite_rows(rows), indent=1, allow_nan=False)) if json_ else print_rows(rows)
    for line in warning_lines(warnings):
        told(line)
