"""The study of weight decay and batch: how long AdamW should remember, and which batch is best, by N and D.

Bergsma et al. 2025 (arXiv 2505.13738) find that the best timescale tau = B/(lr wd D) of AdamW's average of updates is a
power of the tokens per parameter, so that the best weight decay grows as B, and that the best batch is a power of D
alone. Their laws are `power_lines_tau` and `power_lines_b_opt`. The rules are those of
`sweeps/studies/power_lines/design.md`.
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling
from harness.fit.gap_law.surface import common_scatter, least_squares
from harness.study.contrasts import NOT_KNOWN, Interval95, symmetric
from harness.study.loss_runs import cell_losses, ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import REFERENCE, Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Batches up to this are below the critical one, which `batch_noise` found at 1,900 tokens or more for these D.
_LARGEST = 512
# The middle of the batches up to it, at which timescales are compared.
_MIDDLE = 181.0
# Copies of the losses with new errors; an optimum is known if this share of them has it inside the grid.
_COPIES, _SURE = 200, 0.9
# The bends of curves that are tried, and how far above the least log loss of a profile its curve goes.
_BENDS, _NEAR = tuple(sign * size / 20 for sign in (-1, 1) for size in range(1, 31)), 0.04
# The fewest weight decays or batches of a profile, and the share of profiles whose optimum is to be known.
_FEWEST, _KNOWN = 5, 0.6
# What is claimed: the power of B in the best weight decay, that of D/N in tau, and how near counts as the same.
_IN_BATCH, _SAME_BATCH = 1.0, 0.2
_IN_RATIO, _SAME_RATIO = -0.527, 0.15
# The published timescale at one token per parameter, for the figure.
_PUBLISHED = 1.084
# tau is to fall by at least this power of D/N: in simulated worlds the curves' form biases the power by up to 0.07.
_FALLS = 0.1
# The power of N that still counts as none.
_NO_POWER = 0.15


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    cells = cell_losses(ended).sort_values("weight_decay").assign(logs=lambda rows: np.log(rows["L"].astype(float)))
    decays, decay_sd = _optima(cells, ["N_nonembedding", "D", "batch_tokens", "lr"], "weight_decay")
    batches, batch_sd = _optima(decays.sort_values("batch_tokens"), ["N_nonembedding", "D"], "batch_tokens")
    slope, levels = _by_batch(decays.loc[decays["batch_tokens"] <= _LARGEST])
    (in_ratio,) = _powers(levels["log_tau"], levels["error"], [levels["log_d"] - levels["log_n"]])
    tau_powers = _powers(levels["log_tau"], levels["error"], [levels["log_n"], levels["log_d"]])
    best = batches.loc[batches["best"].notna()]
    in_n, in_d = [NOT_KNOWN] * 2
    if len(best) >= _KNOWN * len(batches):
        in_n, in_d = _powers(best["best"], best["error"], [np.log(best[name]) for name in ("N_nonembedding", "D")])
    claims = _claims(slope, in_ratio, in_n, in_d, decays, batches)
    numbers = (
        ("best weight decay", "B", slope),
        ("best timescale", "D/N", in_ratio),
        *(("best timescale", name, each) for name, each in zip(("N", "D"), tau_powers, strict=True)),
        ("best batch", "N", in_n),
        ("best batch", "D", in_d),
    )
    tables = {
        "powers": [
            {"of": of, "in": name, "power": each.estimate, "low": each.low, "high": each.high}
            for of, name, each in numbers
        ],
        "best weight decays": _rows(decays, "weight decay", "B, tokens"),
        "best batches": _rows(batches, "batch, tokens"),
    }
    drawings = {}
    if len(levels):
        drawings["decay"] = StudyFigure(
            f"The best weight decay over that at a batch of {_MIDDLE:.0f} tokens, at equal N and D, against the batch,"
            " by size, with 95 % intervals; dashed: growing as B.",
            functools.partial(_decay_figure, decays, levels),
        )
        drawings["tau"] = StudyFigure(
            f"The best timescale at a batch of {_MIDDLE:.0f} tokens, as a share of the run, against the tokens per"
            " parameter, by size, with 95 % intervals; dashed: the published law.",
            functools.partial(_tau_figure, levels),
        )
    notes = (
        f"{len(ended)} finished runs; N counts no embedding, B is in tokens, tau is a share of the run.",
        f"Log losses scatter about their curves in weight decay by {decay_sd:.2%} a run, the least ones about those in"
        f" the batch by {batch_sd:.2%}."
        if np.isfinite([decay_sd, batch_sd]).all()
        else "Too few runs have ended for errors.",
        "An optimum that is not inside its grid in nine of ten copies of the losses with new errors is not known.",
    )
    grows = "is not known" if slope.estimate is None else f"grows with the batch B as B^{slope.estimate:.2f}"
    headline = f"The best weight decay {grows}: {count_of_words(claims)}."
    return LossVerdict(headline, claims, {title: each for title, each in tables.items() if each}, notes, drawings)


def _optima(cells: pd.DataFrame, by: Sequence[str], over: str) -> tuple[pd.DataFrame, float]:
    """Find the best setting of every group of cells by a curve through its log losses: `_Profile`.

    Args:
        cells: with `logs`, the log loss, and `runs`, how many it is the mean of.

    Returns:
        a row a group, with `logs`, its least log loss, `runs`, and `best` and `error`, the log of the best setting and
        its error; nan if the best setting is not known to be inside the grid. And the error of a run's log loss about
        the curves.
    """
    columns = [*by, "logs", "runs", "best", "error"]
    groups = [own.sort_values(over) for _, own in cells.groupby(list(by)) if len(own) >= _FEWEST]
    if not groups:
        return pd.DataFrame(columns=columns, dtype=float), math.nan
    profiles = [_profile(own, over) for own in groups]
    bend = min(_BENDS, key=lambda value: sum(_squares(each, value) for each in profiles))
    degrees = sum(len(each.x) - 3 for each in profiles)
    sd = math.sqrt(sum(_squares(each, bend) for each in profiles) / degrees)
    rng = np.random.default_rng(0)
    rows = []
    for own, each in zip(groups, profiles, strict=True):
        copies = sd / each.root[:, None] * rng.standard_normal((len(each.x), _COPIES))
        at = _minima(each, bend, np.column_stack([each.logs, each.logs[:, None] + copies]))
        first, last = np.log(own[over].agg(["min", "max"]).to_numpy(float))
        inside = (at > first) & (at < last)
        known = inside[0] and inside[1:].mean() >= _SURE
        best = (float(at[0]), float(at[1:][inside[1:]].std(ddof=1))) if known else (math.nan, math.nan)
        least = own.loc[own["logs"].idxmin()]
        rows.append((*least[[*by, "logs", "runs"]], *best))
    return pd.DataFrame(rows, columns=columns).astype(float), sd


class _Profile(NamedTuple):
    """Log losses over the log x of a setting, those within _NEAR of the least and at least _FEWEST about it.

    The curve through them is level + p exp(bend x) + q x, with one bend for all profiles: a parabola if it is small,
    steeper on one side if not.

    Attributes:
        root: the root of the number of runs of each.
    """

    x: Float[np.ndarray, "points"]
    logs: Float[np.ndarray, "points"]
    root: Float[np.ndarray, "points"]


def _profile(own: pd.DataFrame, over: str) -> _Profile:
    x, logs = np.log(own[over].to_numpy(float)), own["logs"].to_numpy(float)
    distance = np.abs(x - x[logs.argmin()])
    kept = (logs <= logs.min() + _NEAR) | (distance <= np.sort(distance)[_FEWEST - 1])
    return _Profile(x[kept], logs[kept], np.sqrt(own["runs"].to_numpy(float)[kept]))


def _solved(
    profile: _Profile, bend: float, logs: Float[np.ndarray, "points copies"]
) -> tuple[Float[np.ndarray, "3 copies"], Float[np.ndarray, "points copies"]]:
    """The level, p and q of each copy, x counted from the middle; and the residuals of single runs."""
    x = profile.x - profile.x.mean()
    design = profile.root[:, None] * np.column_stack([np.ones(len(x)), np.exp(bend * x), x])
    found = np.linalg.lstsq(design, profile.root[:, None] * logs, rcond=None)[0]
    return found, profile.root[:, None] * logs - design @ found


def _squares(profile: _Profile, bend: float) -> float:
    return float(np.sum(_solved(profile, bend, profile.logs[:, None])[1] ** 2))


def _minima(profile: _Profile, bend: float, logs: Float[np.ndarray, "points copies"]) -> Float[np.ndarray, "copies"]:
    """The x of the least loss of each copy's curve; nan where it has none."""
    (_, p, q), _ = _solved(profile, bend, logs)
    with np.errstate(invalid="ignore", divide="ignore"):
        at = np.log(-q / (bend * p)) / bend
    return np.where(p > 0, profile.x.mean() + at, np.nan)


def _by_batch(decays: pd.DataFrame) -> tuple[Interval95, pd.DataFrame]:
    """The power of B in the best weight decay at fixed N and D, and the best timescale of every N and D.

    Returns:
        the power, not known where too few optima are; and a row for each N and D with `log_tau` at the batch _MIDDLE,
        its `error`, `log_n` and `log_d`.
    """
    known = decays.loc[decays["best"].notna()]
    nothing = pd.DataFrame(columns=["log_tau", "error", "log_n", "log_d"], dtype=float)
    if known.empty or len(known) < _KNOWN * len(decays):
        return NOT_KNOWN, nothing
    pairs, group = np.unique(known[["N_nonembedding", "D", "lr"]].to_numpy(float), axis=0, return_inverse=True)
    centred = np.log(known["batch_tokens"].to_numpy(float) / _MIDDLE)
    design = np.column_stack([centred, np.eye(len(pairs))[group.ravel()]])
    found = _weighted(design, known["best"].to_numpy(float), known["error"].to_numpy(float))
    if found is None:
        return NOT_KNOWN, nothing
    values, errors, half = found
    n, d, lr = pairs.T
    log_tau = np.log(_MIDDLE / (lr * d)) - values[1:]
    levels = pd.DataFrame({"log_tau": log_tau, "error": errors[1:], "log_n": np.log(n), "log_d": np.log(d)})
    return symmetric(values[0], half * errors[0]), levels


def _powers(values: ArrayLike, errors: ArrayLike, logs: Sequence[ArrayLike]) -> list[Interval95]:
    """The powers of quantities, given as logs, in one whose log is known with errors."""
    known = np.asarray(values, float)
    design = np.column_stack([*(np.asarray(each, float) for each in logs), np.ones(len(known))])
    found = _weighted(design, known, np.asarray(errors, float))
    if found is None:
        return [NOT_KNOWN] * len(logs)
    return [symmetric(value, found[2] * error) for value, error in zip(found[0][:-1], found[1], strict=False)]


def _weighted(
    design: Float[np.ndarray, "rows columns"], values: Float[np.ndarray, "rows"], errors: Float[np.ndarray, "rows"]
) -> tuple[Float[np.ndarray, "columns"], Float[np.ndarray, "columns"], float] | None:
    """Least squares of values with errors of their own and a scatter in common.

    Returns:
        the solution, its standard errors, and Student's factor of a 95 % interval; None if the rows do not tell it.
    """
    degrees = len(values) - design.shape[1]
    if degrees < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    noise = np.diag(errors**2)
    scatter = common_scatter(design, values, noise, degrees)
    solution, covariance, _ = least_squares(design, values, noise + scatter**2 * np.eye(len(values)))
    return solution, np.sqrt(np.diag(covariance)), float(stdtrit(degrees, 0.975))


def _claims(
    slope: Interval95,
    in_ratio: Interval95,
    in_n: Interval95,
    in_d: Interval95,
    decays: pd.DataFrame,
    batches: pd.DataFrame,
) -> tuple[JudgedClaim, ...]:
    used = decays.loc[decays["batch_tokens"] <= _LARGEST, "best"]
    of_decays = f"{np.isfinite(used).sum()} of {len(used)} cells of batches up to {_LARGEST} tokens have an optimum"
    of_batches = f"{np.isfinite(batches['best']).sum()} of {len(batches)} pairs of N and D have an optimum"
    power, name = (
        Measured("the power of B in the best weight decay", _IN_BATCH, _SAME_BATCH, *slope),
        "the power of D/N in the best timescale tau",
    )
    judged = (
        ("PL-1", "the best weight decay grows as B at fixed N and D", of_decays, power),
        ("PL-2", "the best timescale falls with the tokens per parameter", of_decays,
         within(name, None, -_FALLS, *in_ratio)),
        ("PL-3", "the best batch grows with D", of_batches,
         within("the power of D in the best batch", 0.0, None, *in_d)),
        ("PL-4", "the best batch does not depend on N at fixed D", of_batches,
         Measured("the power of N in the best batch", 0.0, _NO_POWER, *in_n)),
        ("PL-5", f"the best timescale falls as the tokens per parameter to the power {_IN_RATIO}", of_decays,
         Measured(name, _IN_RATIO, _SAME_RATIO, *in_ratio)),
    )  # fmt: skip
    return tuple(JudgedClaim(id_, claim, each.ruling, rows, (each,), "") for id_, claim, rows, each in judged)


def _rows(optima: pd.DataFrame, name: str, batch: str | None = None) -> list[dict[str, Any]]:
    """A line for each profile; nothing stands for an optimum that is not known."""
    told = []
    for each in optima.to_dict("records"):
        row: dict[str, Any] = {"N": round(each["N_nonembedding"]), "D": round(each["D"])}
        row |= {} if batch is None else {batch: round(each["batch_tokens"])}
        row |= {f"best {name}": math.exp(each["best"]), "error of its log": each["error"]}
        told.append(row | {"least loss": math.exp(each["logs"])})
    return told


def _decay_figure(decays: pd.DataFrame, levels: pd.DataFrame) -> "Figure":
    rows = decays.assign(log_n=np.log(decays["N_nonembedding"]), log_d=np.log(decays["D"]))
    rows = rows.loc[np.isfinite(rows["best"])].merge(levels[["log_n", "log_d", "log_tau"]], on=["log_n", "log_d"])
    rows = rows.assign(over=rows["best"] + np.log(rows["lr"] * rows["D"] / _MIDDLE) + rows["log_tau"])
    series = {}
    for place, (_, own) in enumerate(rows.groupby("log_n")):
        label = f"N = {own['N_nonembedding'].iloc[0]:,.0f}"
        moved = 1.06 ** (place - 1) * 1.015 ** np.round(own["log_d"] - own["log_d"].mean())
        series[label] = _with_errors(own["batch_tokens"] * moved, own["over"], own["error"])._replace(line="")
    at = rows["batch_tokens"].agg(["min", "max"]).to_numpy(float)
    series["in proportion to the batch"] = Series(at, at / _MIDDLE, line="--", mark="", of=REFERENCE)
    ticks = {float(each): f"{each:,.0f}" for each in sorted(rows["batch_tokens"].unique())}
    label = f"best weight decay over that\nat a batch of {_MIDDLE:.0f} tokens"
    return series_figure(
        series, "batch, tokens", label, log_x=True, log_y=True, ticks=ticks,
        title="The best weight decay by batch",
    )  # fmt: skip


def _with_errors(x: ArrayLike, log_y: ArrayLike, error: ArrayLike) -> Series:
    logs, errors = np.asarray(log_y, float), np.asarray(error, float)
    low, middle, high = (np.exp(logs + times * errors) for times in (-1.96, 0.0, 1.96))
    return Series(x, middle, low, high)


def _tau_figure(levels: pd.DataFrame) -> "Figure":
    series = {}
    for _, own in levels.groupby("log_n"):
        ratio = np.exp(own["log_d"] - own["log_n"])
        series[f"N = {math.exp(own['log_n'].iloc[0]):,.0f}"] = _with_errors(ratio, own["log_tau"], own["error"])
    at = np.exp((levels["log_d"] - levels["log_n"]).agg(["min", "max"]).to_numpy(float))
    series["published"] = Series(at, _PUBLISHED * at**_IN_RATIO, line="--", mark="", of=REFERENCE)
    ticks = {float(each): f"{each}" for each in (25, 50, 100, 200, 400)}
    label = "best timescale, share of the run"
    return series_figure(
        series, "tokens per parameter D/N", label, log_x=True, log_y=True, ticks=ticks,
        title="The best timescale by tokens per parameter",
    )  # fmt: skip


def _world(
    id_: str, truth: str, words: Sequence[tuple[Ruling, ...]], *, in_batch: float, in_ratio: float,
    batch_d: float, batch_n: float,
) -> LossWorld:  # fmt: skip
    """A world of a best timescale and a best batch.

    Args:
        words: of the claims in order.
        in_batch: the power of B in the best weight decay.
        in_ratio: that of D/N in the best timescale, which is 0.1 of the run at D/N = 100 and a batch of 181 tokens.
        batch_d, batch_n: those of D and N in the best batch, which is 230 tokens at D = 2^20 and N = 6,000.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n, d, batch, lr, decay = (
            runs[name].to_numpy(float) for name in ("N_nonembedding", "D", "batch_tokens", "lr", "weight_decay")
        )
        best = _MIDDLE / (lr * d * 0.1 * (d / n / 100) ** in_ratio) * (batch / _MIDDLE) ** in_batch
        # In pilots the loss is flat below the best decay and steep above it, the more so the longer the run.
        off = np.log(decay / best)
        off = np.where(off < 0, 1.2 * np.tanh(off / 1.2), off)
        shape = 0.08 * (d / 2**20) ** 0.5 * (np.exp(off / 2) - 1 - off / 2)
        right = 230 * (d / 2**20) ** batch_d * (n / 6e3) ** batch_n
        return (1.0 + 16.3 * n**-0.35 + 82 * tokens**-0.35) * np.exp(shape + 0.013 * np.log(batch / right) ** 2)

    return LossWorld(id_, truth, loss, numbered("PL", words), errors=0.5)


_WORLDS = (
    _world("published", "the published powers", [(YES,), (YES,), (YES,), (YES,), (YES, OPEN)],
           in_batch=1.0, in_ratio=-0.527, batch_d=0.383, batch_n=0.0),
    _world("constant_tau", "the best timescale is one share of the run, the best batch grows as N^0.5 and D^-0.2",
           [(YES,), (NO, OPEN), (NO,), (NO,), (NO,)], in_batch=1.0, in_ratio=0.0, batch_d=-0.2, batch_n=0.5),
    _world("root", "the best weight decay grows as B^0.5, the best timescale as (D/N)^-0.25",
           [(NO,), (YES,), (YES,), (YES,), (NO, OPEN)], in_batch=0.5, in_ratio=-0.25, batch_d=0.2, batch_n=0.0),
)  # fmt: skip

POWER_LINES = Paper(_judge, _WORLDS)
