"""The study of averages under other batches: whether an average of the parameters stays the same if its decay scales.

Busbridge et al. 2023 (arXiv 2307.13813) claim that with a batch kappa times as large an exponential moving average with
the decay rho^kappa, beside the usual scaling of the optimizer, is the same at equal tokens. The rules are those of
`sweeps/studies/ema/design.md`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, Measured, Ruling, together
from harness.study.contrasts import Interval95, mean_interval
from harness.study.loss_runs import CURVE_TOKENS, ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import DOUBLINGS, NO, OPEN, PER_DOUBLING, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The blocks: the decay of the average is rho^kappa, or rho for all batches.
_SCALED, _UNSCALED = "scaled", "unscaled"
# The columns of the average's held-out loss at the end, and along the run.
_FINAL, _CURVE = "heldout_loss_average", "curve_heldout_average"
# Tokens of a step for which kappa is 1; the kappas that the rule is claimed for, and one that is too large.
_BATCH, _KEPT, _TOO_LARGE = 256, (0.25, 0.5, 2.0, 4.0), 8.0
# Losses of averages are the same within so many nats.
_SAME = 0.01
# Early is this share of the tokens; there the unscaled average is to be off by at least 3 times as much.
_EARLY, _WORSE = 0.125, 3.0


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    ended = ended.assign(kappa=ended["batch_tokens"] / _BATCH, early=[_early(run) for run in ended.to_dict("records")])
    pairs = _against_one(ended)
    claims = _claims(ended, pairs)
    end = mean_interval(_of(pairs, _SCALED, 4.0)["end"])
    told = "is not known" if end.estimate is None else f"is {end.estimate:+.3f} nats"
    headline = (
        "With all settings scaled, the change of the averaged parameters' loss by a batch four times as large"
        f" {told}: {count_of_words(claims)}."
    )
    tables = {
        "loss of the average less that at kappa = 1, nats, by batch": _rows(pairs),
        "loss of the last parameters less that at kappa = 1, nats, by batch": _raw_rows(pairs),
    }
    drawings = {}
    if len(pairs):
        drawings["end"] = StudyFigure(
            "The loss of the average at the end less that at kappa = 1, by batch, with the decay raised to the power"
            " kappa and without; and that of the last parameters. The band is what counts as the same. Intervals are"
            " over draws of text.",
            functools.partial(_end_figure, pairs),
        )
        drawings["early"] = StudyFigure(
            "The same at an eighth of the tokens, without its sign.", functools.partial(_early_figure, pairs)
        )
    note = f"{len(ended)} finished runs, {len(pairs)} of them paired with the run of kappa = 1 of the same draw."
    return LossVerdict(headline, claims, {title: rows for title, rows in tables.items() if rows}, (note,), drawings)


def _early(run: Mapping[Any, Any]) -> float:
    """The loss of the average after a share _EARLY of the tokens, between evaluations linear in log tokens."""
    tokens, losses = np.asarray(run[CURVE_TOKENS], float), np.asarray(run[_CURVE], float)
    if not len(tokens) or len(losses) != len(tokens):
        return math.nan
    return float(np.interp(math.log(_EARLY * float(run["D"])), np.log(tokens), losses))


def _against_one(ended: pd.DataFrame) -> pd.DataFrame:
    """The runs of other batches with their losses less those of the run of kappa = 1 of the same draw.

    `end` and `start` are of the average at the end and early, `raw` of the last parameters.
    """
    one = ended.loc[(ended["kappa"] == 1) & (ended["block"] == _SCALED)]
    columns = ["draw", _FINAL, "early", "L"]
    both = ended.loc[ended["kappa"] != 1].merge(one[columns], on="draw", suffixes=("", "_one"))
    return both.assign(
        end=both[_FINAL] - both[f"{_FINAL}_one"], start=both["early"] - both["early_one"], raw=both["L"] - both["L_one"]
    )


def _of(pairs: pd.DataFrame, block: str, kappa: float) -> pd.DataFrame:
    return pairs.loc[(pairs["block"] == block) & (pairs["kappa"] == kappa)]


def _early_ratios(pairs: pd.DataFrame) -> list[float]:
    """For each draw the log of the mean absolute early difference without scaling over that with it."""
    ratios = []
    for _, own in pairs.groupby("draw"):
        kinds = [own.loc[(own["block"] == block) & own["kappa"].isin(_KEPT), "start"] for block in (_UNSCALED, _SCALED)]
        if all(len(each) == len(_KEPT) for each in kinds):
            without, with_ = (float(each.abs().mean()) for each in kinds)
            ratios.append(math.log(without / with_))
    return ratios


def _claims(ended: pd.DataFrame, pairs: pd.DataFrame) -> tuple[JudgedClaim, ...]:
    def ends(block: str, kappa: float) -> Interval95:
        return mean_interval(_of(pairs, block, kappa)["end"])

    one = ended.loc[(ended["kappa"] == 1) & (ended["block"] == _SCALED)]
    same = [
        Measured(f"the difference of loss for kappa = {kappa:g}, nats", 0.0, _SAME, *ends(_SCALED, kappa))
        for kappa in _KEPT
    ]
    ratios = _early_ratios(pairs)
    name = "log of the early differences of unscaled averages over those of scaled ones"
    ratio = within(name, math.log(_WORSE), None, *mean_interval(ratios))
    large, plain = ends(_SCALED, _TOO_LARGE), ends(_UNSCALED, max(_KEPT))
    helps = mean_interval(one["L"] - one[_FINAL])

    def paired(block: str, *kappas: float) -> str:
        return f"{sum(len(_of(pairs, block, kappa)) for kappa in kappas)} pairs of runs at equal tokens"

    found = (
        ("EM-1", "a batch of 1/4 to 4 times the usual one (kappa) leaves the average's loss the same to 0.01 nats, if"
         " all settings are scaled", same, paired(_SCALED, *_KEPT)),
        ("EM-2", "early in training an average whose decay is not scaled is off at least 3 times as much", [ratio],
         f"{len(ratios)} draws of text"),
        ("EM-3", "for a batch 8 times as large the rule fails",
         [within("the difference of loss for kappa = 8, nats", _SAME, None, *large)], paired(_SCALED, _TOO_LARGE)),
        ("EM-4", "without scaling its decay, the average for a batch 4 times as large is worse also at the end",
         [within("the difference of loss without scaling, nats", _SAME, None, *plain)], paired(_UNSCALED, max(_KEPT))),
        ("EM-5", "the average is better than the last parameters, at the usual batch",
         [within("the loss of the last parameters less that of the average, nats", _SAME, None, *helps)],
         f"{len(one)} runs at the usual batch"),
    )  # fmt: skip
    return tuple(
        JudgedClaim(id_, claim, _word(evidence), rows, tuple(evidence), "") for id_, claim, evidence, rows in found
    )


def _word(evidence: Sequence[DecidingNumber]) -> Ruling:
    return together([each.ruling for each in evidence])


def _rows(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for _, own in pairs.groupby(["block", "kappa"]):
        row: dict[str, Any] = {"decay": own["block"].iloc[0], "kappa": float(own["kappa"].iloc[0]), "draws": len(own)}
        for name, column in (("early", "start"), ("end", "end")):
            found = mean_interval(own[column])
            row |= {name: found.estimate, f"{name}, low": found.low, f"{name}, high": found.high}
        rows.append(row)
    return rows


def _raw_rows(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for _, own in pairs.loc[pairs["block"] == _SCALED].groupby("kappa"):
        mean, low, high = mean_interval(own["raw"])
        rows.append({"kappa": float(own["kappa"].iloc[0]), "draws": len(own), "mean": mean, "low": low, "high": high})
    return rows


def _series(pairs: pd.DataFrame, block: str, column: str) -> Series:
    kappas = sorted(pairs.loc[pairs["block"] == block, "kappa"].unique())
    found = [mean_interval(_of(pairs, block, kappa)[column]) for kappa in kappas]
    value, low, high = np.array(found, float).reshape(-1, 3).T
    return Series(kappas, value, low, high)


_TICKS = {0.25: "1/4", 0.5: "1/2", 1.0: "1", 2.0: "2", 4.0: "4", 8.0: "8"}


def _end_figure(pairs: pd.DataFrame) -> "Figure":
    series = {
        "average, decay scaled": _series(pairs, _SCALED, "end"),
        "average, decay not scaled": _series(pairs, _UNSCALED, "end"),
        "last parameters": _series(pairs, _SCALED, "raw"),
    }
    label = "loss above that at kappa = 1, nats"
    figure = series_figure(
        series, "kappa, batch over 256 tokens", label, log_x=True, band=(-_SAME, _SAME), ticks=_TICKS, kinds=True,
        title="The final loss with other batches",
    )  # fmt: skip
    axes = figure.axes[0]
    axes.set_yscale("symlog", linthresh=0.05)
    axes.set_yticks(heights := [-0.05, -0.01, 0, 0.01, 0.05, 0.1, 0.5], [f"{each:g}" for each in heights])
    return figure


def _early_figure(pairs: pd.DataFrame) -> "Figure":
    sizes = pairs.assign(start=pairs["start"].abs())
    series = {f"decay {'' if block == _SCALED else 'not '}scaled": _series(sizes, block, "start")
              for block in (_SCALED, _UNSCALED)}  # fmt: skip
    label = "early difference from kappa = 1, nats"
    return series_figure(
        series, "kappa, batch over 256 tokens", label, log_x=True, log_y=True, ticks=_TICKS, kinds=True,
        title="Early losses of averages with other batches",
    )  # fmt: skip


def _average(runs: pd.DataFrame, share: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """The loss of an average after shares of the tokens, the mean of the losses that its memory (tokens) weighs."""
    tokens = runs["D"].to_numpy(float)[:, None, None] * share[None, :, None]
    age = np.linspace(0, 12, 400)[None, None, :] * memory[:, None, None]
    weight, past = np.exp(-age / memory[:, None, None]), np.maximum(tokens - age, 0.0)
    return np.sum(weight * _loss(past), axis=2) / np.sum(weight, axis=2)


def _loss(tokens: np.ndarray) -> np.ndarray:
    return np.minimum(1.7 + 82 * (tokens + 1e3) ** -0.35, 5.55)


def _world(id_: str, truth: str, harm: float, forgets: bool, gain: float, *words: tuple[Ruling, ...]) -> LossWorld:
    """A world in which an average has the mean of the losses in its memory, less a gain.

    Args:
        harm: what each doubling of the batch adds to all losses beyond kappa = 1, nats; kappa = 8 adds 0.04 more.
        forgets: whether an average that keeps its decay has a longer memory in tokens with a larger batch.
        gain: by how much the average is better than the parameters, nats.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        return _loss(tokens) + _extra(runs)

    def _extra(runs: pd.DataFrame) -> np.ndarray:
        doublings = np.log2(runs["batch_tokens"].to_numpy(float) / _BATCH)
        return harm * np.maximum(doublings, 0) + 0.04 * (doublings >= 3) * (harm > 0)

    def measured(runs: pd.DataFrame, errors: np.ndarray) -> dict[str, Any]:
        memory = np.full(len(runs), _BATCH / 0.002)
        if forgets:
            memory = runs["batch_tokens"].to_numpy(float) / (1 - runs["average_decay"].to_numpy(float))
        share = np.exp2(-np.arange(PER_DOUBLING * DOUBLINGS, -1, -1) / PER_DOUBLING)
        losses = _average(runs, share, memory) + (_extra(runs) - gain)[:, None]
        losses = losses * np.exp(0.0025 * errors)[:, None]
        return {_FINAL: losses[:, -1], _CURVE: list(losses)}

    return LossWorld(id_, truth, loss, numbered("EM", words), measured)


_WORLDS = (
    _world("published", "the scaled average is the same for every batch up to kappa = 4", 0.0005, True, 0.12,
           (YES,), (YES,), (YES,), (YES,), (YES,)),
    _world("harm", "a larger batch costs 0.015 nats a doubling, whatever the average", 0.015, True, 0.12,
           (NO,), (YES,), (YES,), (YES,), (YES,)),
    _world("memory", "the memory in tokens does not depend on the decay, the average is no better", 0.0, False, 0.03,
           (YES,), (NO,), (NO,), (NO, OPEN), (NO, OPEN)),
)  # fmt: skip

EMA = Paper(_judge, _WORLDS)
