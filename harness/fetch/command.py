"""What `isogap fetch corpus` does and prints."""

from pathlib import Path
from typing import Any

from rich.console import Console

from harness.data.cache import CorpusFacts, corpus_facts, split_contamination
from harness.data.catalog import HELDOUT
from harness.data.contamination import Contamination
from harness.data.corpora import find_corpus
from harness.data.fetched import Manifest
from harness.fetch.fetch import fetch_corpus
from harness.fetch.hub import fetch_hub
from harness.fetch.sources import SOURCES
from harness.files import default_cache
from harness.terminal import print_rows, working
from sweeps.errors import InputError

# A study takes this much of each domain: 45 MB are 10 M tokens of GPT-2's vocabulary.
STUDY_BYTES = 45_000_000


def fetch_named(name: str, via: str, cache: Path | None) -> None:
    """Fetch and prepare a corpus (web, code or science; or `mixed`, these three) and print what is in it.

    Args:
        via: registries or hub.
        cache: folder of prepared data; None is the user's cache folder.

    Raises:
        InputError: unknown names, or text that is out of reach.
    """
    if via not in ("registries", "hub"):
        raise InputError("--via", "value", via, "registries or hub")
    if name != "mixed" and name not in SOURCES:
        raise InputError("fetch corpus", "NAME", name, f"{', '.join(SOURCES)} or mixed")
    cache = default_cache() if cache is None else cache
    console = Console(stderr=True)
    for domain in SOURCES if name == "mixed" else (name,):
        corpus = domain if via == "registries" else f"hub_{domain}"
        manifest = (fetch_corpus if via == "registries" else fetch_hub)(corpus, cache, console)
        with working(f"preparing {corpus}"):
            prepared = find_corpus(corpus, cache)
            facts = corpus_facts(prepared, cache)
            leaked = split_contamination(prepared, cache, HELDOUT)
        print_fetched(manifest, facts, leaked)


def print_fetched(manifest: Manifest, facts: CorpusFacts, leaked: Contamination) -> None:
    """Print a row for each source, the prepared corpus, the contamination of a held-out tenth, and what is missing."""
    print_rows(source_rows(manifest, facts), title=manifest.corpus)
    print(
        f"{manifest.corpus}: {facts.documents:,} documents in {facts.groups:,} groups, {facts.bytes / 1e6:.1f} MB "
        f"prepared of {manifest.bytes / 1e6:.1f} MB fetched, hash {facts.hash}"
    )
    worst = [f"{leak.grams:,} of {leak.heldout_source} in {leak.train_source}" for leak in leaked.source_leaks[:3]]
    print(
        f"{manifest.corpus}: of {leaked.grams:,} 13-grams of a held-out tenth {leaked.share:.2%} stand in the rest"
        + (f", most of them: {'; '.join(worst)}" if worst else "")
    )
    for source, reason in manifest.missing:
        print(f"{manifest.corpus}: without {source}: {reason}")
    if facts.bytes < STUDY_BYTES:
        print(f"{manifest.corpus}: less than the {STUDY_BYTES / 1e6:.0f} MB that a study of several domains takes")


def source_rows(manifest: Manifest, facts: CorpusFacts) -> list[dict[str, Any]]:
    """A row for each source: name, version, documents, MB (1e6 bytes of UTF-8), documents removed as copies, as near
    copies and for shared passages, the first digits of its text's hash, licence."""
    cleaned = {source.source: source for source in facts.sources}
    return [
        {
            "source": record.source,
            "version": record.version,
            "documents": record.documents,
            "MB": round(record.bytes / 1e6, 1),
            **{
                stage: getattr(cleaned[record.source], stage).documents if record.source in cleaned else None
                for stage in ("exact", "near", "shared")
            },
            "text sha256": record.text_sha256[:12],
            "licence": record.licence,
        }
        for record in manifest.records
    ]
