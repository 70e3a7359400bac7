"""How each study is judged and shown: from its table of runs to a result, its figures and its page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from harness.files import write_text
from harness.study.batch_noise import judge_batch_noise
from harness.study.cells import BLOCK, blocks_of, read_study_runs
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
        page: the study, the table, the result and the figures -> the page as HTML.
    """

    judge: Callable[[pd.DataFrame, Path], StudyResult]
    figures: Callable[[pd.DataFrame, Any], dict[str, bytes]]
    page: Callable[[Study, pd.DataFrame, Any, dict[str, bytes]], str]


def _of_losses(judge: Callable[[pd.DataFrame], StudyResult]) -> Judge:
    return Judge(lambda runs, _: judge(runs), lambda _, verdict: draw_loss_figures(verdict, "svg"), loss_page)


JUDGES: dict[str, Judge] = {
    "gap": Judge(
        lambda runs, forecasts: judge_gap_study(runs, forecasts=forecasts),
        lambda runs, verdict: draw_figures(blocks_of(runs), verdict.claims, "svg", verdict.forecasts),
        study_page,
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


@dataclass(frozen=True)
class StudyResults:
    """What a study's table says, and how it is shown.

    Attributes:
        result: what the judge returned.
        figures: name -> image, in svg.
        page: the page as HTML.
    """

    result: StudyResult
    figures: dict[str, bytes]
    page: str


def results_of(study: Study, table: Path) -> StudyResults:
    """Judge the table of runs of a study, and draw its figures and its page.

    Args:
        table: the table, beside which the study's forecasts may stand.

    Raises:
        InputError: a table that is not a study's.
    """
    how, runs = judge_of(study), read_study_runs(table)
    if BLOCK not in runs.columns:
        raise InputError(table, "table", f"no column {BLOCK}", "the runs of a study, with the block of each")
    result = how.judge(runs, table.with_name(FORECASTS))
    figures = how.figures(runs, result)
    return StudyResults(result, figures, how.page(study, runs, result, figures))


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
    path = to or source.with_suffix(".html")
    write_text(path, results_of(read_study(declared), source).page)
    return path
