"""Documents in batches of a few megabytes, which all cores work on, in order and with a bounded number in memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from harness.data.documents import Document

# Bytes of text per batch: so many that the cost of a call of numpy does not matter, and few enough for memory, because
# hashing a batch takes 25 times its size.
BATCH_BYTES = 2_000_000

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))


def in_batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Lists of consecutive documents of about 2 MB together; a document longer than that ends its list."""
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` with a thread for each core. Only as many items are drawn in advance as keep the threads busy.

    It helps functions that release Python's global lock: numpy on large arrays, tiktoken.
    """
    ahead = 2 * cores()
    with ThreadPoolExecutor(cores()) as pool:
        running: deque[Future[Result]] = deque()
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
