"""The part of their errors that gaps share because they were measured on the same documents.

Runs on one text are evaluated on the same held-out documents, and runs that read the same text on the same seen ones. A
document that is hard to predict moves all their gaps together. How much, every run's own losses say: the jackknife of
`harness.gaps.estimators.influences` gives a number for each group of documents, and the covariance of two gaps is the
sum of the products of theirs.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from harness.gaps.cells import FinishedCell
from harness.gaps.document_losses import DocumentLosses
from harness.gaps.estimators import influences
from harness.gaps.twins import gap_sides
from harness.record.sweep_folder import read_configs
from sweeps.config import RunConfig

# The column of `with_shared_errors`: a vector for each row.
SHARED = "G_shared"


def with_shared_errors(rows: pd.DataFrame, out: Path, units: str = "tokens") -> pd.DataFrame:
    """Rows of a sweep in roles with a column `G_shared`: a vector for each row, whose products are covariances of gaps.

    The vectors are tuples, in nats per token or in bits per byte. The square of a vector's length is the part of the
    variance `G_se`^2 that comes from documents. It is all of it but for the online gap, whose seen side is training
    losses.

    Args:
        rows: what `harness.gaps.roles.roles_for_runs` returns; only the runs that it names are read.
        out: the sweep's folder.

    Raises:
        InputError: a segment of a record is damaged.
    """
    texts = {run.run_id: _text(run) for run in read_configs(out)}
    found, places = [], dict[tuple[tuple[str, ...], int], int]()
    for run_id, (groups, parts) in zip(rows["run_id"], documents_of_gaps(rows, out, units), strict=True):
        keys = [places.setdefault((texts[run_id], int(group)), len(places)) for group in groups]
        found.append((keys, parts))
    vectors = np.zeros((len(found), len(places)))
    for vector, (keys, parts) in zip(vectors, found, strict=True):
        vector[keys] = parts
    # Of any number of groups, as many numbers as there are rows keep all products.
    left, sizes, _ = np.linalg.svd(vectors, full_matrices=False)
    return rows.assign(**{SHARED: [*map(tuple, left * sizes)]})


def documents_of_gaps(
    rows: pd.DataFrame, out: Path, units: str = "tokens"
) -> list[tuple[Int[np.ndarray, "groups"], Float[np.ndarray, "groups"]]]:
    """For each row the groups of documents that its gap was measured on, and the part of the error that each brings.

    Two gaps of runs on one domain have the covariance that is the sum of the products of their parts. The arguments are
    those of `with_shared_errors`.
    """
    found = []
    for run, estimator, own, twin in losses_of_gaps(rows, out):
        of_run = influences(*gap_sides(estimator, own, twin, run.steps, bits=units == "bytes"))
        found.append((of_run.clusters, of_run.parts))
    return found


def losses_of_gaps(
    rows: pd.DataFrame, out: Path
) -> Iterator[tuple[RunConfig, str, DocumentLosses, DocumentLosses | None]]:
    """For each row of a sweep in roles its run, the estimator of its gap, and the losses of the run and of its twin."""
    runs = {run.run_id: run for run in read_configs(out)}
    ended = frozenset(runs)  # a row that has a twin gap has a twin that was evaluated
    for run_id, estimator in zip(rows["run_id"], rows["estimator"], strict=True):
        run = runs[run_id]
        yield run, estimator, *FinishedCell(out, (run,), ended).of(run)


def _text(run: RunConfig) -> tuple[str, ...]:
    """The corpora of a run. Their groups have the same numbers in every split, half and tokenizer."""
    return tuple(corpus for _, corpus in run.data.parts)
