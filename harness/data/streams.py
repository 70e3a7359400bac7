"""Documents a few megabytes at a time, worked on by all cores, in order, with a bounded number in memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from harness.data.documents import Document

# Large against what a call of numpy costs, small against memory: 25 times as much lives beside it while it is hashed.
BATCH_BYTES = 2_000_000

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))


def in_batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Lists of consecutive documents of about 2 MB together; a longer document is a list of its own or ends one."""
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
    """`map` by a thread for each core; of the items only as many are drawn in advance as keep the threads busy.

    Worth its while for functions that leave Python's lock: numpy on large arrays, tiktoken.
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
