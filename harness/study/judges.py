"""How each study is judged: from its table of runs to a result that writes itself as JSON, with a headline."""

from collections.abc import Callable
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


JUDGES: dict[str, Callable[[pd.DataFrame], StudyResult]] = {"gap": judge_gap_study}


def judge_study(judge: str, runs: pd.DataFrame) -> StudyResult:
    """Judge a table of runs; InputError for a judge that there is not."""
    if judge not in JUDGES:
        raise InputError("study", "judge", judge, f"one of {', '.join(JUDGES)}")
    return JUDGES[judge](runs)
