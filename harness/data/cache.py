"""What is prepared once per machine: corpora read, deduplicated and identified; merge lists trained.

    CACHE/fingerprints/FINGERPRINT.json   which corpus these sources gave: its content hash and its size
    CACHE/corpora/HASH.parquet            its documents, in the order of (group, id)
    CACHE/tokenizers/KEY.tiktoken         a merge list trained on a train split
    CACHE/tokens/KEY/                     a token store (store.py)

Everything is written beside its place and renamed into it, so that processes may prepare the same thing at once.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from harness.data import bpe
from harness.data.corpora import Corpus, find_corpus
from harness.data.documents import Document, content_hash, deduplicate
from harness.data.split import split
from harness.data.tokenizers import (
    WORDS,
    Tokenizer,
    bytes_tokenizer,
    parse_tokenizer,
    ranks_tokenizer,
    read_ranks,
    tiktoken_tokenizer,
    write_ranks,
)
from harness.record.files import naming, sync


@dataclass(frozen=True)
class CorpusFacts:
    """Attributes:
    hash: of the deduplicated documents' ids and groups; the same on every machine.
    documents, groups: their numbers.
    bytes: UTF-8 bytes of all documents.
    """

    hash: str
    documents: int
    groups: int
    bytes: int


def default_cache() -> Path:
    """The folder `isogap` of the user's cache folder: XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isogap"


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A path to write a file or folder at, which takes the place of `path` once the block is done and all is on disk.

    Where another process has put a folder there in the meantime, that one stays: same name, same content.

    Raises:
        OSError: it cannot be written; `filename` is set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with naming(path):
            yield beside
            for written in [*beside.glob("*"), beside]:
                sync(written)
            try:
                beside.replace(path)
            except OSError:
                if not path.is_dir():
                    raise
            sync(path.parent)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink(missing_ok=True)


def known_facts(corpus: Corpus, cache: Path) -> CorpusFacts | None:
    """Hash and size of a corpus if it was prepared from its present sources; it is not read."""
    try:
        return CorpusFacts(**json.loads(_facts_file(corpus, cache).read_text()))
    except FileNotFoundError:
        return None


def corpus_facts(corpus: Corpus, cache: Path) -> CorpusFacts:
    """Hash and size of a corpus; it is read and prepared if its sources are new."""
    # Taken before reading: files that change meanwhile will not pass for the ones that were read.
    facts_file = _facts_file(corpus, cache)
    facts = known_facts(corpus, cache)
    if facts is None or not _corpus_file(facts, cache).exists():
        raw = chain.from_iterable(corpus_documents(part, cache) for part in corpus.parts)
        documents = deduplicate(raw if corpus.parts else corpus.documents())
        groups = len({document.group for document in documents})
        size = sum(len(document.text.encode()) for document in documents)
        facts = CorpusFacts(content_hash(documents), len(documents), groups, size)
        columns = {name: [getattr(document, name) for document in documents] for name in ("id", "group", "text")}
        with atomically(_corpus_file(facts, cache)) as file:
            schema = pa.schema([("id", pa.string()), ("group", pa.string()), ("text", pa.large_string())])
            pq.write_table(pa.table(columns, schema=schema), file, compression="zstd")
        with atomically(facts_file) as file:
            file.write_text(json.dumps(asdict(facts)))
    return facts


def corpus_documents(corpus: Corpus, cache: Path) -> list[Document]:
    """The deduplicated documents of a corpus, in the order of (group, id)."""
    table = pq.read_table(_corpus_file(corpus_facts(corpus, cache), cache))
    return [Document(**row) for row in table.to_pylist()]


def tokenizer_key(name: str, domain: str, cache: Path, heldout_fraction: float) -> str:
    """What a tokenizer depends on: its name, or for a BPE the corpus and the split it is trained on."""
    spec = parse_tokenizer(name)
    if spec.kind != "bpe":
        return name
    source = corpus_facts(find_corpus(spec.source or domain, cache), cache).hash
    return digest("bpe", bpe.RECIPE, WORDS, source, heldout_fraction, spec.vocab)


def load_tokenizer(name: str, domain: str, cache: Path, heldout_fraction: float) -> Tokenizer:
    """A tokenizer by name; a BPE is trained on the train split of its corpus on first use.

    Args:
        domain: the corpus to be tokenized, on which `bpe:V` is trained.

    Raises:
        InputError: unknown name; a vocabulary file that is out of reach; a corpus too small for the vocabulary.
    """
    spec = parse_tokenizer(name)
    if spec.kind == "bytes":
        return bytes_tokenizer()
    if spec.kind == "tiktoken":
        return tiktoken_tokenizer(spec.source or "", spec.vocab)
    file = cache / "tokenizers" / f"{tokenizer_key(name, domain, cache, heldout_fraction)}.tiktoken"
    if not file.exists():
        source = spec.source or domain
        train, _ = split(corpus_documents(find_corpus(source, cache), cache), heldout_fraction)
        trained = bpe.train_library_tokenizer((document.text for document in train), spec.vocab or 0, source)
        with atomically(file) as beside:
            beside.write_text(write_ranks(bpe.merge_ranks(trained)))
    return ranks_tokenizer(read_ranks(file.read_text()), WORDS)


def digest(*facts: object) -> str:
    """Hash of the facts a prepared thing depends on, 32 hexadecimal digits."""
    return blake2b("\n".join(map(str, facts)).encode(), digest_size=16).hexdigest()


def _facts_file(corpus: Corpus, cache: Path) -> Path:
    return cache / "fingerprints" / f"{corpus.fingerprint()}.json"


def _corpus_file(facts: CorpusFacts, cache: Path) -> Path:
    return cache / "corpora" / f"{facts.hash}.parquet"
