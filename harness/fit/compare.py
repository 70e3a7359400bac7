"""Several laws on the same rows: information criteria, and log scores on rows that the fit did not see."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.fitting import Fitted, solve
from harness.fit.information import log_likelihood_rows
from harness.fit.law import get_law
from harness.fit.problem import Problem
from harness.fit.solver import best_and_runners_up, minimise
from sweeps.errors import InputError

FOLDS = 5


@dataclass(frozen=True)
class Compared:
    """One law of a comparison; differences are to the best law of that column.

    Attributes:
        degrees: directions fitted, the scale of the residuals among them.
        aicc, bic: smaller is better; aicc is Akaike's criterion with the correction for few rows.
        cv_log_score: summed log density of every row under the fit that left its fold out; larger is better.
        delta_cv, delta_cv_se: difference to the best law, and its standard error over clusters.
        holdout_log_score: summed log density of the held-out rows; None if there are none.
    """

    law: str
    status: str
    rows: int
    degrees: int
    log_likelihood: float
    aicc: float
    delta_aicc: float
    bic: float
    delta_bic: float
    cv_log_score: float
    delta_cv: float
    delta_cv_se: float
    holdout_log_score: float | None

    def to_dict(self) -> dict:
        return asdict(self)


def aicc(log_likelihood: float, degrees: int, rows: int) -> float:
    """Akaike's criterion corrected for few rows; infinite when there are too few to correct."""
    spare = rows - degrees - 1
    return np.inf if spare <= 0 else 2.0 * (degrees - log_likelihood) + 2.0 * degrees * (degrees + 1) / spare


def folds_of(problem: Problem, seed: int, folds: int = FOLDS) -> np.ndarray:
    """A fold per row, whole clusters together, fixed by the seed."""
    clusters = problem.cluster.max() + 1
    return (np.random.default_rng(seed).permutation(clusters) % folds)[problem.cluster]


def cross_validated(fitted: Fitted, seed: int = 0) -> Float[np.ndarray, "rows"]:
    """Log density of every fitted row under the fit without its fold."""
    problem = fitted.problem
    fold = folds_of(problem, seed)
    starts = np.vstack([fitted.identified.theta, best_and_runners_up(fitted.solutions, 3)])
    runs = len(starts)
    training = [problem.fitted & (fold != k) for k in range(FOLDS)]
    found = minimise(problem, np.tile(starts, (FOLDS, 1)), lambda run: training[run // runs].astype(float))
    scores = np.zeros(len(problem.response))
    for k, rows in enumerate(training):
        theta = found.theta[k * runs + int(np.argmin(found.loss[k * runs : (k + 1) * runs]))]
        left_out = problem.fitted & (fold == k)
        scores[left_out] = log_likelihood_rows(replace(problem, fitted=rows), theta)[left_out]
    return scores[problem.fitted]


def compare_fitted(fits: Sequence[Fitted], seed: int = 0) -> tuple[Compared, ...]:
    """The table of solved fits to the same rows, best AICc first."""
    rows = int(fits[0].problem.fitted.sum())
    cluster = fits[0].problem.cluster[fits[0].problem.fitted]
    scores = [cross_validated(fitted, seed) for fitted in fits]
    best = int(np.argmax([score.sum() for score in scores]))
    criteria = [aicc(fitted.log_likelihood, fitted.degrees, rows) for fitted in fits]
    bics = [fitted.degrees * np.log(rows) - 2 * fitted.log_likelihood for fitted in fits]
    table = []
    for fitted, score, criterion, bic in zip(fits, scores, criteria, bics, strict=True):
        held = ~fitted.problem.fitted
        lost = np.bincount(cluster, weights=score - scores[best])
        outside = log_likelihood_rows(fitted.problem, fitted.identified.theta)[held]
        table.append(
            Compared(
                fitted.problem.law.id,
                fitted.status.value,
                rows,
                fitted.degrees,
                fitted.log_likelihood,
                criterion,
                criterion - min(criteria),
                bic,
                bic - min(bics),
                float(score.sum()),
                float(lost.sum()),
                float(np.sqrt(len(lost) * lost.var())),
                float(outside.sum()) if held.any() else None,
            )
        )
    return tuple(sorted(table, key=lambda row: row.aicc))


def compare(
    law_ids: Sequence[str], frame: pd.DataFrame, *, holdout: str | None = None, seed: int = 0, source: str = "table"
) -> tuple[Compared, ...]:
    """Fit several laws of one response to the same rows and rank them.

    Args:
        frame: columns by role, as for `fit`.
        holdout: a condition whose rows are scored only.
        seed: of the folds.

    Raises:
        InputError: an unknown law, laws of different responses, or unusable columns.
    """
    responses = {get_law(law_id).response for law_id in law_ids}
    if len(responses) != 1:
        raise InputError(source, "--laws", ",".join(law_ids), "at least one law, all of the same response (G or L)")
    return compare_fitted([solve(law_id, frame, holdout=holdout, source=source) for law_id in law_ids], seed)
