"""How each study is judged and shown: from its table of runs to a result, its figures and its page."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from harness.files import write_files
from harness.forecasts.registry_file import Registered
from harness.study.cells import BLOCK, read_study_runs, study_cells
from harness.study.figures import draw_figures
from harness.study.forecasts import register, register_of_paper
from harness.study.gap_study import judge_gap_study
from harness.study.loss_page import draw_loss_figures, loss_page
from harness.study.page import study_page
from harness.study.paper import get_paper, paper_names
from harness.study.repeat import VERDICT, Repeat, repeat_of
from harness.study.studies import DECLARATION, RUNS, Forecast, Study, read_study, study_of
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
        judge: the study, the table of runs, and its folder, where files of forecasts may be -> the result.
        figures: the table and the result -> name -> image, in svg.
        page: the study, the table, the result, the figures, and what a repeat has in common with the committed study,
            if this is one -> the page as HTML.
        register: what is declared, the runs of the blocks that are fitted, and the study's folder -> the forecasts that
            were written down there.
    """

    judge: Callable[[Study, pd.DataFrame, Path], StudyResult]
    figures: Callable[[pd.DataFrame, Any], dict[str, bytes]]
    page: Callable[[Study, pd.DataFrame, Any, dict[str, bytes], Repeat | None], str]
    register: Callable[[Forecast, pd.DataFrame, Path], Registered]


GAP = "gap"


def judge_names() -> tuple[str, ...]:
    """How studies may be judged."""
    return (GAP, *paper_names())


def judge_of(study: Study) -> Judge:
    """How a study is judged; InputError for a judge that there is not."""
    if study.judge not in judge_names():
        raise InputError("study", "judge", study.judge, f"one of {', '.join(judge_names())}")
    if study.judge != GAP:
        paper = get_paper(study.judge)
        return Judge(
            lambda _, runs, __: paper.judge(runs),
            lambda _, verdict: draw_loss_figures(verdict, "svg"),
            loss_page,
            functools.partial(register_of_paper, paper),
        )
    return Judge(
        lambda study, runs, folder: judge_gap_study(runs, forecasts=study.forecasts, folder=folder),
        lambda _, verdict: draw_figures(verdict.blocks, verdict.claims, "svg", verdict.forecasts),
        study_page,
        lambda declared, runs, folder: register(declared, study_cells(runs), folder),
    )


def write_results(study: Study, table: Path, page: Path) -> None:
    """Judge the table of runs of a study, and write the page, and beside it the verdict and the figures.

    Args:
        table: the table, beside which the study's forecasts may stand.

    Raises:
        InputError: a table that is not a study's.
    """
    how, runs = judge_of(study), read_study_runs(table)
    if BLOCK not in runs.columns:
        raise InputError(table, "table", f"no column {BLOCK}", "the runs of a study, with the block of each")
    result = how.judge(study, runs, table.parent)
    figures, found = how.figures(runs, result), result.to_dict()
    repeat = repeat_of(study.name, found, runs, table.parent)
    verdict = json.dumps(found, indent=1, allow_nan=False) + "\n"
    texts = {page: how.page(study, runs, result, figures, repeat), page.with_name(VERDICT): verdict}
    images = {page.with_name(f"{name}.svg"): image for name, image in figures.items()}
    write_files({file: text.encode() for file, text in texts.items()} | images)


def report_study(table: Path, page: Path | None = None) -> Path:
    """Judge the table of runs of a study whose declaration stands beside it, and write page, verdict and figures.

    Args:
        table: the table, or the folder of the study.
        page: by default beside the table, with the ending .html; the verdict and the figures stand beside it.

    Returns:
        the page.

    Raises:
        InputError: a table that is not a study's.
    """
    declared = study_of(table)
    table = table / RUNS if table.is_dir() else table
    if declared is None:
        raise InputError(table, DECLARATION, None, "the declaration of the study beside its table")
    page = page or table.with_suffix(".html")
    write_results(read_study(declared), table, page)
    return page
