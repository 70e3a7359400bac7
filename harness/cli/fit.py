"""The commands of `isogap` that fit laws to tables and use what was fitted."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.groups import collapse, universality
from harness.cli.optional import OptionalFile
from harness.cli.options import (
    Bootstrap,
    Estimator,
    FitArgument,
    Holdout,
    JsonFile,
    JsonFlag,
    LawOption,
    SetOption,
    SourceArgument,
    Units,
    Where,
    open_named,
)  # fmt: skip


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this module into `app`."""
    for command in (fit, compare, universality, collapse, predict, optima, frontier, laws):
        app.command()(command)
    app.command(cls=OptionalFile)(allocate)


def fit(
    source: SourceArgument,
    law: LawOption,
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    holdout: Holdout = None,
    by: Annotated[str | None, typer.Option(metavar="COLUMN", help="a fit for each of its values")] = None,
    objective: Annotated[
        str | None, typer.Option(help="log_huber, log_squares, squares or normal, instead of the law's own")
    ] = None,
    delta: Annotated[float, typer.Option(min=0, help="the corner of Huber's loss")] = 1e-3,
    quantile: Annotated[float, typer.Option(help="of log_huber: 0.5 is the middle, 0.1 a frontier of the best")] = 0.5,
    profile: Annotated[bool, typer.Option("--profile", help="intervals of the profile likelihood as well")] = False,
    sensitivity: Annotated[bool, typer.Option(help="refit under other reasonable choices")] = True,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE.truth.json", help="what is true of a simulated table, to compare with")
    ] = None,
    estimator: Estimator = "best",
    units: Units = "tokens",
    bootstrap: Bootstrap = 200,
    json_: JsonFile = None,
) -> None:
    """Fit a law, and say what the runs identify and what they do not."""
    from harness.fit.fitting import fit as fit_law
    from harness.fit.groups import fit_by
    from harness.fit.laws.law import get_law
    from harness.fit.problem.objective import Options, check
    from harness.fit.result import render, render_groups
    from harness.fit.truth import check_law, read_truth, render_truth
    from harness.fit.truth import compare as compare_truth
    from harness.source import read_source
    from harness.terminal import working
    from sweeps.errors import InputError

    check(objective, delta, quantile)
    if truth is not None and by is not None:
        raise InputError("--truth", "value", str(truth), "no --by: the truth is of the table as a whole")
    known = None if truth is None else read_truth(truth)
    if known is not None:
        check_law(known, get_law(law))
    frame = read_source(open_named(source), [law], set_, where, holdout, estimator, units)
    choices: dict[str, Any] = {
        "bootstrap": bootstrap, "objective": objective, "options": Options(delta, quantile), "profile": profile,
        "sensitivity": sensitivity, "source": str(source),
    }  # fmt: skip
    with working("fitting"):
        if by is None:
            result = fit_law(law, frame, **choices)
            text = render(result)
            if known is not None:
                found = compare_truth(result, known)
                text += render_truth(found, known)
                result = replace(result, truth=tuple(map(asdict, found)))
            written = result.to_dict()
        else:
            fits, pooled, warnings = fit_by(law, frame, by, **choices)
            text = render_groups(fits, pooled, warnings)
            groups = {name: result.to_dict() for name, result in fits.items()}
            written = {"by": by, "groups": groups, "holdout": pooled}
    print(text, end="")
    if json_:
        json_.write_text(json.dumps(written, indent=1, allow_nan=False))


def compare(
    source: SourceArgument,
    laws: Annotated[str, typer.Option(metavar="A,B,C", help="laws of one response")],
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    holdout: Holdout = None,
    estimator: Estimator = "best",
    units: Units = "tokens",
    json_: JsonFile = None,
) -> None:
    """Fit several laws to the same rows and rank them."""
    from harness.fit.compare import compare as compare_laws
    from harness.source import read_source
    from harness.terminal import print_rows, working

    ids = [law.strip() for law in laws.split(",")]
    frame = read_source(open_named(source), ids, set_, where, holdout, estimator, units)
    with working("fitting"):
        rows = [row.to_dict() for row in compare_laws(ids, frame, source=str(source))]
    shown = (
        "law", "status", "heldout_score", "heldout_error", "p_best", "reach", "delta_aicc", "delta_bic", "delta_cv",
        "delta_cv_se", "rows", "degrees",
    )  # fmt: skip
    print_rows([{name: row[name] for name in shown} for row in rows])
    if json_:
        json_.write_text(_json(rows))


def _json(rows: list[dict[Any, Any]]) -> str:
    """Rows as strict JSON: null for numbers that are not finite, such as limits without bootstrap draws."""
    finite = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in rows
    ]
    return json.dumps(finite, indent=1, allow_nan=False)


def predict(
    fitted: FitArgument,
    at: Annotated[list[str], typer.Option(metavar="N=..,D=..", help="one point; may be repeated")] = [],  # noqa: B006
    points: Annotated[Path | None, typer.Option(metavar="FILE", help="points as CSV or parquet")] = None,
    json_: JsonFlag = False,
) -> None:
    """A fitted law at new points, with 95 % intervals."""
    from harness.fit.forecast import predict as predict_points
    from harness.source import read_fit, read_points
    from harness.terminal import print_rows

    rows = predict_points(read_fit(fitted), read_points(at, points)).to_dict("records")
    print(_json(rows)) if json_ else print_rows(rows)


def allocate(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="FIT.json of a loss law, or a sweep's folder, or a table of runs")
    ],
    flops: Annotated[list[float], typer.Option(help="training budget in FLOPs; may be repeated")],
    approach: Annotated[
        int | None, typer.Option(help="of runs: 1 lowest curve, 2 isoFLOP profiles, 3 fitted loss")
    ] = None,
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    method: Annotated[str | None, typer.Option(help="1: envelope or hull; 2: akima or quadratic")] = None,
    noise: Annotated[
        str | None, typer.Option(help="2: sd of a loss in nats, or a CSV of loss and sd; else from their scatter")
    ] = None,
    law: Annotated[str, typer.Option(help="3: a loss law in N and D")] = "chinchilla",
    bootstrap: Annotated[int | None, typer.Option(min=0, help="replicates; by default 1000, of refits 200")] = None,
    z: Annotated[float | None, typer.Option(help="also: how far the rule D ~ N^z moves N from D ~ N")] = None,
    anchor: Annotated[float | None, typer.Option(help="the budget where those two rules agree")] = None,
    estimator: Estimator = "best",
    units: Units = "tokens",
    json_: Annotated[
        str | None, typer.Option("--json", metavar="[FILE]", help="write JSON, to the terminal without FILE")
    ] = None,
) -> None:
    """Compute-optimal N and D for a budget, of a fitted loss law or straight from runs, with 95 % intervals."""
    from harness.cli.allocate import answer

    options = {"method": method, "noise": noise, "law": law, "bootstrap": bootstrap}
    answer(
        source, approach, flops, set_, where, z=z, anchor=anchor, to=json_, estimator=estimator, units=units, **options
    )


def laws(law: Annotated[str | None, typer.Argument(metavar="ID")] = None) -> None:
    """The laws there are, or one of them in full."""
    from harness.cli.show import print_law, print_laws

    print_laws() if law is None else print_law(law)


def optima(
    table: Annotated[Path, typer.Argument(metavar="FILE", help="a CSV or parquet of runs")],
    by: Annotated[str, typer.Option(metavar="A,B", help="columns or roles; a row for each combination, e.g. N,D")],
    over: Annotated[str, typer.Option(metavar="A,B", help="the settings whose best values are looked for, e.g. lr,B")],
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    response: Annotated[str, typer.Option(help="what is least at the best setting")] = "L",
    method: Annotated[str, typer.Option(help="quadratic, mean, near or minimum")] = "quadratic",
    window: Annotated[
        float | None, typer.Option(min=0, help="share above the least; 0.02, or 0.0025 for means")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="resamplings of each group's runs")] = 200,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="FILE.csv or FILE.parquet, for `isogap fit`")] = None,
) -> None:
    """The best settings of every group of runs, such as learning rate and batch of every size."""
    from harness.fit.allocation.optima import optima as find_optima
    from harness.fit.table import read_table
    from harness.record.table import write_table
    from harness.source import parse_roles
    from harness.terminal import print_rows

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


def frontier(
    source: SourceArgument,
    to: Annotated[Path, typer.Option(metavar="FILE", help="FILE.csv or FILE.parquet")],
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    method: Annotated[str, typer.Option(help="naive: every record; binned: one a bin of compute; hull")] = "naive",
    bins: Annotated[int, typer.Option(help="of the method binned")] = 20,
) -> None:
    """Write the runs that no other beats with as much compute or less (roles flops and L; of each group if given)."""
    from harness.fit.allocation.pareto import frontier as runs_on_frontier
    from harness.record.table import write_table
    from harness.source import read_source

    frame = read_source(open_named(source), ["frontier"], set_, where, None, "best", "tokens")
    rows = runs_on_frontier(frame, method, bins, source).drop(columns="holdout")
    print(f"{write_table(rows, to)} of {len(frame)} runs in {to}")
