"""How each study is judged: from its table of runs to a result that writes itself as JSON, with a headline."""

from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from harness.study.gap_study import judge_gap_study
from sweeps.errors import InputError


class StudyResult(Protocol):
    """What a judge returns."""

    @property
    def headline(self) -> str:
        """The finding in a sentence."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        ...


class Judge(Protocol):
    """How a study is judged: from its table of runs, and the file of its forecasts if it has any."""

    def __call__(self, runs: pd.DataFrame, *, forecasts: Path | None = None) -> StudyResult:
        """Judge the runs."""
        ...


JUDGES: dict[str, Judge] = {"gap": judge_gap_study}


def judge_study(judge: str, runs: pd.DataFrame, forecasts: Path | None = None) -> StudyResult:
    """Judge a table of runs; InputError for a judge that there is not.

    Args:
        forecasts: the file of the study's forecasts, which need not exist.
    """
    if judge not in JUDGES:
        raise InputError("study", "judge", judge, f"one of {', '.join(JUDGES)}")
    return JUDGES[judge](runs, forecasts=forecasts)
