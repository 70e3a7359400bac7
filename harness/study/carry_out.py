"""Carry a study out: run its sweeps block by block, and write its table, verdict and figures.

The table of the study, runs.parquet, is written after every block, also after one that was stopped, and runs that have
a result in it are not run again. So a study goes on wherever its table is, also on another machine that has nothing
else of it.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml

from harness.files import parquet_bytes, write_files, write_text
from harness.launch.apart import run_sweep_apart
from harness.machine.calibration_file import known_calibration
from harness.record.status import ENDED
from harness.record.sweep_folder import read_configs
from harness.record.table import interventions_used
from harness.study.cells import BLOCK, read_study_runs, study_runs
from harness.study.judges import judge_of, write_results
from harness.study.studies import DECLARATION, RUNS, Study
from harness.study.times import with_times
from harness.train.session import Session
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.grid import Sweep, load, read_sweep_text
from sweeps.plan import divide

PAGE = "runs.html"


def carry_out(study: Study, out: Path, session: Session) -> int:
    """Run what has not ended yet of a study's sweeps, each block in a folder of its own, and write the results.

    Args:
        out: the study's folder, `SWEEP/BLOCK` in it the folder of a block.
        session: how runs are trained; its `out` is replaced, and its minutes are those of the whole study.

    Returns:
        the exit status: 0; 3 if runs failed; or that of the signal that stopped it. As long as runs are left
        (`runs_left`), only the table is written.

    Raises:
        InputError: the folder holds runs of another study.
    """
    began = time.monotonic()
    status = _run_blocks(study, out, session, began)
    if left := runs_left(study, out):
        # The words of a part of the runs would be those of another study.
        print(f"{study.name}: stopped with {left:,} runs to go; the same command goes on", flush=True)
    elif status in (0, 3):
        # With the declaration beside it, `isogap report` can judge the table again.
        declaration = yaml.safe_dump(study.model_dump(mode="json", exclude_none=True), sort_keys=False)
        write_text(out / DECLARATION, declaration)
        write_results(study, out / RUNS, out / PAGE)
    print(f"{study.name}: this call took {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    return status


def runs_left(study: Study, out: Path) -> int:
    """How many runs of a study have not ended by its table, such as after its minutes."""
    runs = {run.run_id for sweep in study.presets for run in load(sweep).configs}
    return len(runs - set(read_study_runs(out / RUNS)["run_id"])) if (out / RUNS).is_file() else len(runs)


def _run_blocks(study: Study, out: Path, session: Session, began: float) -> int:
    """Run the blocks one after another, and write the table after each; the exit status.

    Args:
        began: when the study's minutes began, by `time.monotonic`.
    """
    worst = 0
    known = read_study_runs(out / RUNS) if (out / RUNS).is_file() else None
    forecasts = {declared.sweep: declared for declared in study.forecasts}
    sweeps = {sweep: load(sweep) for sweep in study.presets}
    if known is not None:
        _refuse_others(known, study.name, sweeps.values(), out)
    # Rows of a block that uses none of them would have no value where those of other blocks have a setting.
    interventions = interventions_used(run for sweep in study.sweeps for run in sweeps[sweep].configs)
    blocks = {sweep: list(block_files(sweep, out)) for sweep in sweeps}
    configs = {block: load(block).configs for block in itertools.chain.from_iterable(blocks.values())}
    place, planned = 0, _planned_seconds(configs.values(), set() if known is None else finished_runs(known), session)
    for sweep in sweeps:
        if sweep in forecasts and known is not None:
            fitted = known.loc[known[BLOCK].isin(forecasts[sweep].fitted_to)]
            print(*judge_of(study).register(forecasts[sweep], fitted, out).shown(), sep="\n")
        for block in blocks[sweep]:
            finished = set() if known is None else finished_runs(known)
            runs, place = {run.run_id for run in configs[block]}, place + 1
            if runs <= finished:
                continue
            print(f"block {place} of {len(configs)}, {block.stem}: {len(runs - finished):,} runs to train", flush=True)
            spent = time.monotonic() - began
            minutes = session.max_minutes and session.max_minutes - spent / 60
            if minutes is not None and minutes <= 0:
                return worst
            folder, following = block.with_suffix(""), seconds_after(place - 1, planned, spent)
            of_block = dataclasses.replace(session, out=folder, max_minutes=minutes, following=following)
            status = run_sweep_apart(str(block), of_block, finished)
            if (folder / "manifest.json").is_file():
                rows = study_runs(folder, interventions)
                if others := len(read_configs(folder)) - len(rows):
                    print(f"{folder}: {others} runs are not of this sweep any more; the table is without them")
                known = with_rows(known, rows)
                _write_table(known, out)
            if status not in (0, 3):
                return status
            worst = max(worst, status)
    if study.times and known is not None:
        print("times of all shapes, measured alone", flush=True)
        timed = [run for sweep in sweeps.values() for run in sweep.configs]
        _write_table(with_times(known, timed, session.cache), out)
    return worst


def _planned_seconds(blocks: Iterable[Sequence[RunConfig]], finished: Set[str], session: Session) -> list[float]:
    """The seconds that are planned on this machine for those runs of each block that have not finished."""
    calibration = known_calibration(session.cache)
    remaining = ([run for run in runs if run.run_id not in finished] for runs in blocks)
    return [divide(runs, calibration).seconds.total if runs else 0.0 for runs in remaining]


def seconds_after(place: int, planned: Sequence[float], spent: float) -> float:
    """The seconds that the blocks after one will take.

    They are the planned ones, by the factor by which the blocks before took more or less than was planned for them.

    Args:
        place: the block's, from 0.
        planned: the seconds that are planned for each block.
        spent: the seconds that the blocks before took.
    """
    before, after = sum(planned[:place]), sum(planned[place + 1 :])
    return after * spent / before if before else after


def _write_table(known: pd.DataFrame, out: Path) -> None:
    write_files({out / RUNS: parquet_bytes(pa.Table.from_pandas(known, preserve_index=False))})


def _refuse_others(known: pd.DataFrame, study: str, sweeps: Iterable[Sweep], out: Path) -> None:
    """InputError if a table has runs of blocks that a study does not have: its judge would count them."""
    own = {cell.block for sweep in sweeps for cell in sweep.cells}
    others = [block for block in known[BLOCK].unique() if block not in own]
    if others:
        expected = f"blocks of the study {study} alone: {', '.join(sorted(own))}; another --out for another study"
        raise InputError(out / RUNS, BLOCK, others[0], expected)


def block_files(sweep: str, out: Path) -> Iterator[Path]:
    """Write every block of a sweep as a sweep of its own, `SWEEP/BLOCK.yaml` in the study's folder.

    Blocks whose runs start from those of another one are in the sweep of that one.
    """
    spec = yaml.safe_load(read_sweep_text(sweep))
    groups: list[tuple[set[str], list[dict[str, Any]]]] = []
    for number, block in enumerate(spec["blocks"]):
        names = {str(block.get("name", f"blocks[{number}]")), *_starts(block, spec)}
        joined = [group for group in groups if group[0] & names]
        together = set.union(names, *(group[0] for group in joined)), [*(b for g in joined for b in g[1]), block]
        groups = [*(group for group in groups if group not in joined), together]
    for number, (_, blocks) in enumerate(groups):
        file = out / Path(sweep).stem / f"{blocks[0].get('name', number)}.yaml"
        text = yaml.safe_dump({**spec, "blocks": blocks}, sort_keys=False)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)
        yield file


def _starts(block: dict[str, Any], spec: dict[str, Any]) -> set[str]:
    """The names of the blocks whose runs those of a block may start from."""
    pairs = block.get("zip", {})
    places = [spec.get("defaults", {}), block.get("defaults", {}), block.get("grid", {})]
    places += pairs if isinstance(pairs, list) else [pairs]
    values = [place["start_from"] for place in places if "start_from" in place]
    return {str(name) for value in values for name in (value if isinstance(value, list) else [value])}


def finished_runs(known: pd.DataFrame) -> set[str]:
    """The ids of the runs that need not be run again: those with a result, of twins only if both have one.

    Runs that failed may succeed on another machine.
    """
    done = known["half"].isna() | known["gap_twin"].notna()
    return set(known.loc[(known["status"] == "diverged") | ((known["status"] == "done") & done), "run_id"])


def with_rows(known: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    """The study's table with the runs of a block, in the place of what it knew of them; those that ended only."""
    new = new.loc[new["status"].isin(ENDED)]
    if known is None:
        return new
    return pd.concat([known.loc[~known["run_id"].isin(new["run_id"])], new], ignore_index=True)
