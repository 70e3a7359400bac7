"""The gap to expect of a cell and the error of one of its draws, as the draws of a pilot say."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.gaps.replicates import Draws, cell_gaps
from harness.gaps.roles import roles_for_runs
from models.count import count
from sweeps.config import RunConfig
from sweeps.errors import InputError

# Fewer cells than this do not say how errors change with the sizes.
FEWEST_PILOT_CELLS = 4
_LABELS = ("architecture", "tokenizer", "domain")


class Expected(NamedTuple):
    """What a pilot says of a run, in nats per token.

    Attributes:
        gap: the gap of its cell.
        error: the root mean square error of the gap of one draw.
    """

    gap: float
    error: float


class Trend(NamedTuple):
    """The log of a quantity of cells as a sum: a constant, powers of the sizes, and an offset for each label.

    Attributes:
        powers: the constant, and the exponents of N, D, epochs and the tokens of a batch.
        offsets: column -> value -> offset; a value that no pilot cell has gets 0.
        variance: of the residuals.
    """

    powers: Float[np.ndarray, "5"]
    offsets: Mapping[str, Mapping[str, float]]
    variance: float

    def log(self, sizes: Float[np.ndarray, "4"], labels: Mapping[str, str]) -> float:
        """The log of the quantity of a run; `sizes` are N, D, epochs and the tokens of a batch."""
        offsets = sum(self.offsets[name].get(labels[name], 0.0) for name in _LABELS)
        return float(self.powers[0] + self.powers[1:] @ np.log(sizes) + offsets)


def expected_from(table: pd.DataFrame, source: Path) -> Callable[[RunConfig], Expected | None]:
    """A function that says what to expect of a run, by the cells of a pilot.

    The gap and the standard deviation between draws (`replicates.cell_gaps`) are fitted as powers of N, D, epochs and
    batch, with factors for the architecture, the tokenizer and the domain. Twin gaps and probe gaps have trends of
    their own; the function gives None for an estimator that the pilot has in fewer than four cells.

    Args:
        table: a sweep's table of runs, of which several are draws or splits of one cell.

    Raises:
        InputError: a table that is none of runs, or with too few cells of any estimator.
    """
    rows, _ = roles_for_runs(table)
    trends = {}
    for estimator, own in rows.groupby("estimator"):
        cells = [cell for _, cell in own.groupby("cluster", sort=False)]
        if len(cells) >= FEWEST_PILOT_CELLS:
            found = cell_gaps([Draws(cell["G"].to_numpy(float), cell["G_se"].to_numpy(float)) for cell in cells])
            # A gap that is not above its error says only that the gap is not larger.
            gaps = [max(gap.gap, gap.se) for gap in found]
            trends[estimator] = _trend(cells, gaps), _trend(cells, [gap.draw_sd for gap in found])
    if not trends:
        raise InputError(
            source, "--errors", f"{rows['cluster'].nunique()} cells", f"at least {FEWEST_PILOT_CELLS} cells"
        )

    def of(run: RunConfig) -> Expected | None:
        estimator = "probe" if run.data.half is None else "twin"
        if estimator not in trends:
            return None
        sizes = np.asarray([count(run.model).nonembedding, run.tokens, run.epochs, run.batch_tokens], float)
        labels = {
            "architecture": run.model.architecture, "tokenizer": run.data.tokenizer, "domain": run.data.domain,
        }  # fmt: skip
        gap, error = trends[estimator]
        # Cells scatter about the trend, and the mean of their variances is larger than that of their logs.
        return Expected(math.exp(gap.log(sizes, labels)), math.exp(error.log(sizes, labels) + error.variance))

    return of


def _trend(cells: list[pd.DataFrame], values: list[float]) -> Trend:
    first = pd.DataFrame([cell.iloc[0] for cell in cells])
    sizes = np.log(first[["N", "D", "epochs", "B"]].to_numpy(float))
    names = [(name, value) for name in _LABELS for value in sorted(set(first[name]))]
    marks = [np.asarray(first[name] == value, float) for name, value in names]
    design = np.column_stack([np.ones(len(cells)), sizes, *marks])
    logs = np.log(np.maximum(values, 1e-12))
    # The offsets of a column overlap with the constant, and sizes that do not vary say nothing. Of all trends that
    # describe the cells equally well, `lstsq` takes that of the smallest powers and offsets.
    centre = design.mean(axis=0) * (np.arange(design.shape[1]) > 0)
    solution, _, rank, _ = np.linalg.lstsq(design - centre, logs)
    residual = logs - (design - centre) @ solution
    variance = float(residual @ residual) / max(len(cells) - int(rank), 1)
    solution[0] -= centre @ solution
    offsets: dict[str, dict[str, float]] = {name: {} for name in _LABELS}
    for (name, value), offset in zip(names, solution[5:], strict=True):
        offsets[name][value] = float(offset)
    return Trend(solution[:5], offsets, variance)
