"""The study of mixtures: whether few small runs say the best shares of three corpora for a larger model.

Shukor et al. 2025 (arXiv 2507.09404) fit laws of the shares h of the domains, of N and of D: an additive one, in which
no mixture's cost depends on the size, and a joint one, in which it does. Ye et al. 2024 (arXiv 2403.16952) fit an
exponential of the shares at one size. Here all runs read as many tokens, so that the terms of D are left out: the
additive law is `mixture_additive_n`, and the joint one has a term of N alone. `design.md` of the study has the rules.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, together
from harness.study.contrasts import NOT_KNOWN, basic_interval
from harness.study.figures import blank_figure
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import LossWorld, lettered, probe_errors
from harness.study.methods.many_fits import fit_many
from harness.study.methods.mixture_fits import (
    MixtureLaw,
    Shares,
    additive_mixture,
    exponential_mixture,
    joint_mixture,
    mixture_surface,
)
from harness.study.methods.wild_copies import logs_of_cells, wild_copies
from harness.study.paper import Paper
from harness.study.papers.domains.loss_to_loss import CORPORA
from harness.study.plots import Series, series_figure
from sweeps.rules import parse_domain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Blocks; copies of the losses with new errors; how fine the shares are searched for the best ones.
FEW, OTHERS, LARGER = "few", "others", "larger"
COPIES, FINE = 80, 60
# Mean errors that count as small, as published, and as smaller; a loss that is as good as the best; costs of mixtures
# are the same at two sizes if their ratio is as near to 1, and best shares if each is as near.
SMALL, BETTER, AS_GOOD, SAME_COST, SAME_SHARE = 0.013, 0.002, 0.005, 0.1, 0.1
# Ways to find the best shares at the larger size, by what is fitted.
_TRAINED = "surface, larger"
_WAYS = {
    "additive": "additive law of ten mixtures",
    "joint": "joint law of ten mixtures",
    _TRAINED: "all mixtures of that size",
    "surface, middle": "all mixtures of the middle size",
}

_Fits = Float[np.ndarray, "targets copies constants"]
_Cells = Float[np.ndarray, "targets copies cells"]


class Cells(NamedTuple):
    """The losses of the cells.

    Attributes:
        shares: of the corpora in what was read.
        n: parameters without embeddings.
        few: the cells that the laws are fitted to.
        other: further mixtures at the middle one of the fitted sizes.
        larger: all mixtures at the larger size.
        logs: log loss on each corpus: the mean over draws, and then copies with new errors.
    """

    shares: Shares
    n: Float[np.ndarray, "cells"]
    few: np.ndarray
    other: np.ndarray
    larger: np.ndarray
    logs: _Cells

    @property
    def middle(self) -> np.ndarray:
        """All cells of the middle size."""
        return self.n == self.n[self.other][0]


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    cells = mixture_cells(ended)
    notes = [
        f"{len(ended)} finished runs; N is without the embedding; a cell is the mean of its draws.",
        "Intervals are from copies of the losses with the errors of draws. Mean losses are those of the three corpora.",
    ]
    if cells is None:
        claims = _claims({}, {}, {}, "too few cells")
        return LossVerdict(f"Too few runs have ended: {count_of_words(claims)}.", claims, {}, tuple(notes))
    found = fits(cells)
    errors = _errors(cells, found)
    best = best_shares(cells, found)
    costs = {f"slope of costs on {corpus}": _slope(cells, place) for place, corpus in enumerate(CORPORA)}
    few, other, large = (int(each.sum()) for each in (cells.few, cells.other, cells.larger))
    rows = f"{few + other + large} cells: {few} of few mixtures, {other} of others at one size, {large} of larger size"
    trained = _mixture_rows(cells, found)
    first = min(trained, key=lambda row: row["additive"])
    notes.append(
        f"Of the {len(trained)} mixtures that were trained at the larger size, the one that the additive law foretells"
        f" to be best for the mean loss is number {trained.index(first) + 1}, with"
        f" {first['measured'] / trained[0]['measured'] - 1:.2%} more than the lowest; a mean loss has an error of"
        f" {first['sd'] / first['measured']:.2%}."
    )
    claims = _claims(errors, best, costs, rows)
    shares = best["mean"].shares[0, 0]
    said = ", ".join(f"{share:.0%} {corpus}" for share, corpus in zip(shares, CORPORA, strict=True))
    tables = {
        "mean absolute error of log loss": [
            {"law": law, "mixtures": where, "error": value.estimate, "low": value.low, "high": value.high}
            | {corpus: float(each[place, 0]) for place, corpus in enumerate(CORPORA)}
            for (law, where), each in errors.items()
            for value in (basic_interval(each.mean(axis=0), 0.0),)
        ],
        "best shares at the larger size": [
            {"loss": loss, "by": by, "above the best": float(each.above[way, 0])}
            | {corpus: float(each.shares[way, 0, place]) for place, corpus in enumerate(CORPORA)}
            | {f"{corpus}, sd": float(each.shares[way, 1:, place].std(ddof=1)) for place, corpus in enumerate(CORPORA)}
            for loss, each in best.items()
            for way, by in enumerate(_WAYS.values())
        ],
        "mean loss of trained mixtures at the larger size": trained,
    }  # fmt: skip
    drawings = {
        "foretold": StudyFigure(
            "Losses of all mixtures at three times the size, as laws foretell them from ten mixtures of smaller sizes,"
            " over the measured ones. The band is what counts as small.",
            functools.partial(_foretold_figure, cells, found),
        ),
        "shares": StudyFigure(
            "The mean loss over the three corpora at the larger size, by the shares of the training text: corners are"
            " one corpus. The cross is the mixture that the additive law foretells to be best, the circle the best one"
            " by a surface through all of these runs.",
            functools.partial(_shares_figure, cells, best["mean"]),
        ),
    }
    above = float(best["mean"].above[0, 0])
    headline = f"The mixture foretold to be best for the mean loss, {said}, has a loss {above:.2%} above the best"
    return LossVerdict(f"{headline}: {count_of_words(claims)}.", claims, tables, tuple(notes), drawings)


def mixture_cells(ended: pd.DataFrame) -> Cells | None:
    """The cells of finished runs; None if mixtures are missing at the larger or at the middle size."""
    columns = [f"loss_on_{corpus}" for corpus in CORPORA]
    if not {"domain", *columns} <= set(ended.columns):
        return None
    shares = pd.DataFrame([_shares_of(domain) for domain in ended["domain"]], columns=list(CORPORA), index=ended.index)
    table, logs = logs_of_cells(ended.assign(**shares), ["N_nonembedding", *CORPORA, "block"], columns)
    few, other, larger = ((table["block"] == name).to_numpy() for name in (FEW, OTHERS, LARGER))
    drawn = (~np.isnan(logs[..., 0])).sum(axis=1)
    if not (few.any() and other.any() and larger.any()) or min(drawn) < 2 or max(drawn) < logs.shape[1]:
        return None
    n = table["N_nonembedding"].to_numpy(float)
    cells = Cells(
        table[list(CORPORA)].to_numpy(float), n, few, other, larger, np.moveaxis(wild_copies(logs, COPIES), 2, 0)
    )
    at = cells.shares[cells.middle], cells.shares[larger]
    sizes = len(np.unique(n[few]))
    whole = len(at[0]) == len(at[1]) and np.allclose(*at) and sizes > 2 and few.sum() % sizes == 0
    return cells if whole else None


def _shares_of(domain: str) -> list[float]:
    parts = {name: share for share, name in parse_domain(domain)}
    return [round(parts.get(corpus, 0.0), 4) for corpus in CORPORA]


def _fit(law: MixtureLaw, starts: Sequence[Sequence[float]], cells: Cells, rows: np.ndarray) -> _Fits:
    """The law fitted to some cells, for the loss on each corpus and each copy."""
    logs = cells.logs[..., rows]
    theta = fit_many(law(cells.shares[rows], cells.n[rows]), starts, logs.reshape(-1, logs.shape[-1]))
    return theta.reshape(*logs.shape[:2], -1)


def _at(law: MixtureLaw, theta: _Fits, shares: Shares, n: np.ndarray | float) -> _Cells:
    """Log loss as the fits say it."""
    model = law(shares, np.broadcast_to(np.asarray(n, float), len(shares)))
    return model(theta.reshape(-1, theta.shape[-1])).reshape(*theta.shape[:2], len(shares))


def fits(cells: Cells) -> dict[str, tuple[MixtureLaw, _Fits]]:
    """The laws, fitted to the ten mixtures; the exponential and the surfaces to those of one size."""
    middle = float(cells.logs.mean())
    # Where searches begin: the loss in three equal parts; the one of the mixture is 1/sum C h^(1/2) at equal shares. On
    # simulated tables four further starts ended within 1 % of the same sum of squares, of the joint law within 8 %.
    part = middle - math.log(3)
    even = [-part - math.log(3) / 2] * 3
    surface = [middle - math.log(1.5), *even, 0.0, 0.0, 0.0]
    joint = [[part, -1.0, *even, *[power] * 3, *[part] * 3, 0.0] for power in (0.0, 1.0)]
    few = cells.few & cells.middle
    return {
        "additive": (additive_mixture, _fit(additive_mixture, [[part, part, -1.0, *surface[1:]]], cells, cells.few)),
        "joint": (joint_mixture, _fit(joint_mixture, joint, cells, cells.few)),
        "exponential": (
            exponential_mixture,
            _fit(exponential_mixture, [[middle - 0.2, *[middle - 1.6] * 3]], cells, few),
        ),
        "additive, one size": (mixture_surface, _fit(mixture_surface, [surface], cells, few)),
        "surface, middle": (mixture_surface, _fit(mixture_surface, [surface], cells, cells.middle)),
        "surface, larger": (mixture_surface, _fit(mixture_surface, [surface], cells, cells.larger)),
    }


def _errors(
    cells: Cells, found: Mapping[str, tuple[MixtureLaw, _Fits]]
) -> dict[tuple[str, str], Float[np.ndarray, "targets copies"]]:
    """The mean absolute error of log loss, by law and which mixtures are foretold."""
    both = {"others, middle size": cells.other, "all, larger size": cells.larger}
    scored = {
        "additive": both, "joint": both, "exponential": {"others, middle size": cells.other},
        "additive, one size": {"others, middle size": cells.other}, "surface, larger": {"fitted": cells.larger},
    }  # fmt: skip
    return {
        (name, label): np.abs(_at(*found[name], cells.shares[rows], cells.n[rows]) - cells.logs[..., rows]).mean(axis=2)
        for name, where in scored.items()
        for label, rows in where.items()
    }


class Best(NamedTuple):
    """The best shares for a loss at the larger size, by each of `_WAYS`, for the measured losses and each copy.

    Attributes:
        shares: by each way.
        above: the log loss there less the least one, on the surface through all mixtures of the larger size.
        gain: the log loss at the shares of the first way less that of equal shares, on that surface.
    """

    shares: Float[np.ndarray, "ways copies corpora"]
    above: Float[np.ndarray, "ways copies"]
    gain: Float[np.ndarray, "copies"]


def best_shares(cells: Cells, found: Mapping[str, tuple[MixtureLaw, _Fits]]) -> dict[str, Best]:
    """For the mean loss over the corpora, and for the loss on each: the best shares, on a grid of the simplex."""
    steps = np.arange(FINE + 1)
    grid = np.array([(a, b, FINE - a - b) for a in steps for b in steps[: FINE + 1 - a]]) / FINE
    levels = np.exp([_at(*found[name], grid, cells.n[cells.larger][0]) for name in _WAYS])
    centre = int(np.argmin(np.abs(grid - 1 / len(CORPORA)).sum(axis=1)))

    def of(losses: Float[np.ndarray, "ways copies grid"]) -> Best:
        places, surface = losses.argmin(axis=2), np.log(losses[list(_WAYS).index(_TRAINED)])
        there = surface[np.arange(len(surface)), places]
        return Best(grid[places], there - surface.min(axis=1), there[0] - surface[:, centre])

    return {"mean": of(levels.mean(axis=1))} | {corpus: of(levels[:, place]) for place, corpus in enumerate(CORPORA)}


def _slope(cells: Cells, target: int) -> Float[np.ndarray, "copies"]:
    """The slope of a mixture's loss at the larger size in that at the middle size; 1 if sizes and mixtures only add."""
    x, y = (np.exp(cells.logs[target][:, rows]) for rows in (cells.middle, cells.larger))
    x, y = (each - each.mean(axis=1, keepdims=True) for each in (x, y))
    return (x * y).sum(axis=1) / (x**2).sum(axis=1)


def _claims(
    errors: Mapping[tuple[str, str], Float[np.ndarray, "targets copies"]],
    best: Mapping[str, Best],
    costs: Mapping[str, Float[np.ndarray, "copies"]],
    rows: str,
) -> tuple[JudgedClaim, ...]:
    def error(law: str, where: str) -> DecidingNumber:
        found = basic_interval(errors[law, where].mean(axis=0), 0.0) if errors else NOT_KNOWN
        return within(f"mean error of log loss: {law}, {where}", None, SMALL, *found)

    def of_best(name: str, least: float | None, most: float | None, numbers: Mapping[str, np.ndarray]) -> tuple:
        return tuple(within(f"{name}{key}", least, most, *basic_interval(each)) for key, each in numbers.items()) or (
            within(name, least, most, *NOT_KNOWN),
        )

    others, larger = "others, middle size", "all, larger size"
    better = errors["additive", larger] - errors["joint", larger] if errors else None
    joint = NOT_KNOWN if better is None else basic_interval(better.mean(axis=0))
    mean = {"": best["mean"]} if best else {}
    regret = of_best("log loss above the best, for ", None, AS_GOOD, {key: each.above[0] for key, each in best.items()})
    gain = of_best("log loss less that of equal shares", None, 0.0, {key: each.gain for key, each in mean.items()})
    cost = of_best("", 1 - SAME_COST, 1 + SAME_COST, costs)
    moved = {
        corpus: each.shares[2, :, place] - each.shares[3, :, place]
        for each in mean.values()
        for place, corpus in enumerate(CORPORA)
    }
    shift = of_best("change of the best share of ", -SAME_SHARE, SAME_SHARE, moved)
    judged: tuple[tuple[str, str, tuple[DecidingNumber, ...]], ...] = (
        ("MX-1", "the additive law foretells other mixtures to 1.3 %", (error("additive", others),)),
        ("MX-2", "the additive law foretells mixtures of three times the size to 1.3 %", (error("additive", larger),)),
        ("MX-3", "at three times the size the joint law errs less than the additive one, by 0.2 % of the loss", (
            within("mean error of log loss of the additive law less that of the joint one", BETTER, None, *joint),)),
        ("MX-4", "the exponential law foretells other mixtures of its size to 1.3 %", (error("exponential", others),)),
        ("MX-5", "shares that are foretold to be best are as good as the best at three times the size", regret),
        ("MX-6", "shares that are foretold to be best are better than equal shares for the mean loss", gain),
        ("MX-7", "the cost of a mixture does not depend on the size", cost),
        ("MX-8", "the best shares for the mean loss do not depend on the size", shift),
    )  # fmt: skip
    return tuple(
        JudgedClaim(id_, claim, together([each.ruling for each in numbers]), rows, numbers, "")
        for id_, claim, numbers in judged
    )


def _mixture_rows(cells: Cells, found: Mapping[str, tuple[MixtureLaw, _Fits]]) -> list[dict[str, Any]]:
    shares, n = cells.shares[cells.larger], cells.n[cells.larger]
    measured = np.exp(cells.logs[..., cells.larger]).mean(axis=0)
    by_law = {name: np.exp(_at(*found[name], shares, n)).mean(axis=0)[0] for name in ("additive", "joint")}
    order = np.argsort(measured[0])
    return [
        dict(zip(CORPORA, map(float, shares[row]), strict=True))
        | {"measured": float(measured[0, row]), "sd": float(measured[1:, row].std(ddof=1))}
        | {name: float(each[row]) for name, each in by_law.items()}
        for row in order
    ]  # fmt: skip


def _foretold_figure(cells: Cells, found: Mapping[str, tuple[MixtureLaw, _Fits]]) -> "Figure":
    rows = cells.larger
    measured, series = cells.logs[:, 0, rows], {}
    for name, mark in (("additive", "o"), ("joint", "x")):
        off = _at(*found[name], cells.shares[rows], cells.n[rows])[:, 0] - measured
        for corpus, logs, own in zip(CORPORA, measured, off, strict=True):
            series[f"{corpus}, {name}"] = Series(np.exp(logs), 100 * np.expm1(own), line="", mark=mark, of=corpus)
    return series_figure(
        series, "measured loss, nats per token", "predicted loss above measured, %", band=(-100 * SMALL, 100 * SMALL),
        kinds=True, title="Losses of larger models, predicted by two laws, on each corpus",
    )  # fmt: skip


def _shares_figure(cells: Cells, best: Best) -> "Figure":
    figure, ((axes,),) = blank_figure(4.6, 3.8)

    def place(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return shares[..., 1] + shares[..., 2] / 2, shares[..., 2] * math.sqrt(3) / 2

    measured = np.exp(cells.logs[:, 0, cells.larger]).mean(axis=0)
    drawn = axes.scatter(*place(cells.shares[cells.larger]), c=measured, s=60, cmap="viridis_r")
    axes.plot(*place(best.shares[0, 0]), "x", ms=9, mew=2, color="#c1272d")
    axes.plot(*place(best.shares[2, 0]), "o", ms=11, mfc="none", mew=1.5, color="#c1272d")
    for corner, corpus, up in zip(np.eye(3), CORPORA, (-0.06, -0.06, 0.04), strict=True):
        x, y = place(corner)
        axes.annotate(corpus, (float(x), float(y) + up), ha="center", va="center", fontsize=7)
    axes.set(xlim=(-0.2, 1.2), ylim=(-0.12, 0.95), aspect="equal")
    axes.set_axis_off()
    axes.set_title("Mean loss of larger models by mixture; foretold best in red", loc="left", fontsize=8.5)
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="mean loss, nats per token")
    return figure


# Errors beside those of other studies, as in `loss_to_loss`.
_MORE, _CORRELATION, _OF_DRAWS = 1.2, 0.75, (0.007, 0.018, 0.007)
# What a corpus (column) is worth for the loss on another one (row): the two of code are alike.
_WORTH = np.array([[1.8, 1.35, 1.0], [1.3, 1.75, 1.0], [1.0, 1.0, 1.7]])
# The floors, and the loss on each corpus.
_Of = Callable[[Shares, np.ndarray], Float[np.ndarray, "rows corpora"]]


def _world(id_: str, truth: str, words: str, of: _Of) -> LossWorld:
    """A world whose losses on the corpora are of(shares, N).

    Args:
        words: of the claims in order, in the letters of `lettered`.
    """

    def losses(runs: pd.DataFrame) -> Float[np.ndarray, "rows corpora"]:
        shares = np.array([_shares_of(domain) for domain in runs["domain"]])
        return of(shares, runs["N_nonembedding"].to_numpy(float)[:, None])

    def measured(runs: pd.DataFrame, errors: np.ndarray) -> dict[str, np.ndarray]:
        final = losses(runs) * np.exp(probe_errors(runs, errors, _OF_DRAWS, _MORE, _CORRELATION))
        return {f"loss_on_{corpus}": final[:, place] for place, corpus in enumerate(CORPORA)}

    return LossWorld(id_, truth, lambda runs, tokens: losses(runs).mean(axis=1), lettered("MX", words), measured)


def _cost(shares: Shares) -> Float[np.ndarray, "rows corpora"]:
    return 1 / (np.where(shares > 0, shares, 0.0)[:, None] ** 0.9 * _WORTH).sum(axis=2)


def _by_joint(shares: Shares, n: np.ndarray) -> np.ndarray:
    """The larger the model, the more it loses where it read little of a corpus."""
    return 1.3 + 3.5 * (0.8 + 0.9 * shares) * n**-0.35 + _cost(shares)


def _by_steps(shares: Shares, n: np.ndarray) -> np.ndarray:
    """A corpus is worth nothing below a quarter of the text, and all of it above."""
    return 1.3 + 5 * n**-0.35 + 0.9 - 0.35 / (1 + np.exp(-(shares - 0.25) / 0.02))


_WORLDS = (
    _world("additive", "the additive law", "YYnYYYYY", lambda shares, n: 1.3 + 5 * n**-0.35 + _cost(shares)),
    _world("joint", "larger models lose more by a mixture", "Y?y?N?N?", _by_joint),
    _world("steps", "shares below a quarter are worth nothing", "NN?N????", _by_steps),
    _world("nothing", "mixtures change nothing", "YYnYyn??", lambda shares, n: 1.8 + 5 * n**-0.35 + 0 * shares),
)

MIXTURES = Paper(_judge, _WORLDS)
