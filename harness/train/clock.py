"""How long compiled programs take."""

import concurrent.futures
import time
from typing import Any

import jax


class Clock:
    """Times programs that run one after another on the devices while the host does something else.

    A thread waits for each result, because the host may look at a result long after it was computed.
    """

    def __init__(self) -> None:
        self._waiting = concurrent.futures.ThreadPoolExecutor(1, "isogap-clock")
        self._last = time.monotonic()

    def time(self, result: Any) -> "concurrent.futures.Future[float]":
        """Seconds that the devices spend on the last dispatch, from its start or the end of the program before."""
        return self._waiting.submit(self._wait, result, time.monotonic())

    def _wait(self, result: Any, dispatched: float) -> float:
        jax.block_until_ready(result)
        began = max(dispatched, self._last)
        self._last = time.monotonic()
        return self._last - began

    def close(self) -> None:
        """End the thread."""
        self._waiting.shutdown(wait=False)
