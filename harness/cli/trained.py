"""`isogap time` and `isogap sample`, of models as they are used after training, with their options."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from harness.cli.options import Cache, FolderArgument, JsonFlag, SweepArgument, writable
from harness.cli.table import command

trained = typer.Typer()


@command(trained, "time", "harness.machine.shape_times:time_sweep", trains=True)
def _time(
    sweep: SweepArgument,
    out: Annotated[
        Path | None,
        Option(metavar="FILE", callback=writable, help="also write the table, FILE.csv or FILE.parquet, for `fit`"),
    ] = None,
    json_: JsonFlag = False,
    repeats: Annotated[int, Option(min=1, help="how often a training step and the pass over a prompt are timed")] = 50,
    seconds: Annotated[float, Option(min=0, help="time after which a program is timed no further")] = 20.0,
    cache: Cache = None,
) -> None:
    """How long a training step and decoding a token take here, for each shape of a sweep; FLOPs and bytes moved."""


@command(trained, "sample", "harness.samples:print_samples", compiles=True)
def _sample(
    out: FolderArgument,
    run_id: Annotated[str, Option("--run", metavar="ID", help="a finished run that keeps its final parameters")],
    prompt: Annotated[str, Option(help="the beginning of a document, in ids of a token world; may be empty")] = "",
    tokens: Annotated[
        int | None,
        Option(min=1, help="how many follow, up to the end of the document; by default 64, if they have room"),
    ] = None,
    temperature: Annotated[float, Option(min=0, help="0 takes the most probable token every time")] = 1.0,
    count: Annotated[int, Option(min=1, help="the number of completions")] = 1,
    seed: Annotated[int, Option(min=0, help="another seed draws other completions")] = 0,
    json_: JsonFlag = False,
    cache: Cache = None,
) -> None:
    """Text that a trained model writes after a prompt."""
