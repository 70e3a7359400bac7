"""The study of Panda: do forecasts of chaotic systems never seen improve as a power of the number of systems read?

Lai, Bao and Gilpin 2025 (arXiv 2505.13755) claim so, at equal data. Here small models read 16 to 256 systems, or more
trajectories of 16, and all are measured on the same systems, which none has read. The rules are those of
`sweeps/studies/panda/design.md`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.data.world import parse_world
from harness.fit.gap_law.rulings import JudgedClaim
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, Within, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What all runs are measured on: in words -> the world's options `kinds`, as the preset has them.
_MEASURED = {
    "drawn systems": "drawn",
    "kinds never drawn": "chen/halvorsen/lorenz/rossler",
    "linear equation": "advection",
}
# The fewest systems, and the most trajectories of all systems together.
_FEWEST, _MOST = 16, 256
# The power is twice as steep in systems as in trajectories; it is one power if the slope of the upper half of the
# ladder is at least half that of the lower.
_STEEPER, _KEPT = 2.0, 0.5
_MIDDLE = math.isqrt(_FEWEST * _MOST)
# What tells a cell, in words -> its column.
_CELL = {"systems": "systems", "trajectories": "trajectories", "unique tokens": "U"}


class _Arms(NamedTuple):
    """The runs in which one thing grows.

    Attributes:
        equal: systems grow and trajectories of each fall, at equal data.
        systems: systems grow, with one trajectory each.
        trajectories: trajectories grow, of the fewest systems.
    """

    equal: pd.DataFrame
    systems: pd.DataFrame
    trajectories: pd.DataFrame


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended."""
    rows = _read(ended_runs(runs))
    arms = _arms(rows)
    claims = _claims(arms)
    equal = _mean_slope(arms.equal, "systems", "drawn systems")
    told = (
        "is not known"
        if equal.estimate is None
        else f"changes as the number of systems read to the power {equal.estimate:.3f}"
    )
    tables = {
        "loss on what no run has read, nats per token, geometric means over draws": _loss_rows(rows),
        "powers of the loss, means over draws": _slope_rows(arms),
        "power of the loss on drawn systems in the number of systems at equal data, by draw": [
            {"draw": draw, "power": slope}
            for draw, slope in _slopes_of_draws(arms.equal, "systems", "drawn systems").items()
        ],
    }
    drawings = {}
    if len(arms.equal["systems"].unique()) > 1:
        drawings["systems"] = StudyFigure(
            "The loss on systems that no run has read, over its value for 16 systems, by the number of systems that"
            " were read, at equal data: means over draws with 95 % intervals.",
            functools.partial(_equal_figure, arms.equal),
        )
    if len(arms.systems["systems"].unique()) > 1 and len(arms.trajectories):
        drawings["data"] = StudyFigure(
            "The loss on drawn systems that no run has read, by the number of trajectories that were read: of more"
            " systems, or more of 16 systems. Means over draws, with 95 % intervals of the change from the first.",
            functools.partial(_data_figure, arms),
        )
    notes = (
        f"{len(rows)} finished runs. A draw has systems of its own and another seed; a slope is that of one draw, and"
        " its interval is from the scatter of draws. What is measured on is the same for all runs.",
    )
    return LossVerdict(
        f"At equal data the loss on systems never seen {told}: {count_of_words(claims)}.",
        claims, tables, notes, drawings,
    )  # fmt: skip


def _read(ended: pd.DataFrame) -> pd.DataFrame:
    """The runs with `draw`, `systems` and `trajectories` of their world, and the losses of `_MEASURED` by its words."""
    options = [parse_world(domain)[1] for domain in ended["domain"]]
    of_kinds = {
        parse_world(name.removeprefix("loss_on_"))[1].kinds: name
        for name in ended.columns
        if name.startswith("loss_on_") and not name.endswith("_se")
    }
    losses = {words: ended[of_kinds[kinds]].astype(float) for words, kinds in _MEASURED.items()}
    return ended.assign(
        draw=[each.seed for each in options],
        systems=[each.systems for each in options],
        trajectories=[each.trajectories for each in options],
        **losses,
    )


def _arms(rows: pd.DataFrame) -> _Arms:
    whole = rows["systems"] * rows["trajectories"] == _MOST
    return _Arms(rows.loc[whole], rows.loc[rows["trajectories"] == 1], rows.loc[rows["systems"] == _FEWEST])


def _slopes_of_draws(arm: pd.DataFrame, axis: str, loss: str, among: Sequence[int] = ()) -> dict[int, float]:
    """Draw -> the least-squares slope of log loss in the log of what grows, for draws of which all runs have ended.

    Args:
        among: the values of what grows that count; all by default.
    """
    known = arm.loc[arm[axis].isin(among)] if len(among) else arm
    every = known[axis].nunique()
    return {
        int(own["draw"].iloc[0]): float(np.polyfit(np.log(own[axis].astype(float)), np.log(own[loss]), 1)[0])
        for _, own in known.groupby("draw")
        if len(own) == every > 1
    }


def _mean_slope(arm: pd.DataFrame, axis: str, loss: str) -> Interval95:
    return mean_interval(list(_slopes_of_draws(arm, axis, loss).values()))


def _contrast(first: Mapping[int, float], second: Mapping[int, float], times: float) -> Interval95:
    """The mean over draws of the first slope less `times` the second of the same draw."""
    both = [first[draw] - times * second[draw] for draw in first if draw in second]
    return mean_interval(both) if both else NOT_KNOWN


def _claims(arms: _Arms) -> tuple[JudgedClaim, ...]:
    slopes = {words: _mean_slope(arms.equal, "systems", words) for words in _MEASURED}
    systems = _slopes_of_draws(arms.systems, "systems", "drawn systems")
    trajectories = _slopes_of_draws(arms.trajectories, "trajectories", "drawn systems")
    sizes = sorted(arms.equal["systems"].unique())
    upper, lower = (
        _slopes_of_draws(arms.equal, "systems", "drawn systems", among)
        for among in ([n for n in sizes if n >= _MIDDLE], [n for n in sizes if n <= _MIDDLE])
    )
    power = "the power of the number of systems in the loss"
    judged = (
        ("forecasts of systems never seen improve with the number of systems, at equal data",
         within(f"{power} on drawn systems never seen", None, 0.0, *slopes["drawn systems"])),
        ("forecasts improve at least twice as steeply with systems as with trajectories of each, at equal data",
         within(f"{power}, less twice that of the number of trajectories", None, 0.0,
                *_contrast(systems, trajectories, _STEEPER))),
        ("forecasts of kinds of systems never drawn improve with the number of systems, at equal data",
         within(f"{power} on Lorenz, Roessler, Chen and Halvorsen systems", None, 0.0,
                *slopes["kinds never drawn"])),
        ("forecasts of a linear partial differential equation improve with the number of systems, at equal data",
         within(f"{power} on advection", None, 0.0, *slopes["linear equation"])),
        ("the improvement is a power, which does not fade",
         within(f"power from {_MIDDLE} systems on less half of that up to {_MIDDLE}", None, 0.0,
                *_contrast(upper, lower, _KEPT))),
    )  # fmt: skip
    rows = f"{arms.equal['draw'].nunique()} draws of systems"
    evidence: list[tuple[str, Within]] = list(judged)
    return tuple(
        JudgedClaim(f"PA-{place}", claim, number.ruling, rows, (number,), "")
        for place, (claim, number) in enumerate(evidence, 1)
    )


def _loss_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: int(own[column].iloc[0]) for name, column in _CELL.items()}
        | {"draws": len(own)}
        | {words: float(np.exp(np.log(own[words]).mean())) for words in _MEASURED}
        for _, own in rows.groupby(["systems", "trajectories"])
    ]


def _slope_rows(arms: _Arms) -> list[dict[str, Any]]:
    grow = {
        "systems, at equal data": (arms.equal, "systems"),
        "systems, one trajectory each": (arms.systems, "systems"),
        f"trajectories, of {_FEWEST} systems": (arms.trajectories, "trajectories"),
    }
    return [
        {"what grows": name, "loss on": words, "power": slope.estimate, "low": slope.low, "high": slope.high}
        for name, (arm, axis) in grow.items()
        for words in _MEASURED
        for slope in (_mean_slope(arm, axis, words),)
    ]


def _changes(arm: pd.DataFrame, axis: str, loss: str) -> dict[int, Interval95]:
    """What grows -> the mean over draws of log loss less that of the draw's run with the least of it."""
    losses = arm.pivot_table(index="draw", columns=axis, values=loss)
    first = losses[losses.columns[0]]
    return {int(x): mean_interval(np.log((losses[x] / first).dropna())) for x in losses.columns}


def _series(found: Mapping[int, Interval95], level: float, factor: int = 1) -> Series:
    """Changes of log loss as losses from a level on; the first point is compared with itself and has no interval."""
    rows = [
        (x * factor, *(np.nan if value is None else level * math.exp(value) for value in each))
        for x, each in found.items()
    ]
    values: Float[np.ndarray, "points 4"] = np.array(rows, float).reshape(-1, 4)
    return Series(*values.T)


def _equal_figure(equal: pd.DataFrame) -> "Figure":
    series = {words: _series(_changes(equal, "systems", words), 1.0) for words in _MEASURED}
    ticks = {float(value): str(value) for value in sorted(equal["systems"].unique())}
    return series_figure(
        series, "systems read, at equal data", f"loss over that of {_FEWEST} systems", log_x=True, log_y=True,
        ticks=ticks, title="Losses on systems never seen, by the number read", kinds=True,
    )  # fmt: skip


def _data_figure(arms: _Arms) -> "Figure":
    first = arms.systems.loc[arms.systems["systems"] == _FEWEST, "drawn systems"]
    level = float(np.exp(np.log(first).mean())) if len(first) else math.nan
    series = {
        "more systems": _series(_changes(arms.systems, "systems", "drawn systems"), level),
        f"more trajectories of {_FEWEST} systems": _series(
            _changes(arms.trajectories, "trajectories", "drawn systems"), level, _FEWEST
        ),
    }
    ticks = {float(value): str(value) for value in (16, 64, 256)}
    return series_figure(
        series, "trajectories read", "loss on systems never seen, nats per token", log_x=True, log_y=True, ticks=ticks,
        kinds=True, title="More data from more systems, or from the same ones",
    )  # fmt: skip


# The standard deviation of a run's log loss from which systems it reads, for 16; it falls as their number's root. What
# remains is of the run. No run was trained to know them: the second is that of small runs on text, and the first is
# taken as large as a power of 0.03 would change the loss.
_OF_SYSTEMS, _OF_RUN = 0.02, 0.006


def _world(
    id_: str, truth: str, powers: tuple[float, float], half: float, elsewhere: float, *words: tuple[Any, ...]
) -> LossWorld:
    """A world with known powers of the loss.

    Args:
        powers: in systems and in trajectories of each, up to the middle of the ladder.
        half: the power in systems from there on, over that up to there.
        elsewhere: the share of these powers on kinds never drawn and on the linear equation.
    """

    def logs(runs: pd.DataFrame) -> Float[np.ndarray, "rows"]:
        options = [parse_world(domain)[1] for domain in runs["domain"]]
        systems = np.log([each.systems / _FEWEST for each in options])
        middle = math.log(_MIDDLE / _FEWEST)
        bent = np.minimum(systems, middle) + half * np.maximum(systems - middle, 0.0)
        return powers[0] * bent + powers[1] * np.log([each.trajectories for each in options])

    def loss(runs: pd.DataFrame, tokens: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        return 2.5 * np.exp(logs(runs)) + 0.0 * tokens

    def measured(runs: pd.DataFrame, errors: Float[np.ndarray, "rows"]) -> Mapping[str, Any]:
        systems = np.array([parse_world(domain)[1].systems for domain in runs["domain"]])
        spread = np.hypot(_OF_SYSTEMS * np.sqrt(_FEWEST / systems), _OF_RUN)
        rng = np.random.default_rng(np.frombuffer(errors.tobytes(), np.uint32))
        scale = float(np.sqrt(np.mean(errors**2)))
        columns = {}
        for place, kinds in enumerate(_MEASURED.values()):
            share = elsewhere if place else 1.0
            own = scale * spread * rng.standard_normal(len(runs))
            columns[f"loss_on_chaos:kinds={kinds},bins=32"] = 2.5 * np.exp(share * logs(runs) + own)
        return columns

    return LossWorld(id_, truth, loss, numbered("PA", words), measured)


_WORLDS = (
    _world("published", "the loss falls as the number of systems to the power 0.06, with trajectories as 0.01",
           (-0.06, -0.01), 1.0, 1.0, (YES,), (YES,), (YES,), (YES,), (YES,)),
    _world("trajectories", "trajectories are worth more than systems",
           (-0.02, -0.06), 1.0, 1.0, (NO,), (NO,), (NO,), (NO,), (NO, OPEN)),
    _world("fades", "more than 64 systems are no better than 64, and other kinds gain nothing",
           (-0.06, -0.01), 0.0, 0.0, (YES,), (YES, OPEN), (NO, OPEN), (NO, OPEN), (NO,)),
    _world("nothing", "neither systems nor trajectories change anything",
           (0.0, 0.0), 1.0, 1.0, (NO, OPEN), (NO, OPEN), (NO, OPEN), (NO, OPEN), (NO, OPEN)),
)  # fmt: skip

PANDA = Paper(_judge, _WORLDS)
