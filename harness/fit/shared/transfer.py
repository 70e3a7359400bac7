"""Loss-to-loss prediction with floors from the base laws, as published (Brandfonbrener et al., arXiv 2411.12925).

There are three fits. The base law is fitted to the losses on each of two corpora, which gives the floors E0 and E1;
then K and kappa of L = K (L0 - E0)^kappa + E1 are fitted to the pairs. The exponent depends on the floors, so every
draw of the bootstrap resamples pairs and repeats all three. A fit to the pairs alone (`isogap fit --law loss_to_loss`)
predicts as well, but hardly identifies floors and exponent: nearly straight curves with other floors fit them too.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from harness.fit.certainty.bootstrap import cluster_weights
from harness.fit.certainty.intervals import interval
from harness.fit.fitting import fit
from harness.fit.laws.fine_tuning import loss_to_loss
from harness.fit.problem.centred import Problem, centre
from harness.fit.problem.columns import held_out
from harness.fit.results.result import FitResult
from harness.fit.results.shown import Showable, Shown, TextTable, number, span
from harness.fit.search.solver import minimise

# The floors are given here, not searched, so the law's own limits on them are widened.
GIVEN_FLOORS = replace(
    loss_to_loss,
    parameters=tuple(replace(p, high=2.0) if p.name in ("E0", "E1") else p for p in loss_to_loss.parameters),
)
_CONSTANTS = tuple(p.name for p in loss_to_loss.parameters)


@dataclass(frozen=True)
class Transfer(Showable):
    """A fitted transfer between two corpora.

    Attributes:
        K, kappa, E0, E1: the constants, losses in nats per token.
        intervals: constant -> 95 % interval from the joint bootstrap; empty without draws.
        draws: constant -> one value per draw.
        base: the base law's fits to the first and to the second corpus.
        rows: number of pairs fitted.
        holdout_error: mean absolute relative error of the second loss where pairs were held out, else None.
    """

    K: float
    kappa: float
    E0: float
    E1: float
    intervals: dict[str, tuple[float | None, float | None]]
    draws: dict[str, Float[np.ndarray, "draws"]]
    base: tuple[FitResult, FitResult]
    rows: int
    holdout_error: float | None

    def predict(self, losses: ArrayLike) -> Float[np.ndarray, "rows"]:
        """The second loss of runs with these first losses, nats per token."""
        return _curve(np.asarray(losses, float), self.K, self.kappa, self.E0, self.E1)

    def shown(self) -> list[Shown]:
        """The constants with their intervals, and the error on pairs that were held out."""
        title = f"L = K (L0 - E0)^kappa + E1, floors of {self.base[0].law}; {self.rows} pairs"
        intervals = {name: span(*limits) for name, limits in self.intervals.items()}
        rows = [(name, number(getattr(self, name)), intervals.get(name, "")) for name in _CONSTANTS]
        table = TextTable(title, ("constant", "estimate", "95 % interval"), rows, {"constant"})
        error = self.holdout_error
        return [table] if error is None else [table, f"held out: mean absolute relative error {error:.2%}"]


def _curve(losses, K, kappa, E0, E1):
    return E1 + K * np.maximum(losses - E0, 0.0) ** kappa


def transfer_loss(
    frame: pd.DataFrame, *, base: str = "kaplan_floor", holdout: str | None = None, bootstrap: int = 200, seed: int = 0
) -> Transfer:
    """Fit the transfer between the losses `L0` and `L` of runs paired by N and D.

    Args:
        frame: columns N, D, L0, L; optional `cluster`.
        base: the law of each corpus, which must have a floor E: `kaplan_floor` as published, or `chinchilla`.
        holdout: a condition; its pairs are scored and not fitted, not even by the base laws.
        bootstrap: joint draws of pairs; 0 for none.

    Raises:
        InputError: unusable columns or too few pairs.
    """
    marked = frame.assign(holdout=held_out(frame, holdout, "pairs"))
    first = fit(base, marked.assign(L=marked["L0"]), bootstrap=bootstrap, seed=seed, sensitivity=False, source="L0")
    second = fit(base, marked, bootstrap=bootstrap, seed=seed, sensitivity=False, source="L")
    problem = centre(GIVEN_FLOORS, marked, source="pairs")
    floors = np.array([[result.parameters["E"].estimate for result in (first, second)]], float)
    point = _given(problem, floors)
    # One seed and one order of clusters: the three fits of a draw see the same pairs.
    drawn = np.stack([first.draws["E"], second.draws["E"]], axis=1) if bootstrap else np.empty((0, 2))
    weights = cluster_weights(problem.cluster, problem.fitted, bootstrap, seed)
    sampled = _given(problem, drawn, weights) if bootstrap else np.empty((0, len(_CONSTANTS)))
    draws = dict(zip(_CONSTANTS, sampled.T, strict=True))
    out = ~problem.fitted
    K, kappa, E0, E1 = map(float, point[0])
    error = None
    if out.any():
        losses, truth = (frame[name].to_numpy(float)[out] for name in ("L0", "L"))
        error = float(np.mean(np.abs(_curve(losses, K, kappa, E0, E1) / truth - 1.0)))
    return Transfer(
        K, kappa, E0, E1, {name: interval(values) for name, values in draws.items()} if bootstrap else {}, draws,
        (first, second), int(problem.fitted.sum()), error,
    )  # fmt: skip


def _given(problem: Problem, floors: Float[np.ndarray, "draws 2"], weights=None) -> Float[np.ndarray, "draws 4"]:
    """K, kappa, E0, E1 in raw units for each pair of floors; `weights` has the weights of the rows for each pair."""
    scale0, scale = problem.scales["L0"], problem.scales["L"]
    starts = []
    for E0, E1 in floors / (scale0, scale):
        above = problem.fitted & (problem.columns["L0"] > E0) & (problem.response > E1)
        kappa, log_k = np.polyfit(np.log(problem.columns["L0"][above] - E0), np.log(problem.response[above] - E1), 1)
        starts.append((log_k, kappa, E0, E1))
    free = np.tile([True, True, False, False], (len(starts), 1))
    refits = minimise(problem, np.array(starts), None if weights is None else lambda run: weights[run], free)
    log_k, kappa = refits.theta[:, 0], refits.theta[:, 1]
    return np.stack([np.exp(log_k) * scale / scale0**kappa, kappa, floors[:, 0], floors[:, 1]], axis=1)
