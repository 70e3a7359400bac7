"""`isogap simulate`: data from worlds whose answers are known, each with the truth that a fit of it should find."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

    from harness.fit.known_truth import Truth

app = typer.Typer(help="Data from worlds whose answers are known.", no_args_is_help=True)


def _table(path: Path | None) -> Path | None:
    """A wrong ending is refused before the work, not after."""
    from harness.record.table import check_ending

    if path is not None:
        check_ending(path)
    return path


To = Annotated[
    Path, typer.Option(metavar="FILE", callback=_table, help="FILE.csv or FILE.parquet; the truth goes beside it")
]
Seed = Annotated[int, typer.Option(min=0)]


def _numbers(text: str, field: str) -> list[float]:
    from sweeps.errors import InputError

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise InputError("simulate", field, text, "numbers with commas between them")
    return values


def _counts(text: str, field: str) -> list[int]:
    from sweeps.errors import InputError

    values = _numbers(text, field)
    if any(value != int(value) for value in values):
        raise InputError("simulate", field, text, "whole numbers with commas between them")
    return [int(value) for value in values]


def _give(table: "pd.DataFrame", truth: "Truth", to: Path) -> None:
    """Write both, and say what there is and how to go on."""
    from harness.fit.known_truth import fit_command, path_of, write_truth
    from harness.record.table import write_table

    write_truth(truth, to)
    rows = write_table(table, to)
    print(f"{rows} rows in {to}, the truth in {path_of(to)} ({truth.cost})\n{truth.regime}")
    for name, value in truth.parameters.items():
        print(f"    {name} = {value:.6g}")
    print(f"{fit_command(to, truth)}\nisogap report {to}")


@app.command()
def estimators(
    documents: Annotated[int, typer.Option(min=2, help="on each side")] = 2000,
    document_sd: Annotated[float, typer.Option(min=0, help="of documents' losses, nats per token")] = 0.5,
    paired_sd: Annotated[float, typer.Option(min=0, help="of the differences between twins")] = 0.07,
    gap: Annotated[float, typer.Option(help="the true one, nats per token")] = 0.01,
    replicates: Annotated[int, typer.Option(min=2)] = 500,
    seed: Seed = 0,
    to: Annotated[Path | None, typer.Option(metavar="FILE", callback=_table, help="FILE.csv or FILE.parquet")] = None,
) -> None:
    """Bias, coverage and errors of every estimator of the gap, on simulated losses through the real measurement."""
    import pandas as pd

    from harness.record.table import write_table
    from harness.terminal import print_rows, working
    from harness.theory.twin_worlds import TwinWorld, try_estimators

    world = TwinWorld(documents=documents, document_sd=document_sd, paired_sd=paired_sd, gap=gap)
    with working("simulating"):
        rows = try_estimators(world, replicates, seed)
    print_rows(rows)
    if to:
        write_table(pd.DataFrame(rows), to)


@app.command()
def gap(
    world: Annotated[str, typer.Argument(metavar="WORLD", help="classical, optimal_ridge, crossover or source")],
    to: To,
    z: Annotated[float, typer.Option(help="of the crossover, at D ~ N^z; the other worlds have their own")] = 1.5,
    scatter: Annotated[float, typer.Option(min=0, help="of log gaps")] = 0.05,
    seed: Seed = 0,
) -> None:
    """Gaps of known laws: of random features trained in three ways, and the law of the source document."""
    from harness.terminal import working
    from harness.theory.gap_worlds import simulate_gaps

    with working("solving"):
        found = simulate_gaps(world, z=z, scatter=scatter, seed=seed)
    _give(*found, to)


@app.command(name="random_features")
def random_features(
    to: To,
    a: Annotated[float, typer.Option(help="task powers fall as i^-a")] = 1.5,
    b: Annotated[float, typer.Option(help="eigenvalues fall as i^-b")] = 1.5,
    modes: Annotated[float, typer.Option(help="of the latent")] = 1e12,
    noise: Annotated[float, typer.Option(min=0, help="variance of the labels' noise")] = 0.0,
    ridge: Annotated[float | None, typer.Option(min=0, help="of all runs; by default each run's best")] = None,
    sizes: Annotated[
        str, typer.Option(help="N, features, and P, samples: every pair")
    ] = "100,300,1000,3000,10000,30000,100000,300000,1000000",
    draws: Annotated[int, typer.Option(min=0, help="experiments beside each answer of the theory")] = 0,
    seed: Seed = 0,
) -> None:
    """Ridge regression on random features: test and training loss of every N and P, with experiments beside them."""
    from harness.terminal import working
    from harness.theory.random_features import simulate_random_features

    with working("solving"):
        found = simulate_random_features(
            a=a, b=b, modes=modes, noise=noise, ridge=ridge, sizes=_counts(sizes, "--sizes"), draws=draws, seed=seed
        )
    _give(*found, to)


@app.command(name="jeon_van_roy")
def jeon_van_roy(
    to: To,
    budgets: Annotated[str, typer.Option(help="C = d n T, rising")] = "1e6,1e8,1e10,1e12,1e14,1e16,1e18,1e20",
    d: Annotated[int, typer.Option(min=1, help="inputs")] = 10,
    k: Annotated[float, typer.Option("--K", help="scale of the Dirichlet process: the teacher's complexity")] = 100.0,
) -> None:
    """The bound of Jeon and Van Roy along curves of equal compute, and its best splits between width and samples."""
    from harness.theory.jeon_van_roy import simulate_bound

    _give(*simulate_bound(budgets=_numbers(budgets, "--budgets"), d=d, K=k), to)


@app.command()
def students(
    to: To,
    widths: Annotated[str, typer.Option(help="n")] = "4,8,16,32,64,128,256",
    samples: Annotated[str, typer.Option(help="T, multiples of 16")] = "1024,4096,16384,65536,262144",
    teachers: Annotated[int, typer.Option(min=2, help="that each width learns from")] = 8,
    d: Annotated[int, typer.Option(min=1, help="inputs")] = 10,
    k: Annotated[float, typer.Option("--K", help="scale of the Dirichlet process")] = 100.0,
    seed: Seed = 0,
) -> None:
    """Networks trained in one pass on random teachers of that theory, their excess loss exact, beside its bound."""
    from harness.terminal import working
    from harness.theory.students import cell_means, frontier_slope, simulate_students

    with working("training"):
        table, truth = simulate_students(
            _counts(widths, "--widths"), _counts(samples, "--samples"), teachers=teachers, d=d, K=k, seed=seed
        )
    _give(table, truth, to)
    grid = cell_means(table)
    print(f"the bound is exceeded in {grid['violated'].tolist().count(True)} of {len(grid)} cells of n and T")
    if len(set(table["n"])) > 2 and len(set(table["T"])) > 2 and teachers > 2:
        found = frontier_slope(table)
        print(f"compute-optimal T* grows as p*^{found.slope:.2f} [{found.low:.2f}, {found.high:.2f}]")


@app.command()
def lottery(
    to: To,
    widths: Annotated[str, typer.Option(help="hidden neurons")] = "16,32,64,128,256,512",
    seeds: Annotated[int, typer.Option(min=2, help="networks of each width")] = 30,
    activation: Annotated[str, typer.Option(help="silu, or relu as the control")] = "silu",
    steps: Annotated[int, typer.Option(min=1)] = 10000,
    seed: Seed = 0,
) -> None:
    """Small networks of many widths fitted to x^2: their errors average like those of independent neurons."""
    from harness.terminal import working
    from harness.theory.lottery import loss_slope, simulate_lottery

    with working("training"):
        table, truth = simulate_lottery(
            _counts(widths, "--widths"), seeds=seeds, members=[k for k in (2, 3, 5) if k <= seeds],
            activation=activation, steps=steps, seed=seed,
        )  # fmt: skip
    _give(table, truth, to)
    found = loss_slope(table.loc[table["members"] == 1])
    print(f"the mean error falls as width^{found.slope:.3f} [{found.low:.3f}, {found.high:.3f}]")


@app.command(name="gradient_flow")
def gradient_flow(
    to: To,
    a: Annotated[float, typer.Option(help="task powers fall as i^-a")] = 1.5,
    b: Annotated[float, typer.Option(help="eigenvalues fall as i^-b")] = 1.25,
    noise: Annotated[float, typer.Option(min=0, help="variance of the labels' noise")] = 0.0,
    modes: Annotated[int, typer.Option(min=2, help="of the latent, drawn each by itself")] = 600,
    sizes: Annotated[str, typer.Option(help="N, features")] = "16,32,64,128,256",
    samples: Annotated[str, typer.Option(help="P, distinct samples")] = "400,800,1600",
    draws: Annotated[int, typer.Option(min=2, help="of features and samples")] = 6,
    seed: Seed = 0,
) -> None:
    """Gradient flow on reused samples, by one decomposition, beside the flow on fresh ones, whose gap is zero."""
    from harness.terminal import working
    from harness.theory.gradient_flow import simulate_gradient_flow

    with working("decomposing"):
        found = simulate_gradient_flow(
            a=a, b=b, noise=noise, modes=modes, sizes=_counts(sizes, "--sizes"), samples=_counts(samples, "--samples"),
            draws=draws, seed=seed,
        )  # fmt: skip
    _give(*found, to)


@app.command()
def plrf(
    to: To,
    alpha: Annotated[float, typer.Option(help="features are x_j = j^-alpha z_j")] = 0.75,
    beta: Annotated[float, typer.Option(help="the target is sum_j j^-beta x_j")] = 0.25,
    sizes: Annotated[str, typer.Option(help="d, rising")] = "1024,2048,4096,8192,16384,32768,65536,131072,262144",
    seeds: Annotated[
        int, typer.Option(min=0, help="draws of the features (at d <= 512, say); 0 for their limit at large d")
    ] = 0,
    batch: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """One-pass SGD on power-law random features: exact risks of every size and budget, in one of seven phases."""
    from harness.terminal import working
    from harness.theory.plrf import simulate_plrf

    with working("solving"):
        found = simulate_plrf(alpha=alpha, beta=beta, sizes=_counts(sizes, "--sizes"), batch=batch, seeds=seeds)
    _give(*found, to)
