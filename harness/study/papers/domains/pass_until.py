"""The study of pass rates: whether those of small models foretell that of one with ten times the parameters.

Hu et al. 2023 (arXiv 2310.03262) measure the rate PU at which sampled answers pass, by sampling until some do, and find
PU = exp(-c N^-alpha) in the number N of parameters: a straight line of ln(-ln PU) over ln N, and emergence where the
curve falls ever faster than a line. The rules are those of `sweeps/studies/pass_until/design.md`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.special import logit, stdtrit
from scipy.stats import binomtest

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, together
from harness.study.contrasts import NOT_KNOWN, Interval95, symmetric
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import LossWorld, further_errors, lettered
from harness.study.methods.many_fits import fit_many, starts_of_sums, sums_of_powers
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The tasks: questions whose numbers have up to so many digits.
DIGITS = (2, 3)
# The line is fitted to models with at most the largest one's size over this, of so many sizes and draws at least.
AHEAD, FEWEST_SIZES, FEWEST_DRAWS = 10.0, 4, 2
# How near the log of a rate is to be foretold: to a factor of two. Rates that 100 samples do not tell from zero; the
# share of models with such rates whose most probable answers are all to be wrong. How straight a line is: the change of
# alpha in a decade.
NEAR, RARE, ALL_WRONG, STRAIGHT = math.log(2), 0.01, 0.8, 0.25
# Copies of the rates with other draws, and their seed. Rates are kept within limits where ln(-ln PU) is finite; no plan
# of samples here tells a rate beyond them from 0 or 1.
COPIES, SEED, LEAST, MOST = 400, 0, 1e-6, 1 - 1e-4
# The standard deviation of log rates over draws in the simulated worlds, for each task, which is that of the pilot.
DRAW_SCATTER = (0.5, 0.8)


class _Cells(NamedTuple):
    """The sizes of the runs in increasing order, with row 0 for the runs as they are and others for other draws.

    Attributes:
        n: parameters without the embedding.
        rates: the mean over draws of the pass rate.
        losses: the same of the held-out loss, nats per token.
        draws: the fewest draws of a size.
    """

    n: Float[np.ndarray, "sizes"]
    rates: Float[np.ndarray, "copies sizes levels"]
    losses: Float[np.ndarray, "copies sizes"]
    draws: int

    @property
    def fitted(self) -> Bool[np.ndarray, "sizes"]:
        """The sizes to which the line is fitted."""
        return self.n <= self.n[-1] / AHEAD

    @property
    def curve(self) -> Float[np.ndarray, "copies sizes levels"]:
        """ln(-ln PU), which is ln c - alpha ln N by the law."""
        return np.log(-np.log(self.rates))


class _Foretold(NamedTuple):
    """What is foretold from the small sizes: logs of rates by the line, and by two steps, for all sizes."""

    line: Float[np.ndarray, "copies sizes levels"]
    steps: Float[np.ndarray, "copies sizes levels"]
    alpha: Float[np.ndarray, "copies levels"]


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    known = [f"pass_rate_{level}" for level in DIGITS]
    ended = ended.dropna(subset=known) if set(known) <= set(ended.columns) else ended.iloc[:0]
    notes = [f"{len(ended)} finished runs with pass rates; N is without the embedding."]
    cells = _cells(ended)
    if cells is None or cells.fitted.sum() < FEWEST_SIZES or cells.draws < FEWEST_DRAWS:
        claims = _claims(None, None, ended)
        return LossVerdict(f"Too few runs have ended: {count_of_words(claims)}.", claims, {}, tuple(notes))
    foretold = _foretell(cells)
    claims = _claims(cells, foretold, ended)
    off = np.exp(foretold.line[0, -1] - np.log(cells.rates[0, -1]))
    told = " and ".join(f"{value:.2g} times" for value in off)
    headline = (
        f"Small models foretell {told} the measured pass rates of the largest,"
        f" on {' and '.join(map(str, DIGITS))} digits: {count_of_words(claims)}."
    )
    tables = {
        "pass rates, by size and digits": _rows(cells, foretold, ended),
        "the line of the small sizes": [
            {"digits": level, "alpha": each.estimate, "low": each.low, "high": each.high,
             "ln c": float(cells.curve[0, cells.fitted, place].mean()
                           + foretold.alpha[0, place] * np.log(cells.n[cells.fitted]).mean())}
            for place, level in enumerate(DIGITS)
            for each in (_spread(foretold.alpha[:, place], cells.draws),)
        ],
    }  # fmt: skip
    drawings = {
        "rates": StudyFigure(
            "The pass rate by size, as ln(-ln PU) turned upside down, so that better is higher: means over draws with"
            " 95 % intervals, and the line that is fitted to the models of at most a tenth of the largest size.",
            functools.partial(_figure, cells, foretold),
        )
    }
    return LossVerdict(headline, claims, tables, tuple(notes), drawings)


def _cells(ended: pd.DataFrame) -> _Cells | None:
    """The sizes with their means, and those of draws taken with replacement within each size; None without runs."""
    if ended.empty:
        return None
    columns = [f"pass_rate_{level}" for level in DIGITS] + ["L"]
    rng = np.random.default_rng(SEED)
    n, means, fewest = [], [], np.inf
    for size, own in ended.groupby("N_nonembedding"):
        values = own[columns].to_numpy(float)
        chosen = rng.integers(len(values), size=(COPIES, len(values)))
        n.append(float(str(size)))
        means.append(np.concatenate([values.mean(0)[None], values[chosen].mean(1)]))
        fewest = min(fewest, len(values))
    table = np.stack(means, axis=1)
    return _Cells(np.array(n), np.clip(table[..., :-1], LEAST, MOST), table[..., -1], int(fewest))


def _spread(values: Float[np.ndarray, "copies"], draws: int) -> Interval95:
    """The first value with an interval by Student's t from the spread of the copies, which n draws make too small."""
    sd = float(np.std(values[1:], ddof=1)) * math.sqrt(draws / (draws - 1))
    return symmetric(values[0], sd * float(stdtrit(draws - 1, 0.975)))


def _slope(x: Float[np.ndarray, "sizes"], y: np.ndarray) -> np.ndarray:
    """The slope of y in x by least squares, over the second axis of y."""
    centred = x - x.mean()
    return np.tensordot(y, centred, (1, 0)) / np.sum(centred**2)


def _foretell(cells: _Cells) -> _Foretold:
    """Fit to the small sizes, and foretell all.

    Two steps (Bhagia et al. 2024, arXiv 2412.04403): the loss is E + A N^-a, and the logit of the rate falls in a
    straight line with the loss.
    """
    small, x = cells.fitted, np.log(cells.n)
    alpha = -_slope(x[small], cells.curve[:, small])
    middle = cells.curve[:, small].mean(1) + alpha * x[small].mean()
    line = -np.exp(middle[:, None] - alpha[:, None] * x[:, None])
    logs = np.log(cells.losses[:, small])
    starts = starts_of_sums(logs[0], 1, ((0.1, 0.2), (0.6, 0.5), (0.9, 1.0)))
    constants = fit_many(sums_of_powers({"N": cells.n[small]}), starts, logs)
    # The columns of `sums_of_powers` are over their own mean, here that of the small sizes.
    floor, level, power = np.exp(constants).T[..., None]
    loss = floor + level * np.exp(-power * (x - x[small].mean()))
    of_loss, odds = cells.losses[:, small, None], logit(cells.rates[:, small])
    centred = of_loss - of_loss.mean(1, keepdims=True)
    fall = np.sum(centred * odds, 1, keepdims=True) / np.sum(centred**2, 1, keepdims=True)
    told = odds.mean(1, keepdims=True) + fall * (loss[..., None] - of_loss.mean(1, keepdims=True))
    return _Foretold(line, -np.logaddexp(0.0, -told), alpha)


def _claims(cells: _Cells | None, foretold: _Foretold | None, ended: pd.DataFrame) -> tuple[JudgedClaim, ...]:
    nothing = dict.fromkeys(DIGITS, NOT_KNOWN)
    near, bend = nothing, nothing
    grows, better, wrong = NOT_KNOWN, NOT_KNOWN, NOT_KNOWN
    if cells is not None and foretold is not None:
        errors = foretold.line - np.log(cells.rates)
        near = _by_level(errors[:, -1], cells)
        bend = _by_level(_bends(cells), cells)
        grows = _growth_of_rare(cells)
        wrong = _all_wrong(ended)
        two = foretold.steps - np.log(cells.rates)
        means = [np.abs(each[:, ~cells.fitted]).mean((1, 2)) for each in (two, errors)]
        better = _spread(np.log(means[0] / means[1]), cells.draws)
    rows = f"{len(ended)} runs" if cells is None else f"{len(ended)} runs of {len(cells.n)} sizes"
    judged: tuple[tuple[str, tuple[DecidingNumber, ...]], ...] = (
        *((f"the log of the pass rate is foretold for ten times the parameters, on {level} digits",
           (within("log of foretold over measured rate", -NEAR, NEAR, *near[level]),)) for level in DIGITS),
        ("sampling until a pass sees rates below 1 % grow where the most probable answers are wrong",
         (within(f"growth of the log of rates below 1 %, {DIGITS[-1]} digits", 0.0, None, *grows),
          within("share of models with such rates without any right answer", ALL_WRONG, None, *wrong))),
        ("ln(-ln PU) is a straight line in ln N",
         tuple(within(f"change of alpha in a decade of N, {level} digits", -STRAIGHT, STRAIGHT, *bend[level])
               for level in DIGITS)),
        ("two steps over the loss foretell larger models better than the line",
         (within("log of the error of two steps over that of the line", None, 0.0, *better),)),
    )  # fmt: skip
    return tuple(
        JudgedClaim(f"PU-{number}", claim, together([each.ruling for each in evidence]), rows, evidence, "")
        for number, (claim, evidence) in enumerate(judged, 1)
    )


def _by_level(values: Float[np.ndarray, "copies levels"], cells: _Cells) -> dict[int, Interval95]:
    return {level: _spread(values[:, place], cells.draws) for place, level in enumerate(DIGITS)}


def _bends(cells: _Cells) -> Float[np.ndarray, "copies levels"]:
    """The change of alpha in a decade of N, of the parabola through all sizes; above 0 the curve falls ever faster."""
    x = np.log10(cells.n)
    parabola = np.linalg.pinv(np.vander(x - x.mean(), 3))[0]
    # alpha is -dy / d ln N, which changes by -2 k / ln 10 in a decade if y has the term k (log10 N)^2.
    return -2 / math.log(10) * np.tensordot(cells.curve, parabola, (1, 0))


def _growth_of_rare(cells: _Cells) -> Interval95:
    """On the hardest task: log rate of the largest size with one below RARE, less that of the smallest.

    Unknown where fewer than two sizes have such rates.
    """
    rare = np.flatnonzero(cells.rates[0, :, -1] < RARE)
    if len(rare) < 2:
        return NOT_KNOWN
    logs = np.log(cells.rates[:, rare[[0, -1]], -1])
    return _spread(logs[:, 1] - logs[:, 0], cells.draws)


def _all_wrong(ended: pd.DataFrame) -> Interval95:
    """On the hardest task: the share of runs with a rate below RARE without a right most probable answer.

    The interval is Clopper and Pearson's.
    """
    rates, right = (ended[f"{what}_{DIGITS[-1]}"].to_numpy(float) for what in ("pass_rate", "accuracy"))
    rare = rates < RARE
    if not rare.any():
        return NOT_KNOWN
    found = binomtest(int(np.sum(right[rare] == 0)), int(rare.sum()))
    limits = found.proportion_ci()
    return Interval95(float(found.statistic), float(limits.low), float(limits.high))


def _rows(cells: _Cells, foretold: _Foretold, ended: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for place, level in enumerate(DIGITS):
        for number, size in enumerate(cells.n):
            own = ended.loc[ended["N_nonembedding"] == size]
            each = own[f"pass_rate_{level}"].to_numpy(float)
            low, high = np.percentile(cells.rates[1:, number, place], [2.5, 97.5])
            rows.append(
                {"digits": level, "N": round(size), "draws": len(own), "fitted": bool(cells.fitted[number]),
                 "rate": float(cells.rates[0, number, place]), "low": float(low), "high": float(high),
                 "least draw": float(each.min()), "greatest draw": float(each.max()),
                 "accuracy": float(own[f"accuracy_{level}"].mean()), "loss": float(cells.losses[0, number]),
                 "by the line": float(np.exp(foretold.line[0, number, place])),
                 "by two steps": float(np.exp(foretold.steps[0, number, place]))}
            )  # fmt: skip
    return rows


def _figure(cells: _Cells, foretold: _Foretold) -> "Figure":
    series = {}
    for place, level in enumerate(DIGITS):
        low, high = np.percentile(-cells.curve[1:, :, place], [2.5, 97.5], axis=0)
        series[f"{level} digits"] = Series(cells.n, -cells.curve[0, :, place], low, high, line="", of=str(level))
        line = -np.log(-foretold.line[0, :, place])
        series[f"{level} digits, line of small sizes"] = Series(cells.n, line, mark="", of=str(level))
    levels = {f"PU = {rate:g}": -math.log(-math.log(rate)) for rate in (0.001, 0.01, 0.1, 0.5)}
    return series_figure(
        series, "parameters without the embedding", "-ln(-ln PU) of the pass rate PU", log_x=True, levels=levels,
        kinds=True, title="Pass rates, and the line of the small sizes",
    )  # fmt: skip


def _world(
    id_: str,
    truth: str,
    curve: Callable[[Float[np.ndarray, "rows"]], Sequence[Float[np.ndarray, "rows"]]],
    words: str,
    loss: Callable[[Float[np.ndarray, "rows"]], Float[np.ndarray, "rows"]] = lambda n: 0.5 + 1.2 * (n / 1e3) ** -0.25,
) -> LossWorld:
    """A world with known rates.

    Args:
        curve: sizes -> for each level ln(-ln PU) of the mean over draws.
        loss: sizes -> held-out loss, nats per token.
    """

    def measured(runs: pd.DataFrame, errors: Float[np.ndarray, "rows"]) -> dict[str, Float[np.ndarray, "rows"]]:
        normal = further_errors(errors, (len(DIGITS), len(runs)))
        columns = {}
        curves = curve(runs["N_nonembedding"].to_numpy(float))
        for level, y, each, scatter in zip(DIGITS, curves, normal, DRAW_SCATTER, strict=True):
            rate = np.exp(-np.exp(y))
            # Draws of a size scatter by a factor about their mean, those of rates near 1 by less.
            spread = scatter * (1 - rate)
            drawn = np.minimum(rate * np.exp(spread * each - spread**2 / 2), MOST)
            # The most probable answer is right only for questions that pass often.
            columns |= {f"pass_rate_{level}": drawn, f"accuracy_{level}": np.where(drawn < 0.02, 0.0, drawn)}
        return columns

    return LossWorld(id_, truth, lambda runs, _: loss(runs["N_nonembedding"].to_numpy(float)),
                     lettered("PU", words), measured)  # fmt: skip


def _lines(n: np.ndarray, alphas: Sequence[float]) -> list[np.ndarray]:
    """ln(-ln PU) of the law, from the rates 0.004 and 0.0003 of the smallest models on."""
    return [
        math.log(-math.log(rate)) - alpha * np.log(n / 1576) for rate, alpha in zip((4e-3, 3e-4), alphas, strict=True)
    ]


_WORLDS = (
    _world("straight", "PU = exp(-c N^-alpha) with alpha 0.45 and 0.3", lambda n: _lines(n, (0.45, 0.3)), "YYYYn"),
    _world("sudden", "rates do not change up to 14,000 parameters, and grow with alpha 1 from there on",
           lambda n: _lines(np.maximum(n / 14e3, 1.0) * 1576, (1.0, 1.0)), "NN?N?"),
    _world("levels_off", "rates grow with alpha 0.6 up to 14,000 parameters, and not from there on",
           lambda n: _lines(np.minimum(n, 14e3), (0.6, 0.6)), "NNYN?"),
    _world("nothing", "rates and losses do not depend on the size", lambda n: _lines(n, (0.0, 0.0)), "yynY?"),
)  # fmt: skip

PASS_UNTIL = Paper(_judge, _WORLDS)
