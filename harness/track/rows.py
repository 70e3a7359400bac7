"""The part of a run's record that a tracker may show: its settings, and the rows of complete commits."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.files import read_parquet
from harness.record.columns import QUANTITIES
from harness.record.segments import bounds, segment_paths
from sweeps.cells import derived
from sweeps.config import RunConfig


def settings_of(run: RunConfig) -> dict[str, Any]:
    """A run's settings, and its sizes by the names of the table of runs: N_nonembedding, D, U, flops and so on."""
    quantities = derived(run, "nonembedding")
    return run.model_dump(mode="json") | {name: quantities[name] for name in QUANTITIES}


def last_step(segment: Path) -> int:
    """The last step whose rows a segment (a file of rows between two commits) may hold."""
    return bounds(segment)[1]


def committed_segments(folder: Path) -> list[Path]:
    """The segments of series and evals."""
    paths = [path for kind in ("evals", "series") for path in segment_paths(folder, kind)]
    return sorted(paths, key=lambda path: (path.stem, path.parent.name))


def scalars(segment: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The step and the quantities of each row of a segment, ordered by step.

    The names are the columns of series, and PROBE/loss and PROBE/loss_se for evals; missing quantities are left out.
    """
    columns = read_parquet(segment).to_pydict()
    steps = columns.pop("step")
    probes = columns.pop("probe", None)
    if probes is None:
        names = list(columns)
        for step, *row in zip(steps, *columns.values(), strict=True):
            yield step, dict(zip(names, row, strict=True))
        return
    rows: dict[int, dict[str, float]] = {}
    for step, probe, loss, se in zip(steps, probes, columns["loss"], columns["loss_se"], strict=True):
        rows.setdefault(step, {})[f"{probe}/loss"] = loss
        if math.isfinite(se):
            rows[step][f"{probe}/loss_se"] = se
    yield from rows.items()


def new_rows(folder: Path, after: int) -> dict[int, dict[str, float]]:
    """The quantities of each committed step beyond the step `after`, in the order of the steps, by names of `scalars`.

    Segments are read only if they reach beyond that step.
    """
    rows: dict[int, dict[str, float]] = {}
    for segment in committed_segments(folder):
        if last_step(segment) > after:
            for step, row in scalars(segment):
                rows.setdefault(step, {}).update(row)
    return {step: rows[step] for step in sorted(rows) if step > after}


def training_clock(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Steps, rising from 0, and the seconds that the run had trained after each. Unlike wall clocks they never fall."""
    steps, seconds = [0], [0.0]
    for path in segment_paths(folder, "timing"):
        columns = read_parquet(path).to_pydict()
        for step, spent in zip(columns["step"], columns["wall_seconds"], strict=True):
            steps.append(step)
            seconds.append(seconds[-1] + spent)
    return np.asarray(steps), np.asarray(seconds)
