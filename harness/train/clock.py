"""Where a process's time goes: inside compiled programs, waiting for them to be compiled, or elsewhere."""

import concurrent.futures
import dataclasses
import time
from typing import Any

import jax


@dataclasses.dataclass
class Spent:
    """Seconds of a process since it began to train, and what it did in them.

    Attributes:
        training, evaluation: the device computed.
        compiling: nothing could train before a program was compiled.
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
    """Times programs that run one after another while the host does something else.

    A thread waits for each result: the host may look at it long after it was there.
    """

    def __init__(self) -> None:
        self._waiting = concurrent.futures.ThreadPoolExecutor(1, "isogap-clock")
        self._last = time.monotonic()

    def time(self, result: Any) -> "concurrent.futures.Future[float]":
        """Seconds the device spends on what was just dispatched, from its start or the end of what came before."""
        return self._waiting.submit(self._wait, result, time.monotonic())

    def _wait(self, result: Any, dispatched: float) -> float:
        jax.block_until_ready(result)
        began = max(dispatched, self._last)
        self._last = time.monotonic()
        return self._last - began

    def close(self) -> None:
        """End the thread."""
        self._waiting.shutdown(wait=False)
