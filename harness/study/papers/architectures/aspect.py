"""The study of shapes: whether width over depth changes the loss by a factor of its power, and foresees larger models.

Bian et al. 2025 (arXiv 2501.18107) fit L = (E + A/N^alpha + B/D^beta) (1 + eps R^gamma), R = width/depth, and found
that it predicts held-out shapes far better than the law without R. The factor is monotone in R, so that the law has no
best shape. The rules are those of `sweeps/studies/aspect/design.md`.
"""

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim
from harness.study.contrasts import NOT_KNOWN, Interval95, log_ratio, mean_interval, slopes
from harness.study.loss_runs import cell_losses, ended_runs, pooled_sd
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import LossWorld, lettered
from harness.study.methods.many_fits import LogModel, fit_many, starts_of_sums, sums_of_powers
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The blocks of runs at the full rate, which are read at their ends.
FULL = ("short", "long")
# Sizes are told apart at these N (without embeddings); the last size is predicted from the others.
SIZE_EDGES = (6e3, 1.8e4, 3.5e4, 9e4)
# Copies of the losses with new errors; the fewest cells and sizes that are fitted.
COPIES, FEWEST_CELLS, FEWEST_SIZES = 200, 12, 3
# How many times less the mean square error is to be.
BETTER = 2.0
# The correlation of ranks that still orders larger shapes, and the mean error that still predicts them.
ORDERED, CLOSE = 0.8, 0.012
# By how much residuals are to be higher so far in log R from the middle of the shapes.
RISES, HALF_RANGE = 0.01, math.log(8.0)
# Starts of the search: log eps and gamma.
_STARTS = ((-3.0, 0.5), (-3.0, -0.5), (-5.0, 1.0), (-3.0, -1.5))


class _Cells(NamedTuple):
    """The cells of the runs at the full rate, in order.

    Attributes:
        n, d, ratio, shape, size: parameters with embeddings, tokens, width over depth, the number of the shape and of
            its size.
        logs: log L, the mean over draws; sd: its standard error, pooled over cells.
    """

    table: pd.DataFrame
    n: Float[np.ndarray, "cells"]
    d: Float[np.ndarray, "cells"]
    ratio: Float[np.ndarray, "cells"]
    shape: np.ndarray
    size: np.ndarray
    logs: Float[np.ndarray, "cells"]
    sd: Float[np.ndarray, "cells"]


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    cells = _cells(ended.loc[ended["block"].isin(FULL)])
    enough = cells is not None and len(cells.n) >= FEWEST_CELLS and len(np.unique(cells.size)) > FEWEST_SIZES
    notes = [
        f"{len(ended)} finished runs; N counts the embedding; losses are those at the end of runs at the full rate."
    ]
    if cells is None or not enough:
        claims = _claims(NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, "too few cells")
        return LossVerdict(f"Too few runs have ended: {count_of_words(claims)}.", claims, {}, tuple(notes))
    left_out = {name: _left_out(cells, aspect) for name, aspect in (("Chinchilla", False), ("aspect", True))}
    ahead = {name: _ahead(cells, aspect) for name, aspect in (("Chinchilla", False), ("aspect", True))}
    fitted = fit_many(_law(cells, True), _starts(cells, True), cells.logs[None])
    residuals = cells.logs - _law(cells, True)(fitted)[0]
    ratio = _ratio_of_squares(cells, left_out)
    ranks, plain_ranks = (_rank_correlation(cells, ahead[name]) for name in ("aspect", "Chinchilla"))
    held, plain_held = (_error_ahead(cells, ahead[name]) for name in ("aspect", "Chinchilla"))
    bend, of_losses = _bend(cells, residuals), _bend(cells, cells.logs)
    claims = _claims(ratio, ranks, held, bend[0], f"{len(cells.n)} cells of {len(np.unique(cells.shape))} shapes")
    times = f"{math.exp(ratio.estimate):.1f} times" if ratio.estimate is not None else "an unknown number of times"
    headline = (
        f"On left-out shapes the law without the shape has {times} the squared error of the law with it:"
        f" {count_of_words(claims)}."
    )
    constants = dict(zip(("E", "A", "alpha", "B", "beta", "eps", "gamma"), _constants(cells, fitted[0]), strict=True))
    laws = [
        {"law": name, "error on left-out shapes": float(np.sqrt(np.mean(left_out[name] ** 2))),
         "error on the largest size": error.estimate, "correlation of ranks there": rank.estimate}
        for name, rank, error in (("Chinchilla", plain_ranks, plain_held), ("aspect", ranks, held))
    ]  # fmt: skip
    bends = [
        {"of": name, "higher at the ends": each.estimate, "low": each.low, "high": each.high, "best R": best}
        for name, (each, best) in (("residuals of the law with the shape", bend), ("losses", of_losses))
    ]
    tables = {
        "how well the laws predict": laws,
        "constants of the law with the shape": [constants],
        "by how much log loss is higher at the ends of the shapes than in the middle": bends,
        "shapes": _shape_rows(cells, residuals),
    }
    drawings = {
        "shapes": StudyFigure(
            "Loss over the mean of its size and length against width over depth: the mean over lengths, by size.",
            functools.partial(_figure, cells, cells.logs, "loss above the mean of the size, %"),
        ),
        "residuals": StudyFigure(
            "Loss over the fitted law with the shape against width over depth: the mean over lengths, by size.",
            functools.partial(_figure, cells, residuals, "loss above the law, %"),
        ),
    }
    sd, degrees = pooled_sd(cells.table)
    spread = f"vary by {sd:.2%} ({degrees} degrees of freedom)" if degrees else "are single"
    notes.append(f"Runs of a cell read other text and {spread}.")
    return LossVerdict(headline, claims, tables, tuple(notes), drawings)


def _cells(ended: pd.DataFrame) -> _Cells | None:
    if ended.empty:
        return None
    table = cell_losses(ended).sort_values(["N_nonembedding", "width", "D"]).reset_index(drop=True)
    n, d = table["N_total"].to_numpy(float), table["D"].to_numpy(float)
    width, depth = table["width"].to_numpy(float), table["depth"].to_numpy(float)
    shape = np.unique(np.stack([width, depth]), axis=1, return_inverse=True)[1].ravel()
    size = np.digitize(table["N_nonembedding"].to_numpy(float), SIZE_EDGES)
    sd = pooled_sd(table)[0]
    errors = (0.0 if math.isnan(sd) else sd) / np.sqrt(table["runs"].to_numpy(float))
    return _Cells(table, n, d, width / depth, shape, size, np.log(table["L"].to_numpy(float)), errors)


def _law(cells: _Cells, aspect: bool) -> LogModel:
    """Log L of Chinchilla's law, with or without the factor of the shape; further coordinates are log eps and gamma."""
    plain = sums_of_powers({"N": cells.n, "D": cells.d})
    log_ratio = np.log(cells.ratio)

    def log_model(theta: Float[np.ndarray, "fits constants"]) -> Float[np.ndarray, "fits rows"]:
        factor = np.log1p(np.exp(np.minimum(theta[:, 5:6] + theta[:, 6:7] * log_ratio, 20.0)))
        return plain(theta) + factor

    return log_model if aspect else plain


def _starts(cells: _Cells, aspect: bool) -> list[list[float]]:
    plain = starts_of_sums(cells.logs, 2)
    return [[*start, *more] for start in plain for more in _STARTS] if aspect else plain


def _constants(cells: _Cells, theta: Float[np.ndarray, "constants"]) -> list[float]:
    """E, A, alpha, B, beta, eps and gamma in their own units."""
    floor, level_n, power_n, level_d, power_d, eps = np.exp(theta[:6])
    a, b = (level * np.exp(power * np.log(x).mean()) for level, power, x in
            ((level_n, power_n, cells.n), (level_d, power_d, cells.d)))  # fmt: skip
    return [float(value) for value in (floor, a, power_n, b, power_d, eps, theta[6])]


def _left_out(cells: _Cells, aspect: bool) -> Float[np.ndarray, "cells"]:
    """Log L less that of the law fitted to all other shapes, for each cell."""
    shapes = np.unique(cells.shape)
    weights = (cells.shape[None] != shapes[:, None]).astype(float)
    model = _law(cells, aspect)
    theta = fit_many(model, _starts(cells, aspect), np.tile(cells.logs, (len(shapes), 1)), weights)
    off = cells.logs - model(theta)
    return off[np.searchsorted(shapes, cells.shape), np.arange(len(cells.logs))]


def _ratio_of_squares(cells: _Cells, off: Mapping[str, np.ndarray]) -> Interval95:
    """The log of the mean square error without the shape over that with it; each shape is one independent unit."""
    plain, shaped = (
        np.array([np.mean(off[name][cells.shape == shape] ** 2) for shape in np.unique(cells.shape)])
        for name in ("Chinchilla", "aspect")
    )
    return log_ratio(plain, shaped)


def _ahead(cells: _Cells, aspect: bool) -> Float[np.ndarray, "copies cells"]:
    """Log of the predicted over the measured loss by the law of the smaller sizes; then that of copies with errors."""
    rng = np.random.default_rng(0)
    logs = np.tile(cells.logs, (COPIES + 1, 1))
    logs[1:] += cells.sd * rng.standard_normal((COPIES, len(cells.logs)))
    weights = np.tile((cells.size < cells.size.max()).astype(float), (COPIES + 1, 1))
    model = _law(cells, aspect)
    theta = fit_many(model, _starts(cells, aspect), logs, weights)
    return model(theta) - logs


def _rank_correlation(cells: _Cells, ahead: Float[np.ndarray, "copies cells"]) -> Interval95:
    """Spearman's correlation of predicted and measured losses of the largest size: of their means over lengths."""
    largest = cells.size == cells.size.max()
    shapes = np.unique(cells.shape[largest])
    if len(shapes) < FEWEST_SIZES:
        return NOT_KNOWN
    rng = np.random.default_rng(0)
    measured = np.tile(cells.logs, (COPIES + 1, 1))
    measured[1:] += cells.sd * rng.standard_normal((COPIES, len(cells.logs)))
    means = np.array(
        [
            [(values[:, cells.shape == shape]).mean(axis=1) for shape in shapes]
            for values in (measured, measured + ahead)
        ]
    )
    first, second = rankdata(means, axis=1)
    correlations = [round(float(np.corrcoef(a, b)[0, 1]), 9) for a, b in zip(first.T, second.T, strict=True)]
    low, high = np.percentile(correlations[1:], [2.5, 97.5])
    return Interval95(correlations[0], float(low), float(high))


def _error_ahead(cells: _Cells, ahead: Float[np.ndarray, "copies cells"]) -> Interval95:
    """The mean absolute log error of the shapes of the largest size; each shape is one independent unit."""
    largest = cells.size == cells.size.max()
    errors = [np.abs(ahead[0, cells.shape == shape]).mean() for shape in np.unique(cells.shape[largest])]
    return mean_interval(errors).clip(least=0.0)


def _by_shape(cells: _Cells, values: Float[np.ndarray, "cells"]) -> pd.DataFrame:
    """Rows of shapes: size, ratio, and the mean over lengths of the values less the mean of their size and length."""
    table = pd.DataFrame(
        {"size": cells.size, "ratio": cells.ratio, "shape": cells.shape, "D": cells.d, "value": values}
    )
    table["off"] = table["value"] - table.groupby(["size", "D"])["value"].transform("mean")
    return table.groupby("shape").agg(size=("size", "first"), ratio=("ratio", "first"), off=("off", "mean"),
                                      value=("value", "mean")).sort_values(["size", "ratio"])  # fmt: skip


def _bend(cells: _Cells, values: Float[np.ndarray, "cells"]) -> tuple[Interval95, float | None]:
    """By how much values are higher HALF_RANGE away from the middle in log R, and the R at which they are least.

    From a parabola in log R through the means of the shapes, with a level for each size; None if it has no least value.
    """
    shapes = _by_shape(cells, values)
    log = np.log(shapes["ratio"].to_numpy(float))
    linear, square = slopes(np.column_stack([log, log**2]), shapes["value"].to_numpy(float), shapes["size"].to_numpy())
    if square.estimate is None or linear.estimate is None:
        return NOT_KNOWN, None
    scaled = Interval95(*(None if each is None else each * HALF_RANGE**2 for each in square))
    return scaled, math.exp(-linear.estimate / (2 * square.estimate)) if square.estimate > 0 else None


def _shape_rows(cells: _Cells, residuals: Float[np.ndarray, "cells"]) -> list[dict[str, float | int]]:
    of_losses, of_law = _by_shape(cells, cells.logs), _by_shape(cells, residuals)
    first = cells.table.groupby(cells.shape)[["N_nonembedding", "width", "depth"]].first().reindex(of_losses.index)
    columns = {
        "N": first["N_nonembedding"], "width": first["width"], "depth": first["depth"], "R": of_losses["ratio"],
        "log loss less the mean of the size": of_losses["off"], "log loss less the law's": of_law["value"],
    }  # fmt: skip
    return [
        dict(zip(columns, row, strict=True)) for row in zip(*(each.tolist() for each in columns.values()), strict=True)
    ]


def _claims(
    ratio: Interval95,
    ranks: Interval95,
    held: Interval95,
    bend: Interval95,
    rows: str,
) -> tuple[JudgedClaim, ...]:
    judged: tuple[tuple[str, str, DecidingNumber], ...] = (
        ("AS-1", "with the shape the law has half the squared error on left-out shapes",
         within("log of the squared error without the shape over that with it", math.log(BETTER), None,
                *ratio)),
        ("AS-2", "the law with the shape orders the shapes of a larger size",
         within("rank correlation of predicted and measured losses of shapes", ORDERED, 1.0, *ranks)),
        ("AS-3", "the law with the shape predicts the losses of a larger size",
         within("mean error of log loss on the largest size", 0.0, CLOSE, *held)),
        ("AS-4", "the residuals of that law rise to both ends of the shapes",
         within("residuals of log loss at the ends less those in the middle", RISES, None, *bend)),
    )  # fmt: skip
    return tuple(JudgedClaim(id_, claim, each.ruling, rows, (each,), "") for id_, claim, each in judged)


def _figure(cells: _Cells, values: Float[np.ndarray, "cells"], label: str) -> "Figure":
    series = {}
    for size, own in _by_shape(cells, values).groupby("size"):
        if len(own) > 1:
            n = cells.table["N_nonembedding"].to_numpy(float)[cells.size == size].mean()
            height = own["off"] if values is cells.logs else own["value"]
            series[f"N = {n:,.0f}"] = Series(own["ratio"], 100 * np.expm1(height))
    ticks = {2.0: "2", 8.0: "8", 32.0: "32", 128.0: "128"}
    level = {"mean" if values is cells.logs else "law": 0.0}
    return series_figure(
        series, "width over depth", label, log_x=True, ticks=ticks, levels=level,
        title="Losses by the shape of the model",
    )  # fmt: skip


def _world(id_: str, truth: str, words: str, *, eps: float = 0.0, gamma: float = 0.5, bend: float = 0.0) -> LossWorld:
    """A world of the law of shape, with a parabola in log R about R = 12 besides.

    Args:
        words: of the claims in order, in the letters of `lettered`.
        bend: by how much log loss is higher HALF_RANGE from R = 12.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n, width, depth = (runs[name].to_numpy(float) for name in ("N_total", "width", "depth"))
        cool = np.where(runs["D"].to_numpy(float) * 0.8 < tokens, 0.95, 1.0)
        plain = 1.2 + 0.6 * (n / 2e4) ** -0.35 + 0.8 * (tokens / 3e5) ** -0.35
        ratio = width / depth
        return plain * cool * (1 + eps * ratio**gamma) * np.exp(bend * (np.log(ratio / 12) / HALF_RANGE) ** 2)

    return LossWorld(id_, truth, loss, lettered("AS", words))


_WORLDS = (
    _world("published", "the law of shape: a factor 1 + 0.02 R^0.5", "YYyN", eps=0.02),
    # Shapes of one size differ in N with the embedding: exact losses have an order, which their errors hide.
    _world("none", "the shape does not matter", "N?yN"),
    _world("best_shape", "losses are least at R = 12, and 5 % higher at 8 times more and less", "nn?Y", bend=0.05),
)

ASPECT = Paper(_judge, _WORLDS)
