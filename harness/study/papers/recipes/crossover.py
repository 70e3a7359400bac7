"""The study of crossings: do recipes that win on small models lose on larger ones, and does regularising help at all?

Xiao 2024 (arXiv 2409.15156) claims that where text is read once explicit L2, small batches and large rates need not
help, and that the scaling curves of two recipes can cross. Here five recipes are compared with a plain one on a ladder
of sizes. The rules are those of `sweeps/studies/crossover/design.md`.
"""

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, Ruling, together
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval, paired
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The block of the recipe with which the others are compared, and the blocks of those, in words.
_PLAIN = "plain"
_RECIPES = {
    "decay": "weight decay 0.1",
    "strong_decay": "weight decay 1",
    "small_batch": "a quarter of the batch",
    "large_rate": "four times the rate",
    "dropout": "dropout 0.1",
}
# A recipe helps if it lowers the mean of log loss by more than this; no recipe raises it by more than the other.
_HELPS = 0.02
# A difference changes its sign along the ladder if it is beyond doubt, with opposite signs, in so many of its smallest
# and of its largest sizes.
_END_SIZES = 2
# The floors that a pair of curves may share, over its least loss; draws of the bootstrap, and its seed.
_FLOORS, _DRAWS, _SEED = np.linspace(0.0, 0.98, 50), 400, 0
# A crossing is looked for up to so many times beyond the compute of the ladder.
_REACH = 10.0


class _Pair(NamedTuple):
    """A recipe against the plain one.

    Attributes:
        effects: rows of pairs, with `effect`, the log loss less that of the plain recipe.
        small, large: the mean effect at the smallest and at the largest sizes, with intervals.
        place: the compute at which the fitted curves cross, with an interval where most draws of the bootstrap cross.
        within: the share of draws that cross within the ladder; None where nothing was fitted.
    """

    effects: pd.DataFrame
    small: Interval95
    large: Interval95
    place: Interval95
    within: float | None

    @property
    def signs(self) -> tuple[int, int]:
        """The sign of the effect at both ends, 0 where its interval holds 0."""
        return _sign(self.small), _sign(self.large)


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended."""
    ended = ended_runs(runs)
    ended = ended.assign(N=ended["N_nonembedding"].astype(float), C=ended["flops"].astype(float))
    plain = ended.loc[ended["block"] == _PLAIN]
    pairs = {name: _pair(ended.loc[ended["block"] == name], plain) for name in _RECIPES}
    claims = _claims(pairs)
    flips = [_RECIPES[name] for name, each in pairs.items() if each.signs[0] * each.signs[1] < 0]
    crossed = (
        f"Against the plain recipe {' and '.join(flips)} wins at one end of the sizes and loses at the other"
        if flips
        else "No recipe is shown to win at one end of the sizes and to lose at the other"
    )
    tables = {
        "log loss less that of the plain recipe, by size": _effect_rows(pairs),
        "ends of the ladder, and crossings of fitted curves": [
            {"recipe": _RECIPES[name], "smallest": each.small.estimate, "low": each.small.low, "high": each.small.high,
             "largest": each.large.estimate, "low, largest": each.large.low, "high, largest": each.large.high,
             "crossing, FLOPs": each.place.estimate, "low, FLOPs": each.place.low, "high, FLOPs": each.place.high,
             "share of draws that cross within the ladder": each.within}
            for name, each in pairs.items()
        ],
    }  # fmt: skip
    drawings = {}
    if any(len(each.effects) for each in pairs.values()):
        drawings["effects"] = StudyFigure(
            "The change of the loss by each recipe, against the plain one, by training compute: means over draws with"
            " 95 % intervals. Below zero the recipe is better.",
            functools.partial(_effects_figure, pairs),
        )
    spread = np.concatenate([_deviations(each.effects) for each in pairs.values()])
    noise = (
        f"the differences of a pair vary by {np.sqrt(np.mean(spread**2)):.2%}" if len(spread) else "no pairs of a size"
    )
    notes = (f"{len(ended)} finished runs; a pair has the same size, text and seed, and {noise}.",)
    return LossVerdict(f"{crossed}: {count_of_words(claims)}.", claims, tables, notes, drawings)


def _sign(number: Interval95) -> int:
    if number.low is not None and number.low > 0:
        return 1
    return -1 if number.high is not None and number.high < 0 else 0


def _pair(other: pd.DataFrame, plain: pd.DataFrame) -> _Pair:
    effects = paired(other, plain, ["N", "draw"])
    sizes = sorted(effects["N"].unique())
    if len(sizes) < 2 * _END_SIZES:
        return _Pair(effects, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, None)
    small, large = (
        mean_interval(effects.loc[effects["N"].isin(own), "effect"])
        for own in (sizes[:_END_SIZES], sizes[-_END_SIZES:])
    )
    return _Pair(effects, small, large, *_crossings(effects))


def _deviations(effects: pd.DataFrame) -> Float[np.ndarray, "pairs"]:
    """Effects less the mean of their size, scaled so that their mean square is the variance of one."""
    grouped = effects.groupby("N")["effect"]
    count = grouped.transform("size").to_numpy(float)
    several = count > 1
    left = (effects["effect"] - grouped.transform("mean")).to_numpy(float)[several]
    return left * np.sqrt(count[several] / (count[several] - 1))


def _crossings(effects: pd.DataFrame) -> tuple[Interval95, float | None]:
    """Where the curves of a recipe and of the plain one cross, and the share of draws with this within the ladder.

    The bootstrap is of a normal error: the plain losses are held, since their errors are in both curves, and each
    size's mean effect varies by the pooled spread of the pairs.
    """
    logs = effects.assign(log_plain=np.log(effects["other"].astype(float)))
    means = logs.groupby("N", as_index=False).agg(
        C=("C", "mean"), plain=("log_plain", "mean"), effect=("effect", "mean"), count=("effect", "size")
    )
    flops, mean = means["C"].to_numpy(float), means["effect"].to_numpy(float)
    plain, count = np.exp(means["plain"].to_numpy(float)), means["count"].to_numpy(float)
    spread = _deviations(effects)
    if not len(spread):
        return NOT_KNOWN, None
    rng = np.random.default_rng(_SEED)
    error = np.sqrt(np.mean(spread**2) / count)
    drawn = mean + error * rng.standard_normal((_DRAWS, len(mean)))
    both = np.stack(
        [plain * np.exp(np.vstack([mean, drawn])), np.broadcast_to(plain, (_DRAWS + 1, len(plain)))], axis=1
    )
    logs = _crossing(np.log(flops), both)
    known = (logs >= np.log(flops[0] / _REACH)) & (logs <= np.log(flops[-1] * _REACH))
    inside = (logs[1:] >= np.log(flops[0])) & (logs[1:] <= np.log(flops[-1]))
    share = float(inside.mean())
    if not known[0] or known[1:].mean() < 0.5:
        return NOT_KNOWN, share
    low, high = np.exp(np.quantile(logs[1:][known[1:]], [0.025, 0.975]))
    return Interval95(math.exp(logs[0]), float(low), float(high)), share


def _crossing(
    log_flops: Float[np.ndarray, "sizes"], losses: Float[np.ndarray, "draws 2 sizes"]
) -> Float[np.ndarray, "draws"]:
    """The log of the compute at which two curves L_i = E + A_i C^-a_i cross; inf where they are parallel.

    For a floor E each curve is a line in logs, fitted with the weights that make its errors those of log L. The floor
    is the one, shared by both curves, with the least squares.
    """
    floors = _FLOORS * losses.min(axis=(1, 2))[:, None]
    above = losses[:, None] - floors[:, :, None, None]  # draws, floors, curves, sizes
    weights, y = (above / losses[:, None]) ** 2, np.log(above)
    total = weights.sum(-1, keepdims=True)
    middle_x = (weights * log_flops).sum(-1, keepdims=True) / total
    middle_y = (weights * y).sum(-1, keepdims=True) / total
    x, y = log_flops - middle_x, y - middle_y
    slope = (weights * x * y).sum(-1, keepdims=True) / (weights * x**2).sum(-1, keepdims=True)
    squares = (weights * (y - slope * x) ** 2).sum((-1, -2))
    level = (middle_y - slope * middle_x)[..., 0]
    best = np.arange(len(losses)), squares.argmin(axis=1)
    levels, slopes = level[best], slope[..., 0][best]
    with np.errstate(divide="ignore", invalid="ignore"):
        place = (levels[:, 0] - levels[:, 1]) / (slopes[:, 1] - slopes[:, 0])
    return np.where(np.isfinite(place), place, np.inf)


def _effect_rows(pairs: Mapping[str, _Pair]) -> list[dict[str, Any]]:
    return [
        {"recipe": _RECIPES[name], "N": round(float(own["N"].iloc[0])), "FLOPs": float(np.mean(own["C"])),
         "pairs": len(own), "mean": mean, "low": low, "high": high}
        for name, each in pairs.items()
        for _, own in each.effects.groupby("N")
        for mean, low, high in (mean_interval(own["effect"]),)
    ]  # fmt: skip


def _claims(pairs: Mapping[str, _Pair]) -> tuple[JudgedClaim, ...]:
    means = {name: mean_interval(each.effects["effect"]) for name, each in pairs.items()}
    numbers = {
        name: within(f"log loss with {_RECIPES[name]} less that of the plain recipe", -_HELPS, None, *value)
        for name, value in means.items()
    }
    judged = (
        ("XO-1", "weight decay does not help where text is read once", ("decay", "strong_decay")),
        ("XO-2", "small batches do not help", ("small_batch",)),
        ("XO-3", "large rates do not help", ("large_rate",)),
        ("XO-4", "dropout does not help where text is read once", ("dropout",)),
    )
    claims = []
    for id_, claim, names in judged:
        evidence: tuple[DecidingNumber, ...] = tuple(numbers[name] for name in names)
        rows = f"{sum(len(pairs[name].effects) for name in names)} pairs of equal size, text and seed"
        claims.append(JudgedClaim(id_, claim, together([each.ruling for each in evidence]), rows, evidence, ""))
    word, reason = _crossed(pairs)
    rows = f"the {_END_SIZES} smallest and the {_END_SIZES} largest sizes"
    return (*claims, JudgedClaim("XO-5", "the scaling curves of two recipes can cross", word, rows, (), reason))


def _crossed(pairs: Mapping[str, _Pair]) -> tuple[Ruling, str]:
    """Whether any recipe's difference is beyond doubt at both ends with opposite signs, or all have one sign there."""
    told = [
        f"{_RECIPES[name]} {each.small.estimate:+.3f} [{each.small.low:.3f}, {each.small.high:.3f}] and"
        f" {each.large.estimate:+.3f} [{each.large.low:.3f}, {each.large.high:.3f}]"
        for name, each in pairs.items()
        if None not in (*each.small, *each.large)
    ]
    reason = f"Log loss less the plain, at the smallest and at the largest sizes: {'; '.join(told)}." if told else ""
    products = [each.signs[0] * each.signs[1] for each in pairs.values()]
    if min(products) < 0:
        return Ruling.SUPPORTED, reason
    return (Ruling.NOT_SUPPORTED if min(products) > 0 else Ruling.NOT_RESOLVED), reason


def _effects_figure(pairs: Mapping[str, _Pair]) -> "Figure":
    series = {}
    for place, (name, each) in enumerate(pairs.items()):
        rows = [
            (
                own["C"].mean() * 1.06 ** (place - 2),
                *(np.nan if value is None else 100 * math.expm1(value) for value in told),
            )
            for _, own in each.effects.groupby("N")
            for told in (mean_interval(own["effect"]),)
        ]
        if rows:
            series[_RECIPES[name]] = Series(*np.array(rows, float).T)
    return series_figure(
        series, "training compute, FLOPs", "loss above that of the plain recipe, %", log_x=True, levels={"plain": 0.0},
        title="What each change of the recipe does to the loss", kinds=True,
        band=(-100 * _HELPS, 100 * _HELPS),
    )  # fmt: skip


def _world(id_: str, truth: str, effects: Mapping[str, tuple[float, float]], *words: tuple[Ruling, ...]) -> LossWorld:
    """A world with the effect of each recipe on log loss at the smallest and at the largest size, even in log N."""

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n = runs["N_nonembedding"].to_numpy(float)
        share = np.log(n / 3e3) / np.log(16)
        ends = np.array([effects.get(name, (0.0, 0.0)) for name in runs["block"]])
        return (1.0 + 16.3 * n**-0.35 + 82 * tokens**-0.35) * np.exp(ends[:, 0] + share * (ends[:, 1] - ends[:, 0]))

    return LossWorld(id_, truth, loss, numbered("XO", words))


_WORLDS = (
    _world("published", "no recipe helps in the mean; four times the rate wins on small models and loses on large ones",
           {"decay": (0.02, 0.02), "strong_decay": (0.03, 0.05), "small_batch": (0.02, 0.03),
            "large_rate": (-0.06, 0.12), "dropout": (0.05, 0.03)},
           (YES,), (YES,), (YES,), (YES,), (YES, OPEN)),
    _world("helps", "every recipe lowers the loss by 6 % at every size",
           dict.fromkeys(_RECIPES, (-0.06, -0.06)), (NO,), (NO,), (NO,), (NO,), (NO,)),
    _world("nothing", "no recipe changes anything", {}, (YES,), (YES,), (YES,), (YES,), (OPEN,)),
)  # fmt: skip

CROSSOVER = Paper(_judge, _WORLDS)
