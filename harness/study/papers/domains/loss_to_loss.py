"""The study of losses that foretell others: the same ladder of runs on three corpora, each measured on all three.

Brandfonbrener et al. 2024 (arXiv 2411.12925) find that L1 = K (L0 - E0)^kappa + E1 between losses of runs paired by
size and tokens: each on the corpus that it was trained on (train to train), one model on that and on another corpus
(train to test), and both on one that neither was trained on (test to test). The floors E are those of the base law
`kaplan_floor` of each loss. The rules are those of `sweeps/studies/loss_to_loss/design.md`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, together
from harness.study.contrasts import NOT_KNOWN, basic_interval, percentile_interval
from harness.study.figures import blank_figure
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import LossWorld, lettered, probe_errors
from harness.study.methods.many_fits import LogModel, fit_many
from harness.study.methods.wild_copies import logs_of_cells, wild_copies
from harness.study.paper import Paper
from harness.study.plots import legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CORPORA = ("stdlib_code", "library_code", "api_docs")
LARGER = "large"
# Copies of the losses with new errors; the fewest smaller cells.
COPIES, FEWEST = 120, 8
# Errors count as small up to this; a curve is one if a decade of tokens per parameter moves the loss by less than that.
SMALL, ONE_CURVE = 0.02, 0.01
# Floors are searched up to these shares of the mean of the first loss and of the second, and kappa up to its own limit:
# the ranges of the law `loss_to_loss`.
FLOORS, STEEPEST = (0.8, 1.0), 5.0

# A loss is (trained on, measured on), each the place of a corpus.
_Loss = tuple[int, int]
_Pairs = list[tuple[_Loss, _Loss]]
_EACH = range(len(CORPORA))
PAIRS_OF_KIND: dict[str, _Pairs] = {
    "train to train": [((a, a), (b, b)) for a in _EACH for b in _EACH if a != b],
    "train to test": [((a, a), (a, b)) for a in _EACH for b in _EACH if a != b],
    "test to test": [((a, c), (b, c)) for a in _EACH for b in _EACH for c in _EACH if len({a, b, c}) == 3],
}
# The kind that most claims are about, and ways to foretell the second loss.
_TRAIN, _CURVE, _PAIRS = "train to train", "curve", "curve with floors from the pairs"
_LINE, _LAW = "straight line", "law of the second loss alone"

_Copies = Float[np.ndarray, "pairs copies"]
_Cells = Float[np.ndarray, "pairs copies cells"]


class PairedLosses(NamedTuple):
    """The losses of the cells, in order of width and tokens.

    Attributes:
        n, d: parameters without embeddings, tokens.
        larger: whether a cell is to be predicted.
        logs: log loss by corpus trained on and measured on: the mean over draws, and then copies with new errors.
    """

    n: Float[np.ndarray, "cells"]
    d: Float[np.ndarray, "cells"]
    larger: np.ndarray
    logs: Float[np.ndarray, "trained measured copies cells"]


class Transfers(NamedTuple):
    """Curves between losses, for the measured ones and each copy.

    Attributes:
        kappa: the exponents, with the floors of the base laws.
        off: by way of foretelling, the log of the predicted over the measured second loss.
        share: by how much log L of the second loss changes with a decade of tokens per parameter at one first loss.
    """

    kappa: _Copies
    off: Mapping[str, _Cells]
    share: _Copies


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    losses = losses_of(ended)
    notes = (
        f"{len(ended)} finished runs; N is without the embedding; a cell is the mean of its draws.",
        "Intervals are from copies of the losses with the errors of draws.",
    )
    if losses is None:
        claims = _claims({}, None, "too few cells")
        return LossVerdict(f"Too few runs have ended: {count_of_words(claims)}.", claims, {}, notes)
    larger = losses.larger
    base = base_fits(losses)
    found = {kind: transfers(losses, pairs, base) for kind, pairs in PAIRS_OF_KIND.items()}
    errors = {
        (kind, name): np.abs(off[..., larger]).mean(axis=(0, 2))
        for kind, each in found.items()
        for name, off in each.off.items()
    }
    rows = f"{len(larger)} cells of each corpus, {larger.sum()} of them to be predicted"
    claims = _claims(errors, found[_TRAIN], rows)
    headline = (
        "From losses on another corpus those of the largest runs are foretold with an error of"
        f" {errors[_TRAIN, _CURVE][0]:.1%}"
    )
    tables = {
        "mean absolute error of log loss at the larger sizes": [
            {"pairs": kind, "prediction": name, "error": value.estimate, "low": value.low, "high": value.high}
            for (kind, name), each in errors.items()
            for value in (basic_interval(each, 0.0),)
        ],
        "curves, by pair": [
            {"pairs": kind, "first": _words(first), "second": _words(second), "kappa": kappa.estimate,
             "low": kappa.low, "high": kappa.high, "misfit of smaller cells": float(np.std(off[place, 0, ~larger])),
             "log of predicted over measured, larger": float(off[place, 0, larger].mean())}
            for kind, each in found.items()
            for off in (each.off[_CURVE],)
            for place, (first, second) in enumerate(PAIRS_OF_KIND[kind])
            for kappa in (percentile_interval(each.kappa[place]),)
        ],
    }  # fmt: skip
    drawings = {
        kind.replace(" ", "_"): StudyFigure(
            f"{kind.capitalize()}: losses of runs of equal size and tokens, with the curves that were fitted to the"
            " smaller runs (dots) and are to foretell the larger ones (diamonds).",
            functools.partial(_figure, losses, kind, found[kind]),
        )
        for kind in PAIRS_OF_KIND
    }
    return LossVerdict(f"{headline}: {count_of_words(claims)}.", claims, tables, notes, drawings)


def losses_of(ended: pd.DataFrame) -> PairedLosses | None:
    """The losses of cells that have all draws on all corpora; None if they are too few to fit curves to."""
    columns = [f"loss_on_{corpus}" for corpus in CORPORA]
    if not {"domain", *columns} <= set(ended.columns):
        return None
    sizes = ["N_nonembedding", "D", "block"]
    cells, logs = logs_of_cells(ended, ["domain", *sizes], columns)
    of = [cells.loc[cells["domain"] == corpus, sizes] for corpus in CORPORA]
    table, runs = of[0], (~np.isnan(logs[..., 0])).sum(axis=1)
    larger = (table["block"] == LARGER).to_numpy()
    alike = all(own.to_numpy().tolist() == table.to_numpy().tolist() for own in of)
    if not alike or np.sum(~larger) < FEWEST or not larger.any() or min(runs) < 2 or max(runs) < logs.shape[1]:
        return None
    copies = wild_copies(logs, COPIES)
    logs = np.moveaxis(np.stack([copies[:, own.index] for own in of]), 3, 1)
    n, d = (table[name].to_numpy(float) for name in sizes[:2])
    return PairedLosses(n, d, larger, logs)


def _kaplan(n: np.ndarray, d: np.ndarray) -> LogModel:
    """Log L of E + ((A/N)^(alpha/beta) + B/D)^beta.

    The coordinates are the log of E, the log of the rest in the middle of the design, how far the term of N is above
    that of D there, and the logs of alpha and beta.
    """
    x, y = (np.log(values) - np.log(values).mean() for values in (n, d))

    def log_model(theta: Float[np.ndarray, "fits constants"]) -> Float[np.ndarray, "fits rows"]:
        floor, level, above, log_alpha, log_beta = theta.T[..., None]
        beta = np.exp(np.minimum(log_beta, 3.0))
        power = np.exp(np.clip(log_alpha - log_beta, -6.0, 6.0))
        rest = np.logaddexp(above - power * x, -above - y) - np.logaddexp(above, -above)
        return np.logaddexp(floor, np.clip(level + beta * rest, -20.0, 20.0))

    return log_model


def base_fits(losses: PairedLosses) -> Float[np.ndarray, "trained measured copies numbers"]:
    """Each loss as `kaplan_floor` says it, fitted to the smaller cells: log L of all cells, and last the log of E."""
    logs = losses.logs.reshape(-1, len(losses.n))
    middle, model = float(logs.mean()), _kaplan(losses.n, losses.d)
    starts = [
        [middle + math.log(floor), middle + math.log(1 - floor), 0.0, math.log(power), math.log(power)]
        for floor, power in ((0.1, 0.2), (0.6, 0.5))
    ]
    theta = fit_many(model, starts, logs, np.broadcast_to(~losses.larger * 1.0, logs.shape))
    return np.hstack([model(theta), theta[:, :1]]).reshape(*losses.logs.shape[:3], -1)


def transfers(
    losses: PairedLosses, pairs: _Pairs, base: Float[np.ndarray, "trained measured copies numbers"]
) -> Transfers:
    """Fit the curve of every pair of losses to the smaller cells."""
    first, second = (np.stack([losses.logs[loss] for loss in side]) for side in zip(*pairs, strict=True))
    laws0, laws1 = (np.stack([base[loss] for loss in side]) for side in zip(*pairs, strict=True))
    shape, cells = first.shape, first.shape[-1]
    x, y, small = np.exp(first).reshape(-1, cells), second.reshape(-1, cells), ~losses.larger
    decades = np.log10(losses.d / losses.n)
    decades, weights = decades - decades[small].mean(), np.broadcast_to(small * 1.0, y.shape)
    floors = np.exp(laws0[..., -1:]).reshape(-1, 1), laws1[..., -1:].reshape(-1, 1)
    level = math.exp(y.mean())

    def curve(theta: Float[np.ndarray, "fits constants"]) -> Float[np.ndarray, "fits rows"]:
        moved = theta[:, 2:3] * decades if theta.shape[1] == 3 else 0.0
        return _curve(x, small, *floors, theta[:, :1], theta[:, 1:2]) + moved

    def free(theta: Float[np.ndarray, "fits 4"]) -> Float[np.ndarray, "fits rows"]:
        share0, share1 = (limit / (1 + np.exp(-theta[:, k : k + 1])) for k, limit in zip((2, 3), FLOORS, strict=True))
        e0 = share0 * x[:, small].mean(axis=1, keepdims=True)
        e1 = np.log(share1 * np.exp(y[:, small]).mean(axis=1, keepdims=True))
        return _curve(x, small, e0, e1, theta[:, :1], theta[:, 1:2])

    start = [math.log(0.4 * level), 1.0]
    theta = fit_many(curve, [start], y, weights)
    of_pairs = free(fit_many(free, [[*start, 0.0, 0.0], [*start, -2.0, -2.0]], y, weights))
    line = np.log(np.maximum(_line(x, np.exp(y), small), 1e-3 * np.exp(y)))
    predicted = {_CURVE: curve(theta), _PAIRS: of_pairs, _LINE: line, _LAW: laws1[..., :-1].reshape(-1, cells)}
    share = fit_many(curve, [[*start, 0.0]], y, weights)[:, 2]
    off = {name: (each - y).reshape(shape) for name, each in predicted.items()}
    return Transfers(theta[:, 1].reshape(shape[:2]), off, share.reshape(shape[:2]))


def _curve(
    x: Float[np.ndarray, "fits rows"],
    small: np.ndarray,
    e0: Float[np.ndarray, "fits 1"],
    log_e1: Float[np.ndarray, "fits 1"],
    level: Float[np.ndarray, "fits 1"],
    kappa: Float[np.ndarray, "fits 1"],
) -> Float[np.ndarray, "fits rows"]:
    """Log of E1 + e^level ((L0 - E0) / its geometric mean over the smaller cells)^kappa.

    A loss at or below its floor has nothing to transfer; its log is that of a thousandth of the loss.
    """
    above = np.log(np.maximum(x - e0, 1e-3 * x))
    above = above - above[:, small].mean(axis=1, keepdims=True)
    return np.logaddexp(log_e1, np.clip(level + np.clip(kappa, 0.0, STEEPEST) * above, -20.0, 20.0))


def _line(
    x: Float[np.ndarray, "fits rows"], y: Float[np.ndarray, "fits rows"], fitted: np.ndarray
) -> Float[np.ndarray, "fits rows"]:
    """The straight line through the fitted rows by least relative squares, at all rows."""
    weights = fitted / y**2
    total = weights.sum(axis=1, keepdims=True)
    x_mean, y_mean = ((weights * each).sum(axis=1, keepdims=True) / total for each in (x, y))
    slope = (weights * (x - x_mean) * (y - y_mean)).sum(axis=1) / (weights * (x - x_mean) ** 2).sum(axis=1)
    return y_mean + slope[:, None] * (x - x_mean)


def _words(loss: _Loss) -> str:
    trained, measured = (CORPORA[place] for place in loss)
    return trained if trained == measured else f"{measured}, trained on {trained}"


def _claims(
    errors: Mapping[tuple[str, str], Float[np.ndarray, "copies"]], train: Transfers | None, rows: str
) -> tuple[JudgedClaim, ...]:
    def small(kind: str, name: str = _CURVE) -> tuple[DecidingNumber, ...]:
        found = basic_interval(errors[kind, name], 0.0) if errors else NOT_KNOWN
        return (within(f"mean error of log loss at the larger size, by a {name}", None, SMALL, *found),)

    def worse(name: str) -> tuple[DecidingNumber, ...]:
        more = basic_interval(errors[_TRAIN, name] - errors[_TRAIN, _CURVE]) if errors else NOT_KNOWN
        return (within(f"mean error of log loss of the {name} less that of the curve", 0.0, None, *more),)

    forward = [place for place, (first, second) in enumerate(PAIRS_OF_KIND[_TRAIN]) if first < second]
    moved = tuple(
        within(
            f"change of log loss on {CORPORA[second[1]]} with a decade of D/N, at one loss on {CORPORA[first[1]]}",
            -ONE_CURVE, ONE_CURVE, *(basic_interval(train.share[place]) if train else NOT_KNOWN),
        )
        for place in forward
        for first, second in (PAIRS_OF_KIND[_TRAIN][place],)
    )  # fmt: skip
    judged: tuple[tuple[str, str, tuple[DecidingNumber, ...]], ...] = (
        ("LL-1", "train to train, paired losses lie on one curve whatever N and D", moved),
        ("LL-2", "train to train, the curve foretells runs of 20 times the compute to 2 %", small(_TRAIN)),
        (
            "LL-3",
            "train to train, the curve foretells them better than a law fitted to the second corpus alone",
            worse(_LAW),
        ),
        ("LL-4", "train to train, the curve foretells them better than a straight line", worse(_LINE)),
        ("LL-5", "train to test, the curve foretells runs of 20 times the compute to 2 %", small("train to test")),
        ("LL-6", "test to test, the curve foretells runs of 20 times the compute to 2 %", small("test to test")),
        (
            "LL-7",
            "train to train, a straight line (kappa = 1) foretells runs of 20 times the compute to 2 %",
            small(_TRAIN, _LINE),
        ),
    )
    return tuple(
        JudgedClaim(id_, claim, together([each.ruling for each in numbers]), rows, numbers, "")
        for id_, claim, numbers in judged
    )


def _figure(losses: PairedLosses, kind: str, found: Transfers) -> "Figure":
    from matplotlib import colormaps

    figure, ((axes,),) = blank_figure(4.6, 3.6)
    shown = [place for place, (first, second) in enumerate(PAIRS_OF_KIND[kind]) if first < second]
    for place, colour in zip(shown, colormaps["viridis"](np.linspace(0, 0.85, len(shown))), strict=True):
        first, second = PAIRS_OF_KIND[kind][place]
        x, y = np.exp(losses.logs[first][0]), np.exp(losses.logs[second][0])
        order = np.argsort(x)
        axes.plot(x[order], (y * np.exp(found.off[_CURVE][place, 0]))[order], lw=1, color=colour)
        axes.plot(x[~losses.larger], y[~losses.larger], "o", ms=2.5, color=colour)
        label = f"{_words(first)} (x) and {_words(second)} (y)"
        axes.plot(x[losses.larger], y[losses.larger], "D", ms=5, mfc="none", color=colour, label=label)
    axes.set(xlabel="loss on the first text (x), nats per token", ylabel="loss on the second (y), nats per token")
    axes.set_title("Losses on two texts; diamonds: the largest runs", loc="left", fontsize=8.5)
    legend_below(figure, axes)
    return figure


# Errors of a run's log loss beside those of other studies, their correlation between the texts that measure it, and the
# errors that all runs of a draw share on each of these; of 64 runs on another split.
_MORE, _CORRELATION, _OF_DRAWS = 1.2, 0.75, (0.007, 0.018, 0.007)


def _world(id_: str, truth: str, words: str, of: "_Of") -> LossWorld:
    """A world whose loss is of((trained on, measured on), N, D).

    Args:
        words: of the claims in order, in the letters of `lettered`.
    """

    def losses(runs: pd.DataFrame, tokens: np.ndarray) -> Float[np.ndarray, "rows corpora"]:
        n = runs["N_nonembedding"].to_numpy(float)
        trained = np.array([CORPORA.index(domain) for domain in runs["domain"]])
        found = np.zeros((len(runs), len(CORPORA)))
        for a in _EACH:
            rows = trained == a
            for b in _EACH:
                found[rows, b] = of((a, b), n[rows], np.asarray(tokens, float)[rows])
        return found

    def own(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        return losses(runs, tokens)[np.arange(len(runs)), [CORPORA.index(domain) for domain in runs["domain"]]]

    def measured(runs: pd.DataFrame, errors: np.ndarray) -> dict[str, np.ndarray]:
        off = probe_errors(runs, errors, _OF_DRAWS, _MORE, _CORRELATION)
        final = losses(runs, runs["D"].to_numpy(float)) * np.exp(off)
        return {f"loss_on_{corpus}": final[:, place] for place, corpus in enumerate(CORPORA)}

    return LossWorld(id_, truth, own, lettered("LL", words), measured)


_Of = Callable[[_Loss, np.ndarray, np.ndarray], np.ndarray]


def _related(alphas: tuple[float, ...], kappas: tuple[float, ...]) -> _Of:
    """Losses with an exponent of N for each corpus that is trained on, and of the rest for each that measures.

    Losses on other corpora fall less, to higher floors. The rest bends: no base law extrapolates well.
    """

    def of(loss: _Loss, n: np.ndarray, d: np.ndarray) -> np.ndarray:
        trained, measured = loss
        rest = ((3e3 / n) ** (alphas[trained] / 0.4) + 3e5 / d) ** 0.4
        rest = rest * np.exp(-0.004 * np.log(n * d / 1e9) ** 2)
        own = (1.05, 1.2, 1.1)[measured] + (0.95, 0.97, 1.15)[measured] * rest ** kappas[measured]
        return own if trained == measured else 0.55 + 0.05 * abs(trained - measured) + 0.8 * own

    return of


_EQUAL, _UNEQUAL = (0.3, 0.3, 0.3), (0.2, 0.3, 0.45)


def _rising(loss: _Loss, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    own = _related(_EQUAL, (1.0, 0.95, 1.2))((loss[0], loss[0]), n, d)
    return own if loss[0] == loss[1] else own + 0.4 + 0.12 * np.log(n * d / 3e9).clip(0)


_WORLDS = (
    _world("published", "one curve between any two losses", "YyyyYyN", _related(_EQUAL, (1.0, 0.95, 1.2))),
    _world("straight", "one straight line between any two losses", "YyynYyY", _related(_EQUAL, (1.0, 1.0, 1.0))),
    _world("apart", "sizes matter twice as much on one corpus as on another", "N?n???N",
           _related(_UNEQUAL, (1.0, 0.95, 1.2))),
    _world("rising", "losses on other corpora rise from some compute on", "YyyyNNN", _rising),
)  # fmt: skip

LOSS_TO_LOSS = Paper(_judge, _WORLDS)
