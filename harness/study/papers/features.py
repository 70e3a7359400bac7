"""The study of features: how the diversity of hidden features goes with width, layer and loss.

Malviya and Sudhakar 2022 claim for self-supervised networks of images that diversity is greater in wider networks and
in the last layer, and that it falls while the test error falls. Here the features are the residual stream of language
models, as `harness.measures.layers` measures them: the energy of their directions is low where they are diverse. The
rules are those of `sweeps/studies/features/design.md`.
"""

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import binomtest, rankdata

from harness.fit.gap_law.rulings import JudgedClaim, Ruling
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The rank correlation of width and diversity that is claimed at least, and the share of runs whose last layer is to be
# the most diverse one.
_RANKED, _LAST_FIRST = 0.8, 0.8
# The least and the most that a correlation can be.
_CORRELATIONS = (-1.0, 1.0)
# The fewest widths and lengths that are ordered.
_FEWEST = 3
# How models are drawn that are not of the greatest depth, and those that are.
_LINES = ("--", "-")
_ENERGY, _RANK = "feature_energy_", "feature_rank_"


def uniform_energy(width: int) -> float:
    """The mean of 1 over the distance of two independent uniform points on the unit sphere in so many dimensions.

    For s = 1 it is 2^(n-3) Gamma(n/2) Gamma(n/2 - 1) / (sqrt(pi) Gamma(n - 3/2)), from the density of the distance.
    """
    n = float(width)
    logs = math.lgamma(n / 2) + math.lgamma(n / 2 - 1) - math.lgamma(n - 1.5)
    return math.exp((n - 3) * math.log(2) + logs) / math.sqrt(math.pi)


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    ended = ended.loc[ended[f"{_ENERGY}1"].notna()] if f"{_ENERGY}1" in ended else ended.iloc[:0]
    energies, means = _layers(ended, _ENERGY), np.zeros(0)
    if len(ended):
        means = np.nanmean(energies, axis=1)
    uniform = np.array([uniform_energy(width) for width in ended["width"].to_numpy(int).tolist()])
    most = np.nanargmin(energies, axis=1) + 1 if len(ended) else means
    ended = ended.assign(diversity=-means, excess=-means / uniform, most=most)
    longest = ended.loc[ended["D"] == ended["D"].max()]
    by_width = mean_interval(_ranks(longest, "diversity")).clip(*_CORRELATIONS)
    by_excess = mean_interval(_ranks(longest, "excess")).clip(*_CORRELATIONS)
    within_runs = _with_loss(ended)
    last = _share_of_last(longest)
    claims = _claims(by_width, by_excess, last, within_runs, longest)
    rank = "is not known" if by_width.estimate is None else f"is {by_width.estimate:.2f}"
    drawings = {}
    if len(longest):
        drawings = {
            "layers": StudyFigure(
                "The energy of the features of each layer over that of uniform directions in as many dimensions, at the"
                " ends of the longest runs: means over draws. Low is diverse.",
                functools.partial(_layers_figure, longest),
            ),
            "training": StudyFigure(
                "The mean energy of a model's features over that of uniform directions, against its held-out loss, in"
                " training from right to left: means over draws.",
                functools.partial(_training_figure, ended),
            ),
        }
    tables = {"features of the longest runs": _rows(longest), "along the runs": _along(ended)}
    notes = (
        f"{len(ended)} finished runs with measured features.",
        "Energies are compared between layers and lengths of one model, and between widths also as multiples of the"
        " energy of uniform directions, which itself falls from 0.75 in 8 to 0.71 in 64 dimensions.",
    )
    headline = (
        f"The rank correlation of a model's width and the diversity of its features {rank}: {count_of_words(claims)}."
    )
    return LossVerdict(headline, claims, tables, notes, drawings)


def _layers(runs: pd.DataFrame, name: str) -> Float[np.ndarray, "runs layers"]:
    """A measure of every layer; nan beyond a model's depth."""
    depth = runs["depth"].to_numpy(int).max(initial=0)
    return runs[[f"{name}{layer}" for layer in range(1, depth + 1)]].to_numpy(float)


def _ranks(longest: pd.DataFrame, what: str) -> list[float]:
    """Spearman's correlation of width and a number over the models of each depth and draw."""
    found = []
    for _, own in longest.groupby(["depth", "draw"]):
        if len(np.unique(own["width"].to_numpy())) >= _FEWEST:
            x, y = (rankdata(own[name]) for name in ("width", what))
            found.append(float(np.corrcoef(x, y)[0, 1]))
    return found


def _with_loss(runs: pd.DataFrame) -> Interval95:
    """The correlation of diversity and log loss along training, of each model; the mean over shapes, then draws."""
    found: dict[int, list[float]] = {}
    for _, own in runs.groupby(["draw", "depth", "width"]):
        if len(own) >= _FEWEST:
            value = np.corrcoef(own["diversity"], np.log(own["L"]))[0, 1]
            found.setdefault(int(own["draw"].to_numpy()[0]), []).append(float(value))
    return mean_interval([float(np.mean(values)) for values in found.values()]).clip(*_CORRELATIONS)


def _share_of_last(longest: pd.DataFrame) -> Interval95:
    """The share of models whose last layer is the most diverse, with Clopper and Pearson's interval."""
    if longest.empty:
        return NOT_KNOWN
    hits = int(np.sum(longest["most"].to_numpy() == longest["depth"].to_numpy()))
    interval = binomtest(hits, len(longest)).proportion_ci()
    return Interval95(hits / len(longest), float(interval.low), float(interval.high))


def _claims(
    by_width: Interval95, by_excess: Interval95, last: Interval95, within_runs: Interval95, longest: pd.DataFrame
) -> tuple[JudgedClaim, ...]:
    units = f"{len(longest)} longest runs; the interval is over depths and draws"
    judged = (
        ("FE-1", "wider models have more diverse features", units,
         within("rank correlation of width and diversity", _RANKED, None, *by_width)),
        ("FE-2", "the last layer is the most diverse one", f"{len(longest)} longest runs",
         within("share of models whose last layer is the most diverse one", _LAST_FIRST, 1.0, *last)),
        ("FE-3", "diversity falls while the loss falls", "all lengths of each model; the interval is over draws",
         within("correlation of diversity and log loss along training", 0.0, None, *within_runs)),
        ("FE-4", "features of wider models are more diverse even as multiples of uniform directions", units,
         within("rank correlation of width and diversity over that of uniform directions", _RANKED, None, *by_excess)),
    )  # fmt: skip
    return tuple(JudgedClaim(id_, claim, number.ruling, rows, (number,), "") for id_, claim, rows, number in judged)


def _models(runs: pd.DataFrame) -> list[tuple[int, int, pd.DataFrame]]:
    """(Depth, width, its runs) of every shape."""
    return [
        (int(own["depth"].to_numpy()[0]), int(own["width"].to_numpy()[0]), own)
        for _, own in runs.groupby(["depth", "width"])
    ]


def _rows(longest: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for depth, width, own in _models(longest):
        energies, ranks = _layers(own, _ENERGY).mean(0), _layers(own, _RANK).mean(0)
        for layer in range(depth):
            rows.append(
                {"depth": depth, "width": width, "runs": len(own), "layer": layer + 1, "energy": energies[layer],
                 "energy over uniform": energies[layer] / uniform_energy(width), "effective rank": ranks[layer],
                 "loss, nats": own["L"].to_numpy().mean()}
            )  # fmt: skip
    return rows


def _along(runs: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for depth, width, own in _models(runs):
        for d in np.unique(own["D"].to_numpy(int)):
            at = own.loc[own["D"] == d]
            energy, loss = (at[name].to_numpy(float).mean() for name in ("diversity", "L"))
            rows.append({"depth": depth, "width": width, "D": int(d), "runs": len(at), "mean energy": -energy,
                         "loss, nats": loss})  # fmt: skip
    return rows


def _layers_figure(longest: pd.DataFrame) -> "Figure":
    series = {}
    for depth, width, own in _models(longest):
        energies = _layers(own, _ENERGY)[:, :depth] / uniform_energy(width)
        series[f"{depth} layers of width {width}"] = Series(
            np.arange(1, depth + 1), energies.mean(0), line=_LINES[bool(depth == longest["depth"].max())], of=str(width)
        )
    return series_figure(
        series, "layer", "energy over that of uniform directions", levels={"uniform": 1.0}, log_y=True, kinds=True,
        title="Diversity of features by layer (low is diverse)",
    )  # fmt: skip


def _training_figure(runs: pd.DataFrame) -> "Figure":
    series = {}
    for depth, width, own in _models(runs):
        at = [own.loc[own["D"] == d] for d in np.unique(own["D"].to_numpy())]
        loss, excess = (np.array([each[name].to_numpy().mean() for each in at]) for name in ("L", "excess"))
        series[f"{depth} layers of width {width}"] = Series(
            loss, -excess, line=_LINES[bool(depth == runs["depth"].max())], of=str(width)
        )
    return series_figure(
        series, "held-out loss, nats per token", "energy over that of uniform directions", log_y=True, kinds=True,
        levels={"uniform": 1.0}, title="Diversity in training, from right to left (low is diverse)",
    )  # fmt: skip


def _world(
    id_: str, truth: str, powers: tuple[float, float, float], words: tuple[tuple[Ruling, ...], ...]
) -> LossWorld:
    """A world in which the energy over that of uniform directions is a product of powers of width, layer and tokens."""

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n = runs["N_nonembedding"].to_numpy(float)
        return 1.0 + 16.3 * n**-0.35 + 82 * tokens**-0.35

    def measured(runs: pd.DataFrame, noise: Float[np.ndarray, "runs"]) -> Mapping[str, np.ndarray]:
        width, depth = runs["width"].to_numpy(float), runs["depth"].to_numpy(int)
        own = np.array([uniform_energy(int(each)) for each in width]) * np.exp(0.01 * noise)
        own = own * (width / 8) ** powers[0] * (runs["D"].to_numpy(float) / 2**20) ** powers[2]
        found = {}
        for layer in range(1, int(depth.max()) + 1):
            known = layer <= depth
            found[f"{_ENERGY}{layer}"] = np.where(known, own * layer ** powers[1], np.nan)
            found[f"{_RANK}{layer}"] = np.where(known, width / 2, np.nan)
        return found

    return LossWorld(id_, truth, loss, numbered("FE", words), measured)


_WORLDS = (
    _world("published", "wider models, last layers and early training are more diverse", (-0.1, -0.2, 0.05),
           ((YES,), (YES,), (YES,), (YES,))),
    _world("opposite", "narrow models and first layers are more diverse, and diversity grows in training",
           (0.2, 0.2, -0.05), ((NO,), (NO,), (NO,), (NO,))),
    _world("dimensions", "width changes diversity only by its dimensions, and layers and training do not",
           (0.0, 0.0, 0.0), ((YES, OPEN), (NO,), (OPEN, YES), (NO,))),
)  # fmt: skip

FEATURES = Paper(_judge, _WORLDS)
