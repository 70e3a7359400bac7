"""How fast a corpus is tokenized, against tiktoken's own batches. See scripts/bench.py."""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 3


def tokenize(args: argparse.Namespace) -> dict[str, Any]:
    """Megabytes of text per second from the cleaned corpus on disk to a store's streams on disk, and of tiktoken's
    `encode_ordinary_batch` with as many threads on texts that are in memory; memory that the first adds.

    The corpus, its split and the tokenizer are prepared before, in the user's cache.
    """
    import tiktoken

    from harness.data.cache import corpus_documents, corpus_groups, load_tokenizer
    from harness.data.corpora import find_corpus
    from harness.data.split import split
    from harness.data.store import write_streams
    from harness.data.streams import cores
    from harness.files import default_cache

    cache, corpus = args.cache or default_cache(), find_corpus(args.domain)
    groups = corpus_groups(corpus, cache)
    sides: dict[str, frozenset[str]] = dict(zip(("train", "heldout"), split(groups, 0.1), strict=True))
    tokenizer = load_tokenizer(args.tokenizer, args.domain, cache, 0.1)
    before = _peak_megabytes()

    def ours() -> None:
        with tempfile.TemporaryDirectory(prefix="isogap-bench-") as folder:
            write_streams(Path(folder), corpus_documents(corpus, cache), groups, sides, tokenizer)

    first = _seconds(ours)
    added = _peak_megabytes() - before
    texts = [document.text for document in corpus_documents(corpus, cache)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    encoding = tiktoken.get_encoding(args.tokenizer)  # loaded above: no file is read
    # In turns: what else the machine does hits both.
    pairs = [(first, _seconds(lambda: encoding.encode_ordinary_batch(texts, num_threads=cores())))]
    while len(pairs) < ROUNDS:
        pairs.append((_seconds(ours), _seconds(lambda: encoding.encode_ordinary_batch(texts, num_threads=cores()))))
    own, alone = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "bench": "tokenize",
        "domain": args.domain,
        "tokenizer": args.tokenizer,
        "megabytes": round(megabytes, 1),
        "threads": cores(),
        "megabytes_per_second": round(megabytes / own, 2),
        "tiktoken_megabytes_per_second": round(megabytes / alone, 2),
        "ratio": round(alone / own, 3),
        "added_memory_megabytes": round(added),
    }


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
