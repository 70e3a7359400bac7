"""The loss of ensembles: of the mean prediction of runs that differ in their seed alone.

The probability that an ensemble gives the right token is the mean of those of its members, exp(-loss) of each. So it
follows from the losses of single tokens, which runs with `keep_losses: true` keep at their end.
"""

import io
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.files import read_bytes
from harness.gaps.cells import read_cells
from harness.record.columns import QUANTITIES
from harness.record.status import run_folder
from harness.record.table import runs_table
from models.intervention import name_of
from sweeps.cells import derived, intervention_columns
from sweeps.config import RunConfig
from sweeps.errors import InputError

LOSSES = "heldout_losses.npy"
# Sets of members whose mean is the loss of an ensemble of that size; if there are fewer, all are taken.
SETS = 64


def ensemble_losses(losses: Float[np.ndarray, "members tokens"]) -> Float[np.ndarray, " members"]:
    """The mean loss of ensembles of 1, 2, ... all of the members, nats per token: a mean over sets of members."""
    count = len(losses)
    # Probabilities beside the largest of each token's, so that none is rounded to 0.
    least = losses.min(0)
    shares = np.exp(least - losses.astype(np.float64))
    rng = np.random.default_rng(0)
    found = []
    for size in range(1, count + 1):
        if math.comb(count, size) <= SETS:
            sets = list(itertools.combinations(range(count), size))
        else:
            sets = [rng.choice(count, size, replace=False) for _ in range(SETS)]
        found.append(np.mean([(least - np.log(shares[list(members)].mean(0))).mean() for members in sets]))
    return np.asarray(found)


def ensembles_table(out: Path) -> pd.DataFrame:
    """A row for each cell and draw with at least two seeds, and each number of members: the settings, and the loss.

    InputError if no finished runs kept the losses of their tokens.
    """
    rows = []
    for runs, losses in _ensembles(out, runs_table(out)):
        run = runs[0]
        quantities = derived(run, "total")
        settings = {
            "architecture": run.model.architecture, "tokenizer": run.data.tokenizer, "domain": run.data.domain,
            "draw": run.data.draw, **{name: quantities[name] for name in QUANTITIES},
            **{key: v for own in run.interventions for key, v in intervention_columns(run, name_of(own)).items()},
        }  # fmt: skip
        rows += [{**settings, "members": size, "heldout_loss": float(loss)} for size, loss in enumerate(losses, 1)]
    if not rows:
        expected = "finished runs with keep_losses: true that differ in their seed"
        raise InputError(out, "runs", "none with several seeds", expected)
    return pd.DataFrame(rows)


def ensemble_columns(out: Path, table: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns for a folder's table of runs: `members` is k for the k-th seed of its cell and draw, and `ensemble_loss`
    the loss of ensembles of k of these seeds, as in `ensembles_table`; none where no run has one.
    """
    found = {
        run.run_id: (size, float(loss))
        for runs, losses in _ensembles(out, table)
        for size, (run, loss) in enumerate(zip(runs, losses, strict=True), 1)
    }
    columns = {"members": 0, "ensemble_loss": 1} if found else {}
    return {
        name: pd.Series([found[run_id][place] if run_id in found else None for run_id in table["run_id"]], dtype=float)
        for name, place in columns.items()
    }


def _ensembles(out: Path, table: pd.DataFrame) -> Iterator[tuple[tuple[RunConfig, ...], Float[np.ndarray, " members"]]]:
    """The finished seeds of each cell and draw that kept their losses, where there are several, and their ensembles'.

    Args:
        table: the folder's table of runs.
    """
    cells = [cell for cell in read_cells(out, table) if cell.runs[0].probe.keep_losses]
    for runs in (runs for cell in cells for runs in cell.draws if len(runs) > 1):
        stacked = np.stack([read_losses(run_folder(out, run.run_id)) for run in runs])
        yield runs, ensemble_losses(stacked.reshape(len(runs), -1))


def losses_bytes(losses: Float[np.ndarray, " *tokens"]) -> bytes:
    """The content of the file in which a run keeps the losses of its held-out tokens."""
    content = io.BytesIO()
    np.save(content, losses.astype(np.float32))
    return content.getvalue()


def read_losses(folder: Path) -> Float[np.ndarray, " *tokens"]:
    """The losses that a finished run kept; InputError if they are not there or damaged."""
    try:
        return np.load(io.BytesIO(read_bytes(folder / LOSSES)), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(folder / LOSSES, "file", type(error).__name__, "losses that the run kept") from None
