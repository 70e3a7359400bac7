"""Warnings of a fit, as values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FitWarning:
    """Something a reader of the result has to know. `code` is for programs, `message` for people."""

    code: str
    message: str
