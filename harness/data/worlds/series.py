"""Time series: simulated ones with seasons, trends and regimes, and real ones that packages ship.

As in Chronos (Ansari et al. 2024, arXiv 2403.07815), a series is divided by the mean of its absolute values and put
into bins of equal width, here from -5 to 5; values outside go into the outermost bins. A series far from zero, such as
the carbon dioxide in the air, then lies in few bins: `scaling=standard` subtracts its mean and divides by its
deviation.

Sampled series are made of sums, products and comparisons only, and their scale is a sum that is rounded once, so that
ids do not depend on the machine. All of a series is used for its scale, also what comes later.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le, Lt
from jaxtyping import Float, Int64

from harness.data.simulation.draws import below, draw_key, normals, units
from harness.data.world import Drawn, World

_LIMIT = 5.0
# Series that are simulated at once.
_TOGETHER = 1024
Sampled = Float[np.ndarray, "series points"]


@dataclass(frozen=True)
class SeriesOptions:
    """The options of the world.

    Attributes:
        part: `simulated`, or `real`, which has a few hundred series with 40,000 points in all.
        series: how many simulated series, of the four kinds in turn; more of them begin with those that fewer have.
        points: of a series. Longer real ones are cut into several documents.
        scaling: `mean`, by the mean of absolute values; or `standard`, to mean 0 and deviation 1.
        bins: ids.
        seed: other simulated series.
    """

    part: Literal["simulated", "real"] = "simulated"
    series: Annotated[int, Ge(2), Le(10_000_000)] = 4096
    points: Annotated[int, Ge(16), Le(100_000)] = 512
    scaling: Literal["mean", "standard"] = "mean"
    bins: Annotated[int, Ge(2), Le(20_000)] = 128
    seed: Annotated[int, Ge(0), Lt(2**31)] = 0


def quantised(values: Float[np.ndarray, "points"], options: SeriesOptions) -> Int64[np.ndarray, "points"]:
    """The bins of a series."""

    def mean(numbers: Float[np.ndarray, "points"]) -> float:
        return math.fsum(numbers.tolist()) / len(numbers)

    if options.scaling == "standard":
        values = values - mean(values)
        scale = math.sqrt(mean(values * values))
    else:
        scale = mean(np.abs(values))
    places = np.floor((values / (scale or 1.0) + _LIMIT) * (options.bins / (2.0 * _LIMIT)))
    return np.clip(places, 0, options.bins - 1).astype(np.int64)


def _noise(key: int, count: int, points: int) -> Sampled:
    """Noise that remembers: x' = a x + e, with a from 0 to 0.9, and a size of 0.05 to 0.3."""
    memory, size = 0.9 * units(draw_key(key, "memory"), count), 0.05 + 0.25 * units(draw_key(key, "size"), count)
    shocks = normals(draw_key(key, "shocks"), points, count) * size
    values = np.zeros_like(shocks)
    for point in range(1, points):
        values[point] = memory * values[point - 1] + shocks[point]
    return values.T


def _seasons(key: int, count: int, points: int) -> Sampled:
    """A pattern that repeats, of a period that people have: a random walk around the clock, smoothed."""
    periods = np.array([4, 7, 12, 24, 48, 52, 96])[below(draw_key(key, "period"), 7, count)]
    heights = units(draw_key(key, "heights"), count, 96) - 0.5
    values = np.empty((count, points))
    for row, period in enumerate(periods.tolist()):
        pattern = heights[row, :period]
        for _ in range(max(1, period // 8)):
            pattern = (np.roll(pattern, 1) + pattern + np.roll(pattern, -1)) / 3.0
        lowest, highest = pattern.min(), pattern.max()
        values[row] = ((pattern - lowest) / (highest - lowest))[np.arange(points) % period]
    return values * (0.5 + 1.5 * units(draw_key(key, "amplitude"), count))[:, None]


def _seasonal(key: int, count: int, points: int) -> Sampled:
    level = 2.0 * units(draw_key(key, "level"), count)[:, None]
    first, other = (_seasons(draw_key(key, number), count, points) for number in range(2))
    second = below(draw_key(key, "second"), 2, count)[:, None]  # half of them have one pattern only
    return level + first + second * other + _noise(key, count, points)


def _trending(key: int, count: int, points: int) -> Sampled:
    """A level whose slope changes two times."""
    time = np.arange(points)[None] / float(points)
    values = 2.0 * units(draw_key(key, "level"), count)[:, None] + _noise(key, count, points)
    for number in range(3):
        begin = units(draw_key(key, "begin", number), count)[:, None] * min(number, 1)
        slope = 4.0 * units(draw_key(key, "slope", number), count)[:, None] - 2.0
        values = values + slope * np.maximum(time - begin, 0.0)
    return values


def _switching(key: int, count: int, points: int) -> Sampled:
    """Two to four regimes, each with a mean and a scatter of its own, which last for 20 to 100 points on average."""
    regimes = 2 + below(draw_key(key, "regimes"), 3, count)
    means = 4.0 * units(draw_key(key, "means"), count, 4) - 1.0
    scatters = 0.02 + 0.5 * units(draw_key(key, "scatters"), count, 4)
    leave = 1.0 / (20.0 + 80.0 * units(draw_key(key, "leave"), count))
    jumps, targets = units(draw_key(key, "jumps"), points, count), units(draw_key(key, "targets"), points, count)
    shocks = normals(draw_key(key, "shocks"), points, count)
    rows, regime, values = np.arange(count), np.zeros(count, np.int64), np.empty((points, count))
    for point in range(points):
        regime = np.where(jumps[point] < leave, (targets[point] * regimes).astype(np.int64), regime)
        values[point] = means[rows, regime] + scatters[rows, regime] * shocks[point]
    return values.T


def _walking(key: int, count: int, points: int) -> Sampled:
    """A random walk with drift, from a level away from zero."""
    size, drift = (units(draw_key(key, what), count)[:, None] for what in ("size", "drift"))
    shocks = normals(draw_key(key, "shocks"), count, points) * (0.02 + 0.1 * size) + 0.01 * (drift - 0.5)
    return 1.0 + np.add.accumulate(shocks, axis=1)


SIMULATED: Mapping[str, Callable[[int, int, int], Sampled]] = {
    "seasonal": _seasonal, "trending": _trending, "switching": _switching, "walking": _walking,
}  # fmt: skip


def _simulated(options: SeriesOptions) -> Iterator[tuple[str, str, Float[np.ndarray, "points"]]]:
    names = list(SIMULATED)
    for first in range(0, options.series, _TOGETHER):
        drawn = [
            simulate(draw_key("series", options.seed, first, name), _TOGETHER // len(names), options.points)
            for name, simulate in SIMULATED.items()
        ]
        for number in range(first, min(first + _TOGETHER, options.series)):
            row, place = divmod(number - first, len(names))
            yield f"{names[place]}/{number}", names[place], drawn[place][row]


def _real() -> Iterator[tuple[str, str, Float[np.ndarray, "points"]]]:
    """The name, the collection and the values of real series, without their gaps.

    They are statsmodels' (carbon dioxide in the air, sea temperature, sunspots, the Nile, economies of three countries,
    births in 200) and matplotlib's samples (stock prices, an electroencephalogram, the potential of the membrane of a
    nerve cell).
    """
    from matplotlib.cbook import get_sample_data
    from statsmodels import datasets

    def columns(name: str, *without: str) -> Iterator[tuple[str, str, np.ndarray]]:
        frame = getattr(datasets, name).load_pandas().data.drop(columns=list(without))
        for column in frame.columns:
            yield f"{name}/{column}", name, frame[column].to_numpy(float)

    yield from columns("co2")
    yield from columns("sunspots", "YEAR")
    yield from columns("nile", "year")
    yield from columns("macrodata", "year", "quarter")
    yield from columns("danish_data")
    yield from columns("interest_inflation", "year", "quarter")
    months: Any = datasets.elnino.load_pandas().data
    yield "elnino/sea", "elnino", months.drop(columns="YEAR").to_numpy(float).ravel()
    births: Any = datasets.fertility.load_pandas().data
    for country, row in births.set_index("Country Code").filter(regex="^[0-9]{4}$").iterrows():
        yield f"fertility/{country}", "fertility", row.to_numpy(float)
    stocks = np.genfromtxt(get_sample_data("Stocks.csv", asfileobj=False), delimiter=",", skip_header=2)
    for number, column in enumerate(stocks[:, 1:].T):
        yield f"stocks/{number}", "stocks", column
    voltages = np.fromfile(get_sample_data("eeg.dat", asfileobj=False), "<f8").reshape(4, -1)
    for number, row in enumerate(voltages):
        yield f"eeg/{number}", "eeg", row
    yield "membrane/0", "membrane", np.fromfile(get_sample_data("membrane.dat", asfileobj=False), "<f4").astype(float)


def _documents(options: SeriesOptions) -> Iterator[Drawn]:
    if options.part == "simulated":
        for group, source, values in _simulated(options):
            yield Drawn(group, source, quantised(values, options))
        return
    for group, source, values in _real():
        known = values[np.isfinite(values)]
        if len(known):
            ids = quantised(known, options)
            for first in range(0, len(ids), options.points):
                yield Drawn(group, source, ids[first : first + options.points])


SERIES = World(
    "time series, scaled and quantised as Chronos's: simulated ones, or with part=real those that packages ship",
    "simulated: none; real: public domain, and terms of the World Bank and of Yahoo Finance",
    SeriesOptions,
    vocab=lambda options: options.bins + 1,
    documents=_documents,
    packages=lambda options: ("matplotlib", "statsmodels") if options.part == "real" else (),
    extra="series",
)
