"""The study of agents: how the compute-optimal size grows in imitation, in world models, and with another tokenizer.

Pearce et al. 2024 (arXiv 2411.04434) find N* ~ C^a and D* ~ C^b with a smaller a for imitation, whose loss is of the
actions alone, than for world models, whose loss is of all observations, and a larger a where a tokenizer compresses
less. Here both objectives are trained on the same walks, and both tokenizers read the same text. The rules are those of
`sweeps/studies/agents/design.md`.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, Measured, Ruling, together
from harness.study.contrasts import NOT_KNOWN, Interval95, difference
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS, ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, further_errors, numbered
from harness.study.methods.curve_exponents import METHODS, Optima, Readings, copies_of, optima_of_curves, read_curves
from harness.study.paper import Paper
from harness.study.plots import Series, as_power_of_ten, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The blocks of the preset, in words.
_ARMS = {
    "world_model": "world model",
    "imitation": "imitation",
    "bytes": "text in bytes",
    "bpe": "text in pairs of bytes",
}
# How N is counted, and C = 6 N D with it; and N with the head beside all FLOPs of training, with attention.
_COUNTS = {"with the head": "N_total", "without the head": "N_nonembedding"}
_ALL = "all FLOPs"
# The loss of the averaged weights at each evaluation, and the budgets at which it is read.
_CURVE, _FLOPS = "curve_heldout_average", 2.0 ** np.arange(30, 39.1, 0.5)
# Curves are read from after this many tokens on.
_FIRST = 2.0**17
# The optima that are shown in figures and tables.
_SHOWN = ("with the head", "profiles")
# How far a + b may be from one.
_SAME_SUM = 0.03


class _Arm(NamedTuple):
    """What the runs of one recipe say.

    Attributes:
        readings: the losses at common budgets, N with the head.
        optima: by the count of N and the method; without those that find no optima.
    """

    readings: Readings
    optima: Mapping[tuple[str, str], Optima]

    def power(self, count: str, method: str, u: float, v: float) -> Interval95:
        """The power of C in N*^u D*^v."""
        optima = self.optima.get((count, method))
        return NOT_KNOWN if optima is None else optima.power_of(u, v)


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended."""
    ended = ended_runs(runs)
    arms = {name: _arm(own) for name in _ARMS if len(own := ended.loc[ended["block"] == name])}
    claims = _claims(arms)
    a = {name: arm.power("with the head", "law", 1, 0).estimate for name, arm in arms.items()}
    told = [f"C^{a[name]:.2f} ({_ARMS[name]})" for name in _ARMS if a.get(name) is not None]
    grows = f"The compute-optimal size grows with compute C as {', '.join(told)}" if told else "No exponent is known"
    rows = [
        _line(arm, name, count, method)
        for name, arm in arms.items()
        for count in (*_COUNTS, _ALL)
        for method in METHODS
    ]
    tables = {"powers of C in N* and D*": rows}
    tables |= {f"measured optima, {_ARMS[name]}": _optima_rows(arm) for name, arm in arms.items()}
    drawings = {}
    if told:
        drawings["optima"] = StudyFigure(
            "The compute-optimal size against 6 N D, both with the head: by profiles, and by the law (lines).",
            functools.partial(_optima_figure, arms),
        )
    drawings |= {
        f"profiles_{name}": StudyFigure(
            f"Loss against size at each second budget, {_ARMS[name]}: means over draws.",
            functools.partial(_profiles_figure, arm.readings),
        )
        for name, arm in arms.items()
        if told
    }
    notes = (
        f"{len(ended)} finished runs. C is 6 N D with N as each line counts it, or all FLOPs of training with the"
        " head and attention. Losses are those of the averaged weights along runs at a constant rate.",
    )
    return LossVerdict(f"{grows}: {count_of_words(claims)}.", claims, tables, notes, drawings)


def _arm(ended: pd.DataFrame) -> _Arm:
    curve = _CURVE if _CURVE in ended.columns else CURVE_LOSS
    counted = {count: ended.assign(N=ended[column]) for count, column in _COUNTS.items()}
    counted[_ALL] = ended.assign(N=ended["N_total"], per_token=ended["flops"] / ended["D"])
    readings = {count: read_curves(own, curve, _FLOPS, _FIRST) for count, own in counted.items()}
    optima = {
        (count, method): found
        for count, own in readings.items()
        for method, found in optima_of_curves(own, copies_of(own)).items()
    }
    return _Arm(readings["with the head"], optima)


def _claims(arms: Mapping[str, _Arm]) -> tuple[JudgedClaim, ...]:
    def power(name: str, count: str, method: str, u: float = 1, v: float = 0) -> Interval95:
        return arms[name].power(count, method, u, v) if name in arms else NOT_KNOWN

    def larger(one: str, other: str) -> list[tuple[DecidingNumber, ...]]:
        return [
            _deciding([
                within(f"the exponent a of {_ARMS[one]} less that of {_ARMS[other]}, {count}, by {method}", 0.0, None,
                       *difference(power(one, count, method), power(other, count, method)))
                for method in METHODS
            ])
            for count in _COUNTS
        ]  # fmt: skip

    sums = [
        _deciding([
            Measured(f"the sum a + b of {_ARMS[name]}, by {method}", 1.0, _SAME_SUM, *power(name, _ALL, method, 1, 1))
            for method in METHODS
        ])
        for name in _ARMS
    ]  # fmt: skip
    judged = (
        ("AG-1", "the best size grows faster in world models than in imitation", larger("world_model", "imitation")),
        ("AG-2", "the best size grows faster where the tokenizer compresses less", larger("bytes", "bpe")),
        ("AG-3", "N* and D* share the growth of C: a + b = 1, all FLOPs counted", sums),
    )
    rows = f"{sum(len(arm.readings.n) for arm in arms.values())} sizes in {len(arms)} recipes"
    return tuple(
        JudgedClaim(id_, claim, together([_word(each) for each in found]), rows, tuple(itertools.chain(*found)), "")
        for id_, claim, found in judged
    )


def _deciding(numbers: Sequence[DecidingNumber]) -> tuple[DecidingNumber, ...]:
    """Of one number by several methods the one with the narrowest interval; all, if intervals do not overlap."""
    known = [(each.low, each.high, each) for each in numbers if each.low is not None and each.high is not None]
    if not known:
        return (numbers[0],)
    if max(low for low, _, _ in known) > min(high for _, high, _ in known):
        return tuple(each for *_, each in known)
    *_, narrowest = min(known, key=lambda each: each[1] - each[0])
    return (narrowest,)


def _word(numbers: Sequence[DecidingNumber]) -> Ruling:
    """The word of a number, or of several only if it is that of all."""
    words = {each.ruling for each in numbers}
    return words.pop() if len(words) == 1 else Ruling.NOT_RESOLVED


def _line(arm: _Arm, name: str, count: str, method: str) -> dict[str, Any]:
    """A row of the powers."""
    optima = arm.optima.get((count, method))
    row: dict[str, Any] = {"recipe": _ARMS[name], "count": count, "method": method}
    for title, combine in {"a": (1, 0), "b": (0, 1)}.items():
        found = arm.power(count, method, *combine)
        row |= {title: found.estimate, f"low {title}": found.low, f"high {title}": found.high}
    return row | {"budgets": len(optima.flops) if optima else 0, "intervals wider by": optima.wider if optima else None}


def _optima_rows(arm: _Arm) -> list[dict[str, Any]]:
    """The optima by profiles, with the head."""
    optima = arm.optima.get(_SHOWN)
    if optima is None:
        return []
    n, d = np.exp(optima.log_n[0]), np.exp(optima.log_d[0])
    low, high = _ends(optima)
    columns = {"C, FLOPs": optima.flops, "N*": n, "low N*": low, "high N*": high, "D*": d, "D*/N*": d / n}
    return pd.DataFrame(columns).to_dict("records")


def _ends(optima: Optima) -> Float[np.ndarray, "2 levels"]:
    """The ends of the 95 % intervals of N*, from the scatter of draws."""
    return np.exp(np.nanpercentile(optima.log_n[1:], [2.5, 97.5], axis=0))


def _optima_figure(arms: Mapping[str, _Arm]) -> "Figure":
    series = {}
    for name, arm in arms.items():
        optima = arm.optima.get(_SHOWN)
        if optima is not None:
            series[_ARMS[name]] = Series(optima.flops, np.exp(optima.log_n[0]), *_ends(optima), line="", of=name)
        law = arm.optima.get(("with the head", "law"))
        if law is not None:
            series[f"{_ARMS[name]}, law"] = Series(law.flops, np.exp(law.log_n[0]), mark="", of=name)
    return series_figure(
        series, "training compute C = 6 N D, FLOPs", "best size N*, parameters", log_x=True, log_y=True, kinds=True,
        title="How the best size grows with compute",
    )  # fmt: skip


def _profiles_figure(readings: Readings) -> "Figure":
    series = {}
    for flops, logs in list(zip(readings.flops, readings.mean.T, strict=True))[::2]:
        known = np.isfinite(logs)
        if known.sum() > 1:
            series[f"{as_power_of_ten(flops)} FLOPs"] = Series(readings.n[known], np.exp(logs[known]))
    return series_figure(
        series, "N, parameters", "loss, nats per token", log_x=True, title="Losses of sizes at equal compute",
    )  # fmt: skip


def _world(id_: str, truth: str, powers: Mapping[str, float], *words: tuple[Any, ...]) -> LossWorld:
    """A world whose N*, without the head, grows as (N D)^a in each recipe, with errors as large as the pilot's.

    Args:
        powers: a of each recipe; alpha + beta is 0.7.
    """

    def loss(runs: pd.DataFrame, tokens: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        n, beta = runs["N_nonembedding"].to_numpy(float), 0.7 * np.array([powers[block] for block in runs["block"]])
        floor, above, _, n_0, d_0 = np.array([_PILOT[block] for block in runs["block"]]).T
        share = beta * (n / n_0) ** (beta - 0.7) + (0.7 - beta) * (tokens / d_0) ** -beta
        return floor + above * share / 0.7

    def measured(runs: pd.DataFrame, errors: Float[np.ndarray, "rows"]) -> dict[str, Any]:
        # The whole curve of a run is off, and parts of it; the held-out text of a draw is harder or easier.
        last = 2.0 ** np.arange(-6, 0.1, 0.5)
        tokens = runs["D"].to_numpy(float)[:, None] * last
        repeated = runs.loc[runs.index.repeat(len(last))].reset_index(drop=True)
        losses = loss(repeated, tokens.ravel()).reshape(tokens.shape)
        parts = further_errors(errors, (len(runs), 3))
        along = np.array([np.interp(np.log(last), np.log(last[[0, 6, 12]]), own) for own in parts])
        draws = runs["draw"].to_numpy(int)
        of_draw = further_errors(errors, (int(draws.max()) + 1,), 1)[draws]
        of_run = np.array([_PILOT[block][2] for block in runs["block"]])[:, None] * (errors[:, None] + along) / 1.4
        logs = np.log(losses) + of_run + _OF_DRAW * of_draw[:, None]
        return {CURVE_TOKENS: [*tokens.astype(np.int64)], _CURVE: [*np.exp(logs)]}

    return LossWorld(id_, truth, loss, numbered("AG", words), measured)


# As in the pilot: a floor, what is above it at an optimum, nats; the error of a run's log loss; and N, without
# the head, and D of that optimum. Then the error of log loss that runs of a draw have in common.
_PILOT = {
    "world_model": (1.6, 0.9, 0.012, 6.2e3, 6.6e5),
    "imitation": (0.79, 0.04, 0.002, 6.2e3, 2e6),
    "bytes": (1.6, 0.9, 0.006, 4.7e3, 6.7e5),
    "bpe": (3.3, 1.7, 0.008, 3e3, 3.5e5),
}
_OF_DRAW = 0.007
_WORLDS = (
    _world("claimed", "a is 0.7 in world models and 0.35 in imitation, 0.65 in bytes and 0.4 in pairs",
           {"world_model": 0.7, "imitation": 0.35, "bytes": 0.65, "bpe": 0.4}, (YES,), (YES,), (NO, OPEN)),
    _world("reversed", "a is 0.35 in world models and 0.7 in imitation, 0.4 in bytes and 0.65 in pairs",
           {"world_model": 0.35, "imitation": 0.7, "bytes": 0.4, "bpe": 0.65}, (NO,), (NO,), (NO, OPEN)),
    _world("published", "a is as published, 0.49 in world models and 0.32 in imitation, and 0.62 and 0.49 on text",
           {"world_model": 0.49, "imitation": 0.32, "bytes": 0.62, "bpe": 0.49}, (YES, OPEN), (YES, OPEN), (NO, OPEN)),
    _world("same", "a is 0.5 in all", dict.fromkeys(_ARMS, 0.5), (OPEN,), (OPEN,), (NO, OPEN)),
)  # fmt: skip

AGENTS = Paper(_judge, _WORLDS)
