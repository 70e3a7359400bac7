"""The available corpora and tokenizers, as rows for a listing."""

from pathlib import Path
from typing import Any

from harness.data.cache import CorpusFacts, known_contamination, known_facts
from harness.data.corpora import find_corpus, named_corpora
from harness.data.tokenizers import FETCHED_AS
from harness.data.world import parse_world, world_names
from harness.files import default_cache
from sweeps.errors import InputError
from sweeps.rules import PUBLISHED_VOCAB

# Bytes of the named corpora, measured with Python 3.11 and the package versions of 2026. They are shown until a corpus
# has been prepared here and its size is known.
TYPICAL_BYTES = {
    "stdlib_code": 10_000_000, "library_code": 44_000_000, "api_docs": 17_000_000, "installed": 71_000_000,
    "web": 165_000_000, "code": 104_000_000, "science": 49_000_000,
    "hub_web": 256_000_000, "hub_code": 256_000_000, "hub_science": 256_000_000,
}  # fmt: skip

HELDOUT = 0.1


def corpora(cache: Path | None = None) -> list[dict[str, Any]]:
    """Rows of `isogap corpora`: name, description, licence, bytes (measured if `prepared`, else typical), documents,
    sources, removed (share of the bytes that was left out as copies), contamination (share of the held-out 13-grams
    that also occur in training text, with a tenth held out); of token worlds also vocab (of the tokenizer symbols:V)
    and entropy (nats per token, where it is known), both with the world's options at their defaults.

    `cache` is the folder of prepared data; None is the user's cache folder.
    """
    cache = default_cache() if cache is None else cache
    rows: list[dict[str, Any]] = []
    for corpus in (*named_corpora(cache), *map(find_corpus, world_names())):
        try:
            facts = known_facts(corpus, cache)
        except InputError:  # not fetched, or of a package that is not installed
            facts = None
        size = facts.bytes if facts else TYPICAL_BYTES.get(corpus.name)
        row = _corpus_row(corpus.name, corpus.description, corpus.licence, size, facts, cache)
        if corpus.drawn:
            world, options = parse_world(corpus.name)
            row |= {"vocab": world.vocab(options), "entropy": world.entropy(options)}
        rows.append(row)
    for name, description in (
        ("text:PATH", "UTF-8 files: a folder with one document a file, or one file, cut into documents"),
        ("jsonl:PATH", "JSON lines with a column `text`, and `group`, `source`, `licence` if you know them"),
        ("parquet:PATH", "parquet files with a column `text`, and `group`, `source`, `licence` if you know them"),
        ("hf:NAME[:CONFIG]", "a dataset of the Hugging Face hub with a column `text`: the first 256 MB, streamed"),
    ):
        rows.append(_corpus_row(name, description, "as its source says", None, None, cache))
    return rows


def tokenizers() -> list[dict[str, str]]:
    """Rows of `isogap tokenizers`: name, vocabulary (end-of-document token included), description."""
    fetched = ", ".join(name for name in PUBLISHED_VOCAB if name in FETCHED_AS)
    others = ", ".join(name for name in PUBLISHED_VOCAB if name not in FETCHED_AS)
    published = f"{fetched} (after `isogap fetch tokenizer NAME`); {others} (need a network)"
    return [
        {"name": "bytes", "vocab": "257", "description": "UTF-8 bytes; no training, no file"},
        {"name": "bpe:V", "vocab": "V", "description": "byte-level BPE trained on the domain's own train split"},
        {"name": "bpe:V@CORPUS", "vocab": "V", "description": "the same, trained on another corpus' train split"},
        {"name": "symbols:V", "vocab": "V", "description": "the ids of token worlds, of which V - 1 may occur"},
        {"name": "NAME", "vocab": "all", "description": f"published, whole: {published}"},
        {
            "name": "NAME[:V]",
            "vocab": "V",
            "description": "its first V - 1 ranks: exactly what training would have given, stopped there",
        },
    ]


def _corpus_row(
    name: str, description: str, licence: str, size: int | None, facts: CorpusFacts | None, cache: Path
) -> dict[str, Any]:
    measured = known_contamination(facts, cache, HELDOUT) if facts else None
    read = sum(source.read.bytes for source in facts.sources) if facts else 0
    return {
        "name": name,
        "description": description,
        "licence": licence,
        "bytes": size,
        "documents": facts and facts.documents,
        "sources": facts and len(facts.sources),
        "removed": facts and round(1 - facts.bytes / read, 4),
        "contamination": measured and round(measured.share, 5),
        "prepared": facts is not None,
        "vocab": None,
        "entropy": None,
    }
