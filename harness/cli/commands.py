"""The commands of `isogap` with their arguments and options; `harness.cli.table` says what does their work."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from harness.cli.from_outside import fetches, imports
from harness.cli.options import (
    FILE_OF_RUNS,
    Bootstrap,
    By,
    Cache,
    Estimator,
    FitArgument,
    Fix,
    FolderArgument,
    Holdout,
    JsonFile,
    JsonFlag,
    LawOption,
    MaxMinutes,
    RegisterFile,
    ScoreFile,
    SetOption,
    SourceArgument,
    SweepArgument,
    Units,
    Where,
    Workers,
    writable,
)
from harness.cli.simulate import worlds
from harness.cli.table import OptionalFile, app, command
from harness.cli.trained import trained

app.add_typer(fetches, name="fetch")
app.add_typer(worlds, name="simulate")
app.add_typer(imports, name="import")
app.add_typer(trained)


@command(app, "plan", "harness.cli.show_plan:show_plan", trains=True)
def _plan(
    sweep: SweepArgument,
    json_: JsonFlag = False,
    cache: Cache = None,
    calibrate: Annotated[
        bool, Option(help="measure how fast this machine trains, if it is not known (once, under a minute)")
    ] = True,
    power: Annotated[bool, Option("--power", help="simulate what the sweep would find out about the law")] = False,
    pilot: Annotated[
        Path | None,
        Option(
            "--errors",
            metavar="DIR|FILE",
            help="a pilot's folder or table of runs, whose draws say what errors to expect",
        ),
    ] = None,
) -> None:
    """Every cell with its sizes and cost, the packs, the time it will take, and what is infeasible and why."""


@command(app, "run", "harness.cli.run_sweep:train_sweep", trains=True)
def _run(
    sweep: SweepArgument,
    out: Annotated[
        str, Option(metavar="DIR", help="the sweep's folder or its URL; a sweep that was begun there goes on")
    ],
    workers: Workers = None,
    executor: Annotated[str, Option(help="where packs of runs are trained: local, slurm or ray")] = "local",
    slurm: Annotated[list[str], Option(metavar="KEY=VALUE", help="an option of sbatch; may be repeated")] = [],  # noqa: B006
    address: Annotated[str | None, Option(help="address of the Ray cluster, auto or HOST:PORT")] = None,
    hosts: Annotated[
        str | None,
        Option(metavar="HOST:PORT,COUNT,INDEX", help="one of COUNT hosts that train together; auto on SLURM"),
    ] = None,
    fail_fast: Annotated[bool, Option("--fail-fast", help="stop at the first run that fails or diverges")] = False,
    max_minutes: MaxMinutes = None,
    retry: Annotated[str | None, Option(metavar="failed,diverged,lost", help="train such runs again")] = None,
    track: Annotated[list[str], Option(help="also write to mlflow, tensorboard, trackio or wandb; repeatable")] = [],  # noqa: B006
    cache: Cache = None,
) -> None:
    """Train what has not ended yet; interrupted runs go on from their checkpoints."""


@command(app, "tune", "harness.cli.tune:tune", trains=True)
def _tune(
    sweep: SweepArgument,
    out: Annotated[str, Option(metavar="DIR", help="the folder of the runs or its URL; what it holds is used")],
    factors: Annotated[
        str | None, Option(metavar="A,B,..", help="what the sweep's rates are multiplied by; by default 1/4 to 4")
    ] = None,
    between: Annotated[
        str | None, Option(metavar="LOW,HIGH", help="instead: rates from LOW to HIGH, each about twice the one before")
    ] = None,
    over: Annotated[
        str, Option(metavar="A,B", help="what the rule may depend on: width, params, batch_tokens, tokens")
    ] = "width,batch_tokens,tokens",
    workers: Workers = None,
    max_minutes: MaxMinutes = None,
    cache: Cache = None,
    json_: JsonFile = None,
) -> None:
    """Train a sweep at several learning rates; the best rate of each size, and the rule that they follow."""


@command(app, "study", "harness.cli.study:study", trains=True, compiles=True)
def _study(
    name: Annotated[str | None, Argument(metavar="[NAME]", help="a study; without one they are listed")] = None,
    out: Annotated[
        str | None, Option(metavar="DIR", help="the study's folder: its sweeps, table, verdict and page; it goes on")
    ] = None,
    workers: Workers = None,
    max_minutes: MaxMinutes = None,
    cache: Cache = None,
) -> None:
    """Answer a paper's question with one command: run its sweeps, judge them, write verdict and figures."""


@command(app, "status", "harness.cli.show_status:show_status")
def _status(out: FolderArgument, json_: JsonFlag = False) -> None:
    """One line per run: where it stands, its loss, why it failed; progress and time to go."""


@command(app, "export", "harness.cli.write_files:write_export")
def _export(
    out: FolderArgument,
    what: Annotated[str, Option(help="the table: runs, cells, series, evals, documents or ensembles")],
    to: Annotated[Path, Option(metavar="FILE", help="the file to write, FILE.csv or FILE.parquet")],
) -> None:
    """Write one of the sweep's tables."""


@command(app, "gaps", "harness.cli.show_gaps:show_gaps")
def _gaps(
    out: FolderArgument,
    run_id: Annotated[str | None, Option("--run", metavar="ID", help="show the gap of this run in detail")] = None,
    json_: JsonFlag = False,
) -> None:
    """Every cell's gap by every estimator, with errors and placebos; or one run's gap by recency and over time."""


@command(app, "report", "harness.cli.write_files:write_page", compiles=True)
def _report(
    source: Annotated[
        str,
        Argument(metavar="SOURCE", help=f"a sweep's folder or its URL, a simulated table, or {FILE_OF_RUNS}"),
    ],
    law: Annotated[
        str | None, Option(help="the law to fit, as for `fit`; a sweep and a simulated table have a page without it")
    ] = None,
    set_: SetOption = [],  # noqa: B006
    fix: Fix = [],  # noqa: B006
    where: Where = None,
    holdout: Holdout = None,
    to: Annotated[
        Path | None, Option(metavar="FILE.html", help="the page; by default DIR/report.html, or beside the table")
    ] = None,
) -> None:
    """One self-contained page: a sweep's verdict and runs; or the fit of a law to a table, and what it rests on."""


@command(app, "corpora", "harness.data.catalog:corpora")
def _corpora(cache: Cache = None) -> None:
    """The corpora there are."""


@command(app, "tokenizers", "harness.data.catalog:tokenizers")
def _tokenizers() -> None:
    """The tokenizers there are."""


@command(app, "fit", "harness.cli.show_fits:show_fit", compiles=True)
def _fit(
    source: SourceArgument,
    law: LawOption = None,
    set_: SetOption = [],  # noqa: B006
    fix: Fix = [],  # noqa: B006
    where: Where = None,
    holdout: Holdout = None,
    holdout_rows: Annotated[
        bool, Option("--holdout-rows", help="also list the held-out runs and rows with their errors")
    ] = False,
    by: By = None,
    objective: Annotated[
        str | None, Option(help="what is minimised, if not the law's own: log_huber, log_squares, squares or normal")
    ] = None,
    delta: Annotated[
        float, Option(min=0, help="of log_huber: the residual at which the loss turns from quadratic to linear")
    ] = 1e-3,
    quantile: Annotated[
        float, Option(help="of log_huber: 0.5 fits the middle of the runs, 0.1 the frontier of the best")
    ] = 0.5,
    sensitivity: Annotated[
        bool, Option(help="refit under other reasonable choices, to see what depends on them")
    ] = True,
    truth: Annotated[
        Path | None, Option(metavar="FILE.truth.json", help="the true constants of a simulated table, to compare with")
    ] = None,
    estimator: Estimator = "best",
    units: Units = "tokens",
    bootstrap: Bootstrap = 200,
    json_: JsonFile = None,
    figure: Annotated[
        Path | None, Option(metavar="FILE", help="also draw rows, law and residuals: FILE.html, FILE.png or FILE.svg")
    ] = None,
) -> None:
    """Fit a law, and say what the runs identify and what they do not."""


@command(app, "compare", "harness.cli.show_fits:show_comparison", compiles=True)
def _compare(
    source: SourceArgument,
    laws: Annotated[str, Option(metavar="A,B,C", help="laws that predict the same quantity, by ids or as expressions")],
    set_: SetOption = [],  # noqa: B006
    fix: Fix = [],  # noqa: B006
    where: Where = None,
    holdout: Holdout = None,
    by: By = None,
    estimator: Estimator = "best",
    units: Units = "tokens",
    json_: JsonFile = None,
) -> None:
    """Fit several laws to the same rows and rank them."""


@command(app, "universality", "harness.cli.show_groups:show_universality", compiles=True)
def _universality(
    source: SourceArgument,
    by: Annotated[
        str,
        Option(metavar="COLUMN", help="what names the groups: tokenizer, architecture, batch, domain or any column"),
    ],
    law: LawOption = "gap",
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    margin: Annotated[float, Option(min=0, help="how far apart two exponents may be and still count as equal")] = 0.05,
    estimator: Estimator = "best",
    units: Units = "tokens",
    bootstrap: Annotated[
        int, Option(min=19, help="simulated tables of each test, and refits to resampled runs of each group")
    ] = 200,
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
    permutations: Annotated[int, Option(min=19, help="how often N is shuffled over the curves, as a comparison")] = 199,
    json_: JsonFile = None,
) -> None:
    """Whether the gap's curves over D fall on one curve of D/N^z, and whether that says anything about z."""


@command(app, "predict", "harness.cli.show_fits:show_predictions")
def _predict(
    source: FitArgument,
    at: Annotated[list[str], Option(metavar="N=..,D=..", help="one point, e.g. N=1e6,D=1e8; may be repeated")] = [],  # noqa: B006
    points: Annotated[
        Path | None,
        Option(metavar="FILE", help="points as a file of any kind that `fit` reads, by the same column names"),
    ] = None,
    set_: SetOption = [],  # noqa: B006
    group: Annotated[
        str | None, Option(metavar="NAME", help="of a fit with --by: only this group, instead of all of them")
    ] = None,
    through: Annotated[
        Path | None, Option(metavar="FIT.json", help="first predict what the law reads, e.g. the loss of an accuracy")
    ] = None,
    register: RegisterFile = None,
    score: ScoreFile = None,
    where: Where = None,
    estimator: Estimator = "best",
    units: Units = "tokens",
    json_: JsonFlag = False,
) -> None:
    """A fitted law at new points, with 95 % intervals; as registered forecasts, which are scored later."""


@command(app, "optima", "harness.cli.show_choices:show_optima", compiles=True)
def _optima(
    table: Annotated[Path, Argument(metavar="FILE", help=FILE_OF_RUNS)],
    by: Annotated[str, Option(metavar="A,B", help="the columns or roles that make a group, e.g. N,D")],
    over: Annotated[str, Option(metavar="A,B", help="the settings to optimise, e.g. lr,B")],
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    response: Annotated[str, Option(help="what the best setting minimises, a column or a role")] = "L",
    method: Annotated[
        str, Option(help="how the best setting is found: quadratic, mean, near or minimum")
    ] = "quadratic",
    window: Annotated[
        float | None, Option(min=0, help="share above the least that counts: 0.02, or 0.0025 for mean and near")
    ] = None,
    bootstrap: Annotated[int, Option(min=0, help="resamplings of the runs of each group, for the errors")] = 200,
    to: Annotated[
        Path | None, Option(metavar="FILE", help="also write the table, FILE.csv or FILE.parquet, for `isogap fit`")
    ] = None,
) -> None:
    """The best settings of every group of runs, such as learning rate and batch of every size."""


@command(app, "frontier", "harness.cli.show_choices:write_frontier")
def _frontier(
    source: SourceArgument,
    to: Annotated[Path, Option(metavar="FILE", help="the file to write, FILE.csv or FILE.parquet")],
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    method: Annotated[
        str, Option(help="naive: every record loss; binned: the best in each bin of compute; hull: the convex hull")
    ] = "naive",
    bins: Annotated[int, Option(help="number of bins of compute, for the method `binned`")] = 20,
) -> None:
    """Write the runs that no other beats with as much compute or less, per `group` if the runs have that column."""


@command(app, "laws", "harness.cli.show_laws:show_laws")
def _laws(
    law: Annotated[
        str | None, Argument(metavar="ID", help="the law to show in full; all are listed without it")
    ] = None,
) -> None:
    """The laws there are, or one of them in full."""


@command(app, "allocate", "harness.cli.allocate:answer", compiles=True, cls=OptionalFile)
def _allocate(
    source: Annotated[
        str, Argument(metavar="SOURCE", help=f"FIT.json of a loss law, or a sweep's folder, or {FILE_OF_RUNS}")
    ],
    flops: Annotated[list[float], Option(help="a training budget in FLOPs; may be repeated")],
    approach: Annotated[
        int | None, Option(help="needed for runs: 1 lowest curve, 2 isoFLOP profiles, 3 fitted loss law")
    ] = None,
    set_: SetOption = [],  # noqa: B006
    where: Where = None,
    by: By = None,
    method: Annotated[
        str | None,
        Option(
            help="of approach 1: envelope (default) or hull; of approach 2: akima (default with --noise or a column "
            "L_se), cubic (default without: parabolas with a shared cubic term) or quadratic"
        ),
    ] = None,
    noise: Annotated[
        str | None,
        Option(
            help="of approach 2: s.d. of a loss in nats, or a file of loss and sd; without --method it also changes "
            "how optima are found, from cubic to akima"
        ),
    ] = None,
    law: Annotated[str, Option(help="of approach 3: a loss law in N and D")] = "chinchilla",
    fix: Fix = [],  # noqa: B006
    bootstrap: Annotated[
        int | None, Option(min=0, help="resamplings, for the errors; by default 1000, of approach 3 200")
    ] = None,
    z: Annotated[float | None, Option(help="also show how far the rule D ~ N^z moves N from the rule D ~ N")] = None,
    anchor: Annotated[float | None, Option(help="with --z: the budget in FLOPs at which the two rules agree")] = None,
    estimator: Estimator = "best",
    units: Units = "tokens",
    json_: Annotated[
        str | None,
        Option(
            "--json",
            metavar="[FILE]",
            callback=writable,
            help="write JSON to FILE, or to the terminal in place of the tables",
        ),
    ] = None,
) -> None:
    """Compute-optimal N and D for a budget, of a fitted loss law or straight from runs, with 95 % intervals."""
