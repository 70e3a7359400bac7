"""The study of a crossing: can the runs of a ladder say where the curves of two recipes cross beyond it?

Xiao 2024 (arXiv 2409.15156) warns that a recipe that wins on small models can lose on larger ones. What would help is
to know before where that happens. Here two pairs of recipes are trained on small sizes, the crossing is forecast in two
ways and written down, and then larger sizes are trained. The rules are those of `sweeps/studies/crossing/design.md`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import stdtrit

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, together
from harness.fit.laws.registry import get_law
from harness.fit.problem.rows_hash import hash_of_rows
from harness.fit.shared.crossover import Crossover, find_crossover
from harness.forecasts.register import made_now
from harness.forecasts.registry_file import RegisteredForecast
from harness.study.contrasts import NOT_KNOWN, Interval95, difference, mean_interval, paired
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import LossWorld, design_runs, lettered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure
from sweeps.errors import InputError
from sweeps.grid import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The blocks of the pairs, in words, and what the larger sizes are called beside them.
_PAIRS = {"rates": ("high_rate", "low_rate"), "decay": ("strong_decay", "plain")}
_RECIPES = {
    "high_rate": "a rate of 0.024", "low_rate": "a rate of 0.004",
    "strong_decay": "weight decay 1", "plain": "no weight decay",
}  # fmt: skip
_LARGER = "_larger"
# How the crossing is forecast, in words.
_WAYS = {"line": "the line of paired differences", "curves": "a curve with a floor for each recipe"}
# A place is forecast if it is within this factor, a difference if within this share of the loss.
_PLACE, _DIFFERENCE = 2.0, 0.03
# How far beyond the fitted compute curves may cross; the bootstrap's draws and the seed of all draws.
_REACH, _DRAWS, _SEED = 1e3, 200, 0


class _Forecast(NamedTuple):
    """What small runs foretell of a pair.

    Attributes:
        place: the log of the compute, FLOPs, at which the curves cross.
        effects: the log ratio of losses at each larger size.
    """

    place: Interval95
    effects: tuple[Interval95, ...]


def _rows(runs: pd.DataFrame) -> pd.DataFrame:
    """Finished runs with N, C and L, by recipe; `larger` tells those that are forecast."""
    ended = ended_runs(runs)
    block = ended["block"].astype(str)
    return ended.assign(
        N=ended["N_nonembedding"].astype(float),
        C=ended["flops"].astype(float),
        larger=block.str.endswith(_LARGER),
        recipe=block.str.removesuffix(_LARGER),
    )


def _pairs(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The pairs of runs of equal size, text and seed, with `effect`, the first's log loss less the second's."""
    first, second = (rows.loc[rows["recipe"] == recipe] for recipe in _PAIRS[name])
    return paired(first, second, ["N", "draw"])


def line_forecast(
    log_flops: Float[np.ndarray, "pairs"], effects: Float[np.ndarray, "pairs"], at: Sequence[float]
) -> tuple[Interval95, tuple[Interval95, ...]]:
    """A line through paired differences: where it is zero, and what it is elsewhere, with 95 % intervals.

    The interval of the zero is Fieller's: the places at which zero lies in the interval of the line (Fieller 1954). It
    has no end where the slope may be zero.

    Args:
        log_flops, effects: logs of compute of at least two values, and differences of log losses.
        at: logs of compute.
    """
    count, middle = len(effects), float(log_flops.mean())
    x = log_flops - middle
    spread = float(x @ x)
    slope, level = float(x @ effects) / spread, float(effects.mean())
    left = effects - level - slope * x
    t = float(stdtrit(count - 2, 0.975))
    variance = t**2 * float(left @ left) / (count - 2)
    told = []
    for place in at:
        z = place - middle
        value, half = level + slope * z, math.sqrt(variance * (1 / count + z**2 / spread))
        told.append(Interval95(value, value - half, value + half))
    zero = -level / slope
    a = slope**2 - variance / spread
    if a <= 0:
        return Interval95(middle + zero, None, None), tuple(told)
    b, c = level * slope, level**2 - variance / count
    root = math.sqrt(max(b**2 - a * c, 0.0))
    return Interval95(middle + zero, middle + (-b - root) / a, middle + (-b + root) / a), tuple(told)


def _curves(pairs: pd.DataFrame, name: str) -> Crossover | None:
    """The curves of both recipes, L = E + A/C^alpha each, fitted to pairs of runs; None where they cannot be fitted."""
    unit = pairs["N"].astype(str) + " " + pairs["draw"].astype(str)
    losses = zip(_PAIRS[name], ("L", "other"), strict=True)
    tables = [
        pd.DataFrame({"flops": pairs["C"], "L": pairs[loss], "group": f"{place} {recipe}", "cluster": unit})
        for place, (recipe, loss) in enumerate(losses)
    ]
    try:
        return find_crossover(pd.concat(tables, ignore_index=True), bootstrap=_DRAWS, seed=_SEED, reach=_REACH)
    except InputError:
        return None


def _forecasts(small: pd.DataFrame, name: str, at: Sequence[float]) -> dict[str, _Forecast]:
    """What each way foretells from the pairs of small runs, at logs of compute."""
    found = dict.fromkeys(_WAYS, _Forecast(NOT_KNOWN, (NOT_KNOWN,) * len(at)))
    if len(small["N"].unique()) < 3:
        return found
    found["line"] = _Forecast(*line_forecast(np.log(small["C"].to_numpy(float)), small["effect"].to_numpy(float), at))
    if (curves := _curves(small, name)) is not None:
        place = (
            Interval95(math.log(curves.flops), *(np.log(curves.interval) if curves.interval else (None, None)))
            if curves.flops
            else NOT_KNOWN
        )
        ratios = curves.log_ratio(np.exp(at)) if len(at) else np.zeros((2, 0))
        low, high = np.percentile(ratios[1:], [2.5, 97.5], axis=0)
        effects = tuple(map(Interval95, map(float, ratios[0]), map(float, low), map(float, high)))
        found["curves"] = _Forecast(place, effects)
    return found


def _measured_place(pairs: pd.DataFrame) -> Interval95:
    """The log of the compute at which the curve of measured differences is zero, over all sizes.

    The curve is a parabola in the log of compute through the means of the sizes. Its interval is of copies with normal
    errors: the spread of the pairs of a size, pooled, or the scatter of the means about the parabola if that is larger.
    Where it is zero twice within the ladder the place is that of the larger change of sign, which is the first beyond
    the smallest size; where nowhere, it is not known.
    """
    sizes = pairs.assign(x=np.log(pairs["C"].astype(float))).groupby("N").agg(
        x=("x", "mean"), effect=("effect", "mean"), variance=("effect", "var"), count=("effect", "size")
    )  # fmt: skip
    x, mean, count = (sizes[name].to_numpy(float) for name in ("x", "effect", "count"))
    if len(x) < 4 or (count < 2).all():
        return NOT_KNOWN
    pooled = float(np.nansum(sizes["variance"] * (count - 1)) / (count - 1).sum())
    weights = count / pooled
    design = np.vander(x - x.mean(), 3)
    left = mean - design @ np.linalg.lstsq(design * np.sqrt(weights)[:, None], mean * np.sqrt(weights), rcond=None)[0]
    factor = max(1.0, float(weights @ left**2) / (len(x) - 3))
    rng = np.random.default_rng(_SEED)
    copies = np.vstack([mean, mean + np.sqrt(factor / weights) * rng.standard_normal((_DRAWS * 5, len(x)))])
    scaled = np.linalg.pinv(design * np.sqrt(weights)[:, None])
    grid = np.linspace(x[0], x[-1], 400)
    curves = (copies * np.sqrt(weights)) @ scaled.T @ np.vander(grid - x.mean(), 3).T
    places = np.array([_first_change(grid, curve) for curve in curves])
    if np.isnan(places[0]) or np.isnan(places[1:]).mean() > 0.025:
        return NOT_KNOWN
    return Interval95(float(places[0]), *map(float, np.nanpercentile(places[1:], [2.5, 97.5])))


def _first_change(grid: Float[np.ndarray, "points"], curve: Float[np.ndarray, "points"]) -> float:
    """The first place at which a curve changes its sign; nan for none."""
    changes = np.flatnonzero(np.sign(curve[1:]) * np.sign(curve[:-1]) < 0)
    return float(grid[changes[0]]) if len(changes) else math.nan


def _forecast(runs: pd.DataFrame) -> list[RegisteredForecast]:
    """What both ways foretell from the small runs: where each pair crosses, and its difference at the larger sizes."""
    rows = _rows(runs)
    rows = rows.loc[~rows["larger"]]
    larger = design_runs([load("crossing_larger")]).drop_duplicates("flops").sort_values("flops")
    points = [{}, *({"flops": float(each)} for each in larger["flops"])]
    law, told = get_law("crossover"), []
    for name, (first, second) in _PAIRS.items():
        small = _pairs(rows, name)
        own = rows.loc[rows["recipe"].isin([first, second])]
        read = own.assign(flops=own["C"], group=own["recipe"])[["flops", "L", "group"]]
        shared: dict[str, Any] = {
            **made_now(), "by": "pair", "group": name, "run_low": None, "run_high": None, "constants": {},
            "rows": len(own), "rows_sha256": hash_of_rows(law, read),
        }  # fmt: skip
        at = np.log(larger["flops"].to_numpy(float))
        for way, found in _forecasts(small, name, [*at]).items():
            formula = law.formula if way == "curves" else "log_ratio = a + b log(flops)"
            place = Interval95(*(None if each is None else math.exp(each) for each in found.place))
            for point, number in zip(points, (place, *found.effects), strict=True):
                if number.estimate is not None:
                    response = "log_ratio" if point else "flops"
                    limits = {"prediction": number.estimate, "low": number.low, "high": number.high}
                    told.append(
                        RegisteredForecast(**shared, law=way, formula=formula, response=response, point=point, **limits)
                    )
    return told


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended."""
    rows = _rows(runs)
    found = {name: _pair(rows, name) for name in _PAIRS}
    judged = [(len(each.pairs), *claim) for name, each in found.items() for claim in _claims(name, each)]
    claims = tuple(
        JudgedClaim(f"CX-{place}", claim, together([each.ruling for each in evidence]), f"{pairs} pairs", evidence, "")
        for place, (pairs, claim, evidence) in enumerate(judged, 1)
    )
    tables = {
        "where the curves cross, FLOPs": [
            {"pair": name, "by": by, "FLOPs": _exp(place.estimate), "low": _exp(place.low), "high": _exp(place.high)}
            for name, each in found.items()
            for by, place in (
                *((f"forecast, {_WAYS[way]}", told.place) for way, told in each.forecasts.items()),
                ("measured, all sizes", each.place),
            )
        ],
        "log loss of the first recipe minus that of the second": [
            {"pair": name, "N": round(size), "FLOPs": float(own["C"].to_numpy(float).mean()), "pairs": len(own),
             "measured": mean, "low": low, "high": high} | _told(each, size)
            for name, each in found.items()
            for size in sorted(map(float, each.pairs["N"].unique()))
            for own in (each.pairs.loc[each.pairs["N"] == size],)
            for mean, low, high in (mean_interval(own["effect"]),)
        ],
    }  # fmt: skip
    drawings = {
        f"{name}_effects": StudyFigure(
            f"Log loss with {_RECIPES[_PAIRS[name][0]]} less that with {_RECIPES[_PAIRS[name][1]]}: means over draws"
            " with 95 % intervals, and what small runs foretold of the larger sizes.",
            functools.partial(_figure, name, each),
        )
        for name, each in found.items()
        if len(each.pairs)
    }  # fmt: skip
    told = "; ".join(_crossed(name, each) for name, each in found.items())
    notes = (f"{len(rows)} finished runs; a pair has the same size, text and seed. N is without the embedding.",)
    return LossVerdict(f"{told[0].upper()}{told[1:]}: {count_of_words(claims)}.", claims, tables, notes, drawings)


class _Pair(NamedTuple):
    """A pair of recipes: its pairs of runs, what the small ones foretold, and where all of them cross.

    Attributes:
        larger: the larger sizes in order, those of the forecasts' `effects`.
    """

    pairs: pd.DataFrame
    larger: tuple[float, ...]
    forecasts: Mapping[str, _Forecast]
    place: Interval95


def _pair(rows: pd.DataFrame, name: str) -> _Pair:
    pairs = _pairs(rows, name)
    larger = pairs.loc[pairs["larger"]].groupby("N")["C"].mean()
    small = pairs.loc[~pairs["larger"]]
    forecasts = _forecasts(small, name, [*np.log(larger.to_numpy(float))])
    return _Pair(pairs, tuple(map(float, larger.index)), forecasts, _measured_place(pairs))


def _claims(name: str, pair: _Pair) -> list[tuple[str, tuple[DecidingNumber, ...]]]:
    """What is claimed of a pair, with the numbers that decide it."""
    first, second = (_RECIPES[recipe] for recipe in _PAIRS[name])
    sizes = sorted(pair.pairs["N"].unique())
    ends = [mean_interval(pair.pairs.loc[pair.pairs["N"].isin(own), "effect"]) for own in (sizes[:2], sizes[-1:])]
    reversed_ = (
        within(f"log loss with {first} minus that with {second}, two smallest sizes", None, 0.0, *ends[0]),
        within(f"log loss with {first} minus that with {second}, largest size", 0.0, None, *ends[1]),
    )
    claims: list[tuple[str, tuple[DecidingNumber, ...]]] = [
        (f"{first} wins on the smallest sizes and loses on the largest to {second}", reversed_)
    ]
    for way, words in _WAYS.items():
        off = difference(pair.forecasts[way].place, pair.place)
        number = within(
            f"{name}, {way}: log of the crossing's FLOPs, foretold over measured",
            -math.log(_PLACE),
            math.log(_PLACE),
            *off,
        )
        claims.append((f"{words} foretells to a factor of two where {first} and {second} cross", (number,)))
    for way, words in _WAYS.items():
        numbers = tuple(
            within(f"{name}, {way}: log ratio of losses at N = {size:,.0f}, foretold minus measured",
                   -_DIFFERENCE, _DIFFERENCE,
                   *difference(told, mean_interval(pair.pairs.loc[pair.pairs["N"] == size, "effect"])))
            for size, told in zip(pair.larger, pair.forecasts[way].effects, strict=True)
        ) or (
            within(f"{name}, {way}: log ratio of losses, foretold minus measured",
                   -_DIFFERENCE, _DIFFERENCE, *NOT_KNOWN),
        )  # fmt: skip
        claims.append(
            (f"{words} foretells the differences of {first} and {second} at larger sizes to 3 % of the loss", numbers)
        )
    return claims


def _told(pair: _Pair, size: float) -> dict[str, float | None]:
    if size not in pair.larger:
        return dict.fromkeys(_WAYS)
    return {way: told.effects[pair.larger.index(size)].estimate for way, told in pair.forecasts.items()}


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)


def _crossed(name: str, pair: _Pair) -> str:
    """Where the losses of a pair cross and where this was foretold, as a part of the headline."""
    line, curves, place = (
        "no crossing" if found.estimate is None else f"{math.exp(found.estimate):.2g} FLOPs".replace("e+", "e")
        for found in (pair.forecasts["line"].place, pair.forecasts["curves"].place, pair.place)
    )
    seen = "are not seen to cross" if pair.place.estimate is None else f"cross at {place}"
    return f"losses of the pair {name} {seen} (the line foretold {line}, the curves {curves})"


def _figure(name: str, pair: _Pair) -> "Figure":
    def told(rows: pd.DataFrame) -> Series:
        found = [(own["C"].mean(), *mean_interval(own["effect"])) for _, own in rows.groupby("N")]
        return Series(*np.array(found, float).T)

    larger = pair.pairs["larger"].to_numpy(bool)
    series = {"small runs": told(pair.pairs.loc[~larger])}
    if larger.any():
        at = pair.pairs.loc[larger].groupby("N")["C"].mean().to_numpy(float)
        series["larger runs"] = told(pair.pairs.loc[larger])
        for place, (way, each) in enumerate(pair.forecasts.items()):
            numbers = np.array(each.effects, float).T
            series[f"foretold, {way}"] = Series(at * (1.08 + 0.08 * place), *numbers, line="")
    first, second = (_RECIPES[recipe] for recipe in _PAIRS[name])
    return series_figure(
        series, "training compute, FLOPs", f"log loss with {first}\nminus that with {second}", log_x=True, kinds=True,
        levels={"equal": 0.0}, title="Which recipe is better: below 0 the first, above 0 the second",
    )  # fmt: skip


def _world(id_: str, truth: str, level: float, slope: float, bend: float, words: str) -> LossWorld:
    """A world in which each pair's log ratio is a parabola in the log of compute, from 1e9 FLOPs on."""

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n = runs["N_nonembedding"].to_numpy(float)
        x = np.log(runs["flops"].to_numpy(float) / 1e9)
        first = runs["block"].str.removesuffix(_LARGER).isin([pair[0] for pair in _PAIRS.values()]).to_numpy()
        return (1.0 + 16.3 * n**-0.35 + 82 * tokens**-0.35) * np.exp(first * (level + slope * x + bend * x**2))

    return LossWorld(id_, truth, loss, lettered("CX", words * 2), errors=1.5)


_WORLDS = (
    _world("line", "the difference is a line in log compute, zero at 2e10 FLOPs", -0.06, 0.02, 0.0, "Yyyyy"),
    _world("bend", "the difference bends back, and never is what a line foretells", -0.06, 0.03, -0.0045, "Nnn??"),
    _world("apart", "the first recipe is 4 % better at every size", -0.04, 0.0, 0.0, "Nyyyy"),
    _world("nothing", "the recipes are equal", 0.0, 0.0, 0.0, "nyyyy"),
)  # fmt: skip

CROSSING = Paper(_judge, _WORLDS, _forecast)
