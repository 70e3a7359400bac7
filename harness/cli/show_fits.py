"""`isogap fit` and `compare`: laws that are fitted to runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.cli.render import render
from harness.fit.compare import compare
from harness.fit.fitting import fit
from harness.fit.groups import compare_by, fit_by
from harness.fit.known_truth import check_law, compare_with_truth, read_truth, truth_table
from harness.fit.laws.held import parse_held, with_held
from harness.fit.laws.registry import get_law, listed
from harness.fit.problem.objective import HuberOptions, check_objective
from harness.fit.results.result import FitResult
from harness.fit.results.shown import TextTable, finite_rows, number, warning_lines
from harness.source import parse_roles, read_runs
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
