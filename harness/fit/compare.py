"""Compare several laws on the same rows: by extrapolation first, then by information criteria and cross-validation."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.certainty.sign_flip import no_gap
from harness.fit.fitting import SolvedFit, solve
from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import Problem
from harness.fit.problem.fit_status import FitWarning
from harness.fit.problem.likelihood import log_likelihood_rows
from harness.fit.referee import extrapolation
from harness.fit.referee.extrapolation import Extrapolation, Window
from harness.fit.results.no_gap import NoGap
from harness.fit.results.shown import Showable, Shown, TextTable, number, warning_lines
from harness.fit.search.solver import best_and_runners_up, minimise_cases
from sweeps.errors import InputError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FOLDS = 5  # of the cross-validation
RANKINGS = 200  # resamplings of clusters, for `p_best`


@dataclass(frozen=True)
class ComparedLaw:
    """One law of a comparison; each delta is the difference to the best law by that criterion.

    Attributes:
        degrees: number of fitted directions, the scale of the residuals among them.
        aicc, bic: smaller is better; aicc is Akaike's criterion with the correction for few rows. Rows that depend on
            each other count as the number of independent ones that they are worth (`certainty.dependence`).
        cv_log_score: the log density of every row under the fit that left its fold out, summed; larger is better.
        delta_cv, delta_cv_se: cv_log_score minus the best law's, and its standard error over clusters.
        holdout_log_score: summed log density of the rows held out by the user; None if there are none.
        heldout_score: mean score of runs of larger scale than those fitted, by which the laws are ranked. The runs are
            the user's held-out rows, else those of expanding windows by scale (`harness.fit.referee.extrapolation`);
            None if there are neither.
        heldout_error: mean |prediction/response - 1| of these runs; None where a response is zero.
        p_best: share of resamplings of the clusters in which the law has the best score. In each one the fits to the
            smaller runs are repeated. It is not the probability that the law is true.
        reach: the factor by which the scale of these runs exceeds the largest fitted scale.
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
    heldout_score: float | None = None
    heldout_error: float | None = None
    p_best: float | None = None
    reach: float | None = None

    def to_dict(self) -> dict:
        """Plain numbers and strings."""
        return asdict(self)


class Comparison(Showable, tuple[ComparedLaw, ...]):
    """Compared laws, the best first, with a table and a figure for notebooks.

    Attributes:
        warnings: of laws that could not be fitted.
        nothing: why no law is ranked: there is no gap that laws could be of.
    """

    warnings: tuple[FitWarning, ...]
    nothing: NoGap | None

    def __new__(
        cls, laws: Iterable[ComparedLaw], warnings: tuple[FitWarning, ...] = (), nothing: NoGap | None = None
    ) -> "Comparison":
        made = super().__new__(cls, laws)
        made.warnings, made.nothing = warnings, nothing
        return made

    def shown(self) -> list[Shown]:
        """The laws, the best first, and the warnings; or that there is no gap."""
        if self.nothing:
            return [self.nothing.finding]
        rows = [
            (law.law, law.status, *map(number, (law.heldout_score, law.heldout_error, law.p_best, law.delta_aicc)))
            for law in self
        ]
        columns = ("law", "status", "held-out score", "held-out error", "share best", "AICc above best")
        table = TextTable("laws on the same rows, the best first", columns, rows, {"law", "status"})
        return [table, *warning_lines(self.warnings)]

    def figure(self) -> "Figure":
        """Draw the cross-validated log score of each law less the best score, with its standard error."""
        from plotly.graph_objects import Figure

        errors = {"type": "data", "array": [law.delta_cv_se for law in self]}
        drawn = Figure()
        drawn.add_bar(x=[law.law for law in self], y=[law.delta_cv for law in self], error_y=errors)
        return drawn.update_layout(yaxis_title="cross-validated log score less the best")


def aicc(log_likelihood: float, degrees: int, rows: float) -> float:
    """Akaike's criterion corrected for few rows; infinite when there are too few to correct."""
    spare = rows - degrees - 1
    return np.inf if spare <= 0 else 2.0 * (degrees - log_likelihood) + 2.0 * degrees * (degrees + 1) / spare


def aicc_of_squares(squares: float, degrees: int, rows: int) -> float:
    """Akaike's criterion, corrected for few rows, of a least-squares fit with normal errors of an unknown scale.

    Args:
        squares: the weighted sum of squared residuals; weights whose product is the same in fits that are compared.
        degrees: number of free constants, the scale of the errors among them.
    """
    variance = max(squares / rows, 1e-300)
    return aicc(-rows / 2 * (np.log(2 * np.pi * variance) + 1), degrees, rows)


def folds_of(problem: Problem, seed: int, folds: int = FOLDS) -> np.ndarray:
    """The number of each row's fold, fixed by the seed; the rows of a cluster share a fold."""
    clusters = problem.cluster.max() + 1
    return (np.random.default_rng(seed).permutation(clusters) % folds)[problem.cluster]


def cross_validated(fitted: SolvedFit, seed: int = 0) -> Float[np.ndarray, "rows"]:
    """Log density of every fitted row under the fit without its fold."""
    problem = fitted.problem
    fold = folds_of(problem, seed)
    starts = np.vstack([fitted.identified.theta, best_and_runners_up(fitted.solutions, 3)])
    training = [problem.fitted & (fold != k) for k in range(FOLDS)]
    refits = minimise_cases(problem, np.tile(starts, (FOLDS, 1, 1)), lambda k: training[k].astype(float))
    scores = np.zeros(len(problem.response))
    for k, (rows, theta) in enumerate(zip(training, refits.theta, strict=True)):
        left_out = problem.fitted & (fold == k)
        scores[left_out] = log_likelihood_rows(replace(problem, fitted=rows), theta)[left_out]
    return scores[problem.fitted]


def compare_fitted(fits: Sequence[SolvedFit], seed: int = 0, resamplings: int = RANKINGS) -> Comparison:
    """Rank solved fits to the same rows: the best extrapolation first, then the lowest AICc."""
    rows = int(fits[0].problem.fitted.sum())
    cluster = fits[0].problem.cluster[fits[0].problem.fitted]
    scores = [cross_validated(fitted, seed) for fitted in fits]
    # A law without scatter has an infinite density: its criteria are not known, and the others are compared.
    totals = np.array([score.sum() for score in scores])
    best = int(np.argmax(np.where(np.isfinite(totals), totals, -np.inf)))
    worth = min(fitted.identified.ratio.dependence.rows for fitted in fits)
    likelihoods = [fitted.log_likelihood * worth / rows for fitted in fits]
    criteria = np.array([aicc(each, fitted.degrees, worth) for each, fitted in zip(likelihoods, fits, strict=True)])
    bics = np.array([f.degrees * np.log(worth) - 2 * each for each, f in zip(likelihoods, fits, strict=True)])
    behind = zip(_above_least(criteria), _above_least(bics), strict=True)
    beyond = held_out_scores(fits, seed, resamplings)
    table = []
    for fitted, score, criterion, bic, deltas, outside in zip(
        fits, scores, criteria, bics, behind, beyond, strict=True
    ):
        held_out = ~fitted.problem.fitted
        lost = np.bincount(cluster, weights=score - scores[best])
        density = log_likelihood_rows(fitted.problem, fitted.identified.theta)[held_out]
        table.append(
            ComparedLaw(
                fitted.problem.law.id,
                fitted.status.value,
                rows,
                fitted.degrees,
                fitted.log_likelihood,
                float(criterion),
                float(deltas[0]),
                float(bic),
                float(deltas[1]),
                float(score.sum()),
                float(lost.sum()),
                float(np.sqrt(len(lost) * lost.var())),
                float(density.sum()) if held_out.any() else None,
                **outside,
            )
        )
    return Comparison(sorted(table, key=_place))


def _place(law: ComparedLaw) -> tuple[bool, float, bool, float]:
    """What laws are sorted by: the held-out score, then AICc; laws without such numbers come after the others."""
    score = law.heldout_score
    return score is None, -(score or 0.0), not np.isfinite(law.aicc), law.aicc


def _above_least(values: Float[np.ndarray, "laws"]) -> Float[np.ndarray, "laws"]:
    """Each value minus the least finite one; infinite values stay infinite."""
    finite = np.isfinite(values)
    return np.where(finite, values - np.min(values[finite], initial=np.inf), values) if finite.any() else values


def held_out_scores(fits: Sequence[SolvedFit], seed: int = 0, resamplings: int = RANKINGS) -> list[dict]:
    """How well each fit predicts runs of larger scale than those it was fitted to; no fields if no rows can be scored.

    The fields are `heldout_score`, `heldout_error`, `p_best` and `reach` of `ComparedLaw`. A fit that has no finite
    scores has no fields, and the others are compared without it.
    """
    larger = ~fits[0].problem.fitted
    if larger.any():
        parts = [extrapolation.scores(fitted.problem, fitted.identified.theta) for fitted in fits]
        scale = extrapolation.scale_of(fits[0].problem.law, fits[0].problem.raw_columns)
        reach = scale[larger].max() / scale[~larger].max()
        windows = [
            Extrapolation(
                larger, score[larger], relative[larger], reach, 0.0, scale[~larger].max(),
                (Window(~larger, larger, fitted.identified.theta),),
            )
            for fitted, (score, relative) in zip(fits, parts, strict=True)
        ]  # fmt: skip
    else:
        windows = [extrapolation.extrapolate(fitted.problem, fitted.solutions) for fitted in fits]
    scored = {
        index: law
        for index, law in enumerate(windows)
        if law is not None and law.rows.any() and np.isfinite(law.score).all()
    }
    fields: list[dict] = [{} for _ in fits]
    # Laws with more constants may have a wider first window, so only rows on which every law was scored count.
    common = np.logical_and.reduce([law.rows for law in scored.values()]) if scored else np.zeros(len(larger), bool)
    if not common.any():
        return fields
    score = np.array([law.score[common[law.rows]] for law in scored.values()])
    # The Bayesian bootstrap (Rubin 1981): no cluster is ever without weight, so that every refit has all its rows.
    labels, cluster = np.unique(fits[0].problem.cluster, return_inverse=True)
    weights = np.random.default_rng(seed).exponential(size=(resamplings, len(labels)))[:, cluster]
    first = None
    if resamplings:
        drawn = [
            extrapolation.resampled_scores(fits[index].problem, law.windows, common, weights)
            for index, law in scored.items()
        ]
        first = np.argmax(np.nan_to_num(drawn, nan=-np.inf), axis=0)
    for place, (index, law) in enumerate(scored.items()):
        error = law.relative[common[law.rows]]
        fields[index] = {
            "heldout_score": float(score[place].mean()),
            "heldout_error": float(error.mean()) if np.isfinite(error).all() else None,
            "p_best": None if first is None else float(np.mean(first == place)),
            "reach": float(law.reach),
        }
    return fields


def compare(
    laws: Sequence[str | Law],
    frame: pd.DataFrame,
    *,
    holdout: str | None = None,
    seed: int = 0,
    resamplings: int = RANKINGS,
    source: str = "table",
) -> Comparison:
    """Fit several laws of one response to the same rows and rank them; a law that cannot be fitted is left out.

    Laws of a gap are not ranked where no gap is detected: the comparison is empty then, and says so.

    Args:
        frame: columns by role, as for `fit`.
        holdout: a condition; its rows are scored, not fitted.
        seed: the seed of the folds and of the resamplings of held-out clusters.
        resamplings: number of these; 0 for no `p_best`, which takes most of the time.

    Raises:
        InputError: an unknown law, laws of different responses, or rows to which none of the laws can be fitted.
    """
    found = [get_law(law, frame.columns) for law in laws]
    if len({law.response for law in found}) != 1:
        ids = ", ".join(law.id for law in found)
        raise InputError(source, "--laws", ids, "at least one law, all of the same response (G or L)")

    def solved(law: Law) -> SolvedFit | InputError:
        try:
            return solve(law, frame, holdout=holdout, source=source)
        except InputError as error:
            return error

    # Most of the time of a small table goes into compiling, which takes one core for each law.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        ends = list(pool.map(solved, found))
    fits = [end for end in ends if isinstance(end, SolvedFit)]
    refused = [end for end in ends if isinstance(end, InputError)]
    if not fits:
        raise refused[0]
    if nothing := no_gap(fits[0].problem, "ranking of laws"):
        return Comparison((), nothing=nothing)
    ranked = compare_fitted(fits, seed, resamplings)
    left_out = (FitWarning("law_left_out", f"a law is left out: {error}") for error in refused)
    return Comparison(ranked, tuple(left_out))
