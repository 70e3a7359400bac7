"""The study of the critical batch at a constant rate with averaged weights, as Zhang et al. 2024 measure it.

Their critical batch (arXiv 2410.21676) is the one whose tokens to a loss exceed by 20 % those of linear scaling from a
small batch B_opt. With steps a + b/B it is B* = 1.2 B_opt + b/(5a). They find that it grows with D at fixed N and
hardly with N at fixed D. The rules are those of `sweeps/studies/critical_batch/design.md`.
"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling
from harness.fit.laws.critical_batch import critical_batch
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval, paired, slopes
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS, ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, RUN_ERROR, YES, LossWorld, numbered
from harness.study.methods.trade_offs import FIRST, Critical, Growth, fit_growth, smooth_curve, trade_offs
from harness.study.paper import Paper
from harness.study.plots import REFERENCE, Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A target is the loss that the smallest batch, B_opt, reaches after so many tokens.
_TARGETS = tuple(2**power for power in (16, 17, 18, 19))
_SMALLEST, _FEWEST_BATCHES = 64, 4
# Curves begin after so many steps, too: the first ones of a large batch are no power law.
_FIRST_STEPS = 16
# The decay of the second moment: the usual one, and the one that is to help small batches.
_USUAL, _LARGER = 0.95, 0.99
# The blocks of other arms, and the block with whose runs the decayed ones are compared.
_DECAYED, _CONSTANT = "decayed", "batch_256"
# By how much the power of D is to exceed that of N, and the most that the latter may be.
_MORE, _HARDLY = 0.25, 0.15
# The claimed power of D at fixed N, and how far from it agrees.
_IN_D, _SAME_POWER = 0.47, 0.15
# The share of the variance of log steps that the law is to explain, and how near a decayed schedule's loss is.
_EXPLAINED, _AS_LOW = 0.98, 0.02
# The losses at the end of a run, of its last weights and of their average, and the curve of the latter.
_AVERAGE, _AVERAGE_CURVE = "heldout_loss_average", "curve_heldout_average"


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended."""
    ended = ended_runs(runs)
    if _AVERAGE not in ended.columns:
        ended = ended.assign(**{_AVERAGE: np.nan})
    ended = ended.assign(N=ended["N_nonembedding"].astype(float), curve=_curves(ended))
    main = ended.loc[(ended["schedule"] == "constant") & (ended["beta2"] == _USUAL)]
    found = [each for _, own in main.groupby("N") for each in trade_offs(own, _TARGETS, _FEWEST_BATCHES)]
    known = [each for each in found if np.isfinite(each.b_crit)]
    stars = np.array([_star(each).estimate for each in known], float)
    n, tokens, critical = (
        np.array([getattr(each, name) for each in known], float) for name in ("n", "tokens", "b_crit")
    )
    fitted, ratios = fit_growth(n, tokens, stars), fit_growth(n, tokens, critical)
    pairs = _pairs(ended)
    claims = _claims(known, fitted, pairs)
    if fitted is None:
        grows = "is not known at enough points"
    else:
        grows = f"grows as D^{fitted.powers[1]:.2f} at fixed N and as N^{fitted.powers[0]:.2f} at fixed D"
    tables = {
        "critical batches": [
            {"N": round(each.n), "D of the target": each.tokens, "loss": each.loss, "batches": len(each.batches),
             "a, steps": each.s_min, "b, tokens": each.e_min, "b/a, tokens": each.b_crit, "B*, tokens": star.estimate,
             "low": star.low, "high": star.high}
            for each in found
            for star in (_star(each),)
        ],
        "powers of the critical batch in the three designs": _designs(known, stars, fitted, ratios),
        "log loss less that of the other arm, least over the rates": [
            {"arm": name, "pairs": len(values)} | dict(zip(("mean", "low", "high"), mean_interval(values), strict=True))
            for name, values in pairs.items()
        ],
    }  # fmt: skip
    drawings = {
        "critical": StudyFigure(
            "The critical batch B* against the tokens of the target, by size, with the 95 % intervals of each fit.",
            functools.partial(_critical_figure, known),
        ),
        "steps": StudyFigure(
            "Steps to each target against the batch, of the largest size: marks are measured, lines a + b/B.",
            functools.partial(_steps_figure, known),
        ),
    }
    missing = len(found) - len(known)
    notes = (
        f"{len(ended)} finished runs; the batch is in tokens, N without embeddings. Steps are the least over the rates"
        " and over the last and the averaged weights, and the geometric mean over the draws.",
        f"{missing} of {len(found)} targets have no critical batch: fewer than {_FEWEST_BATCHES} batches reached them,"
        " or the steps do not bound it.",
    )
    headline = f"The critical batch {grows}: {count_of_words(claims)}."
    return LossVerdict(headline, claims, tables, notes, drawings if known else {})


def _curves(ended: pd.DataFrame) -> list[np.polynomial.Polynomial | None]:
    """The smoothed lower one of the losses of the last weights and of their average, at each evaluation."""
    last = ended[CURVE_LOSS]
    average = ended[_AVERAGE_CURVE] if _AVERAGE_CURVE in ended.columns else last
    found = []
    for tokens, batch, *losses in zip(ended[CURVE_TOKENS], ended["batch_tokens"], last, average, strict=True):
        lower = np.minimum(*(np.asarray(each, float) for each in losses))
        found.append(smooth_curve(np.asarray(tokens, float), lower, max(FIRST, _FIRST_STEPS * batch)))
    return found


def _star(each: Critical) -> Interval95:
    """B* in tokens, with the 95 % interval of its fit."""
    ends = (each.b_crit, each.low, each.high)
    if not np.isfinite(ends).all():
        return NOT_KNOWN
    return Interval95(*(critical_batch({"a": 1.0, "b": ratio}, _SMALLEST) for ratio in ends))


def _designs(
    known: list[Critical], stars: np.ndarray, fitted: Growth | None, ratios: Growth | None
) -> list[dict[str, Any]]:
    """The power of B* in each design, of the fit in N and D and of the design's own targets alone; and that of b/a.

    N and D grow together along targets of about equal D/N: a factor of two between sizes and between targets.
    """
    n, d = np.log([each.n for each in known]), np.log([each.tokens for each in known])
    along = np.round((d - n) / np.log(2))
    told = []
    for design, weights, x, levels in (
        ("D only", (0, 1), d, n),
        ("N only", (1, 0), n, d),
        ("N and D", (1, 1), n, along),
    ):
        alone = slopes(x, np.log(stars), levels)[0] if len(known) else NOT_KNOWN
        each = [NOT_KNOWN if growth is None else growth.along(weights) for growth in (fitted, ratios)]
        names = ("B*", "B*, its own targets", "b/a")
        row: dict[str, Any] = {"design": design}
        for name, number in zip(names, (each[0], alone, each[1]), strict=True):
            row |= {f"power of {name}": number.estimate, f"low, {name}": number.low, f"high, {name}": number.high}
        told.append(row)
    return told


def _pairs(ended: pd.DataFrame) -> dict[str, pd.Series]:
    """Differences of log loss between arms in pairs of the same size and draw, each arm at the best of its rates."""
    small = ended.loc[(ended["batch_tokens"] == _SMALLEST) & (ended["schedule"] == "constant")]
    constant = ended.loc[ended["block"] == _CONSTANT]
    larger, usual = (_least(small.loc[small["beta2"] == value], _AVERAGE) for value in (_LARGER, _USUAL))
    decayed = _least(ended.loc[ended["block"] == _DECAYED], "L")
    arms = {
        f"beta2 {_LARGER} less {_USUAL}": (larger, usual),
        "averaged less decayed": (_least(constant, _AVERAGE), decayed),
        "last weights less decayed": (_least(constant, "L"), decayed),
    }
    pairs = {name: paired(*both, ["N", "draw"], loss="least") for name, both in arms.items()}
    return {name: pd.Series(rows["effect"]) for name, rows in pairs.items()}


def _least(rows: pd.DataFrame, loss: str) -> pd.DataFrame:
    known = rows.dropna(subset=[loss])
    return known.assign(least=known[loss]).groupby(["N", "draw"], as_index=False).agg(least=("least", "min"))


def _claims(known: list[Critical], fitted: Growth | None, pairs: dict[str, pd.Series]) -> tuple[JudgedClaim, ...]:
    in_n, in_d, more = (NOT_KNOWN if fitted is None else fitted.along(weights) for weights in ((1, 0), (0, 1), (-1, 1)))
    exceeds = within("the power of D less that of N", _MORE, None, *more)
    hardly = within("the power of N at fixed D", None, _HARDLY, *in_n)
    power = Measured("the power of D at fixed N", _IN_D, _SAME_POWER, *in_d)
    explained = within("the share of the variance of log steps that is explained", _EXPLAINED, 1.0, *_explained(known))
    moment, average, last = (mean_interval(values) for values in pairs.values())
    helps = within(f"log loss with beta2 {_LARGER} less that with {_USUAL}", None, 0.0, *moment)
    near = Measured("log loss of averages at a constant rate less that of a decayed rate", 0.0, _AS_LOW, *average)
    targets = f"{len(known)} targets of {len({each.n for each in known})} sizes"
    long = [_star(each).estimate or np.nan for each in known if each.tokens == max(_TARGETS)]
    reach = (
        f"B* is {min(long) / _SMALLEST:.1f} to {max(long) / _SMALLEST:.1f} times this batch at the end." if long else ""
    )
    beside = (
        "" if last.estimate is None else f"That of the last weights is {last.estimate:.3f} above the decayed rate's."
    )
    counts = [f"{len(values)} pairs of equal size and draw" for values in pairs.values()]
    judged = (
        ("CB-1", f"the critical batch grows more with D than with N, by a power of {_MORE}", exceeds, targets, ""),
        ("CB-2", "the critical batch hardly grows with N at fixed D", hardly, targets, ""),
        ("CB-3", f"the critical batch grows as D^{_IN_D} at fixed N", power, targets, ""),
        ("CB-4", "steps to a loss follow a + b/B", explained, targets, "The interval is over sizes."),
        ("CB-5", f"at a small batch beta2 {_LARGER} is better than {_USUAL}", helps, counts[0], reach),
        ("CB-6", "averages at a constant rate are as good as a decayed rate, to 2 %", near, counts[1], beside),
    )  # fmt: skip
    return tuple(JudgedClaim(id_, claim, each.ruling, rows, (each,), why) for id_, claim, each, rows, why in judged)


def _explained(known: list[Critical]) -> Interval95:
    """R^2 of log steps: about the mean of each target, over the targets of a size; its mean over sizes."""
    shares = []
    for n in sorted({each.n for each in known}):
        own = [each for each in known if each.n == n]
        left = sum(float(each.residuals @ each.residuals) for each in own)
        whole = sum(float(np.var(np.log(each.steps))) * len(each.steps) for each in own)
        shares.append(1 - left / whole)
    return mean_interval(shares).clip(most=1.0)


def _critical_figure(known: list[Critical]) -> "Figure":
    series = {}
    sizes = sorted({each.n for each in known})
    for place, n in enumerate(sizes):
        own = [each for each in known if each.n == n]
        values = np.array([_star(each) for each in own], float).T
        x = np.array([each.tokens for each in own]) * 1.04 ** (place - (len(sizes) - 1) / 2)
        series[f"N = {n:,.0f}"] = Series(x, *values)
    at = np.array([_TARGETS[0], _TARGETS[-1]], float)
    middle = float(np.exp(np.mean(np.log([_star(each).estimate or np.nan for each in known]))))
    claimed = Series(at, middle * (at / np.sqrt(at.prod())) ** _IN_D, line="--", mark="", of=REFERENCE)
    return series_figure(
        series | {f"as D$^{{{_IN_D}}}$": claimed},
        "tokens D at which the loss is reached", "critical batch B*, tokens",
        log_x=True, log_y=True, title="The critical batch by tokens and size",
        ticks={tokens: f"$2^{{{tokens.bit_length() - 1}}}$" for tokens in _TARGETS},
    )  # fmt: skip


def _steps_figure(known: list[Critical]) -> "Figure":
    series = {}
    for each in (each for each in known if each.n == max(other.n for other in known)):
        at = np.geomspace(each.batches[0], each.batches[-1], 60)
        label = f"loss of {each.loss:.2f}"
        series[label] = Series(each.batches, each.steps, line="", of=label)
        series[f"steps = {each.s_min:,.0f} + {each.e_min:,.0f}/B"] = Series(
            at, each.s_min + each.e_min / at, mark="", of=label
        )
    return series_figure(
        series, "batch B, tokens", "steps to the loss", log_x=True, log_y=True,
        title="Steps that the largest size needs to a loss",
    )  # fmt: skip


def _world(
    id_: str, truth: str, in_n: float, in_d: float, helps: float, beyond: float, *words: tuple[Ruling, ...]
) -> LossWorld:
    """A world with b/a = 2900 (N/1e4)^in_n (D/2^19)^in_d tokens; the powers of B* = 1.2 B_opt + b/(5a) are less.

    Args:
        helps: log loss at the small batch with the larger beta2 less that with the usual one.
        beyond: log loss of averages at a constant rate less that of a decayed rate.
    """

    def ratio(n: np.ndarray, d: np.ndarray) -> np.ndarray:
        return 2900 * (n / 1e4) ** in_n * (d / 2**19) ** in_d

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n, batch = runs["N_nonembedding"].to_numpy(float), runs["batch_tokens"].to_numpy(float)
        least = tokens
        for _ in range(60):  # the D of small batches that has the loss of these tokens: tokens = D (1 + B a/b)
            least = np.sqrt(least * tokens / (1 + batch / ratio(n, least)))
        best = 0.25 * np.sqrt(np.minimum(batch, 4096) / 1024) / runs["width"].to_numpy(float)
        off = 0.005 * np.log(runs["lr"].to_numpy(float) / best) ** 2 + helps * (runs["beta2"].to_numpy(float) > _USUAL)
        off = off - beyond * (runs["schedule"] != "constant").to_numpy(float)
        return (1.0 + 16.3 * n**-0.35 + 82 * least**-0.35) * np.exp(off)

    def measured(runs: pd.DataFrame, errors: np.ndarray) -> dict[str, np.ndarray]:
        return {_AVERAGE: loss(runs, runs["D"].to_numpy(float)) * np.exp(1.5 * RUN_ERROR * errors)}

    return LossWorld(id_, truth, loss, numbered("CB", words), measured)


_WORLDS = (
    _world("published", "B* grows as D^0.47 and N^0.087, a larger beta2 lowers the loss of small batches by 2 %",
           0.11, 0.58, -0.02, 0.0, (YES,), (YES,), (YES,), (YES,), (YES,), (YES,)),
    _world("size", "B* grows as N^0.5 and not with D, a larger beta2 is 2 % worse, a decayed rate 5 % better",
           0.6, 0.0, 0.02, 0.05, (NO,), (NO,), (NO,), (YES,), (NO,), (NO,)),
    _world("tokens", "B* grows as D^0.65 and not with N, a larger beta2 raises the loss of small batches by 2 %",
           0.0, 0.8, 0.02, 0.0, (YES,), (YES,), (OPEN, NO), (YES,), (NO,), (YES,)),
)  # fmt: skip

CRITICAL_BATCH = Paper(_judge, _WORLDS)
