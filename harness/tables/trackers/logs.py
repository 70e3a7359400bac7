"""What trackers' packages write into their logs about stores that they cannot read in full."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


class _Ear(logging.Handler):
    def __init__(self, hear: Callable[[logging.LogRecord], object]):
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record)


@contextmanager
def hearing(names: Sequence[str], level: int, hear: Callable[[logging.LogRecord], object]) -> Iterator[None]:
    """Give what some loggers record ("" is the root of all) to a function while the block runs, and to nobody else."""
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.level, logger.propagate = [_Ear(hear)], level, False
    try:
        yield
    finally:
        for logger, (handlers, old, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.level, logger.propagate = handlers, old, propagate
