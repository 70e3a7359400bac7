"""`isogap simulate`: the options of every world whose answers are known; `harness.cli.write_world` does the work."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from harness.cli.table import command
from sweeps.errors import InputError

worlds = typer.Typer(help="Data from worlds whose answers are known.", no_args_is_help=True)


def _world(name: str, simulator: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare a world by its options. The simulator, MODULE:FUNCTION in `harness.theory`, takes all but `to`."""
    fixed = {"simulator": f"harness.theory.{simulator}"}
    return command(worlds, name, "harness.cli.write_world:write_world", compiles=True, fixed=fixed)


def _table(path: Path | None) -> Path | None:
    """Refuse a wrong file ending before the work, not after."""
    from harness.record.table import check_ending

    if path is not None:
        check_ending(path)
    return path


def _numbers(option: typer.CallbackParam, text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise InputError("simulate", f"--{option.name}", text, "numbers with commas between them")
    return values


def _counts(option: typer.CallbackParam, text: str) -> list[int]:
    values = _numbers(option, text)
    if any(value != int(value) for value in values):
        raise InputError("simulate", f"--{option.name}", text, "whole numbers with commas between them")
    return [int(value) for value in values]


To = Annotated[
    Path, Option(metavar="FILE", callback=_table, help="the table, FILE.csv or FILE.parquet; the truth goes beside it")
]
Seed = Annotated[int, Option(min=0, help="of everything that is drawn at random")]
Inputs = Annotated[int, Option(min=1, help="inputs of the teacher")]
Complexity = Annotated[float, Option("--K", help="scale of the Dirichlet process: how complex the teacher is")]
TaskDecay = Annotated[float, Option(help="the powers of the task fall as i^-a")]
EigenvalueDecay = Annotated[float, Option(help="the eigenvalues fall as i^-b")]
LabelNoise = Annotated[float, Option(min=0, help="variance of the noise on the labels")]


@command(worlds, "estimators", "harness.cli.write_world:write_estimators", compiles=True)
def _estimators(
    documents: Annotated[int, Option(min=2, help="documents on each side")] = 2000,
    document_sd: Annotated[float, Option(min=0, help="spread of documents' losses, nats per token")] = 0.5,
    paired_sd: Annotated[float, Option(min=0, help="spread of the differences between twins, nats per token")] = 0.07,
    gap: Annotated[float, Option(help="the true gap, nats per token")] = 0.01,
    replicates: Annotated[int, Option(min=2, help="simulated experiments")] = 500,
    seed: Seed = 0,
    to: Annotated[
        Path | None, Option(metavar="FILE", callback=_table, help="also write the table: FILE.csv or FILE.parquet")
    ] = None,
) -> None:
    """Bias, coverage and errors of every estimator of the gap, on simulated losses through the real measurement."""


@_world("gap", "gap_worlds:simulate_gaps")
def _gap(
    world: Annotated[str, Argument(metavar="WORLD", help="classical, optimal_ridge, crossover or source")],
    to: To,
    z: Annotated[
        float, Option(help="of the world crossover: it is at D ~ N^z; the other worlds have their own z")
    ] = 1.5,
    scatter: Annotated[float, Option(min=0, help="standard deviation of the log gaps around the law")] = 0.05,
    seed: Seed = 0,
) -> None:
    """Gaps of known laws: of random features trained in three ways, and the law of the source document."""


@_world("random_features", "random_features:simulate_random_features")
def _random_features(
    to: To,
    a: TaskDecay = 1.5,
    b: EigenvalueDecay = 1.5,
    modes: Annotated[float, Option(help="dimensions of the latent space")] = 1e12,
    noise: LabelNoise = 0.0,
    ridge: Annotated[
        float | None, Option(min=0, help="ridge penalty of all runs; by default the best one for each run")
    ] = None,
    sizes: Annotated[
        str, Option(callback=_counts, help="numbers of features N, and of samples P: every pair of them is a run")
    ] = "100,300,1000,3000,10000,30000,100000,300000,1000000",
    draws: Annotated[int, Option(min=0, help="random experiments beside each answer of the theory")] = 0,
    seed: Seed = 0,
) -> None:
    """Ridge regression on random features: test and training loss of every N and P, with experiments beside them."""


@_world("jeon_van_roy", "jeon_van_roy:simulate_bound")
def _jeon_van_roy(
    to: To,
    budgets: Annotated[
        str, Option(callback=_numbers, help="compute d n T of each curve, in increasing order")
    ] = "1e6,1e8,1e10,1e12,1e14,1e16,1e18,1e20",
    d: Inputs = 10,
    K: Complexity = 100.0,
) -> None:
    """The bound of Jeon and Van Roy along curves of equal compute, and its best splits between width and samples."""


@_world("students", "students:simulate_students")
def _students(
    to: To,
    widths: Annotated[str, Option(callback=_counts, help="widths n of the students")] = "4,8,16,32,64,128,256",
    samples: Annotated[
        str, Option(callback=_counts, help="numbers of samples T, multiples of 16")
    ] = "1024,4096,16384,65536,262144",
    teachers: Annotated[int, Option(min=2, help="teachers that each width learns from")] = 8,
    d: Inputs = 10,
    K: Complexity = 100.0,
    seed: Seed = 0,
) -> None:
    """Networks trained in one pass on random teachers of that theory, their excess loss exact, beside its bound."""


@_world("lottery", "lottery:simulate_lottery")
def _lottery(
    to: To,
    widths: Annotated[str, Option(callback=_counts, help="numbers of hidden neurons")] = "16,32,64,128,256,512",
    seeds: Annotated[int, Option(min=2, help="networks of each width")] = 30,
    activation: Annotated[str, Option(help="silu, or relu as the control")] = "silu",
    steps: Annotated[int, Option(min=1, help="steps of training")] = 10000,
    seed: Seed = 0,
) -> None:
    """Small networks of many widths fitted to x^2: their errors average like those of independent neurons."""


@_world("gradient_flow", "gradient_flow:simulate_gradient_flow")
def _gradient_flow(
    to: To,
    a: TaskDecay = 1.5,
    b: EigenvalueDecay = 1.25,
    noise: LabelNoise = 0.0,
    modes: Annotated[int, Option(min=2, help="dimensions of the latent space, each drawn by itself")] = 600,
    sizes: Annotated[str, Option(callback=_counts, help="numbers of features N")] = "16,32,64,128,256",
    samples: Annotated[str, Option(callback=_counts, help="numbers of distinct samples P")] = "400,800,1600",
    draws: Annotated[int, Option(min=2, help="draws of features and samples, which are averaged")] = 6,
    seed: Seed = 0,
) -> None:
    """Gradient flow on reused samples, by one decomposition, beside the flow on fresh ones, whose gap is zero."""


@_world("plrf", "plrf:simulate_plrf")
def _plrf(
    to: To,
    alpha: Annotated[float, Option(help="the features are x_j = j^-alpha z_j")] = 0.75,
    beta: Annotated[float, Option(help="the target is the sum of j^-beta x_j")] = 0.25,
    sizes: Annotated[
        str, Option(callback=_counts, help="numbers of parameters d, in increasing order")
    ] = "1024,2048,4096,8192,16384,32768,65536,131072,262144",
    seeds: Annotated[
        int, Option(min=0, help="draws of the features (at d <= 512, say); 0 for their limit at large d")
    ] = 0,
    batch: Annotated[int, Option(min=1, help="samples of a step")] = 1,
) -> None:
    """One-pass SGD on power-law random features: exact risks of every size and budget, in one of seven phases."""
