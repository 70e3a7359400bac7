"""The study of direct feedback alignment: whether it is worth its cheaper step at any compute.

The claim is that of Filipovich et al. 2022 (arXiv 2210.14593): at no compute does it beat backpropagation, even if its
step is counted as 4 N D FLOPs and that of backpropagation as 6 N D. The rules are those of
`sweeps/studies/backprop/design.md`.
"""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import stdtrit

from harness.fit.gap_law.rulings import JudgedClaim, Ruling
from harness.study.contrasts import NOT_KNOWN, Interval95, slopes
from harness.study.loss_runs import ended_runs, pooled_sd
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The arms: FLOPs a parameter and token, of direct feedback without those that it can do without; and their names.
_FLOPS = {"backward": 6, "direct": 4}
_NAMES = {"backward": "backpropagation, 6 N D", "direct": "direct feedback, 4 N D"}
_CELL = ["feedback_kind", "width", "D"]
# The log of the ratio of losses may fall by so little for each factor e of compute and still counts as level.
_LEVEL = 0.005
# How far beyond the largest compute fronts are not to cross, and in which share of resamplings.
_BEYOND, _SURE, _RESAMPLINGS = 1e3, 0.95, 1000
_AT = 1e11  # FLOPs at which the level of a front is told
_FEWEST = 4  # cells of a front to which lines are fitted
_POWERS = np.linspace(0.01, 1.0, 67)  # of compute, which are tried above a floor


class _Front(NamedTuple):
    """The cells of an arm that no cell of fewer FLOPs beats, and the curves through them.

    Attributes:
        flops, log_loss: of the cells.
        line: level and a of log L = level - a log(C / _AT).
        lines: the same in resamplings of the cells' scatter about that line.
        floors: E, A and a of L = E + A (C / _AT)^-a in those.
    """

    flops: Float[np.ndarray, "cells"]
    log_loss: Float[np.ndarray, "cells"]
    line: Float[np.ndarray, "2"]
    lines: Float[np.ndarray, "resamplings 2"]
    floors: Float[np.ndarray, "resamplings 3"]


def _judge(runs: pd.DataFrame) -> LossVerdict:
    ended = ended_runs(runs)
    cells = _cells(ended)
    best = cells.loc[cells.groupby(_CELL)["log_loss"].idxmin()].reset_index(drop=True)
    arms = {kind: best.loc[best["feedback_kind"] == kind].sort_values("flops") for kind in _FLOPS}
    fronts = {kind: front for kind, own in arms.items() if (front := _front(own)) is not None}
    least, compared = _least_ratio(arms)
    pairs = _pairs(ended, best)
    grows = slopes(np.log(pairs["flops_6nd"]), pairs["effect"], pairs["ratio"])[0]
    claims = _claims(least, compared, pairs, grows, _shares_apart(fronts))
    told = (
        f"is {np.expm1(pairs['effect'].mean()):.0%} above that with backpropagation"
        if len(pairs)
        else "was not compared"
    )
    headline = f"At equal N and D the loss with direct feedback {told}: {count_of_words(claims)}."
    rates = _rate_rows(cells, best)
    tables = {
        "fronts: L = L_0 (C/1e11)^-a, and L = E + A C^-a": [_front_row(kind, front) for kind, front in fronts.items()],
        "log loss of direct feedback (4 N D) less that of backpropagation (6 N D), by compute": compared,
        "the same at equal N and D, each at its best rate": _pair_rows(pairs),
        "best learning rates": rates,
    }
    drawings = {}
    if fronts:
        drawings["fronts"] = StudyFigure(
            "Loss against compute: every size and length at its best rate (points), and the power law (line) through"
            " those that none of less compute beats.",
            functools.partial(_fronts_figure, arms, fronts),
        )
    if len(pairs):
        drawings["ratio"] = StudyFigure(
            "How much higher the loss of direct feedback is at equal N and D, against compute.",
            functools.partial(_ratio_figure, pairs),
        )
    off = sum(row["place"] != "middle" for row in rates)
    notes = (f"{len(ended)} finished runs; in {off} of {len(rates)} cells the best rate is not the middle one.",)
    return LossVerdict(headline, claims, {title: rows for title, rows in tables.items() if rows}, notes, drawings)


def _cells(ended: pd.DataFrame) -> pd.DataFrame:
    """The cells at each rate: mean and variance of log L over draws, `runs`, and `flops` as the arm counts them."""
    logs = ended.assign(log_loss=np.log(ended["L"]))
    grouped = logs.groupby([*_CELL, "lr", "flops_6nd"])["log_loss"].agg(["mean", "var", "size"]).reset_index()
    flops = grouped["flops_6nd"] * np.array([_FLOPS[kind] for kind in grouped["feedback_kind"]]) / 6
    return grouped.assign(flops=flops).rename(columns={"mean": "log_loss", "var": "log_variance", "size": "runs"})


def _on_front(own: pd.DataFrame) -> np.ndarray:
    """Which cells, in the order of their FLOPs, have a lower loss than all of fewer FLOPs."""
    loss = own["log_loss"].to_numpy(float)
    return loss < np.minimum.accumulate(np.append(np.inf, loss))[:-1]


def _front(own: pd.DataFrame) -> _Front | None:
    """The front of an arm, from its cells in the order of their FLOPs; None if it has too few."""
    flops, loss = own.loc[_on_front(own), ["flops", "log_loss"]].to_numpy(float).T
    if len(flops) < _FEWEST:
        return None
    rng, degrees = np.random.default_rng(0), len(flops) - 2
    design = np.column_stack([np.ones(len(flops)), -np.log(flops / _AT)])
    solve = np.linalg.pinv(design).T
    fitted = design @ (loss @ solve)
    scatter = np.sqrt(np.sum((loss - fitted) ** 2) / rng.chisquare(degrees, _RESAMPLINGS))
    drawn = fitted + scatter[:, None] * rng.standard_normal((_RESAMPLINGS, len(flops)))
    return _Front(flops, loss, loss @ solve, drawn @ solve, _with_floor(flops / _AT, np.exp(drawn)))


def _with_floor(x: Float[np.ndarray, "cells"], losses: Float[np.ndarray, "rows cells"]) -> Float[np.ndarray, "rows 3"]:
    """E, A and a of L = E + A x^-a with the least squared relative errors, E and A not negative, for each row."""
    found, least = np.zeros((len(losses), 3)), np.full(len(losses), np.inf)
    weight = losses**-2.0
    for power in _POWERS:
        shape = x**-power
        ones, cross, square = weight.sum(1), weight @ shape, weight @ shape**2
        first, second = (weight * losses).sum(1), (weight * losses) @ shape
        floor = np.maximum((square * first - cross * second) / (ones * square - cross**2), 0.0)
        height = np.maximum((second - floor * cross) / square, 0.0)
        errors = np.sum(weight * (floor[:, None] + height[:, None] * shape - losses) ** 2, axis=1)
        better = errors < least
        found[better] = np.column_stack([floor, height, np.full(len(losses), power)])[better]
        least = np.minimum(errors, least)
    return found


def _least_ratio(arms: Mapping[str, pd.DataFrame]) -> tuple[Interval95, list[dict[str, Any]]]:
    """The least log of the ratio of losses, over the compute of every cell of a front that lies within both fronts.

    Fronts are lines in logs between their cells. The least ratio is at least the lowest lower limit, each at 95 %, and
    at most the lowest upper limit, each at 95 % for all of them together (Bonferroni).
    """
    spreads = {kind: pooled_sd(own) for kind, own in arms.items()}
    degrees = min(each[1] for each in spreads.values())
    if not degrees:
        return NOT_KNOWN, []
    lows, highs = ([float(end(own["flops"])) for own in arms.values()] for end in (min, max))
    grid = np.unique(np.concatenate([own.loc[_on_front(own), "flops"].to_numpy(float) for own in arms.values()]))
    grid = grid[(grid >= max(lows)) & (grid <= min(highs))]
    if not len(grid):
        return NOT_KNOWN, []
    found = {kind: _between(own.loc[_on_front(own)], spreads[kind][0], grid) for kind, own in arms.items()}
    ratio = found["direct"][0] - found["backward"][0]
    error = np.hypot(found["direct"][1], found["backward"][1])
    half, wide = (error * stdtrit(degrees, 1 - share) for share in (0.025, 0.025 / len(grid)))
    columns = {"FLOPs": grid, "log of the ratio": ratio, "low": ratio - half, "high": ratio + half}
    rows = [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    return Interval95(float(ratio.min()), float((ratio - half).min()), float((ratio + wide).min())), rows


def _between(
    front: pd.DataFrame, spread: float, flops: Float[np.ndarray, "places"]
) -> tuple[Float[np.ndarray, "places"], Float[np.ndarray, "places"]]:
    """Log L on a front, and its standard error; `spread` is the standard deviation of log L of one run."""
    weights = np.array([np.interp(np.log(flops), np.log(front["flops"]), each) for each in np.eye(len(front))])
    variance = spread**2 / front["runs"].to_numpy(float)
    return front["log_loss"].to_numpy(float) @ weights, np.sqrt(variance @ weights**2)


def _pairs(ended: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """Sizes and lengths with `effect`, the mean over draws of the log loss of direct feedback less the other's."""
    runs = ended.merge(best[[*_CELL, "lr"]], on=[*_CELL, "lr"])
    sizes = ["width", "D", "N_nonembedding", "flops_6nd"]
    losses = runs.pivot_table("L", [*sizes, "draw"], "feedback_kind").reindex(columns=list(_FLOPS)).dropna()
    logs = losses.assign(effect=np.log(losses["direct"] / losses["backward"])).reset_index()
    means = logs.groupby(sizes)["effect"].agg(["mean", "size"]).reset_index()
    means = means.rename(columns={"mean": "effect", "size": "pairs"})
    return means.assign(ratio=(means["D"] / means["N_nonembedding"]).astype(float).round(-1))


def _shares_apart(fronts: Mapping[str, _Front]) -> tuple[float, float] | None:
    """The shares of resamplings in which direct feedback has more loss up to `_BEYOND` times the largest compute.

    The first is of power laws, the second of power laws above a floor. None if a front is not known.
    """
    if len(fronts) < len(_FLOPS):
        return None
    first = max(front.flops[0] for front in fronts.values())
    x = np.geomspace(first, _BEYOND * max(front.flops[-1] for front in fronts.values()), 60) / _AT
    lines, floors = {}, {}
    for kind, front in fronts.items():
        lines[kind] = np.exp(front.lines[:, :1] - front.lines[:, 1:] * np.log(x))
        floors[kind] = front.floors[:, :1] + front.floors[:, 1:2] * x ** -front.floors[:, 2:]
    apart = [(losses["direct"] > losses["backward"]).all(axis=1) for losses in (lines, floors)]
    return float(apart[0].mean()), float(apart[1].mean())


def _claims(
    least: Interval95,
    compared: list[dict[str, Any]],
    pairs: pd.DataFrame,
    grows: Interval95,
    apart: tuple[float, float] | None,
) -> tuple[JudgedClaim, ...]:
    worse = within("the log of the ratio of losses where it is least", 0.0, None, *least)
    stays = within("the change of the log ratio of losses for each factor e of compute", -_LEVEL, None, *grows)
    word, reason = _crossing(apart)
    return (
        JudgedClaim("BP-1", "at every compute direct feedback (4 N D) has more loss than backpropagation (6 N D)",
                    worse.ruling, f"{len(compared)} amounts of compute", (worse,), ""),
        JudgedClaim("BP-2", "the ratio of their losses grows with compute, or stays", stays.ruling,
                    f"{len(pairs)} pairs of cells at equal N and D", (stays,), ""),
        JudgedClaim("BP-3", "their fronts do not cross up to 1,000 times the largest compute", word,
                    "the cells of each front", (), reason),
    )  # fmt: skip


def _crossing(apart: tuple[float, float] | None) -> tuple[Ruling, str]:
    """Whether the power laws stay apart in nearly all resamplings, in nearly none, or in between."""
    if apart is None:
        return Ruling.NOT_RESOLVED, "There are too few cells for a front."
    text = f"Power laws stay apart in {apart[0]:.0%} of resamplings, power laws above a floor in {apart[1]:.0%}."
    if apart[0] >= _SURE:
        return Ruling.SUPPORTED, text
    return (Ruling.NOT_SUPPORTED if apart[0] <= 1 - _SURE else Ruling.NOT_RESOLVED), text


def _front_row(kind: str, front: _Front) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": _NAMES[kind], "cells": len(front.flops)}
    numbers = {"L_0": np.exp(front.lines[:, 0]), "a": front.lines[:, 1]}
    numbers |= {"E": front.floors[:, 0], "a above E": front.floors[:, 2]}
    for name, drawn in numbers.items():
        low, middle, high = map(float, np.quantile(drawn, [0.025, 0.5, 0.975]))
        row |= {name: middle, f"{name} low": low, f"{name} high": high}
    return row


def _pair_rows(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    names = ("width", "D", "ratio", "flops_6nd", "pairs", "effect")
    return [dict(zip(names, map(float, row), strict=True)) for row in pairs[list(names)].to_numpy()]


def _rate_rows(cells: pd.DataFrame, best: pd.DataFrame) -> list[dict[str, Any]]:
    """The best rate of each cell, and where it lies among those that were tried."""
    told = []
    for kind, width, tokens, lr in best[[*_CELL, "lr"]].itertuples(index=False):
        tried = cells.loc[(cells["feedback_kind"] == kind) & (cells["width"] == width) & (cells["D"] == tokens), "lr"]
        place = "lowest" if lr == tried.min() else "highest" if lr == tried.max() else "middle"
        told.append({"arm": kind, "width": int(width), "D": int(tokens), "rate": float(lr), "place": place})
    return told


def _fronts_figure(arms: Mapping[str, pd.DataFrame], fronts: Mapping[str, _Front]) -> "Figure":
    series = {}
    for kind, front in fronts.items():
        flops = arms[kind]["flops"].to_numpy(float)
        ends = np.array([flops[0], flops[-1]])
        series[_NAMES[kind]] = Series(flops, np.exp(arms[kind]["log_loss"]), line="", of=kind)
        line = np.exp(front.line[0] - front.line[1] * np.log(ends / _AT))
        series[f"as C$^{{-{front.line[1]:.3f}}}$"] = Series(ends, line, mark="", of=kind)
    return series_figure(
        series, "training compute C, FLOPs", "loss, nats per token", log_x=True, kinds=True,
        title="The best losses at each compute",
    )  # fmt: skip


def _ratio_figure(pairs: pd.DataFrame) -> "Figure":
    groups = pairs.sort_values("flops_6nd").groupby("ratio")
    series = {
        f"D = {own['ratio'].iloc[0]:.0f} N": Series(own["flops_6nd"], 100 * np.expm1(own["effect"]))
        for _, own in groups
    }
    return series_figure(
        series, "training compute 6 N D, FLOPs", "loss with direct feedback above\nthat with backpropagation, %",
        log_x=True, kinds=True, title="What direct feedback costs at equal N and D",
    )  # fmt: skip


def _world(id_: str, truth: str, gap: float, grows: float, *words: tuple[Ruling, ...]) -> LossWorld:
    """A world in which direct feedback has more loss at equal N and D.

    Args:
        gap: by how much log loss is higher, at 1e11 FLOPs.
        grows: by how much that grows for each factor e of compute.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n, flops = runs["N_nonembedding"].to_numpy(float), runs["flops_6nd"].to_numpy(float)
        direct = runs["feedback_kind"].to_numpy(str) == "direct"
        rate = runs["lr"].to_numpy(float) * runs["width"].to_numpy(float) / 32 / np.where(direct, 0.016, 0.008)
        more = np.where(direct, gap + grows * np.log(flops / 1e11), 0.0) + 0.02 * np.log2(rate) ** 2
        return (0.8 + 6 * n**-0.3 + 60 * tokens**-0.33) * np.exp(more)

    return LossWorld(id_, truth, loss, numbered("BP", words))


_WORLDS = (
    _world("widening", "15 % more loss at 1e11 FLOPs, and ever more", 0.15, 0.02, (YES,), (YES,), (YES,)),
    _world("level", "15 % more loss at any compute", 0.15, 0.0, (YES,), (YES, OPEN), (YES,)),
    _world("catching_up", "15 % more loss at 1e11 FLOPs, less beyond", 0.15, -0.04, (YES, OPEN), (NO,), (NO, OPEN)),
    _world("cheaper", "the same loss at equal N and D", 0.0, 0.0, (NO,), (YES, OPEN), (NO, OPEN)),
)

BACKPROP = Paper(_judge, _WORLDS)
