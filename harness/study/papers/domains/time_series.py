"""The study of time series: does an encoder scale at least as well as a decoder, in and out of distribution?

Yao et al. 2024 (arXiv 2410.12360) found losses of time-series models to be powers of size and data in and out of
distribution, and encoders to scale at least as well as decoders. Here both forecast the last patch of the same windows.
The rules are those of `sweeps/studies/time_series/design.md`.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.gap_law.rulings import JudgedClaim, together
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval, paired, ratio_of_means
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, Within, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, further_errors, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The blocks.
_DECODER, _ENCODER = _ARMS = ("decoder", "encoder")
# What is measured: held-out series of the kind that is read, and two domains that are not, by their worlds.
_INSIDE, _OUTSIDE = "series in distribution", {"real series": "series", "chaotic systems": "chaos"}
_MEASURED = (_INSIDE, *_OUTSIDE)
# What grows -> its column. The other one is at its largest value.
_AXES = {"N": "N_nonembedding", "D": "D"}
# An exponent out of distribution is to be within these times that in distribution; an encoder scales at least as well
# if its exponent is at least so many times the decoder's.
_LEAST_RATIO, _MOST_RATIO, _AS_WELL = 0.5, 1.5, 0.8
# An encoder is given so many times the tokens, so that as many targets train it: one patch of eight of each window.
_TARGETS = 8

# (arm, axis, what is measured) -> draw -> the exponent: minus the slope of log loss in the log of what grows.
Exponents = Mapping[tuple[str, str, str], pd.Series]


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended."""
    rows = _read(ended_runs(runs))
    exponents = _exponents(rows)
    claims = _claims(exponents)
    ratio = _ratio(exponents[_ENCODER, "N", _INSIDE], exponents[_DECODER, "N", _INSIDE])
    told = "is not known" if ratio.estimate is None else f"is {ratio.estimate:.2f} times the decoder's"
    tables = {
        "exponents of the loss, means over draws": _exponent_rows(exponents),
        "log loss of the encoder less that of the decoder, of the same forecasts": _level_rows(rows),
        f"the same, of an encoder that reads {_TARGETS} times as many tokens, at the largest size": _target_rows(rows),
        "loss of forecasts, nats per token, geometric means over draws": _loss_rows(rows),
    }
    tables = {title: found for title, found in tables.items() if found}
    drawings = {}
    if all((rows["block"] == arm).any() for arm in _ARMS):
        drawings = {
            "sizes": StudyFigure(
                "The loss of the same forecasts of the last patch by size, of models that read all tokens: geometric"
                " means over draws.",
                functools.partial(_loss_figure, _on_axis(rows, "N"), "N", "parameters without the embedding"),
            ),
            "tokens": StudyFigure(
                "The loss of the same forecasts of the last patch by the tokens read, of the largest models: geometric"
                " means over draws.",
                functools.partial(_loss_figure, _on_axis(rows, "D"), "D", "tokens read"),
            ),
            "difference": StudyFigure(
                "The loss of the encoder over that of the decoder, by size, of models that read all tokens: means over"
                " draws with 95 % intervals. Below zero the encoder is better.",
                functools.partial(_difference_figure, rows),
            ),
        }
    notes = (
        f"{len(rows)} finished runs. A draw has series of its own and another seed, and is one value of every exponent."
        " Both kinds of model forecast the same patches; real series and systems are the same in all draws.",
    )
    return LossVerdict(
        f"In distribution the encoder's exponent of size {told}: {count_of_words(claims)}.",
        claims, tables, notes, drawings,
    )  # fmt: skip


def _read(ended: pd.DataFrame) -> pd.DataFrame:
    """The runs with N, and the losses of `_MEASURED` by its words."""
    columns = {
        words: next((name for name in ended.columns if name.startswith(f"loss_on_{world}") and name[-3:] != "_se"), "L")
        for words, world in _OUTSIDE.items()
    }
    losses = {words: ended[name].astype(float) for words, name in {_INSIDE: "L", **columns}.items()}
    return ended.assign(N=ended["N_nonembedding"].astype(float), **losses)


def _on_axis(rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The runs in which one quantity grows and the other is at its largest value."""
    (other,) = _AXES.keys() - {axis}
    return rows.loc[rows[other] == rows[other].max()]


def _exponents(rows: pd.DataFrame) -> dict[tuple[str, str, str], pd.Series]:
    """The exponents of the draws of which all runs of an axis have ended."""
    found = {}
    for arm, axis in product(_ARMS, _AXES):
        grown = _on_axis(rows, axis)
        grown, every = grown.loc[grown["block"] == arm], grown[axis].nunique()
        whole = [own for _, own in grown.groupby("draw") if len(own) == every > 1]
        for loss in _MEASURED:
            found[arm, axis, loss] = pd.Series(
                {int(own["draw"].iloc[0]): _exponent(own[axis], own[loss]) for own in whole}, dtype=float
            )
    return found


def _exponent(x: pd.Series, losses: pd.Series) -> float:
    """Minus the least-squares slope of log loss in log x."""
    return -float(np.polyfit(np.log(x.to_numpy(float)), np.log(losses.to_numpy(float)), 1)[0])


def _ratio(first: pd.Series, second: pd.Series) -> Interval95:
    """The ratio of two mean exponents over the draws that have both."""
    both = pd.concat([first, second], axis=1, join="inner").dropna()
    return ratio_of_means(both[0], both[1])


def _mean(exponents: Exponents, arm: str, axis: str, losses: Sequence[str]) -> pd.Series:
    """The mean over what is measured, for each draw."""
    return pd.DataFrame([exponents[arm, axis, loss] for loss in losses]).mean()


def _claims(exponents: Exponents) -> tuple[JudgedClaim, ...]:
    def alphas(axis: str, losses: Sequence[str]) -> list[Within]:
        return [
            within(f"exponent of {axis} of the {arm} on {loss}", 0.0, None, *mean_interval(exponents[arm, axis, loss]))
            for arm, loss in product(_ARMS, losses)
        ]

    def ratios(axis: str) -> list[Within]:
        return [
            within(f"exponent of {axis} of the {arm} on {loss}, over that in distribution", _LEAST_RATIO, _MOST_RATIO,
                   *_ratio(exponents[arm, axis, loss], exponents[arm, axis, _INSIDE]))
            for arm, loss in product(_ARMS, _OUTSIDE)
        ]  # fmt: skip

    def as_well(losses: Sequence[str], words: str) -> list[Within]:
        return [
            within(f"exponent of {axis} of the encoder {words}, over the decoder's", _AS_WELL, None,
                   *_ratio(*(_mean(exponents, arm, axis, losses) for arm in (_ENCODER, _DECODER))))
            for axis in _AXES
        ]  # fmt: skip

    clearer = within(
        "the encoder's exponent of N less the decoder's, in distribution less the mean out of it",
        0.0, None, *_clearer(exponents),
    )  # fmt: skip
    judged = (
        ("in distribution the loss falls as a power of the size", alphas("N", (_INSIDE,))),
        ("in distribution the loss falls as a power of the data", alphas("D", (_INSIDE,))),
        ("out of distribution the loss falls as a power of the size", alphas("N", tuple(_OUTSIDE))),
        ("out of distribution the loss falls as a power of the data", alphas("D", tuple(_OUTSIDE))),
        ("the exponent of the size out of distribution is 0.5 to 1.5 times that in distribution", ratios("N")),
        ("the exponent of the data out of distribution is 0.5 to 1.5 times that in distribution", ratios("D")),
        ("in distribution the encoder scales at least as well as the decoder", as_well((_INSIDE,), "in distribution")),
        (
            "out of distribution the encoder scales at least as well as the decoder",
            as_well(tuple(_OUTSIDE), "out of distribution, the mean of both domains"),
        ),
        ("the advantage of the encoder in the exponent of the size is clearer in distribution", [clearer]),
    )
    draws = f"{len(exponents[_DECODER, 'N', _INSIDE])} draws of series"
    return tuple(
        JudgedClaim(f"TS-{place}", claim, together([each.ruling for each in numbers]), draws, tuple(numbers), "")
        for place, (claim, numbers) in enumerate(judged, 1)
    )


def _clearer(exponents: Exponents) -> Interval95:
    inside, outside = (
        _mean(exponents, _ENCODER, "N", losses) - _mean(exponents, _DECODER, "N", losses)
        for losses in ((_INSIDE,), tuple(_OUTSIDE))
    )
    values = (inside - outside).dropna()
    return mean_interval(values) if len(values) else NOT_KNOWN


def _exponent_rows(exponents: Exponents) -> list[dict[str, Any]]:
    return [
        {"of": axis, "loss on": loss, "arm": arm, "draws": len(exponents[arm, axis, loss])}
        | dict(zip(("exponent", "low", "high"), mean_interval(exponents[arm, axis, loss]), strict=True))
        for axis, loss, arm in product(_AXES, _MEASURED, _ARMS)
    ]


def _effects(rows: pd.DataFrame, loss: str, times: int = 1) -> pd.DataFrame:
    """The encoder's runs with `effect`, their log loss less that of the decoder that read one `times`-th of theirs."""
    decoder, encoder = (rows.loc[rows["block"] == arm].assign(matched=rows["D"]) for arm in _ARMS)
    encoder["matched"] /= times
    return paired(encoder, decoder, ["N", "matched", "draw"], loss)


def _level_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"N": round(float(own["N"].iloc[0])), "D": int(own["D"].iloc[0]), "loss on": loss, "pairs": len(own)}
        | dict(zip(("mean", "low", "high"), mean_interval(own["effect"]), strict=True))
        for loss in _MEASURED
        for _, own in _effects(rows, loss).groupby(["N", "D"])
    ]


def _target_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"D of the encoder": int(own["D"].iloc[0]), "loss on": loss, "pairs": len(own)}
        | dict(zip(("mean", "low", "high"), mean_interval(own["effect"]), strict=True))
        for loss in _MEASURED
        for _, own in _effects(_on_axis(rows, "D"), loss, _TARGETS).groupby("D")
    ]


def _loss_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"arm": own["block"].iloc[0], "N": round(float(own["N"].iloc[0])), "D": int(own["D"].iloc[0]), "runs": len(own)}
        | {loss: float(np.exp(np.log(own[loss]).mean())) for loss in _MEASURED}
        for _, own in rows.groupby(["block", "N", "D"])
    ]


def _loss_figure(grown: pd.DataFrame, axis: str, label: str) -> "Figure":
    series = {}
    for loss, arm in product(_MEASURED, _ARMS):
        means = np.log(grown.loc[grown["block"] == arm].set_index(axis)[loss]).groupby(level=0).mean()
        style = "-" if arm == _ENCODER else "--"
        series[f"{arm}, {loss}"] = Series(means.index.to_numpy(float), np.exp(means.to_numpy()), line=style, of=loss)
    return series_figure(
        series, label, "loss, nats per token", log_x=True, log_y=True, ticks=_ticks(grown[axis].unique()), kinds=True,
        title="Losses of encoder and decoder",
    )  # fmt: skip


def _difference_figure(rows: pd.DataFrame) -> "Figure":
    series = {}
    for loss in _MEASURED:
        effects = _effects(_on_axis(rows, "N"), loss)
        points = [
            (own["N"].iloc[0], *(np.nan if value is None else 100 * math.expm1(value) for value in change))
            for _, own in effects.groupby("N")
            for change in (mean_interval(own["effect"]),)
        ]
        n, mean, low, high = np.array(points, float).reshape(-1, 4).T
        series[loss] = Series(n, mean, low, high)
    return series_figure(
        series, "parameters without the embedding", "loss of the encoder above the decoder's, %",
        log_x=True, kinds=True,
        levels={"equal": 0.0}, ticks=_ticks(_on_axis(rows, "N")["N"].unique()),
        title="The encoder beside the decoder of equal size",
    )  # fmt: skip


def _ticks(values: Iterable[float]) -> dict[float, str]:
    """Labels of the values that there are, in thousands or millions."""
    return {float(value): f"{value / 1e3:,.3g}k" if value < 1e6 else f"{value / 1e6:.1f}M" for value in values}


# By the pilot: what a run's error in distribution is beside that of runs on text, and the standard deviations of the
# log of its loss out of distribution.
_ERRORS, _SCATTER = 0.5, {"real series": 0.007, "chaotic systems": 0.011}


def _world(
    id_: str,
    truth: str,
    powers: Mapping[str, tuple[float, float]],
    outside: Mapping[str, float],
    *words: tuple[Any, ...],
) -> LossWorld:
    """A world of powers.

    Args:
        powers: arm -> its exponents of N and D in distribution.
        outside: arm -> those out of distribution, over those in it.
    """

    def logs(runs: pd.DataFrame, tokens: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        alpha, beta = np.array([powers[arm] for arm in runs["block"]]).T
        return -alpha * np.log(runs["N_nonembedding"].to_numpy(float) / 1e4) - beta * np.log(tokens / 1e6)

    def loss(runs: pd.DataFrame, tokens: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        return 2.0 * np.exp(logs(runs, tokens))

    def measured(runs: pd.DataFrame, errors: Float[np.ndarray, "rows"]) -> Mapping[str, Any]:
        share = np.array([outside[arm] for arm in runs["block"]])
        logs_outside = share * logs(runs, runs["D"].to_numpy(float))
        own = further_errors(errors, (len(_OUTSIDE), len(runs))) / _ERRORS
        return {
            f"loss_on_{world}": 2.5 * np.exp(logs_outside + _SCATTER[words] * each)
            for (words, world), each in zip(_OUTSIDE.items(), own, strict=True)
        }

    return LossWorld(id_, truth, loss, numbered("TS", words), measured, _ERRORS)


# Exponents are of the size that a first grid had: of the whole loss, most of which nobody can foresee.
_SAME: Mapping[str, float] = {_DECODER: 1.0, _ENCODER: 1.0}
_WORLDS = (
    _world("published", "the encoder's exponents are 1.4 times the decoder's, and those outside are those inside",
           {_DECODER: (0.006, 0.02), _ENCODER: (0.0084, 0.028)}, _SAME,
           (YES,), (YES,), (YES, OPEN), (YES,), (YES, OPEN), (YES, OPEN), (YES,), (YES, OPEN), (NO, OPEN)),
    _world("clearer", "they are 1.4 times the decoder's inside alone",
           {_DECODER: (0.006, 0.02), _ENCODER: (0.0084, 0.028)}, {_DECODER: 1.0, _ENCODER: 0.71},
           (YES,), (YES,), (YES, OPEN), (YES,), (YES, OPEN), (YES, OPEN), (YES,), (YES, OPEN), (YES, OPEN)),
    _world("decoder", "the encoder's exponents are half the decoder's, and nothing is gained outside",
           {_DECODER: (0.008, 0.03), _ENCODER: (0.004, 0.015)}, {_DECODER: 0.0, _ENCODER: 0.0},
           (YES,), (YES,), (NO, OPEN), (NO, OPEN), (NO, OPEN), (NO, OPEN), (NO,), (NO, OPEN), (NO, OPEN)),
    _world("nothing", "neither size nor data change anything",
           {_DECODER: (0.0, 0.0), _ENCODER: (0.0, 0.0)}, _SAME, *[(NO, OPEN)] * 4, *[(OPEN,)] * 4, (NO, OPEN)),
)  # fmt: skip

TIME_SERIES = Paper(_judge, _WORLDS)
