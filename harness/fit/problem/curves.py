"""Recognises rows that are checkpoints of one run: they share its fortunes, so that runs are resampled and not rows.

The rule was made on tables whose answer is known. Rows that are checkpoints stand in equal steps of D: all of the runs
of toy_scaling_wikitext (10 rows each), vocab_scaling (20), gemstones (10 to 35) and a made table (127) have nine tenths
or more of their steps alike. Separate runs of one size stand on powers of a factor: at most 0.36 of the steps are alike
in chinchilla, farseer, gadre, kempner, porian and steplaw. A single size of datablations has seven runs at equal steps,
hence the least number of rows. Checkpoints on powers of a factor are not told from a ladder of separate runs: such a
table needs a column that names the runs.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from harness.fit.laws.law import Law
from harness.fit.problem.columns import numbers_or_nan
from harness.fit.problem.fit_status import FitWarning

FEWEST_CHECKPOINTS = 8  # distinct D of a run
EQUAL_STEPS = 0.9  # the share of steps that are alike
ALIKE = 0.02  # relative difference of steps that count as alike
SHARE_OF_ROWS = 0.5  # of the table, that must be checkpoints by the rule
PROGRESS = 0.9  # rank correlation with D within a run at which a column measures how far the run is


def clusters_of(law: Law, frame: pd.DataFrame) -> tuple[Int[np.ndarray, "rows"], tuple[FitWarning, ...]]:
    """The number of each row's run, and a warning where runs have several rows.

    Runs are what the column `cluster` says, else the column `run`, else what the spacing of D, step or flops says.
    """
    if "cluster" in frame.columns:
        return pd.factorize(frame["cluster"].astype(str))[0], ()
    if "run" in frame.columns:
        shown = frame.attrs.get("roles", {}).get("run", "run")
        return _told(pd.factorize(frame["run"].astype(str))[0], f"by the column {shown}")
    for progress in (role for role in ("D", "step", "flops") if role in law.columns):
        if (labels := _by_spacing(law, frame, progress)) is not None:
            return _told(labels, f"by the rule: alike but for {progress}, which grows in equal steps")
    return np.arange(len(frame)), ()


def _told(labels: Int[np.ndarray, "rows"], why: str) -> tuple[Int[np.ndarray, "rows"], tuple[FitWarning, ...]]:
    rows, runs = len(labels), int(labels.max()) + 1
    if runs == rows:
        return labels, ()
    message = (
        f"{rows} rows are checkpoints of {runs} runs ({why}): runs are resampled (--set run=COLUMN says otherwise)"
    )
    return labels, (FitWarning("checkpoints", message),)


def _by_spacing(law: Law, frame: pd.DataFrame, progress: str) -> np.ndarray | None:
    """Runs by rows that are alike in all settings and stand in equal steps of a column; None if most rows do not."""
    steps = numbers_or_nan(frame, progress)
    labels = _alike(law, frame, steps)
    counts = np.bincount(labels)
    if counts.max() < FEWEST_CHECKPOINTS:
        return None
    order = np.lexsort((steps, labels))
    run, grown = labels[order][1:], np.diff(steps[order])
    inside = (np.diff(labels[order]) == 0) & (grown > 0)
    run, grown = run[inside], grown[inside]
    typical = np.asarray(pd.Series(grown).groupby(run).transform("median"), float)
    taken = np.bincount(run, minlength=len(counts))
    alike = np.bincount(run, np.abs(grown - typical) <= ALIKE * typical, len(counts))
    curve = (alike >= EQUAL_STEPS * taken) & (taken + 1 >= FEWEST_CHECKPOINTS)
    if counts[curve].sum() < SHARE_OF_ROWS * len(frame):
        return None
    # Rows of other settings stay on their own.
    alone = len(counts) + np.arange(len(frame))
    return pd.factorize(np.where(curve[labels], labels, alone))[0]


def _alike(law: Law, frame: pd.DataFrame, steps: Float[np.ndarray, "rows"]) -> Int[np.ndarray, "rows"]:
    """A number per row, the same for rows that agree in the law's other columns and in all settings.

    A setting is a column of words, or one of numbers whose values are few and do not grow with the steps of a run.
    """
    measured = {law.response, f"{law.response}_se", "L", "L_train", "G", "D", "U", "step", "flops", "epochs", "holdout"}
    known = [role for role in (*law.columns, *law.labels) if role in frame.columns and role not in measured]
    base = _codes(frame, known)
    settings = []
    for name in map(str, frame.columns):
        column = pd.Series(frame[name])
        if name in measured or name in known or column.nunique() * FEWEST_CHECKPOINTS > len(frame):
            continue
        numeric = pd.api.types.is_numeric_dtype(column.dtype)
        if not (numeric and _grows(numbers_or_nan(frame, name), steps, base)):
            settings.append(name)
    return _codes(frame, [*known, *settings])


def _codes(frame: pd.DataFrame, names: list[str]) -> Int[np.ndarray, "rows"]:
    if not names:
        return np.zeros(len(frame), int)
    return np.asarray(frame.groupby(names, sort=False, dropna=False).ngroup(), int)


def _grows(values: Float[np.ndarray, "rows"], steps: Float[np.ndarray, "rows"], group: Int[np.ndarray, "rows"]) -> bool:
    """Whether a column rises with the steps among the rows of a group."""
    ranks = pd.DataFrame({"values": values, "steps": steps}).groupby(group).rank()
    centred = (ranks - ranks.groupby(group).transform("mean")).fillna(0.0)
    products = centred.to_numpy(float).T @ centred.to_numpy(float)
    size = float(np.sqrt(products[0, 0] * products[1, 1]))
    return size > 0 and float(products[0, 1]) / size >= PROGRESS
