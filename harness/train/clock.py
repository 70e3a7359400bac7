"""Where a process's time goes: inside compiled programs, waiting for them to be compiled, or elsewhere."""

import concurrent.futures
import dataclasses
import time
from typing import Any

import jax


@dataclasses.dataclass
class Spent:
    """What a process did since it began to train.

    Attributes:
        began: by `time.monotonic`.
        training, evaluation: seconds that the devices computed.
        compiling: seconds in which nothing could train, because a program was still compiled.
        tokens: trained.
    """

    began: float = dataclasses.field(default_factory=time.monotonic)
    training: float = 0.0
    evaluation: float = 0.0
    compiling: float = 0.0
    tokens: int = 0

    @property
    def total(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began


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
