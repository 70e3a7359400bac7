"""The study of frozen parameters: whether the number of trainable parameters alone decides the loss.

The claim is that of Hesslow and Poli 2021: parameters that stay at random first values add nothing. A law counts one of
them as kappa trainable ones, L = E + A (N_trainable + kappa N_frozen)^-alpha, and the claim is that kappa is 0. Pairs
of runs with equally many trainable parameters, one of them in a model twice as large, ask the same without a law. The
rules are those of `sweeps/studies/trainable/design.md`.
"""

import functools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import fdtri

from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling
from harness.fit.results.shown import number, span
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Blocks: nothing or a random share of every matrix is frozen; a wider feed-forward layer is frozen in part or trained.
_SHARES, _WIDER, _WIDER_TRAINED = "shares", "wider", "wider_trained"
# The rate of dense models, times their width.
_DENSE_RATE = 0.257
# A frozen parameter is to count for less than this, and twice the parameters are to change the loss by less than that.
_A_QUARTER, _SAME = 0.25, 0.01
# Where kappa and alpha are searched.
_KAPPAS, _ALPHAS = np.linspace(-0.3, 3.0, 661), np.linspace(0.02, 1.5, 75)
_Numbers = Float[np.ndarray, "cells"]


def _kappa_of(trainable: _Numbers, frozen: _Numbers, loss: _Numbers) -> Interval95:
    """kappa of L = E + A (trainable + kappa frozen)^-alpha by least relative squares, with its profile interval.

    A value is in the interval if an F test does not reject it. A limit beyond the values that are searched is none.
    """
    degrees = len(loss) - 4
    if degrees < 1 or len(np.unique(trainable[frozen == 0])) < 2 or not (frozen > 0).any():
        return NOT_KNOWN
    counts = trainable + _KAPPAS[:, None] * frozen
    allowed = (counts > 0).all(axis=1)
    kappas, counts = _KAPPAS[allowed], counts[allowed]
    # At given kappa and alpha the law is linear in E and A: a weighted regression on one column.
    power = np.exp(-_ALPHAS[:, None] * np.log(counts / trainable.max())[:, None, :])
    weights = loss**-2 / np.sum(loss**-2)
    inside = power - np.sum(weights * power, axis=-1, keepdims=True)
    level = loss - np.sum(weights * loss)
    slope = np.maximum(np.sum(weights * inside * level, axis=-1) / np.sum(weights * inside**2, axis=-1), 0.0)
    squares = np.sum((level - slope[..., None] * inside) ** 2 / loss**2, axis=-1).min(axis=1)
    best = int(squares.argmin())
    if best in (0, len(kappas) - 1):
        return NOT_KNOWN
    held = kappas[squares <= squares[best] * (1 + float(fdtri(1, degrees, 0.95)) / degrees)]
    low, high = (None if end in (kappas[0], kappas[-1]) else float(end) for end in (held[0], held[-1]))
    return Interval95(float(kappas[best]), low, high)


def _at_best_rate(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of each cell at the rate with the lower mean of log loss."""
    cell = ["block", "width", "D", "freeze_share"]
    logs = runs.assign(log_loss=np.log(runs["L"]))
    logs = logs.assign(mean=logs.groupby([*cell, "lr"])["log_loss"].transform("mean"))
    return logs.loc[logs["mean"] == logs.groupby(cell)["mean"].transform("min")]


def _cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Cells of runs at one rate each: L is the geometric mean over draws, `frozen` the parameters not trained."""
    keys = ["width", "D", "freeze_share", "lr", "N_total", "N_nonembedding", "N_trainable"]
    cells = runs.assign(log_loss=np.log(runs["L"])).groupby(keys)["log_loss"].agg(["mean", "size"]).reset_index()
    frozen = (cells["N_total"] - cells["N_trainable"]).astype(float)
    return cells.assign(L=np.exp(cells["mean"]), frozen=frozen).rename(columns={"size": "runs"})


def _kappa(cells: pd.DataFrame, embedding: bool = True) -> Interval95:
    """kappa of cells with all parameters, or with those without the embedding, of which the same share is frozen."""
    trainable, frozen = (cells[name].to_numpy(float) for name in ("N_trainable", "frozen"))
    scale = 1.0 if embedding else cells["N_nonembedding"].to_numpy(float) / cells["N_total"].to_numpy(float)
    return _kappa_of(trainable * scale, frozen * scale, cells["L"].to_numpy(float))


def _paired(larger: pd.DataFrame, dense: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Runs with dense ones of the same draw, tokens and further keys.

    `effect` is the log loss of the run less that of the dense one, `times` the ratio of all their parameters.
    """
    both = larger.merge(dense, on=["draw", "seed", "D", *keys], suffixes=("", "_dense"))
    return both.assign(effect=np.log(both["L"] / both["L_dense"]), times=both["N_total"] / both["N_total_dense"])


def _same_trainable(frozen: pd.DataFrame, dense: pd.DataFrame) -> pd.DataFrame:
    """Frozen runs with dense ones that have as many trainable parameters, to 1 %."""
    both = _paired(frozen, dense)
    return both.loc[np.abs(np.log(both["N_trainable"] / both["N_trainable_dense"])) < 0.01]


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    longest = float(ended["D"].to_numpy(float).max())
    best = _at_best_rate(ended)
    of = {name: best.loc[best["block"] == name] for name in (_SHARES, _WIDER, _WIDER_TRAINED)}
    is_dense = of[_SHARES]["freeze_share"] == 0
    dense, shares = of[_SHARES].loc[is_dense], of[_SHARES].loc[~is_dense]
    cells = _cells(of[_SHARES])
    last = cells.loc[cells["D"] == longest]
    pairs = {
        "a random share of every matrix is frozen": _same_trainable(shares, dense),
        "a part of a wider feed-forward layer is frozen": _same_trainable(of[_WIDER], dense),
        "a wider feed-forward layer is trained": _paired(of[_WIDER_TRAINED], dense, "width"),
    }
    random, columns, _ = (own.loc[(own["D"] == longest) & own["times"].between(1.7, 2.3)] for own in pairs.values())
    kappa = _kappa(last)
    claims = _claims(kappa, len(last), random, columns)
    tables = {
        "kappa, what a frozen parameter counts of a trainable one": _kappa_rows(ended, cells, longest),
        "log loss of the larger model less that of the dense one": [
            row for name, own in pairs.items() for row in _pair_rows(name, own)
        ],
        "cells at the better rate": [
            {name: float(cell[name]) for name in ("width", "D", "freeze_share", "N_trainable", "N_total", "L", "runs")}
            | {"rate over that of dense models": float(cell["lr"]) * float(cell["width"]) / _DENSE_RATE}
            for cell in cells.to_dict("records")
        ],
    }
    said = "an unknown share" if kappa.estimate is None else f"{number(kappa.estimate)} {span(kappa.low, kappa.high)}"
    headline = f"A frozen parameter counts as {said} of a trainable one: {count_of_words(claims)}."
    notes = (f"{len(ended)} finished runs; claims are judged on those of {longest:,.0f} tokens.",)
    drawings = {}
    if len(last):
        drawings = {
            "trainable": StudyFigure(
                f"Loss after {longest:,.0f} tokens against the number of trainable parameters, by the share of every"
                " matrix that is frozen. If that number were all that matters, all points would lie on one curve.",
                functools.partial(_figure, last, "N_trainable", "trainable parameters"),
            ),
            "total": StudyFigure(
                "The same against the number of all parameters, frozen ones included.",
                functools.partial(_figure, last, "N_total", "all parameters"),
            ),
        }
    return LossVerdict(headline, claims, {title: rows for title, rows in tables.items() if rows}, notes, drawings)


def _claims(kappa: Interval95, cells: int, random: pd.DataFrame, columns: pd.DataFrame) -> tuple[JudgedClaim, ...]:
    counts = Measured("the share kappa of a trainable parameter that a frozen one counts as", 0.0, _A_QUARTER, *kappa)
    nothing = counts.ruling if kappa.holds(0.0) else OPEN if kappa.estimate is None else Ruling.NOT_SUPPORTED
    name = "log loss of the model with twice the parameters less that of the dense one"
    one, other = (Measured(name, 0.0, _SAME, *mean_interval(pairs["effect"])) for pairs in (random, columns))
    said, pairs = f"{cells} cells", "{} pairs of runs with equally many trainable parameters"
    return (
        JudgedClaim("TR-1", "a frozen parameter counts for less than a quarter of a trainable one", counts.ruling,
                    said, (counts,), ""),
        JudgedClaim("TR-2", "a frozen parameter counts for nothing", nothing, said, (counts,),
                    "The interval must hold 0 and lie within the margin; one without 0 contradicts."),
        JudgedClaim("TR-3", "frozen numbers at random places of every matrix change nothing", one.ruling,
                    pairs.format(len(random)), (one,), ""),
        JudgedClaim("TR-4", "frozen numbers that widen the feed-forward layers change nothing", other.ruling,
                    pairs.format(len(columns)), (other,), ""),
    )  # fmt: skip


def _kappa_rows(ended: pd.DataFrame, cells: pd.DataFrame, longest: float) -> list[dict[str, object]]:
    last = cells.loc[cells["D"] == longest]
    found = {
        f"{tokens:,.0f} tokens": (own, _kappa(own))
        for tokens, own in ((tokens, cells.loc[cells["D"] == tokens]) for tokens in sorted(cells["D"].unique()))
    }
    found["counted without the embedding"] = last, _kappa(last, embedding=False)
    usual = np.abs(np.log(ended["lr"] * ended["width"] / _DENSE_RATE)) < 0.05
    own = _cells(ended.loc[usual & (ended["block"] == _SHARES) & (ended["D"] == longest)])
    found["all at the rate of dense models"] = own, _kappa(own)
    for low, high in ((0.1, 0.4), (0.4, 0.6), (0.6, 0.9)):
        own = last.loc[(last["freeze_share"] == 0) | last["freeze_share"].between(low, high)]
        found[f"dense models and shares from {low} to {high}"] = own, _kappa(own)
    return [
        {"of": name, "cells": len(own), "kappa": each.estimate, "low": each.low, "high": each.high}
        for name, (own, each) in found.items()
    ]


def _pair_rows(name: str, pairs: pd.DataFrame) -> list[dict[str, object]]:
    rows = []
    for _, own in pairs.groupby(["D", pairs["times"].round()]):
        mean, low, high = mean_interval(own["effect"])
        sizes = {"tokens": float(own["D"].to_numpy()[0]), "times all": float(np.mean(own["times"]))}
        told = {"pairs": len(own), "mean": mean, "low": low, "high": high}
        rows.append({"the larger model": name} | sizes | told)
    return rows


def _figure(cells: pd.DataFrame, count: str, label: str) -> "Figure":
    series = {}
    for _, own in cells.sort_values(count).groupby((4 * cells["freeze_share"]).round()):
        share = float(np.mean(own["freeze_share"]))
        series[f"{share:.0%} frozen" if share else "all trained"] = Series(own[count], own["L"])
    ticks = {float(n): f"{n:,}" for n in (1_000, 3_000, 10_000, 30_000)}
    return series_figure(
        series, label, "held-out loss, nats per token", log_x=True, ticks=ticks,
        title=f"The loss by {label}",
    )  # fmt: skip


def _world(id_: str, truth: str, kappa: float, *words: tuple[Ruling, ...]) -> LossWorld:
    """A world in which a frozen parameter counts as kappa trainable ones, wherever it is and at whatever rate."""

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        trainable, total = runs["N_trainable"].to_numpy(float), runs["N_total"].to_numpy(float)
        return 1.3 + 9.5 * (trainable + kappa * (total - trainable)) ** -0.3 + 32 * tokens**-0.3

    return LossWorld(id_, truth, loss, numbered("TR", words))


_WORLDS = (
    _world("trainable", "frozen parameters count for nothing", 0.0, (YES,), (YES,), (YES, OPEN), (YES, OPEN)),
    _world("little", "a frozen parameter counts a tenth", 0.1, (YES,), (NO, OPEN), (YES, OPEN), (YES, OPEN)),
    _world("half", "a frozen parameter counts half of a trainable one", 0.5, (NO,), (NO,), (NO,), (NO,)),
    _world("harm", "a frozen parameter takes away a tenth", -0.1, (YES, OPEN), (NO, OPEN), (YES, OPEN), (YES, OPEN)),
)

TRAINABLE = Paper(_judge, _WORLDS)
