"""The study of routers: how much a mixture's experts are worth in parameters of a dense model, by router and size.

Clark et al. 2022 (arXiv 2202.01169) fit log10 L = a log10 N + b log10 X + c log10 N log10 X + d to routed language
models of base size N, X a saturating function of the number of experts E, for three routers: S-BASE (`balanced` here),
RL-R (`reinforce`) and hash layers. Experts help (b < 0), larger models less (c > 0). The size of the dense model with
the loss of a routed one is its effective parameter count. The rules are those of `sweeps/studies/routed/design.md`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from harness.fit.gap_law.rulings import JudgedClaim, Ruling, together
from harness.fit.laws.mixtures_of_experts import effective_parameters
from harness.study.contrasts import NOT_KNOWN, Interval95, basic_interval, mean_interval, paired, percentile_interval
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, Within, count_of_words, within
from harness.study.loss_worlds import LossWorld, lettered
from harness.study.methods.routed_fits import RoutedFits, bilinear_gain, fit_routed, left_out_squares, size_at
from harness.study.methods.wild_copies import logs_of_cells, wild_copies
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The routers of the paper, on which the claims are judged, and the further ones; what they are called.
JUDGED = {"hash": "hash", "balanced": "S-BASE", "reinforce": "RL-R"}
FURTHER = {
    "switch_top1": "Switch", "top2": "top-2", "expert_choice": "expert choice", "fine_grained_shared": "fine-grained"
}  # fmt: skip
ROUTERS = JUDGED | FURTHER
# The block on another vocabulary, which no law is fitted to.
VOCABULARY = "vocabulary"
# Experts of a layer for each of the paper's E, of which a token visits one: those of further routers are narrower.
EXPERTS_PER_E = {"top2": 2, "expert_choice": 2, "fine_grained_shared": 4}
# A claim holds if it does for so many of the paper's routers; copies of the losses with new errors.
ENOUGH, COPIES = 2, 200
# The number of experts at which all routers are trained.
_SHOWN = 16
# The gain in AICc that counts, the error in nats of losses at a left-out E, and of the log of an effective count.
GAIN, CLOSE, SAME_COUNT = 10.0, 0.02, math.log(1.25)
# The fewest sizes and cells that the law is fitted to.
_FEWEST_SIZES, _FEWEST_CELLS = 3, 6

_Rows = Float[np.ndarray, "rows"]
_Losses = Float[np.ndarray, "copies rows"]


class _Router(NamedTuple):
    """The cells of a router, the dense ones of the same sizes included, and what is found there.

    Attributes:
        n, experts: parameters of the base model without the embedding, and the paper's E.
        logs: log L, the mean over draws; then copies with new errors.
        effect: log L less that of the dense model of this size.
        law: the paper's law; gain: AICc of the law without c less its own.
        left_out: the mean square of the errors, in nats, of losses at an E that the law was fitted without, of all but
            the least and the largest E; nan where there is no other.
        effective, measured: the log of the effective parameter count over N, by the law and by the dense models that
            were trained; nan beyond these.
    """

    n: _Rows
    experts: _Rows
    logs: _Losses
    effect: _Losses
    law: RoutedFits
    gain: Float[np.ndarray, "copies"]
    left_out: Float[np.ndarray, "copies"]
    effective: _Losses
    measured: _Losses


class _Gain(Within):
    """A gain in AICc, which contradicts only where it is a loss: how large it is depends on the errors as well."""

    @property
    def ruling(self) -> Ruling:
        """Whether the interval lies within what is claimed, below 0, or neither."""
        if self.high is not None and self.high < 0:
            return Ruling.NOT_SUPPORTED
        return Ruling.SUPPORTED if super().ruling is Ruling.SUPPORTED else Ruling.NOT_RESOLVED


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    ended = ended.assign(E=_experts(ended))
    other = ended["block"] == VOCABULARY
    routers, pairs, of_words = _routers(ended.loc[~other]), _pairs(ended.loc[~other]), _pairs(ended.loc[other])
    claims = _claims(routers, pairs)
    notes = (
        f"{len(ended)} finished runs; N is that of the dense model without the embedding; a cell is the mean of its"
        " draws, and intervals are from copies of the losses with the errors of draws.",
        "E is the width of all experts of a layer over the width that a token visits.",
    )
    tables = {
        "constants of the law": [
            {"router": ROUTERS[name], "cells": len(each.n)}
            | {
                key: value
                for constant, values in each.law.constants.items()
                for key, value in zip((constant, f"low {constant}", f"high {constant}"), percentile_interval(values),
                                      strict=True)
            }
            | {"misfit, nats": _misfit(each), "gain in AICc": float(each.gain[0]),
               "error at a left-out E, nats": _finite(math.sqrt(each.left_out[0]))}
            for name, each in routers.items()
            if name in JUDGED
        ],
        "effective parameter count": [
            {"router": ROUTERS[name], "N": int(n), "E": int(e), "count by the law": count, "low": low, "high": high,
             "dense model with this loss": _finite(n * np.exp(each.measured[0, row])),
             "log loss less the dense model's": effect, "low effect": low_effect, "high effect": high_effect}
            for name, each in routers.items()
            for row, (n, e) in enumerate(zip(each.n, each.experts, strict=True))
            if e > 1
            for count, low, high in (percentile_interval(n * np.exp(each.effective[:, row])),)
            for effect, low_effect, high_effect in (percentile_interval(each.effect[:, row]),)
        ],
        "log loss less the dense model's, mean over E": [
            {"router": ROUTERS[name], "N": int(size), "numbers of experts": int(rows.sum()), "mean": mean, "low": low,
             "high": high}
            for name, each in routers.items()
            for size in np.unique(each.n)
            for rows in ((each.n == size) & (each.experts > 1),)
            for mean, low, high in (percentile_interval(each.effect[:, rows].mean(axis=1)),)
        ],
        "log loss less the dense model's with a larger vocabulary": [
            {"router": ROUTERS[str(name)], "pairs": len(own), "mean": mean, "low": low, "high": high}
            for name, own in of_words.groupby("architecture")
            for mean, low, high in (mean_interval(own["effect"]),)
        ],
    }  # fmt: skip
    drawings = {}
    if routers:
        drawings["effective"] = StudyFigure(
            "The effective parameter count over that of the base model, by the law and at the largest size that the"
            " router was trained at, by experts; with 95 % intervals.",
            functools.partial(_effective_figure, routers),
        )
        drawings["sizes"] = StudyFigure(
            f"The change of the loss by {_SHOWN} experts, against the dense model, by size; with 95 % intervals. Below"
            " zero the mixture is better.",
            functools.partial(_sizes_figure, routers),
        )
    told = [
        f"{math.exp(each.effective[0, -1]):.2g} times as large with {ROUTERS[name]}"
        for name, each in routers.items()
        if name in JUDGED
    ]
    said = "Too few runs have ended"
    if told:
        most = max(int(each.experts.max()) for each in routers.values())
        said = f"By the law {most} experts make the largest size worth a dense model {', '.join(told)}"
    return LossVerdict(
        f"{said}: {count_of_words(claims)}.", claims, {title: rows for title, rows in tables.items() if rows}, notes,
        drawings,
    )  # fmt: skip


def _experts(runs: pd.DataFrame) -> np.ndarray:
    """The paper's E of each run, 1 for a dense model; a shared expert counts as one of those of a layer."""
    experts = runs["experts"].fillna(0.0).to_numpy(float) if "experts" in runs else np.zeros(len(runs))
    per_e = np.array([EXPERTS_PER_E.get(name, 1) for name in runs["architecture"]], float)
    shared = (runs["architecture"] == "fine_grained_shared").to_numpy(float)
    return np.where(experts > 0, (experts + shared) / per_e, 1.0)


def _base_sizes(ended: pd.DataFrame, widths: ArrayLike) -> np.ndarray:
    """N of the dense model of each width, without the embedding; nan where none has ended."""
    dense = ended.loc[ended["architecture"] == "dense"].drop_duplicates("width")
    of_width = dict(zip(dense["width"].astype(int), dense["N_nonembedding"].astype(float), strict=True))
    return np.array([of_width.get(width, np.nan) for width in np.asarray(widths, int)], float)


def _pairs(ended: pd.DataFrame) -> pd.DataFrame:
    """Mixtures with dense models of the same width, draw and seed; `N` is that of the dense model."""
    pairs = paired(
        ended.loc[ended["E"] > 1], ended.loc[ended["architecture"] == "dense"], ["width", "draw", "seed"]
    )  # fmt: skip
    return pairs.assign(N=_base_sizes(ended, pairs["width"]))


def _routers(ended: pd.DataFrame) -> dict[str, _Router]:
    """What is found of every router with enough cells that have a dense model of their size."""
    cells, logs = logs_of_cells(ended, ["architecture", "E", "width"], ["L"])
    cells = cells.assign(N=_base_sizes(ended, cells["width"]), runs=(~np.isnan(logs[..., 0])).sum(axis=1))
    several = cells["runs"] > 1
    bases = cells.loc[several & (cells["architecture"] == "dense"), "width"]
    known = several & cells["width"].isin(bases)
    if not (cells.loc[known, "runs"] == logs.shape[1]).any():
        return {}
    cells, copies = cells.loc[known].reset_index(drop=True), wild_copies(logs[known.to_numpy()], COPIES)[..., 0]
    n, experts, architecture = (cells[name].to_numpy() for name in ("N", "E", "architecture"))
    dense, found = architecture == "dense", {}
    for name in ROUTERS:
        own = architecture == name
        rows = np.flatnonzero(own | (dense & np.isin(n, n[own])))
        rows = rows[np.lexsort((experts[rows], n[rows]))]
        if len(np.unique(n[rows])) >= _FEWEST_SIZES and len(rows) >= _FEWEST_CELLS:
            found[name] = _router(n[rows], experts[rows], copies[:, rows], n[dense], copies[:, dense])
    return found


def _router(n: _Rows, experts: _Rows, logs: _Losses, dense_n: _Rows, dense_logs: _Losses) -> _Router:
    law = fit_routed(n, experts, logs)
    dense = [int(np.flatnonzero((n == size) & (experts == 1))[0]) for size in n]
    with jax.enable_x64(True):
        constants = {name: value[:, None] for name, value in law.constants.items()}
        counts = np.asarray(effective_parameters(constants, n[None], experts[None]))
    # A count beyond all numbers, of a copy whose dense models hardly gain by size, is none.
    with np.errstate(divide="ignore"):
        effective = np.log(counts) - np.log(n)
    measured = np.stack([size_at(own, dense_n, ladder) for own, ladder in zip(logs, dense_logs, strict=True)])
    return _Router(
        n, experts, logs, logs - logs[:, dense], law, bilinear_gain(n, experts, logs),
        left_out_squares(n, experts, logs), effective, measured - np.log(n),
    )  # fmt: skip


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _misfit(router: _Router) -> float:
    """Root mean square of the residuals, in nats."""
    off = 10.0 ** router.law.log10_loss(router.n, router.experts)[0] - np.exp(router.logs[0])
    return float(np.sqrt(np.mean(off**2)))


def _claims(routers: Mapping[str, _Router], pairs: pd.DataFrame) -> tuple[JudgedClaim, ...]:
    judged = {label: routers.get(name) for name, label in JUDGED.items()}
    constants = {
        letter: {label: NOT_KNOWN if own is None else percentile_interval(own.law.constants[letter])
                 for label, own in judged.items()}
        for letter in ("b", "c")
    }  # fmt: skip
    helps = [within(f"the constant b of {label}", None, 0.0, *value) for label, value in constants["b"].items()]
    less = [within(f"the constant c of {label}", 0.0, None, *value) for label, value in constants["c"].items()]
    gains = [
        _Gain(f"gain in AICc of {label}", GAIN, None, *(NOT_KNOWN if own is None else basic_interval(own.gain)))
        for label, own in judged.items()
    ]
    error = within("error at a left-out number of experts, nats", 0.0, CLOSE, *_error_left_out(routers))
    worse = [
        within(f"log loss of hash less that of {JUDGED[other]}", 0.0, None, *_at_largest(pairs, "hash", other))
        for other in ("balanced", "reinforce")
    ]
    counts = [
        within(f"difference of the log counts of parameters of law and dense model, {label}", 0.0, SAME_COUNT,
               *(NOT_KNOWN if own is None else _count_error(own)))
        for label, own in judged.items()
    ]  # fmt: skip
    rows = ", ".join(f"{0 if own is None else len(own.n)} cells of {label}" for label, own in judged.items())
    said = f"It must hold for {ENOUGH} of the {len(JUDGED)} routers."
    return (
        JudgedClaim("RO-1", "more experts lower the loss: b is below 0", _most(helps), rows, tuple(helps), said),
        JudgedClaim("RO-2", "more experts help larger models less: c is above 0", _most(less), rows, tuple(less), said),
        JudgedClaim("RO-3", "at the largest size hash is the worst of the three", together([x.ruling for x in worse]),
                    "pairs of equal experts, text and seed", tuple(worse), ""),
        JudgedClaim("RO-4", "the bilinear term improves AICc by more than 10", _most(gains), rows, tuple(gains), said),
        JudgedClaim("RO-5", "losses at a left-out number of experts are foretold to 0.02 nats",
                    error.ruling, rows, (error,), ""),
        JudgedClaim("RO-6", "the law's effective parameter count is the size of a dense model with this loss, to 25 %",
                    together([x.ruling for x in counts]), rows, tuple(counts), ""),
    )  # fmt: skip


def _most(numbers: Sequence[Within]) -> Ruling:
    """The word that ENOUGH of the numbers have, if any."""
    words = [each.ruling for each in numbers]
    known = (Ruling.SUPPORTED, Ruling.NOT_SUPPORTED)
    return next((word for word in known if words.count(word) >= ENOUGH), Ruling.NOT_RESOLVED)


def _at_largest(pairs: pd.DataFrame, first: str, second: str) -> Interval95:
    """The mean log loss of a router less that of another at the largest size, over pairs of experts and draws."""
    last = pairs.loc[pairs["N"] == pairs.loc[pairs["architecture"].isin(JUDGED), "N"].max()]
    one, other = (last.loc[last["architecture"] == name].drop(columns=["effect", "other"]) for name in (first, second))
    return mean_interval(paired(one, other, ["E", "draw", "seed"])["effect"])


def _error_left_out(routers: Mapping[str, _Router]) -> Interval95:
    """The root mean square error at a left-out E over all of the paper's routers, without what errors of draws add.

    Copies have these errors once more, so that their mean square is larger by as much as the measured one is.
    """
    if not set(JUDGED) <= set(routers):
        return NOT_KNOWN
    squares = np.mean([routers[name].left_out for name in JUDGED], axis=0)
    if np.isnan(squares).any():
        return NOT_KNOWN
    ends = [squares[1:].mean(), *np.percentile(squares[1:], [97.5, 2.5])]
    return Interval95(*(math.sqrt(max(0.0, 2 * float(squares[0]) - float(end))) for end in ends))


def _count_error(router: _Router) -> Interval95:
    """The mean absolute difference of the log counts by the law and by dense models, where these reach."""
    known = (router.experts > 1) & np.isfinite(router.measured[0]) & np.isfinite(router.effective).all(axis=0)
    if not known.any():
        return NOT_KNOWN
    return basic_interval(np.nanmean(np.abs(router.effective - router.measured)[:, known], axis=1), 0.0)


def _effective_figure(routers: Mapping[str, _Router]) -> "Figure":
    series = {}
    for place, (name, each) in enumerate(routers.items()):
        rows = (each.n == each.n.max()) & (each.experts > 1) & np.isfinite(each.effective).all(axis=0)
        value, low, high = np.exp(
            np.array([percentile_interval(each.effective[:, row]) for row in np.flatnonzero(rows)])
        ).T
        series[ROUTERS[name]] = Series(each.experts[rows] * 1.03 ** (place - 3), value, low, high)
    ticks = {float(2**power): str(2**power) for power in range(1, 7)}
    return series_figure(
        series, "experts E", "effective parameters over\nthose of the dense model", log_x=True, log_y=True, kinds=True,
        levels={"dense": 1.0}, ticks=ticks, title="How large a dense model the largest one is worth",
    )  # fmt: skip


def _sizes_figure(routers: Mapping[str, _Router]) -> "Figure":
    series = {}
    for place, (name, each) in enumerate(routers.items()):
        rows = np.flatnonzero(each.experts == _SHOWN)
        told = np.array([percentile_interval(100 * np.expm1(each.effect[:, row])) for row in rows]).reshape(-1, 3).T
        # Moved aside by 4 % in N, so that intervals do not hide each other.
        series[ROUTERS[name]] = Series(each.n[rows] * 1.04 ** (place - 3), told[0], told[1], told[2])
    ticks = {float(n): f"{n:,.0f}" for each in routers.values() for n in each.n}
    return series_figure(
        series, "parameters N of the dense model", f"loss with {_SHOWN} experts above the dense one, %", log_x=True,
        levels={"dense": 0.0}, ticks=ticks, kinds=True, title=f"What {_SHOWN} experts do to the loss, by router",
    )  # fmt: skip


_NAMES: tuple[str, ...] = ("a", "b", "c", "d", "E_start", "E_max")
# The published constants, but that d is lower by 0.43: losses are those of bytes.
_PUBLISHED = {
    "balanced": (-0.082, -0.108, 0.009, 0.674, 1.847, 314.478),
    "reinforce": (-0.083, -0.126, 0.012, 0.681, 1.880, 469.982),
    "hash": (-0.087, -0.136, 0.012, 0.727, 4.175, 477.741),
}


def _world(id_: str, truth: str, words: str, constants: Mapping[str, Sequence[float]], rough: float = 0.0) -> LossWorld:
    """A world of the law with the constants of each router; others, and dense models, are as S-BASE.

    Args:
        words: of the claims in order, in the letters of `lettered`.
        rough: by how much log L goes up and down from one power of 2 of E to the next.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        width, depth = (runs[name].to_numpy(float) for name in ("width", "depth"))
        n = 12 * depth * width**2 + (2 * depth + 1) * width  # of the dense model: matrices and norms
        experts, architecture = _experts(runs), runs["architecture"].to_numpy()
        logs = np.zeros(len(runs))
        for name in {*architecture}:
            own = architecture == name
            values = np.array(constants.get(name, constants["balanced"]))[:, None]
            p = dict(zip(_NAMES, values, strict=True))
            logs[own] = RoutedFits(p, np.zeros(1)).log10_loss(n[own], experts[own])[0] * math.log(10.0)
        uneven = np.where(experts > 1, np.cos(math.pi * np.log2(experts)), 0.0)
        # Runs that have read less have a higher loss, which no claim looks at; those at their end have that of the law.
        unread = (runs["D"].to_numpy(float) / tokens) ** 0.1
        return np.exp(logs + rough * uneven) * unread

    # Two seeds of a cell outside the design varied by 0.8 % of the loss, where 0.5 % is usual for their FLOPs.
    return LossWorld(id_, truth, loss, lettered("RO", words), errors=1.6)


_ALIKE = (-0.08, -0.07, 0.0, 0.6, 1.8, 300.0)
_WORLDS = (
    _world("published", "the published constants of the three routers", "YY?yYY", _PUBLISHED),
    _world("separable", "experts help all sizes alike, and hash is 5 % better than the others", "Y?NnYY",
           {"balanced": _ALIKE, "reinforce": _ALIKE, "hash": (-0.08, -0.09, 0.0, 0.605, 1.8, 300.0)}),
    _world("reversed", "experts do harm, to larger models less", "NN?yyy",
           dict.fromkeys(JUDGED, (-0.08, 0.1, -0.012, 0.6, 1.8, 300.0))),
    _world("rough", "the loss goes up and down with E by 4 %", "????NN",
           dict.fromkeys(JUDGED, (-0.08, -0.108, 0.009, 0.7, 1.8, 300.0)), 0.04),
    _world("nothing", "experts change nothing", "????Y?", dict.fromkeys(JUDGED, (-0.08, 0.0, 0.0, 0.6, 1.8, 300.0))),
)  # fmt: skip

ROUTED = Paper(_judge, _WORLDS)
