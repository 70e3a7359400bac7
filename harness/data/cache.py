"""Text that is prepared once per machine and cached: cleaned corpora, trained merge lists, measured contamination.

    CACHE/fingerprints/FINGERPRINT.json   which corpus these sources gave: its content hash, its size, what was removed
    CACHE/corpora/HASH.parquet            its documents, cleaned, in hash order; row groups of about 2 MB of text
    CACHE/contamination/KEY.json          how much of a split's held-out text stands in its train text
    CACHE/tokenizers/KEY.tiktoken         a merge list trained on a train split
    CACHE/tiktoken/SHA1                   a published vocabulary (fetch/tokenizers.py)
    CACHE/tokens/KEY/                     a token store (store.py)

Everything is written beside its place and then renamed, so that several processes may prepare the same thing at once.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from harness.data.contamination import Contamination, contamination, thirteen_words, whole_texts
from harness.data.corpora import Corpus, find_corpus
from harness.data.documents import SCHEMA, Document, content_hash, digest, documents_table
from harness.data.duplicates import Cleaned, Removal, as_drawn, clean
from harness.data.split import split
from harness.data.streams import in_batches
from harness.data.tokenizers import (
    BPE_RECIPE,
    WORD_PATTERN,
    Tokenizer,
    bytes_tokenizer,
    merge_ranks,
    parse_tokenizer,
    published_tokenizer,
    ranks_tokenizer,
    read_ranks,
    symbols_tokenizer,
    train_library_tokenizer,
    write_ranks,
)
from harness.data.world import is_world, parse_world
from harness.files import atomically, write_bytes, write_text
from sweeps.errors import InputError


@dataclass(frozen=True)
class Amount:
    """An amount of text: the number of documents, and the UTF-8 bytes of their text."""

    documents: int
    bytes: int


@dataclass(frozen=True)
class SourceFacts:
    """How much of one source's text was read, removed and kept: read = exact + near + shared + kept.

    Attributes:
        source: the name of the source, as in the documents.
        read: all text of the source; in a union of corpora, the text that the cleaning of the single corpora left.
        exact, near, shared: the text that each stage of cleaning removed (duplicates.py).
        kept: the text that is left.
    """

    source: str
    read: Amount
    exact: Amount
    near: Amount
    shared: Amount
    kept: Amount


@dataclass(frozen=True)
class CorpusFacts:
    """Facts about a prepared corpus.

    Attributes:
        hash: the hash of the documents' ids, groups, sources and licences; the same on every machine.
        documents, groups: the numbers of documents and of groups.
        bytes: UTF-8 bytes of all documents.
        sources: what was read, removed and kept of each source, in alphabetical order.
        removals: what was removed, with the source of the copies that stayed.
    """

    hash: str
    documents: int
    groups: int
    bytes: int
    sources: tuple[SourceFacts, ...]
    removals: tuple[Removal, ...]


_FACTS = TypeAdapter(CorpusFacts)
_CONTAMINATION = TypeAdapter(Contamination)


def known_facts(corpus: Corpus, cache: Path) -> CorpusFacts | None:
    """The facts of a corpus if it was prepared from its present sources, otherwise None. The corpus is not read."""
    try:
        return _FACTS.validate_json(_facts_file(corpus, cache).read_text())
    except FileNotFoundError:
        return None


def corpus_facts(corpus: Corpus, cache: Path) -> CorpusFacts:
    """The facts of a corpus, which is read, cleaned and written if its sources are new."""
    # The fingerprint is taken before reading. If a file changes meanwhile, the corpus is read again next time.
    facts_file = _facts_file(corpus, cache)
    facts = known_facts(corpus, cache)
    if facts is None or not _corpus_file(facts, cache).exists():
        raw = chain.from_iterable(corpus_documents(part, cache) for part in corpus.parts)
        documents = raw if corpus.parts else corpus.documents()
        cleaned = as_drawn(documents) if corpus.drawn else clean(documents)
        facts = _facts(cleaned)
        with atomically(_corpus_file(facts, cache)) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as out:
            for batch in in_batches(cleaned.documents):
                out.write_table(documents_table(batch))
        write_bytes(facts_file, _FACTS.dump_json(facts))
    return facts


def corpus_documents(corpus: Corpus, cache: Path) -> Iterator[Document]:
    """The cleaned documents of a corpus in hash order, streamed."""
    for batch in _batches(corpus, cache, ["id", "group", "text", "source", "licence"]):
        yield from map(Document, *(column.to_pylist() for column in batch.columns))


def corpus_groups(corpus: Corpus, cache: Path) -> dict[str, str]:
    """The source of each group of a corpus; the alphabetically first if a group has several."""
    groups: dict[str, str] = {}
    for batch in _batches(corpus, cache, ["group", "source"]):
        for group, source in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            groups[group] = min(source, groups.get(group, source))
    return groups


def tokenizer_key(name: str, domain: str, cache: Path, heldout_fraction: float, split_seed: int = 0) -> str:
    """A key that identifies a tokenizer: its name, or for a BPE a hash of its corpus, its split and its size.

    Raises InputError for a token world with anything but symbols:V, or with a V that is too small.
    """
    spec = parse_tokenizer(name)
    if is_world(domain):
        world, options = parse_world(domain)
        if spec.kind != "symbols" or spec.vocab < world.vocab(options):
            raise InputError("data", "tokenizer", name, f"symbols:{world.vocab(options)} or more for {domain}")
    if spec.kind != "bpe":
        return name
    source = corpus_facts(find_corpus(spec.source or domain, cache), cache).hash
    return digest("bpe", BPE_RECIPE, WORD_PATTERN, source, heldout_fraction, split_seed, spec.vocab)


def load_tokenizer(name: str, domain: str, cache: Path, heldout_fraction: float, split_seed: int = 0) -> Tokenizer:
    """Load a tokenizer by name; on first use a BPE is trained on the train split of its corpus (both twins').

    `bpe:V` is trained on `domain`, the corpus to be tokenized.

    Raises:
        InputError: unknown name; a vocabulary file that cannot be downloaded; a corpus too small for the vocabulary.
    """
    spec = parse_tokenizer(name)
    if spec.kind == "bytes":
        return bytes_tokenizer()
    if spec.kind == "symbols":
        return symbols_tokenizer(spec.vocab)
    if spec.kind == "published":
        return published_tokenizer(spec.source or "", spec.vocab, cache)
    file = cache / "tokenizers" / f"{tokenizer_key(name, domain, cache, heldout_fraction, split_seed)}.tiktoken"
    if not file.exists():
        source = spec.source or domain
        corpus = find_corpus(source, cache)
        train, _ = split(corpus_groups(corpus, cache), heldout_fraction, split_seed)
        texts = (document.text for document in corpus_documents(corpus, cache) if document.group in train)
        trained = train_library_tokenizer(texts, spec.vocab, source)
        write_text(file, write_ranks(merge_ranks(trained)))
    return ranks_tokenizer(read_ranks(file.read_text()), WORD_PATTERN)


def split_contamination(corpus: Corpus, cache: Path, heldout_fraction: float, split_seed: int = 0) -> Contamination:
    """How much of a split's held-out text stands in its train text, measured on first use.

    Of text it is the share of the word 13-grams; of a token world, whose documents have no words, that of whole
    documents of 13 ids or more.

    Raises InputError for a corpus too small to split.
    """
    facts = corpus_facts(corpus, cache)
    known = known_contamination(facts, cache, heldout_fraction, split_seed)
    if known is None:
        train, heldout = split(corpus_groups(corpus, cache), heldout_fraction, split_seed)

        def side(groups: frozenset[str]) -> Iterator[Document]:
            return (document for document in corpus_documents(corpus, cache) if document.group in groups)

        known = contamination(side(heldout), side(train), whole_texts if corpus.drawn else thirteen_words)
        file = _contamination_file(facts, cache, heldout_fraction, split_seed)
        write_bytes(file, _CONTAMINATION.dump_json(known))
    return known


def known_contamination(
    facts: CorpusFacts, cache: Path, heldout_fraction: float, split_seed: int = 0
) -> Contamination | None:
    """The contamination of a prepared corpus' split; None if it was not measured."""
    try:
        file = _contamination_file(facts, cache, heldout_fraction, split_seed)
        return _CONTAMINATION.validate_json(file.read_text())
    except FileNotFoundError:
        return None


def _batches(corpus: Corpus, cache: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(_corpus_file(corpus_facts(corpus, cache), cache)) as file:
        for number in range(file.num_row_groups):
            yield from file.read_row_group(number, columns=columns, use_threads=False).select(columns).to_batches()


def _facts(cleaned: Cleaned) -> CorpusFacts:
    stages = ("exact", "near", "shared", "kept")
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for document in cleaned.documents:
        counts[document.source, "kept"] += 1
        sizes[document.source, "kept"] += len(document.text.encode())
    for removal in cleaned.removals:
        counts[removal.source, removal.stage] += removal.documents
        sizes[removal.source, removal.stage] += removal.bytes

    def amount(source: str, *chosen: str) -> Amount:
        return Amount(sum(counts[source, stage] for stage in chosen), sum(sizes[source, stage] for stage in chosen))

    sources = [
        SourceFacts(source, amount(source, *stages), *(amount(source, stage) for stage in stages))
        for source in sorted({source for source, _ in counts})
    ]
    return CorpusFacts(
        content_hash(cleaned.documents),
        len(cleaned.documents),
        len({document.group for document in cleaned.documents}),
        sum(facts.kept.bytes for facts in sources),
        tuple(sources),
        cleaned.removals,
    )


def _facts_file(corpus: Corpus, cache: Path) -> Path:
    return cache / "fingerprints" / f"{corpus.fingerprint()}.json"


def _contamination_file(facts: CorpusFacts, cache: Path, heldout_fraction: float, split_seed: int) -> Path:
    return cache / "contamination" / f"{digest(facts.hash, heldout_fraction, split_seed)}.json"


def _corpus_file(facts: CorpusFacts, cache: Path) -> Path:
    return cache / "corpora" / f"{facts.hash}.parquet"
