"""The study of pruning in training: whether the mean number of parameters over the run says what the loss will be.

The claims are those of Jin et al. 2025 (arXiv 2501.12486), whose law is `average_parameter`: Chinchilla's with the
parameters that are not zero, averaged over the tokens of the run. The rules are those of
`sweeps/studies/journey/design.md`.
"""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from harness.fit.fitting import solve
from harness.fit.gap_law.rulings import JudgedClaim, Measured, together
from harness.fit.problem.likelihood import log_likelihood_rows
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure
from sweeps.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LAW = "average_parameter"
# What N may be in that law: its column, and what it is called.
_COUNTS = {"N_average": "mean", "N_final": "final", "N_initial": "initial"}
# How much higher the criterion of Akaike must be for a law to be the worse one; most is far above all that can be.
_DECISIVE = 10.0
# Sparsities for which pairs are claimed to be equal, and by how many nats at most they may differ if seeds differ less.
_EQUAL_UP_TO, _EQUAL = (0.2, 0.4, 0.6), 0.01
# The schedule that is claimed to be near the best, by at most so many nats.
_CLAIMED, _NEAR_BEST = (0.25, 0.75), 0.01
# The power of N_average / N_initial that the law says, and by how much it may be missed.
_POWER, _POWER_MARGIN = 1.0, 0.25
_SIZES = 4  # sizes of dense models from which a curve of losses is drawn
_UNIT = ["D", "draw"]
_CELL = ["width", "D", "prune_sparsity", "prune_start", "prune_end"]


def _judge(runs: pd.DataFrame) -> LossVerdict:
    rows = _counted(ended_runs(runs))
    cells = _cells(rows)
    behind = _behind(cells)
    sd, degrees = _seed_sd(rows)
    sparse = _over_dense(rows)
    usual = sparse.loc[[tuple(pair) == _CLAIMED for pair in sparse[["prune_start", "prune_end"]].to_numpy()]]
    schedules = _by_schedule(sparse)
    regret = _regret(schedules)
    margin = max(2 * sd, _EQUAL) if degrees else _EQUAL
    claims = _claims(rows, behind, usual, regret, schedules, margin)
    excess = mean_interval(usual.loc[usual["prune_sparsity"].isin(_EQUAL_UP_TO)].groupby(_UNIT)["excess"].mean())
    told = "is not known" if excess.estimate is None else f"is {excess.estimate:+.3f} nats"
    headline = (
        f"Up to 60 % zeros, the loss of a pruned model less that of a dense one of equal mean N {told}:"
        f" {count_of_words(claims)}."
    )
    tables: dict[str, list[dict[str, Any]]] = {
        "Akaike's criterion of the law, less that with the mean N": [
            {"N": _COUNTS[name], "above": each.estimate, "low": each.low, "high": each.high}
            for name, each in behind.items()
        ],
        "loss less that of a dense model of as many parameters in the mean, nats": _pair_rows(usual),
        "the same by schedule, mean of the sparsities 0.6 and 0.8, and how much higher 25-75 % is": _schedule_rows(
            schedules
        ),
    }
    noise = f"{sd:.3f} nats ({degrees} degrees of freedom)" if degrees else "an unknown number of nats"
    notes = (
        f"{len(rows)} finished runs in {len(cells)} cells; a run varies by {noise} about its cell's mean and its text's"
        " level.",
        f"Pairs count as equal within {margin:.3f} nats.",
    )
    drawings = {}
    if len(usual):
        drawings["counts"] = StudyFigure(
            f"The loss at {rows['D'].max():,} tokens against three counts of N: dense models (line), and pruned ones at"
            " their mean, final and initial N. Means over the draws.",
            functools.partial(_counts_figure, cells),
        )
    if len(schedules.columns):
        drawings["schedules"] = StudyFigure(
            "Loss less that of a dense model of as many parameters in the mean, by the share of the run at which zeros"
            " begin and from which there are no more of them; the mean of 60 and 80 % zeros, with 95 % intervals.",
            functools.partial(_schedules_figure, schedules),
        )
    return LossVerdict(headline, claims, {title: rows for title, rows in tables.items() if rows}, notes, drawings)


def _counted(ended: pd.DataFrame) -> pd.DataFrame:
    """Runs with `N_initial`, and `N_final`, what is not zero at the end; norms are never pruned."""
    prunable = 12 * ended["depth"].astype(float) * ended["width"].astype(float) ** 2
    initial = ended["N_nonembedding"].astype(float)
    return ended.assign(N_initial=initial, N_final=initial - ended["prune_sparsity"].astype(float) * prunable)


def _cells(rows: pd.DataFrame) -> pd.DataFrame:
    """The cells: L is the geometric mean over draws."""
    logs = rows.assign(log_loss=np.log(rows["L"]))
    means = logs.groupby([*_CELL, *_COUNTS])["log_loss"].agg(["mean"]).reset_index()
    return means.assign(L=np.exp(means["mean"]))


def _behind(cells: pd.DataFrame) -> dict[str, Interval95]:
    """By how much Akaike's criterion of the law is higher with each other count than with N_average.

    The interval is Vuong's (1989): the differences of the log likelihoods of the cells are taken as independent.
    """
    others = [name for name in _COUNTS if name != "N_average"]
    try:
        known = {name: _log_likelihoods(cells, name) for name in _COUNTS}
    except InputError:
        return dict.fromkeys(others, NOT_KNOWN)
    means = {name: mean_interval(2 * (known["N_average"] - known[name])) for name in others}
    return {
        name: Interval95(*(None if value is None else value * len(cells) for value in mean))
        for name, mean in means.items()
    }


def _log_likelihoods(cells: pd.DataFrame, count: str) -> Float[np.ndarray, "cells"]:
    frame = cells[["D", "L"]].astype(float).assign(N_bar=cells[count].astype(float))
    fitted = solve(_LAW, frame, objective="log_squares")
    return log_likelihood_rows(fitted.problem, fitted.identified.theta)


def _seed_sd(rows: pd.DataFrame) -> tuple[float, int]:
    """The standard deviation of L (nats) about the levels of cell and of draw, and its degrees of freedom."""
    squares, degrees = 0.0, 0
    for _, own in rows.groupby("D"):
        losses = own.pivot_table("L", _CELL[:1] + _CELL[2:], "draw").dropna(axis=1).to_numpy(float)
        if min(losses.shape) < 2:
            continue
        left = losses - losses.mean(axis=1, keepdims=True) - losses.mean(axis=0) + losses.mean()
        squares += float(np.sum(left**2))
        degrees += (losses.shape[0] - 1) * (losses.shape[1] - 1)
    return (float(np.sqrt(squares / degrees)), degrees) if degrees else (0.0, 0)


def _over_dense(rows: pd.DataFrame) -> pd.DataFrame:
    """Pruned runs with `excess`, nats above a dense model that has N_average parameters and read the same text.

    Its loss is read off a parabola of log L in log N through the dense models of that length and draw. `power` is one
    number for all pruned runs of 25 to 75 % there: the k with which dense models of N_initial (N_average/N_initial)^k
    parameters have the losses nearest to theirs.
    """
    parts = [rows.head(0).assign(excess=0.0, power=0.0)]
    for _, own in rows.groupby(_UNIT):
        dense, sparse = own.loc[own["prune_sparsity"] == 0], own.loc[own["prune_sparsity"] > 0]
        if dense["N_initial"].nunique() < _SIZES or sparse.empty:
            continue
        curve = np.polynomial.Polynomial.fit(np.log(dense["N_initial"]), np.log(dense["L"]), 2)
        excess = sparse["L"] - np.exp(curve(np.log(sparse["N_average"].to_numpy(float))))
        claimed = (sparse["prune_start"] == _CLAIMED[0]) & (sparse["prune_end"] == _CLAIMED[1])
        parts.append(sparse.assign(excess=excess, power=_power(curve, sparse.loc[claimed])))
    return pd.concat(parts, ignore_index=True)


def _power(curve: np.polynomial.Polynomial, sparse: pd.DataFrame) -> float:
    if sparse.empty:
        return np.nan
    initial = np.log(sparse["N_initial"].to_numpy(float))
    share = np.log(sparse["N_average"].to_numpy(float)) - initial
    powers = np.linspace(-2, 5, 701)
    misses = curve(initial + powers[:, None] * share) - np.log(sparse["L"].to_numpy(float))
    return float(powers[np.argmin(np.sum(misses**2, axis=1))])


def _by_schedule(sparse: pd.DataFrame) -> pd.DataFrame:
    """Mean excess over the sparsities, a row a draw and a column a schedule, of the lengths that have all schedules."""
    lengths = [d for d, own in sparse.groupby("D") if len(own[["prune_start", "prune_end"]].drop_duplicates()) > 1]
    own = sparse.loc[sparse["D"].isin(lengths)]
    shared = own.groupby(["width", "prune_sparsity"])["prune_start"].transform("nunique") > 1
    table = own.loc[shared].pivot_table("excess", _UNIT, ["prune_start", "prune_end"])
    return table.dropna() if _CLAIMED in table.columns else table.iloc[:, :0]


def _regret(schedules: pd.DataFrame) -> Interval95:
    """By how much the excess of the claimed schedule is above that of the best one.

    It is at most the highest upper limit of its differences from the others, each at 95 %. It is at least the highest
    lower limit, each at 95 % for all of them together (Bonferroni).
    """
    others = [name for name in schedules.columns if name != _CLAIMED]
    if len(schedules) < 2 or not others:
        return NOT_KNOWN
    above = [schedules[_CLAIMED] - schedules[name] for name in others]
    means, uppers = zip(*(_upper(each, 0.975) for each in above), strict=True)
    lowers = [-_upper(-each, 1 - 0.025 / len(others))[1] for each in above]
    return Interval95(*(max(0.0, *numbers) for numbers in (means, lowers, uppers)))


def _upper(values: ArrayLike, probability: float) -> tuple[float, float]:
    """The mean, and the limit below which it truly is with this probability."""
    known = np.asarray(values, float)
    error = known.std(ddof=1) / len(known) ** 0.5
    return float(known.mean()), float(known.mean() + error * stdtrit(len(known) - 1, probability))


def _claims(
    rows: pd.DataFrame,
    behind: Mapping[str, Interval95],
    usual: pd.DataFrame,
    regret: Interval95,
    schedules: pd.DataFrame,
    margin: float,
) -> tuple[JudgedClaim, ...]:
    law = {
        name: within(f"Akaike's criterion with the {_COUNTS[name]} N less that with the mean N", _DECISIVE, None,
                     *each)
        for name, each in behind.items()
    }  # fmt: skip
    pairs = tuple(
        Measured(f"loss with {sparsity:.0%} zeros less that of the dense twin, nats", 0.0, margin,
                 *mean_interval(usual.loc[usual["prune_sparsity"] == sparsity].groupby(_UNIT)["excess"].mean()))
        for sparsity in _EQUAL_UP_TO
    )  # fmt: skip
    units = usual.groupby(_UNIT)["power"].first()
    power = Measured("the power k in N_initial (N_average/N_initial)^k", _POWER, _POWER_MARGIN, *mean_interval(units))
    near = within("loss of 25-75 % above that of the best schedule, nats", None, _NEAR_BEST, *regret)
    said, texts = f"{len(rows)} runs, {len(_cells(rows))} cells", f"{len(units)} texts, each with its dense models"
    return (
        JudgedClaim("JO-1", "the law with the mean N fits dense and pruned models better than with the final N",
                    law["N_final"].ruling, said, (law["N_final"],), ""),
        JudgedClaim("JO-2", "the law with the mean N fits dense and pruned models better than with the initial N",
                    law["N_initial"].ruling, said, (law["N_initial"],), ""),
        JudgedClaim("JO-3", "up to 60 % zeros, pruned and dense models of equal mean N and D have equal losses",
                    together([each.ruling for each in pairs]), texts, pairs,
                    "Equal is within twice the standard deviation of seeds, or 0.01 nats if that is more."),
        JudgedClaim("JO-4", "a pruned model has the loss of a dense one of its mean N", power.ruling, texts, (power,),
                    "With k = 0 the initial N would count; the final N would be k = 1.7 to 2.3."),
        JudgedClaim("JO-5", "pruning from 25 % to 75 % of the run is near the best schedule", near.ruling,
                    f"{len(schedules)} texts, nine schedules", (near,), "They are compared at equal mean N and D."),
    )  # fmt: skip


def _pair_rows(usual: pd.DataFrame) -> list[dict[str, Any]]:
    told = []
    for _, own in usual.groupby(["width", "prune_sparsity", "D"]):
        mean, low, high = mean_interval(own["excess"])
        width, sparsity, tokens = own[["width", "prune_sparsity", "D"]].iloc[0].astype(float)
        group = {"width": int(width), "sparsity": sparsity, "D": int(tokens), "runs": len(own)}
        told.append(group | {"mean": mean, "low": low, "high": high})
    return told


def _schedule_rows(schedules: pd.DataFrame) -> list[dict[str, Any]]:
    told = []
    for start, end in schedules.columns.to_list():
        mean, low, high = mean_interval(schedules[start, end])
        above = mean_interval(schedules[_CLAIMED] - schedules[start, end])
        row = {"start": float(start), "end": float(end), "excess": mean, "low": low, "high": high}
        told.append(row | {"25-75 % is higher by": above.estimate, "from": above.low, "to": above.high})
    return told


def _counts_figure(cells: pd.DataFrame) -> "Figure":
    longest = cells.loc[cells["D"] == cells["D"].max()]
    dense = longest.loc[longest["prune_sparsity"] == 0].sort_values("N_initial")
    sparse = longest.loc[longest["prune_sparsity"] > 0]
    points = {f"pruned, {text} N": Series(sparse[name], sparse["L"], line="") for name, text in _COUNTS.items()}
    series = {"dense": Series(dense["N_initial"], dense["L"]), **points}
    return series_figure(
        series, "parameters that are counted as N", "loss, nats per token", log_x=True, kinds=True,
        title="Pruned models by three counts of N, and dense ones",
    )  # fmt: skip


def _schedules_figure(schedules: pd.DataFrame) -> "Figure":
    ends = sorted({end for _, end in schedules.columns.to_list()})
    series = {}
    for place, end in enumerate(ends):
        starts = sorted(start for start, other in schedules.columns.to_list() if other == end)
        found = [mean_interval(schedules[start, end]) for start in starts]
        at = np.array(starts) + 0.01 * (place - 1)  # beside each other
        estimates, low, high = zip(*found, strict=True)
        series[f"pruning ends at {end:.0%}"] = Series(at, estimates, low, high)
    ticks = {0.0: "0 %", 0.25: "25 %", 0.5: "50 %"}
    return series_figure(
        series, "share of the run at which pruning begins", "loss above that of the dense model, nats", ticks=ticks,
        levels={"dense": 0.0}, title="The loss by when pruning begins and ends",
    )  # fmt: skip


def _world(id_: str, truth: str, count: str, cost: float, *words: tuple[Any, ...]) -> LossWorld:
    """A world in which the loss follows one count of N.

    Args:
        count: the column of that count.
        cost: nats by which a schedule is worse for each quarter of the run that its start or end is off 25 or 75 %.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n = _counted(runs)[count].to_numpy(float)
        start, end = (runs[name].to_numpy(float) for name in ("prune_start", "prune_end"))
        off = np.abs(start - _CLAIMED[0]) + np.abs(end - _CLAIMED[1])
        pruned = runs["prune_sparsity"].to_numpy(float) > 0
        return 1.1 + 6 * n**-0.3 + 60 * tokens**-0.33 + np.where(pruned, cost * off / 0.25, 0.0)

    return LossWorld(id_, truth, loss, numbered("JO", words))


_WORLDS = (
    _world("average", "the mean N says the loss, whatever the schedule", "N_average", 0.0,
           (YES,), (YES,), (YES,), (YES,), (YES, OPEN)),
    _world("middle", "the mean N says the loss, and 25 to 75 % is the best schedule by 0.04 nats", "N_average", 0.04,
           (YES, OPEN), (YES, OPEN), (YES,), (YES,), (YES,)),
    _world("final", "the final N says the loss", "N_final", 0.0, (NO,), (YES, OPEN), (NO,), (NO,), (NO,)),
    _world("initial", "the initial N says the loss: zeros cost nothing", "N_initial", 0.0,
           (YES, OPEN, NO), (NO,), (NO,), (NO,), (NO,)),
)  # fmt: skip

JOURNEY = Paper(_judge, _WORLDS)
