"""The study of DiLoCo: replicas that an outer optimizer averages once in many steps, against data-parallel training.

Charles et al. 2025 (arXiv 2503.09799) claim that the loss is a joint power law of parameters N and replicas M, that one
replica with the outer optimizer is at least as good as data-parallel training at all but the smallest sizes, that the
best batch is larger, and that the loss grows slowly with the steps H between averages. The rules are those of
`sweeps/studies/diloco/design.md`.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.gap_law.rulings import JudgedClaim, together
from harness.fit.laws.registry import get_law
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval, paired
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure
from models.intervention import defaults_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The law of the loss that is judged; how far it may be from log losses of a size that was left out; and the exponents
# of M that are claimed.
JOINT_LAW, LEFT_OUT, EXPONENTS = "diloco_joint", 0.02, (0.0, 0.04)
# One replica is as good as data-parallel training if its loss is at most 1 % above.
AS_GOOD = 0.01
# The best batch is to be larger by a tenth, and the loss to rise by 0.5 % less over the batches.
LARGER, LESS_RISE = math.log2(1.1), 0.005
# Of log loss for twice as many steps between averages; and by how much it is to be above all others at H = 1.
SLOW, WORSE = (-0.01, 0.02), 0.005
# An arm is the runs that share these; they differ in the draw of their text.
ARM = ("N", "M", "H", "B")


def _judge_diloco(runs: pd.DataFrame) -> LossVerdict:
    ended = ended_runs(runs)
    ended = _with_settings(ended)
    names = {"N_nonembedding": "N", "replicas_count": "M", "replicas_every": "H", "batch_tokens": "B"}
    ended = ended.rename(columns=names).assign(log_loss=np.log(ended["L"]))
    ladder, batches, averaging = (_best_rates(_of(ended, part)) for part in ("ladder", "batches", "averaging"))
    cadence = _best_rates(_of(ended, "cadence", "batches").query("M > 0"))
    cadence = cadence.loc[cadence["B"] == ladder["B"].max()]
    effects = _against_parallel(ladder, ladder)
    law, best = _joint_law(ladder), _best_batches(batches)
    claims = _claims(law, effects.loc[effects["M"] == 1], best.loc[best["M"] > 0], cadence)
    single = mean_interval(effects.loc[effects["M"] == 1, "effect"]).estimate
    said = "is not known" if single is None else f"is {math.expm1(single):+.1%} against that of data-parallel training"
    headline = f"The loss of one DiLoCo replica {said}: {count_of_words(claims)}."
    tables = {
        "log loss less that of data-parallel training": _mean_rows(effects, ["N", "M"], "effect"),
        "the same without outer momentum": _mean_rows(_against_parallel(averaging, ladder), ["N", "M"], "effect"),
        "log2 of the best batch in tokens": _mean_rows(best, ["M"], "best"),
        "rise of log loss from the smallest to the largest batch": _mean_rows(best, ["M"], "rise"),
        "log loss by steps between averages": _mean_rows(cadence, ["M", "H"], "log_loss"),
        "best rates of those that were tried": _rate_rows({"ladder": ladder, "batches": batches, "cadence": cadence}),
    }
    drawings = {}
    if len(effects):
        drawings["ladder"] = StudyFigure(
            "The loss above that of data-parallel training by the number of replicas, for each size of model: means"
            " over texts with 95 % intervals. The band is what counts as equal.",
            functools.partial(_ladder_figure, effects),
        )
    if len(batches):
        drawings["batches"] = StudyFigure(
            "The loss by the batch, at the best of the rates that were tried; means over texts.",
            functools.partial(_batches_figure, batches),
        )
    notes = (
        f"{len(ended)} finished runs; of each arm those at the best of the rates that were tried are judged.",
        "Intervals are over draws of text, which all arms share.",
    )
    return LossVerdict(headline, claims, tables, notes, drawings)


def _with_settings(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the settings of replicas at their defaults where a block of a study has none of them."""
    off = {f"replicas_{name}": value for name, value in dataclasses.asdict(defaults_of("replicas")).items()}
    filled = runs.reindex(columns=[*runs, *(name for name in off if name not in runs)]).fillna(off)
    return filled.astype({name: type(value) for name, value in off.items()})


def _of(ended: pd.DataFrame, *parts: str) -> pd.DataFrame:
    """The runs of the blocks of these names, and of those of the same names with `_parallel`."""
    return ended.loc[ended["block"].str.removesuffix("_parallel").isin(parts)]


def _best_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs of every arm at its best rates; `rates` is how many pairs of an inner and an outer one were tried.

    The best rates are those with the lowest mean log loss, of those at which the most texts have ended.
    """
    kept = [rows.head(0).assign(rates=0)]
    for _, arm in rows.groupby(list(ARM)):
        tried = arm.groupby(["lr", "replicas_lr"])["log_loss"].agg(["size", "mean"]).reset_index()
        best = tried.sort_values(["size", "mean"], ascending=[False, True]).head(1)
        kept.append(arm.merge(best[["lr", "replicas_lr"]]).assign(rates=len(tried)))
    return pd.concat(kept, ignore_index=True)


def _against_parallel(rows: pd.DataFrame, parallel: pd.DataFrame) -> pd.DataFrame:
    """Runs of DiLoCo with `effect`, their log loss less that of data-parallel training on the same text."""
    return paired(rows.loc[rows["M"] > 0], parallel.loc[parallel["M"] == 0], ["N", "B", "draw"])


def _joint_law(ladder: pd.DataFrame) -> pd.DataFrame:
    """For each draw that has all sizes and replicas `alpha`, `beta`, and `left_out`, the mean error at a left-out size.

    The law log L = log A + alpha log N + beta log M is linear, so that least squares fit it. Every size is left out in
    turn, and its log losses are forecast from those of the others.
    """
    rows = ladder.loc[ladder["M"] > 0]
    whole, found = len(rows[["N", "M"]].drop_duplicates()), []
    for _, own in rows.groupby("draw"):
        if len(own) < whole or own["N"].nunique() < 4 or own["M"].nunique() < 2:
            continue
        design = np.column_stack([np.ones(len(own)), np.log(own[["N", "M"]].to_numpy(float))])
        loss, size = own["log_loss"].to_numpy(), own["N"].to_numpy()
        errors = []
        for out in (size == each for each in np.unique(size)):
            others = np.linalg.lstsq(design[~out], loss[~out], rcond=None)[0]
            errors.append(np.abs(loss[out] - design[out] @ others).mean())
        _, alpha, beta = np.linalg.lstsq(design, loss, rcond=None)[0]
        found.append((alpha, beta, float(np.mean(errors))))
    return pd.DataFrame(found, columns=["alpha", "beta", "left_out"])


def best_batch(log_batch: Float[np.ndarray, "batches"], log_loss: Float[np.ndarray, "batches"]) -> float:
    """The log of the best batch between the least and the largest, by a parabola through the log losses."""
    curve = np.polynomial.Polynomial.fit(log_batch, log_loss, 2)
    ends = float(log_batch.min()), float(log_batch.max())
    level = [float(root.real) for root in curve.deriv().roots() if ends[0] < root.real < ends[1]]
    return min([*ends, *level], key=lambda at: float(curve(at)))


def _best_batches(batches: pd.DataFrame) -> pd.DataFrame:
    """For each M and draw that has all batches: log2 of the `best`, and the `rise` of log loss from first to last.

    `larger` and `more` are these less data-parallel training's on the same text. Which is larger is not known where
    both of the best batches are at the same end of those that were tried.
    """
    tried, rows = batches["B"].nunique(), []
    for _, own in batches.sort_values("B").groupby(["M", "draw"]):
        if len(own) == tried >= 3:
            size, loss = np.log2(own["B"].to_numpy(float)), own["log_loss"].to_numpy()
            m, draw = own["M"].iloc[0], own["draw"].iloc[0]
            rows.append((m, draw, best_batch(size, loss), loss[-1] - loss[0]))
    found = pd.DataFrame(rows, columns=["M", "draw", "best", "rise"])
    both = found.merge(found.loc[found["M"] == 0].drop(columns="M"), on="draw", suffixes=("", "_parallel"))
    larger = both["best"] - both["best_parallel"]
    return both.assign(larger=larger.mask(larger == 0), more=both["rise"] - both["rise_parallel"])


def _over_draws(rows: pd.DataFrame, column: str) -> Interval95:
    """The mean of a column over draws, of which each is averaged first; not known where a value is not."""
    if np.isnan(rows[column].to_numpy(float)).any():
        return NOT_KNOWN
    means = rows.groupby("draw").agg(mean=(column, "mean"))
    return mean_interval(means["mean"].to_numpy(float))


def _growth_with_steps(cadence: pd.DataFrame) -> tuple[Interval95, Interval95]:
    """The slope of log loss in log2 H beyond H = 1, and log loss at H = 1 less the highest of the others."""
    tried, rows = cadence["H"].nunique(), []
    for _, own in cadence.groupby(["draw", "M"]):
        later = own.loc[own["H"] > 1]
        if len(own) == tried >= 3 and len(later) < len(own):
            slope = np.polyfit(np.log2(later["H"].to_numpy(float)), later["log_loss"], 1)[0]
            first = own.loc[own["H"] == 1, "log_loss"].iloc[0]
            rows.append((own["draw"].iloc[0], slope, first - later["log_loss"].max()))
    found = pd.DataFrame(rows, columns=["draw", "slope", "first"])
    return (_over_draws(found, "slope"), _over_draws(found, "first")) if rows else (NOT_KNOWN, NOT_KNOWN)


def _claims(
    law: pd.DataFrame, single: pd.DataFrame, best: pd.DataFrame, cadence: pd.DataFrame
) -> tuple[JudgedClaim, ...]:
    follows = within(
        "mean error of log loss at a size that was left out",
        0.0,
        LEFT_OUT,
        *mean_interval(law["left_out"]).clip(least=0.0),
    )
    exponent = within("exponent of the number of replicas M", *EXPONENTS, *mean_interval(law["beta"]))
    larger = single.loc[single["N"] > single["N"].min()]
    good = within(
        "log loss of one replica less that of data-parallel training", None, AS_GOOD, *_over_draws(larger, "effect")
    )
    batch = within(
        "log2 of the best batch of DiLoCo over that of data-parallel training",
        LARGER,
        None,
        *_over_draws(best, "larger"),
    )
    tolerates = within(
        "rise of log loss over the batches, DiLoCo's less that of data-parallel training",
        None,
        -LESS_RISE,
        *_over_draws(best, "more"),
    )
    growth, first = _growth_with_steps(cadence)
    slow = within("rise of log loss for twice the steps H between averages", *SLOW, *growth)
    worst = within("log loss of H = 1 less the highest of the others", WORSE, None, *first)
    published = {each.name: each.published for each in get_law(JOINT_LAW).parameters}["beta"]
    of_law, of_batches = f"{len(law)} draws of text", f"{best['draw'].nunique()} draws of text"
    return (
        JudgedClaim("DL-1", f"a law A N^alpha M^beta forecasts log losses of a left-out size within {LEFT_OUT}",
                    follows.ruling, of_law, (follows,), "Every size is left out in turn."),
        JudgedClaim("DL-2", f"the loss grows with the replicas as a power of up to {EXPONENTS[1]}", exponent.ruling,
                    of_law, (exponent,), f"The paper has {published}."),
        JudgedClaim("DL-3", "one replica is as good as data-parallel training at all but the smallest size",
                    good.ruling, f"{len(larger)} pairs of runs", (good,), ""),
        JudgedClaim("DL-4", "the best batch of DiLoCo is larger than that of data-parallel training", batch.ruling,
                    of_batches, (batch,), ""),
        JudgedClaim("DL-5", "DiLoCo loses less by large batches", tolerates.ruling, of_batches, (tolerates,), ""),
        JudgedClaim("DL-6", "an average in each step is worst, and beyond it the loss grows slowly with H",
                    together([slow.ruling, worst.ruling]), f"{cadence['draw'].nunique()} draws of text", (slow, worst),
                    ""),
    )  # fmt: skip


def _mean_rows(rows: pd.DataFrame, by: Sequence[str], column: str) -> list[dict[str, Any]]:
    told = []
    for _, own in rows.groupby(list(by)):
        mean, low, high = mean_interval(own[column])
        group = {name: int(own[name].iloc[0]) for name in by}
        told.append(group | {"draws": len(own), "mean": mean, "low": low, "high": high})
    return told


def _rate_rows(parts: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    told = []
    for part, rows in parts.items():
        for row in rows.drop_duplicates(list(ARM)).to_dict("records"):
            arm = {name: int(row[name]) for name in (*ARM, "rates")}
            told.append({"part": part, **arm, "inner": row["lr"], "outer": row["replicas_lr"]})
    return told


def _ladder_figure(effects: pd.DataFrame) -> "Figure":
    series = {}
    for place, (n, own) in enumerate(effects.groupby("N")):
        told = [(m, *mean_interval(of_m["effect"])) for m, of_m in own.groupby("M")]
        replicas, *losses = np.asarray(told, float).T
        value, low, high = (100 * np.expm1(each) for each in losses)
        series[f"N = {n:,.0f}"] = Series(replicas * 1.03**place, value, low, high)
    ticks = {float(m): str(m) for m in sorted(effects["M"].unique())}
    band = (-100 * AS_GOOD, 100 * AS_GOOD)
    return series_figure(
        series, "replicas M", "loss above data-parallel training, %", log_x=True, band=band, ticks=ticks,
        title="What replicas cost, by size",
    )  # fmt: skip


def _batches_figure(batches: pd.DataFrame) -> "Figure":
    series = {}
    for m, own in batches.groupby("M"):
        mean = own.groupby("B").agg(mean=("log_loss", "mean"))["mean"]
        series["data-parallel" if m == 0 else f"DiLoCo, M = {m}"] = Series(mean.index, np.exp(mean.to_numpy(float)))
    ticks = {float(b): f"{b:,.0f}" for b in sorted(batches["B"].unique())}
    return series_figure(
        series, "batch, tokens", "loss, nats per token", log_x=True, ticks=ticks, kinds=True,
        title="The loss by batch",
    )  # fmt: skip


def _world(
    id_: str, truth: str, single: float, beta: float, wider: float, steps: tuple[float, float],
    *words: tuple[Any, ...],
) -> LossWorld:  # fmt: skip
    """A world of power laws.

    Args:
        single: log loss of one replica less that of data-parallel training at 512 tokens a step.
        beta: the exponent of M.
        wider: log2 of the best batch of DiLoCo over that of data-parallel training, which lie around 512.
        steps: growth of log loss for twice as many steps between averages; log loss of H = 1 less that of 30.
    """

    def loss(runs: pd.DataFrame, tokens: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        names = ("N_nonembedding", "replicas_count", "replicas_every", "batch_tokens", "lr", "width", "D")
        n, m, h, b, lr, width, d = (runs[name].to_numpy(float) for name in names)
        slow, first = steps
        cadence = np.where(h > 1, slow * np.log2(h / 10), slow * math.log2(3) + first)
        replicas = np.where(m > 0, single + beta * np.log(np.maximum(m, 1)) + cadence, 0.0)
        batch = 0.01 * (np.log2(b / 512) - np.where(m > 0, wider, -wider) / 2) ** 2
        rate = 0.01 * np.log2(lr * width / 32 / 0.016) ** 2
        return 2.5 * np.exp(replicas + batch + rate) * (n / 1e4 * tokens / d) ** -0.1

    return LossWorld(id_, truth, loss, numbered("DL", words))


_WORLDS = (
    _world("published", "one replica is a little better than data-parallel training, more lose little, as published",
           -0.005, 0.0116, 1.0, (0.005, 0.03), (YES,), (YES,), (YES,), (YES,), (YES,), (YES, OPEN)),
    _world("costly", "averaging seldom costs much, the more so with many replicas, and no batch makes up for it",
           0.04, 0.07, -0.5, (0.05, -0.1), (YES,), (NO,), (NO,), (NO, OPEN), (NO,), (NO,)),
    _world("equal", "DiLoCo is data-parallel training in all respects",
           0.0, 0.0, 0.0, (0.0, 0.0), (YES,), (OPEN,), (YES, OPEN), (NO, OPEN), (NO, OPEN), (NO, OPEN)),
)  # fmt: skip

DILOCO = Paper(_judge_diloco, _WORLDS)
