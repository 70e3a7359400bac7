"""The study of ensembles: the mean prediction of models that read the same few tokens many times.

Kim et al. 2025 (arXiv 2509.14786) claim that the loss of K independent models falls as 1/K towards an asymptote below
that of one model of any size, and that this is worth several times as many unique tokens. The rules are those of
`sweeps/studies/ensembles/design.md`.
"""

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval, symmetric
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, RUN_ERROR, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import REFERENCE, Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The power of the members that is claimed, how far from it still agrees, and the fewest members that show one.
POWER, SAME_POWER, FEWEST = 1.0, 0.25, 6
# By how much log loss is to be lower.
LOWER = 0.01
# How many unique tokens for each of one model's an ensemble is to be worth at least; and what the paper's ensembles are
# worth over its best single models, 5.17/2.29. Two of these agree to a factor of 2.
WORTH, PUBLISHED_WORTH, SAME_WORTH = 1.25, 5.17 / 2.29, 2.0
# So many small models have as many parameters as the largest one.
EQUAL_PARTS = 4
# The standard deviation of log loss between texts in simulated worlds. Between draws of the study `repetition` it was
# 0.027, and those differ in their seeds, too.
TEXT_ERROR = 0.02


class Members(NamedTuple):
    """The law L = asymptote + gain/K^power of ensembles of K members."""

    asymptote: float
    gain: float
    power: float


def members_law(members: Float[np.ndarray, "sizes"], loss: Float[np.ndarray, "sizes"]) -> Members:
    """Fit the law by least squares to the losses of ensembles of more than three sizes."""

    def at(power: float) -> tuple[float, Float[np.ndarray, "2"]]:
        design = np.column_stack([np.ones(len(members)), members**-power])
        found = np.linalg.lstsq(design, loss, rcond=None)[0]
        return float(np.sum((loss - design @ found) ** 2)), found

    lowest: Any = minimize_scalar(lambda power: at(power)[0], bounds=(0.05, 4.0), method="bounded")
    asymptote, gain = at(float(lowest.x))[1]
    return Members(float(asymptote), float(gain), float(lowest.x))


class Worth(NamedTuple):
    """The log of how many unique tokens, for each of one model's, an ensemble is worth.

    One model that reads more unique tokens, each as often, has log loss a - b log U, so that a gain of g in log loss is
    worth a factor exp(g/b). Both are means over draws.

    Attributes:
        n, members: parameters of a member, and their number; infinite for the asymptote.
        gain, falls: g and b.
        log_worth: g/b.
    """

    n: float
    members: float
    gain: Interval95
    falls: Interval95
    log_worth: Interval95


def ratio(first: Interval95, second: Interval95) -> Interval95:
    """The ratio of two independent numbers, with errors to first order; the halves of their intervals add in squares.

    Not known where the second may be 0.
    """
    if first.estimate is None or second.estimate is None or second.low is None or second.low <= 0:
        return NOT_KNOWN
    value = first.estimate / second.estimate
    if first.low is None:
        return Interval95(value, None, None)
    half = math.hypot(first.estimate - first.low, value * (second.estimate - second.low)) / second.estimate
    return symmetric(value, half)


def _judge_ensembles(runs: pd.DataFrame) -> LossVerdict:
    ended = ended_runs(runs)
    for name in ("members", "ensemble_loss"):
        ended = ended if name in ended else ended.assign(**{name: math.nan})
    ended = ended.assign(N=ended["N_nonembedding"].astype(float), log_loss=np.log(ended["L"]))
    cells = ended.groupby(["N", "weight_decay", "U", "draw"], as_index=False).agg(log_loss=("log_loss", "mean"))
    pools, singles = _pools(ended), cells.loc[cells["U"] == cells["U"].min()]
    worth = _worth(pools, cells)
    claims = _claims(pools, singles, worth)
    gain = mean_interval(_known(pools["one"] - pools["all"])).estimate
    said = (
        "are not known" if gain is None else f"have a loss {-math.expm1(-gain):.1%} below that of one of their members"
    )
    headline = f"Ensembles {said}: {count_of_words(claims)}."
    tables = {
        "ensembles: log losses of one member, of all, at the asymptote; power of the members": _pool_rows(pools),
        "log loss of one model": _single_rows(cells),
        "unique tokens that an ensemble is worth, for each of one model's": _worth_rows(worth),
    }
    drawings = {}
    if len(pools):
        drawings["members"] = StudyFigure(
            "The loss of ensembles against the number of members, for each size of the members, and the best single"
            " model of any size; means over texts.",
            functools.partial(_members_figure, pools, singles),
        )
        drawings["total"] = StudyFigure(
            "The loss against the parameters of all members together: ensembles of models of one size, and single"
            " models at the better weight decay; means over texts.",
            functools.partial(_total_figure, pools, singles),
        )
    notes = (
        f"{len(ended)} finished runs. The probabilities of members are averaged; the paper averages logits.",
        "Intervals are over draws of text, which all arms of few tokens share.",
    )
    return LossVerdict(headline, claims, tables, notes, drawings)


def _pools(ended: pd.DataFrame) -> pd.DataFrame:
    """A row for each size and draw that has ensembles.

    `logs` are the log losses of ensembles of 1, 2, ... all members, `one` and `all` the first and the last, `power` and
    `limit` the law's power and its asymptote's log, nan where members are few.
    """
    names = ["N", "weight_decay", "draw", "members", "one", "all", "limit", "power", "logs"]
    rows = []
    known = ended.dropna(subset=["ensemble_loss"]).sort_values("members")
    for _, own in known.groupby(names[:3]):
        members, loss = own["members"].to_numpy(float), own["ensemble_loss"].to_numpy(float)
        if len(members) > 1 and np.array_equal(members, np.arange(1, len(members) + 1)):
            law = members_law(members, loss) if len(members) >= FEWEST else Members(math.nan, math.nan, math.nan)
            logs, limit = np.log(loss), math.log(law.asymptote) if law.asymptote > 0 else math.nan
            rows.append((*_shared(own, *names[:3]), len(members), logs[0], logs[-1], limit, law.power, logs))
    return pd.DataFrame(rows, columns=names)


def _shared(rows: pd.DataFrame, *names: str) -> tuple[float, ...]:
    """What the rows of a group share in these columns."""
    return tuple(float(rows[name].to_numpy(float)[0]) for name in names)


def _known(values: ArrayLike) -> Float[np.ndarray, "known"]:
    found = np.asarray(values, float)
    return found[np.isfinite(found)]


def _worth(pools: pd.DataFrame, cells: pd.DataFrame) -> list[Worth]:
    """What the ensembles of each size are worth in unique tokens: those of all members, and the asymptote."""
    found = []
    for _, own in pools.groupby(["N", "weight_decay"]):
        n, decay = _shared(own, "N", "weight_decay")
        usual = cells.loc[(cells["N"] == n) & (cells["weight_decay"] == decay)]
        ladders = [each for _, each in usual.groupby("draw") if each["U"].nunique() > 1]
        falls = mean_interval([-np.polyfit(np.log(each["U"]), each["log_loss"], 1)[0] for each in ladders])
        for members, column in ((*_shared(own, "members"), "all"), (math.inf, "limit")):
            gain = mean_interval(_known(own["one"] - own[column]))
            found.append(Worth(n, members, gain, falls, ratio(gain, falls)))
    return found


def _mean_worth(worth: list[Worth]) -> Interval95:
    """The mean log worth over sizes; sizes share their texts, so that the halves of intervals are averaged, too."""
    known = [each.log_worth for each in worth if each.log_worth.low is not None]
    return Interval95(*np.mean(np.asarray(known, float), axis=0).tolist()) if known else NOT_KNOWN


def _best(rows: pd.DataFrame, by: list[str], column: str) -> pd.Series:
    """By draw: the column in that group whose mean over draws is lowest, of the groups that have the most draws."""
    known = rows.dropna(subset=[column])
    if known.empty:
        return pd.Series(dtype=float)
    found = known.groupby(by)[column].agg(["size", "mean"]).reset_index()
    best = found.sort_values(["size", "mean"], ascending=[False, True]).head(1)
    chosen = known.merge(best[by], on=by)
    return pd.Series(chosen[column].to_numpy(float), chosen["draw"])


def _less(first: pd.Series, second: pd.Series) -> Interval95:
    """The mean over draws of the difference of two numbers."""
    return mean_interval(_known(first - second))


def _parts(pools: pd.DataFrame, largest: float) -> pd.Series:
    """By draw: the log loss of EQUAL_PARTS models with as many parameters, within 20 %, as the largest model has."""
    equal = np.abs(np.log(pools["N"] * EQUAL_PARTS / largest)) < math.log(1.2)
    own = pools.loc[equal & (pools["members"] >= EQUAL_PARTS)]
    return pd.Series([logs[EQUAL_PARTS - 1] for logs in own["logs"]], own["draw"], dtype=float)


def _claims(pools: pd.DataFrame, singles: pd.DataFrame, worth: list[Worth]) -> tuple[JudgedClaim, ...]:
    power = mean_interval(_known(pools.groupby("draw").agg(power=("power", "mean"))["power"]))
    falls = Measured("the power of 1/K in what K members take off the loss", POWER, SAME_POWER, *power)
    best_model = _best(singles, ["N", "weight_decay"], "log_loss")
    found = _less(_best(pools, ["N"], "limit"), best_model)
    lower = within("log asymptote of ensembles less log loss of the best model", None, -LOWER, *found)
    found = _mean_worth([each for each in worth if math.isfinite(each.members)])
    more = within("log of the unique tokens that all members are worth", math.log(WORTH), None,
                  *found)  # fmt: skip
    found = _mean_worth([each for each in worth if math.isinf(each.members)])
    same = Measured("log of the unique tokens that the asymptote is worth", math.log(PUBLISHED_WORTH),
                    math.log(SAME_WORTH), *found)  # fmt: skip
    largest = singles.loc[singles["N"] == singles["N"].max()]
    found = _less(_parts(pools, np.max(singles["N"].to_numpy(float))), _best(largest, ["weight_decay"], "log_loss"))
    equal = within(f"log loss of {EQUAL_PARTS} models less that of one with as many parameters", None, -LOWER, *found)
    draws = f"{pools['draw'].nunique()} draws of text"
    return (
        JudgedClaim("EN-1", "the loss of K members falls as 1/K", falls.ruling, draws, (falls,),
                    f"The mean over sizes with at least {FEWEST} members."),
        JudgedClaim("EN-2", "the asymptote of ensembles is below the loss of any single model", lower.ruling, draws,
                    (lower,), "Size and weight decay are the best of each."),
        JudgedClaim("EN-3", f"an ensemble is worth {WORTH} times as many unique tokens as one model, or more",
                    more.ruling, draws, (more,), "The mean over sizes."),
        JudgedClaim("EN-4", f"the asymptote is worth {PUBLISHED_WORTH:.2f} times as many unique tokens", same.ruling,
                    draws, (same,), "The mean over sizes."),
        JudgedClaim("EN-5", f"{EQUAL_PARTS} models are better than one of as many parameters", equal.ruling, draws,
                    (equal,), "The larger one has the better weight decay."),
    )  # fmt: skip


def _pool_rows(pools: pd.DataFrame) -> list[dict[str, Any]]:
    told = []
    for _, own in pools.groupby("N"):
        row = {"N": int(_shared(own, "N")[0]), "draws": len(own), "members": int(_shared(own, "members")[0])}
        means = {name: float(np.mean(own[name].to_numpy(float))) for name in ("one", "all", "limit", "power")}
        told.append(row | means)
    return told


def _single_rows(cells: pd.DataFrame) -> list[dict[str, Any]]:
    told = []
    for _, own in cells.groupby(["N", "weight_decay", "U"]):
        n, decay, unique = _shared(own, "N", "weight_decay", "U")
        mean, low, high = mean_interval(own["log_loss"].to_numpy(float))
        row = {"N": int(n), "weight decay": decay, "U": int(unique), "draws": len(own)}
        told.append(row | {"mean": mean, "low": low, "high": high})
    return told


def _worth_rows(worth: list[Worth]) -> list[dict[str, Any]]:
    told = []
    for each in worth:
        factor, low, high = (None if value is None else math.exp(value) for value in each.log_worth)
        members = "asymptote" if math.isinf(each.members) else f"{each.members:.0f}"
        row = {"N": int(each.n), "members": members, "gain": each.gain.estimate, "fall by log U": each.falls.estimate}
        told.append(row | {"worth": factor, "low": low, "high": high})
    return told


def _mean_curves(pools: pd.DataFrame) -> list[tuple[float, Float[np.ndarray, "members"]]]:
    """Of each size the losses of ensembles of 1, 2, ... members, geometric means over draws."""
    curves = []
    for _, own in pools.groupby("N"):
        logs = [np.asarray(each, float) for each in own["logs"]]
        shortest = min(map(len, logs))
        curves.append((*_shared(own, "N"), np.exp(np.mean([each[:shortest] for each in logs], axis=0))))
    return curves


def _members_figure(pools: pd.DataFrame, singles: pd.DataFrame) -> "Figure":
    curves = {f"members of N = {n:,.0f}": Series(np.arange(len(loss)) + 1, loss) for n, loss in _mean_curves(pools)}
    level = {"best single\nmodel": float(np.exp(_known(_best(singles, ["N", "weight_decay"], "log_loss")).mean()))}
    ticks = {1.0: "1", 2.0: "2", 4.0: "4", 8.0: "8"}
    return series_figure(
        curves, "members K", "loss, nats per token", log_x=True, levels=level, ticks=ticks,
        title="The loss of ensembles of K models",
    )  # fmt: skip


def _total_figure(pools: pd.DataFrame, singles: pd.DataFrame) -> "Figure":
    curves = {
        f"members of N = {n:,.0f}": Series(n * (np.arange(len(loss)) + 1), loss) for n, loss in _mean_curves(pools)
    }
    sizes = [own for _, own in singles.groupby("N")]
    best = [_known(_best(own, ["weight_decay"], "log_loss")).mean() for own in sizes]
    curves["single models"] = Series([own["N"].iloc[0] for own in sizes], np.exp(best), line="--", of=REFERENCE)
    ticks = {size: f"{size:,.0f}" for size in (2e4, 5e4, 1e5, 2e5, 4e5)}
    return series_figure(
        curves, "parameters of all members", "loss, nats per token", log_x=True, ticks=ticks,
        title="Ensembles and single models of as many parameters",
    )  # fmt: skip


def _world(id_: str, truth: str, gain: float, power: float, falls: float, *words: tuple[Ruling, ...]) -> LossWorld:
    """A world whose ensembles of K members have a log loss lower than one model's by gain (1 - K^-power).

    Args:
        falls: the fall of one model's log loss by log U.
    """

    def loss(runs: pd.DataFrame, tokens: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        n, unique = runs["N_nonembedding"].to_numpy(float), runs["U"].to_numpy(float)
        started = (tokens / runs["D"].to_numpy(float)) ** -0.1
        keys = [*zip(runs["U"].astype(int), runs["draw"].astype(int), strict=True)]
        texts = {key: math.exp(TEXT_ERROR * np.random.default_rng(key).standard_normal()) for key in set(keys)}
        return 2.55 * (n / 3e4) ** -0.02 * (unique / 32768) ** -falls * started * [texts[key] for key in keys]

    def measured(runs: pd.DataFrame, errors: Float[np.ndarray, "rows"]) -> dict[str, ArrayLike]:
        pool = [runs[name] for name in ("N_nonembedding", "weight_decay", "U", "draw")]
        members = runs.groupby(pool).cumcount().to_numpy() + 1.0
        members[~runs["block"].str.startswith("members")] = math.nan
        # The members of a pool have their text in common, and its ensembles nearly all of their error.
        error = RUN_ERROR * pd.Series(errors, runs.index).groupby(pool).transform("first").to_numpy() + 2e-4 * errors
        ensembles = loss(runs, runs["D"].to_numpy(float)) * np.exp(error - gain * (1 - members**-power))
        return {"members": members, "ensemble_loss": ensembles}

    return LossWorld(id_, truth, loss, numbered("EN", words), measured)


_WORLDS = (
    _world("published", "the gain of ensembles falls as 1/K, and is worth 2.26 times as many unique tokens",
           0.09, 1.0, 0.11, (YES,), (YES,), (YES,), (YES, OPEN), (YES,)),
    _world("slow", "the gain falls as the root of K, and is worth five times as many unique tokens",
           0.16, 0.5, 0.10, (NO,), (YES,), (YES,), (NO, OPEN), (YES,)),
    _world("alike", "members err alike, so that ensembles gain next to nothing",
           0.01, 1.0, 0.11, (YES, OPEN), (NO,), (NO,), (NO,), (NO,)),
)  # fmt: skip

ENSEMBLES = Paper(_judge_ensembles, _WORLDS)
