"""`isogap corpora`, `isogap tokenizers`, `isogap fetch tokenizer`: the text and the vocabularies there are."""

from pathlib import Path

from harness.data.catalog import corpora, tokenizers
from harness.fetch.tokenizers import fetch_tokenizer
from harness.files import default_cache
from harness.terminal import print_rows


def show_corpora(cache: Path | None) -> None:
    """Print the corpora there are."""
    print_rows(corpora(cache))


def show_tokenizers() -> None:
    """Print the tokenizers there are."""
    print_rows(tokenizers())


def show_fetched(name: str, cache: Path | None) -> None:
    """Fetch a published vocabulary and print what came."""
    print(fetch_tokenizer(name, cache or default_cache()))
