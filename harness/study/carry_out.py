"""Carry a study out: run its sweeps, and write its table, verdict and figures as each of them ends."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa

from harness.files import parquet_bytes, write_files
from harness.launch.sweep import run_sweep
from harness.study.cells import blocks_of, read_study_runs, study_runs
from harness.study.figures import draw_figures
from harness.study.gap_study import GapVerdict
from harness.study.judges import StudyResult, judge_study
from harness.study.studies import Study
from harness.train.session import Session

RUNS, VERDICT = "runs.parquet", "verdict.json"


def carry_out(study: Study, out: Path, session: Session) -> int:
    """Run what has not ended yet of a study's sweeps, each in a folder of its own, and write the results after each.

    Args:
        out: the study's folder.
        session: how runs are trained; its `out` is replaced.

    Returns:
        the exit status: 0; 3 if runs failed; or that of the signal that stopped it.
    """
    worst = 0
    for sweep in study.sweeps:
        status = run_sweep(sweep, dataclasses.replace(session, out=out / sweep))
        if status not in (0, 3):
            return status
        worst = max(worst, status)
        write_files({out / RUNS: parquet_bytes(pa.Table.from_pandas(collect(study, out), preserve_index=False))})
    write_results(study, read_study_runs(out / RUNS), out)
    return worst


def collect(study: Study, out: Path) -> pd.DataFrame:
    """The table of the runs of all sweeps that the study's folder holds."""
    sweeps = [*study.sweeps, *([study.forecast.sweep] if study.forecast else [])]
    tables = [study_runs(out / sweep) for sweep in sweeps if (out / sweep / "manifest.json").is_file()]
    return pd.concat(tables, ignore_index=True)


def write_results(study: Study, runs: pd.DataFrame, to: Path) -> StudyResult:
    """Judge a study's runs, and write the verdict and the figures."""
    result = judge_study(study.judge, runs)
    content = json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n"
    files = {to / VERDICT: content.encode()}
    if isinstance(result, GapVerdict):
        for name, image in draw_figures(blocks_of(runs), result.claims, "svg").items():
            files[to / f"{name}.svg"] = image
    write_files(files)
    return result
