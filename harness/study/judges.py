"""How each study is judged and shown: from its table of runs to a result, its figures and its page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from harness.files import write_text
from harness.study.batch_noise import judge_batch_noise
from harness.study.cells import blocks_of, read_study_runs
from harness.study.compute_optimal import judge_compute_optimal
from harness.study.figures import draw_figures
from harness.study.forecasts import FORECASTS
from harness.study.gap_study import judge_gap_study
from harness.study.loss_page import draw_loss_figures, loss_page
from harness.study.page import study_page
from harness.study.repetition import judge_repetition
from harness.study.studies import Study, read_study, study_of
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


@dataclass(frozen=True)
class Judge:
    """How a study is judged and shown.

    Attributes:
        judge: the table of runs, and the file of the study's forecasts, which need not exist -> the result.
        figures: the table and the result -> name -> image, in svg.
        page: the study, the table and the result -> the page as HTML.
    """

    judge: Callable[[pd.DataFrame, Path], StudyResult]
    figures: Callable[[pd.DataFrame, Any], dict[str, bytes]]
    page: Callable[[Study, pd.DataFrame, Any], str]


def _of_losses(judge: Callable[[pd.DataFrame], StudyResult]) -> Judge:
    return Judge(lambda runs, _: judge(runs), lambda _, verdict: draw_loss_figures(verdict, "svg"), loss_page)


JUDGES: dict[str, Judge] = {
    "gap": Judge(
        lambda runs, forecasts: judge_gap_study(runs, forecasts=forecasts),
        lambda runs, verdict: draw_figures(blocks_of(runs), verdict.claims, "svg", verdict.forecasts),
        lambda study, runs, verdict: study_page(study.question, runs, verdict),
    ),
    "compute_optimal": _of_losses(judge_compute_optimal),
    "repetition": _of_losses(judge_repetition),
    "batch_noise": _of_losses(judge_batch_noise),
}


def judge_of(study: Study) -> Judge:
    """How a study is judged; InputError for a judge that there is not."""
    if study.judge not in JUDGES:
        raise InputError("study", "judge", study.judge, f"one of {', '.join(JUDGES)}")
    return JUDGES[study.judge]


def write_study_page(source: Path, to: Path | None = None) -> Path:
    """Judge the table of runs of a study, and write its page.

    Args:
        source: the table, beside the study's declaration `study.yaml`.
        to: the page; by default beside the table, with the ending .html.

    Raises:
        InputError: a table that is not a study's.
    """
    declared = study_of(source)
    if declared is None:
        raise InputError(source, "study.yaml", "absent", "the declaration of the study beside its table")
    study, runs = read_study(declared), read_study_runs(source)
    if "block" not in runs.columns:
        raise InputError(source, "table", "no column block", "the runs of a study, with the block of each")
    how, path = judge_of(study), to or source.with_suffix(".html")
    write_text(path, how.page(study, runs, how.judge(runs, source.with_name(FORECASTS))))
    return path
