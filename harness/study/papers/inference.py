"""The study of inference: whether wide and shallow models decode faster at equal size and loss, and what tells times.

Bian et al. 2025 (arXiv 2501.18107) found that a model of 1 billion parameters with half the layers decodes 1.8 times as
fast, at no loss of accuracy. Inbar and Sernau 2024 (arXiv 2406.18922) predict times of training steps from the bytes
that they move, and not from FLOPs. Times are those of `harness.study.times`. The rules are those of
`sweeps/studies/inference/design.md`.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import nnls

from harness.fit.gap_law.rulings import JudgedClaim
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval, slopes
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import LossWorld, lettered
from harness.study.methods.equal_losses import at_equal_loss
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure
from models.config import ModelConfig
from models.count import flops, token_flops
from models.traffic import decode_traffic, step_traffic
from sweeps.config import RunConfig
from sweeps.grid import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is timed: its column, and of every rival law the columns in which the time is linear.
_STEP, _DECODE = "step_seconds", "decode_seconds_per_token"
_LAWS = {
    _STEP: {
        "FLOPs": ("flops_step",),
        "bytes": ("bytes_step",),
        "bytes in parts": ("bytes_step_parameters", "bytes_step_activations", "bytes_step_scores"),
        "layers": ("depth",),
        "layers and FLOPs": ("depth", "flops_step"),
    },
    _DECODE: {
        "FLOPs": ("flops_decode",),
        "bytes": ("bytes_decode",),
        "bytes in parts": ("bytes_decode_parameters", "bytes_decode_activations", "bytes_decode_cache"),
        "layers": ("depth",),
        "layers and FLOPs": ("depth", "flops_decode"),
    },
}
_WORDS = {_STEP: "training step", _DECODE: "decoded token"}
# The mean error that still predicts times, the least gain of a shape of half the layers, and the range of the published
# 1.8 with a margin of a fifth.
_CLOSE, _FASTER, _PUBLISHED = 0.15, 1.1, (1.5, 2.2)
# Losses are equal up to this; by how much the fastest such shape is to be wider than the best one, and to be faster.
_EQUAL, _WIDER, _SAVED = 0.01, 1.2, 1.25
# The fewest shapes that laws of times are fitted to; draws of shapes and of losses; rounds of which one least is taken.
_FEWEST, _DRAWS, _ROUNDS = 10, 2000, 6


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    timed = ended.loc[ended[_STEP].notna()] if _STEP in ended else ended.iloc[:0]
    shapes = timed.drop_duplicates(["width", "depth"]).reset_index(drop=True)
    shapes = shapes.assign(size=_sizes(shapes["N_nonembedding"].to_numpy(float)))
    losses = timed.loc[timed["block"] == "trained"]
    enough = len(shapes) >= _FEWEST
    errors = {what: _left_out(shapes, what) if enough else {} for what in _LAWS}
    gains = {what: _gain(errors[what]) for what in _LAWS}
    deeper = _deeper(shapes, _DECODE) if enough else NOT_KNOWN
    wider, saved, best = (
        at_equal_loss(losses, shapes.loc[shapes["block"] == "trained"], f"{_DECODE}_least", _EQUAL)
        if enough
        else (NOT_KNOWN, NOT_KNOWN, [])
    )
    claims = _claims(errors, gains, deeper, wider, saved, len(shapes))
    if not enough:
        few = f"Too few shapes have times: {count_of_words(claims)}."
        return LossVerdict(few, claims, {}, (f"{len(shapes)} shapes have times.",))
    tables = {
        "errors of the laws of times on left-out shapes": [
            {"time of a": _WORDS[what], "linear in": law, "mean error": float(np.abs(own).mean()),
             "median error": float(np.median(np.abs(own))), "R2 of log times": _r2(shapes, what, own)}
            for what, laws in errors.items() for law, own in laws.items()
        ],
        "at equal loss": best,
        "time of a decoded token over that of the shallowest shape of the size": _pairs(shapes),
        "shapes": _shape_rows(shapes, losses),
    }  # fmt: skip
    drawings = {
        "times": StudyFigure(
            "The time of a decoded token against layers, by size without embeddings: the least of all rounds.",
            functools.partial(_times_figure, shapes),
        ),
        "laws": StudyFigure(
            "Times of training steps as the laws of bytes and of FLOPs predict them from the other shapes, over those"
            " that were measured.",
            functools.partial(_laws_figure, shapes, errors[_STEP]),
        ),
    }
    spread = np.concatenate([np.asarray(each, float) for each in shapes[f"{_DECODE}_rounds"]])
    least = np.repeat(shapes[f"{_DECODE}_least"].to_numpy(float), shapes[f"{_DECODE}_rounds"].map(len))
    device = shapes["device"].iloc[0] if "device" in shapes else "one device"
    notes = (
        f"{len(shapes)} shapes, timed on {device}; times depend on the machine. A time is the least of its rounds; the"
        f" median round took {np.median(spread / least):.2f} times as long.",
        "N is without embeddings. Claims of the training step are of one run alone.",
    )
    told = "an unknown time" if deeper.estimate is None else f"{math.exp(deeper.estimate):.2f} times as long"
    headline = f"A model with twice the layers at equal size takes {told} to decode a token: {count_of_words(claims)}."
    return LossVerdict(headline, claims, tables, notes, drawings)


def _sizes(n: Float[np.ndarray, "shapes"]) -> Float[np.ndarray, "shapes"]:
    """The size of each shape: the least N of those that differ by less than a fifth from one to the next."""
    order = np.argsort(n)
    new = np.concatenate([[True], np.diff(np.log(n[order])) > math.log(1.2)])[: len(n)]
    size = np.zeros(len(n))
    size[order] = n[order][new][np.cumsum(new) - 1] if len(n) else n
    return size


def _left_out(shapes: pd.DataFrame, what: str) -> dict[str, Float[np.ndarray, "shapes"]]:
    """The relative error of each law's prediction of each shape's time, fitted to all others."""
    times, found = shapes[f"{what}_least"].to_numpy(float), {}
    for law, columns in _LAWS[what].items():
        x = np.column_stack([np.ones(len(times)), shapes[list(columns)].to_numpy(float)])
        rest = ~np.eye(len(times), dtype=bool)
        found[law] = np.array([
            x[place] @ fit_times(x[rest[place]], times[rest[place]]) / times[place] - 1 for place in range(len(times))
        ])  # fmt: skip
    return found


def fit_times(x: Float[np.ndarray, "rows columns"], times: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "columns"]:
    """The constants, none negative, of a linear law of times with the least squares of relative errors."""
    scale = np.abs(x).max(axis=0)
    scaled = x / np.where(scale > 0, scale, 1.0)
    return nnls(scaled / times[:, None], np.ones(len(times)))[0] / np.where(scale > 0, scale, 1.0)


def _gain(errors: Mapping[str, np.ndarray]) -> Interval95:
    """The log of the mean error with FLOPs over that with bytes, with an interval by resampling shapes."""
    if not errors:
        return NOT_KNOWN
    flop, moved = (np.abs(errors[name]) for name in ("FLOPs", "bytes"))
    drawn = np.random.default_rng(0).integers(0, len(flop), (_DRAWS, len(flop)))
    ratios = np.log(flop[drawn].mean(1) / moved[drawn].mean(1))
    return Interval95(math.log(flop.mean() / moved.mean()), *map(float, np.quantile(ratios, [0.025, 0.975])))


def _mean_error(errors: np.ndarray | None) -> Interval95:
    """The mean of absolute errors, with an interval by resampling shapes."""
    if errors is None:
        return NOT_KNOWN
    size = np.abs(errors)
    drawn = np.random.default_rng(0).integers(0, len(size), (_DRAWS, len(size)))
    return Interval95(float(size.mean()), *map(float, np.quantile(size[drawn].mean(1), [0.025, 0.975])))


def _r2(shapes: pd.DataFrame, what: str, errors: np.ndarray) -> float:
    logs = np.log(shapes[f"{what}_least"].to_numpy(float))
    return 1 - float(np.mean(np.log1p(np.maximum(errors, -0.999)) ** 2) / np.var(logs))


def _deeper(shapes: pd.DataFrame, what: str) -> Interval95:
    """The log of the time at twice the layers over that at once, at equal N: a power of the layers, by all sizes."""
    return slopes(np.log2(shapes["depth"]), np.log(shapes[f"{what}_least"]), shapes["size"])[0]


def _claims(
    errors: Mapping[str, Mapping[str, np.ndarray]], gains: Mapping[str, Interval95], deeper: Interval95,
    wider: Interval95, saved: Interval95, shapes: int,
) -> tuple[JudgedClaim, ...]:  # fmt: skip
    rows = f"{shapes} shapes, each predicted from the others"
    parts = {what: _mean_error(errors[what].get("bytes in parts")) for what in _LAWS}
    gain, close = "log of the mean error with FLOPs over that with bytes", "mean relative error with bytes in parts"
    equal = "shapes of two sizes; the interval is over redrawn losses"
    judged = (
        ("IN-1", "bytes moved predict times of training steps of other shapes better than FLOPs", rows,
         within(gain, 0.0, None, *gains[_STEP])),
        ("IN-2", "bytes moved, in parts, predict times of training steps to 15 %", rows,
         within(close, None, _CLOSE, *parts[_STEP])),
        ("IN-3", "bytes moved predict times of decoded tokens of other shapes better than FLOPs", rows,
         within(gain, 0.0, None, *gains[_DECODE])),
        ("IN-4", "bytes moved, in parts, predict times of decoded tokens to 15 %", rows,
         within(close, None, _CLOSE, *parts[_DECODE])),
        ("IN-5", "at equal size wider and shallower models decode faster", f"{shapes} shapes of five sizes",
         within("log of the time with twice the layers over that with once", math.log(_FASTER), None, *deeper)),
        ("IN-6", "with half the layers models decode about 1.8 times as fast", f"{shapes} shapes of five sizes",
         within("log of the time with twice the layers over that with once", *map(math.log, _PUBLISHED), *deeper)),
        ("IN-7", "the fastest shape of equal loss is wider than the shape of the least loss", equal,
         within("log of the width of the fastest shape over that of the least loss", math.log(_WIDER), None, *wider)),
        ("IN-8", "the fastest shape of equal loss decodes a quarter faster or more", equal,
         within("log of the time of the shape of the least loss over the fastest", math.log(_SAVED), None, *saved)),
    )  # fmt: skip
    return tuple(JudgedClaim(id_, claim, number.ruling, rows, (number,), "") for id_, claim, rows, number in judged)


def _least_of_rounds(rounds: Sequence[float]) -> Float[np.ndarray, "groups"]:
    """The least of each group of _ROUNDS successive rounds."""
    known = np.asarray(rounds, float)
    groups = max(len(known) // _ROUNDS, 1)
    return np.array([each.min() for each in np.array_split(known, groups)])


def _pairs(shapes: pd.DataFrame) -> list[dict[str, Any]]:
    """The ratio of times to the shallowest shape of the size; the interval is over groups of the same rounds."""
    found = []
    for size, own in shapes.sort_values(["size", "depth"]).groupby("size"):
        logs = [np.log(_least_of_rounds(each)) for each in own[f"{_DECODE}_rounds"]]
        for (width, depth), each in zip(own[["width", "depth"]].to_numpy(int)[1:].tolist(), logs[1:], strict=True):
            ratio = [None if value is None else math.exp(value) for value in mean_interval(each - logs[0])]
            found.append({"N": size, "width": width, "depth": depth, "against depth": int(own["depth"].iloc[0]),
                          "ratio": ratio[0], "low": ratio[1], "high": ratio[2]})  # fmt: skip
    return found


def _shape_rows(shapes: pd.DataFrame, losses: pd.DataFrame) -> list[dict[str, Any]]:
    loss = {
        tuple(own[["width", "depth"]].to_numpy(int)[0].tolist()): float(own["L"].to_numpy().mean())
        for _, own in losses.groupby(["width", "depth"])
    }
    return [
        {"N": float(row["N_nonembedding"]), "width": int(row["width"]), "depth": int(row["depth"]),
         "loss, nats": loss.get((row["width"], row["depth"])), "step, ms": 1e3 * row[f"{_STEP}_least"],
         "prefill, ms": 1e3 * row["prefill_seconds_least"], "token, ms": 1e3 * row[f"{_DECODE}_least"],
         "step, FLOPs": row["flops_step"], "step, bytes": row["bytes_step"], "token, FLOPs": row["flops_decode"],
         "token, bytes": row["bytes_decode"]}
        for row in shapes.sort_values(["size", "depth"]).to_dict("records")
    ]  # fmt: skip


def _times_figure(shapes: pd.DataFrame) -> "Figure":
    series = {
        f"{size:,.0f} parameters": Series(own["depth"], 1e3 * own[f"{_DECODE}_least"])
        for size, own in shapes.sort_values("depth").groupby("size")
    }
    ticks = {float(depth): f"{depth:g}" for depth in sorted(shapes["depth"].unique())}
    return series_figure(
        series, "layers", "time of a decoded token, ms", log_x=True, log_y=True, ticks=ticks,
        title="The time of a token by layers, for each size",
    )  # fmt: skip


def _laws_figure(shapes: pd.DataFrame, errors: Mapping[str, np.ndarray]) -> "Figure":
    times = 1e3 * shapes[f"{_STEP}_least"].to_numpy(float)
    series = {
        law: Series(times, np.maximum(1 + errors[law], 1e-3), line="") for law in ("FLOPs", "bytes", "bytes in parts")
    }
    band = 1 - _CLOSE, 1 + _CLOSE
    return series_figure(
        series, "measured time of a training step, ms", "predicted over measured time", log_x=True, log_y=True,
        band=band, title="Times of left-out shapes, predicted in three ways", kinds=True,
    )  # fmt: skip


@functools.cache
def _design() -> dict[str, RunConfig]:
    return {run.run_id: run for run in load("inference").configs}


def _counted(model: ModelConfig, batch: int) -> dict[str, float]:
    """FLOPs and bytes of a shape as the table of times has them."""
    step, token = step_traffic(model, batch), decode_traffic(model, 1, model.context - 1)
    return {
        "flops_step": flops(model).train * batch * model.context, "bytes_step": step.total,
        "bytes_step_parameters": step.parameters, "bytes_step_activations": step.activations,
        "bytes_step_scores": step.scores, "flops_decode": token_flops(model, model.context - 1),
        "bytes_decode": token.total, "bytes_decode_parameters": token.parameters,
        "bytes_decode_activations": token.activations + token.scores, "bytes_decode_cache": token.cache,
    }  # fmt: skip


Times = Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]]


def _world(id_: str, truth: str, best: float, bend: float, times: Times, words: str) -> LossWorld:
    """A world with the least loss at width/depth `best`, and log loss higher by bend log(R/best)^2 elsewhere.

    Args:
        times: runs with counted columns -> seconds of a step and of a decoded token.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n = runs["N_nonembedding"].to_numpy(float).round(-3)
        shape = np.log(runs["width"].to_numpy(float) / runs["depth"].to_numpy(float) / best)
        return (1.0 + 16.3 * n**-0.35 + 82 * tokens**-0.35) * np.exp(bend * shape**2)

    def measured(runs: pd.DataFrame, noise: Float[np.ndarray, "runs"]) -> Mapping[str, Any]:
        counted = pd.DataFrame([_counted(_design()[each].model, _design()[each].batch) for each in runs["run_id"]])
        groups = runs.reset_index(drop=True).groupby(["width", "depth"], sort=False).ngroup().to_numpy()
        first = np.unique(groups, return_index=True)[1][groups]
        step, token = times(runs.assign(**counted))
        found: dict[str, Any] = {name: counted[name].to_numpy(float) for name in counted}
        delays = np.random.default_rng(0).exponential(0.3, (len(runs), 30))
        for name, seconds, own in (
            (_STEP, step, noise),
            ("prefill_seconds", token, noise),
            (_DECODE, token, noise[::-1]),
        ):
            least = seconds * np.exp(_TIME_ERROR * own[first])
            rounds = least[:, None] * (1 + delays[first] - delays[first].min(1, keepdims=True))
            found |= {f"{name}_least": least, name: np.median(rounds, 1), f"{name}_rounds": [*rounds]}
        return found

    return LossWorld(id_, truth, loss, lettered("IN", words), measured)


# What is left of a shape's time when the law of a world is known.
_TIME_ERROR = 0.04


def _by_bytes(runs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    step = 5e-4 + runs["bytes_step_parameters"] / 1e10 + runs["bytes_step_activations"] / 5e9
    return (step + runs["bytes_step_scores"] / 5e9).to_numpy(float), (1e-5 + runs["bytes_decode"] / 1e10).to_numpy(
        float
    )


def _by_flops(runs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return (1e-4 + runs["flops_step"] / 2e10).to_numpy(float), (1e-6 + runs["flops_decode"] / 2e10).to_numpy(float)


def _by_layers(runs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    token = 2e-5 * runs["depth"].to_numpy(float) ** 0.85 * (runs["N_nonembedding"].to_numpy(float) / 1e4) ** 0.1
    return _by_bytes(runs)[0], token


_WORLDS = (
    _world("published", "steps follow bytes, decoding layers to the power 0.85, and losses are least at width/depth 4",
           4.0, 0.002, _by_layers, "YY?NYYYY"),
    _world("bytes", "both times follow bytes, and the widest shapes have the least loss", 200.0, 0.01, _by_bytes,
           "YYyYNNNN"),
    _world("flops", "both times follow FLOPs, and losses rise steeply from width/depth 8", 8.0, 0.06, _by_flops,
           "N?n?NNNN"),
)  # fmt: skip

INFERENCE = Paper(_judge, _WORLDS)
