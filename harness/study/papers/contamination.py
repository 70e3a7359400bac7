"""The study of contamination: what is kept of held-out text that was read several times, and for how long.

The claims are those of Bordt et al. 2024 (arXiv 2410.03249), with losses in the place of accuracies. The rules are
those of `sweeps/studies/contamination/design.md`.
"""

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import stdtrit
from scipy.stats import rankdata

from harness.fit.gap_law.rulings import JudgedClaim, together
from harness.fit.quantities.forgetting_bound import observed_forgetting_time
from harness.study.contrasts import Interval95, mean_interval
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS, ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, Within, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The readings whose gaps are compared: runs that read the same windows once tell how hard these windows are.
ONCE, MOST = 1, 36
OFTEN = (12, MOST)
# The share of the full gap that may be left after five times as many further tokens. Both are means over evaluations,
# because single ones vary by a tenth of the gap: the full gap over the last quarter of the exposure, what is left over
# the time from four times as many further tokens on.
LEFT, FROM, PLATEAU = 0.1, 4.0, 0.75


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    known = ended.loc[ended["injected_loss"].notna() & ended["control_loss"].notna()]
    known = known.assign(
        N=known["N_nonembedding"].astype(float), gap=(known["control_loss"] - known["injected_loss"]).astype(float)
    )
    gaps = _less_once(known.loc[known["inject_end"] == 1])
    curves = _early_curves(known.loc[known["inject_end"] < 1])
    left, times = _left_after(curves), _times(curves)
    claims = _claims(gaps, left, times)
    most = gaps.loc[(gaps["inject_copies"] == MOST) & (gaps["block"] == "copies"), "gap"]
    kept = f"by {most.mean():.2f} nats per token" if len(most) else "by an amount that was not measured"
    headline = (
        f"{MOST} readings of a text instead of one lower its loss, against other text, {kept}:"
        f" {count_of_words(claims)}."
    )
    tables = {
        "gap above that of one reading, nats per token, mean over draws": _gap_rows(gaps),
        "text read in the first sixth of the run": _early_rows(curves, times),
    }
    drawings = {}
    if len(shown := gaps.loc[(gaps["block"] == "copies") & (gaps["inject_copies"] > ONCE)]):
        drawings["copies"] = StudyFigure(
            "The gap between windows that were never read and windows that were read several times at random moments of"
            " the run, less that of the same windows read once; 40 tokens a parameter.",
            functools.partial(_copies_figure, shown),
        )
    if curves:
        drawings["forgetting"] = StudyFigure(
            f"The gap of windows that were read {MOST} times in the first sixth of the run, as a share of the full"
            " gap, against tokens since the exposure began; mean over draws.",
            functools.partial(_curves_figure, curves),
        )
    notes = (
        f"{len(ended)} finished runs. A gap is the loss on windows that were not read less that on windows that were,"
        " less the same difference of the run that read these windows once; the draws have windows of their own.",
    )
    return LossVerdict(headline, claims, tables, notes, drawings)


_SAME = ["block", "N", "D", "weight_decay"]


def _less_once(known: pd.DataFrame) -> pd.DataFrame:
    """The runs with `gap` less that of the run that read the same windows once, whose own is 0."""
    once = known.loc[known["inject_copies"] == ONCE, [*_SAME, "draw", "gap"]].rename(columns={"gap": "once"})
    both = known.merge(once, on=[*_SAME, "draw"], validate="many_to_one")
    return both.assign(gap=both["gap"] - both["once"])


def _claims(
    gaps: pd.DataFrame, left: list[float], times: dict[tuple[float, float], Interval95]
) -> tuple[JudgedClaim, ...]:
    copies = gaps.loc[gaps["block"] == "copies"]
    often = copies.loc[copies["inject_copies"].isin(OFTEN)]
    of_size = gaps.loc[gaps["N"].isin(gaps.loc[gaps["block"] == "longer", "N"]) & (gaps["inject_copies"] == MOST)]
    grows = _rank("with the number of readings", 1, _ranks(copies, "inject_copies", ["N"]))
    larger = _rank("with N at equal tokens per parameter", 1, _ranks(often, "N", ["inject_copies"]))
    falls = _rank("with D at equal N", -1, _ranks(of_size, "D", ["inject_copies"]))
    forgotten = within("share of the full gap that is left", None, LEFT, *mean_interval(left))
    bound = "log of the forgetting time over 1/(eta lambda)"
    faster = [
        within(f"{bound}, N = {n:,.0f}, lambda = {decay:g}", None, 0.0, *each) for (n, decay), each in times.items()
    ]
    of_draws = "Spearman's correlation within each draw; the interval, of 99 %, is over draws."
    early = f"runs that read the windows {MOST} times in the first sixth"
    return (
        JudgedClaim("CT-1", "the gap grows with the number of readings", grows.ruling,
                    "runs of 40 tokens a parameter", (grows,), of_draws),
        JudgedClaim("CT-2", "the gap grows with N at equal tokens per parameter", larger.ruling,
                    f"runs of 40 tokens a parameter, {OFTEN[0]} and {OFTEN[1]} readings", (larger,), of_draws),
        JudgedClaim("CT-3", "the gap falls with D at equal N", falls.ruling,
                    f"runs of one size and 20 to 160 tokens a parameter, {MOST} readings", (falls,), of_draws),
        JudgedClaim("CT-4", "after five times as many further tokens a tenth of the gap is left at most",
                    forgotten.ruling, early, (forgotten,),
                    "The interval is over draws, each of which is a mean over sizes and weight decays."),
        JudgedClaim("CT-5", "text is forgotten at least as fast as weight decay alone would do it",
                    together([each.ruling for each in faster]), early, tuple(faster),
                    "Forgetting is the time in which the gap falls to 1/e; every size and weight decay must agree."),
    )  # fmt: skip


def _ranks(rows: pd.DataFrame, by: str, alike: list[str]) -> list[float]:
    """Spearman's correlation of gap and `by` for each draw, the mean over the groups of the draw that are `alike`."""
    found: dict[int, list[float]] = {}
    for _, own in rows.groupby(["draw", *alike]):
        if len(own) > 2:
            x, y = (rankdata(own[name]) for name in (by, "gap"))
            found.setdefault(int(own["draw"].iloc[0]), []).append(float(np.corrcoef(x, y)[0, 1]))
    return [float(np.mean(values)) for values in found.values()]


def _rank(of: str, sign: int, ranks: list[float]) -> Within:
    """The mean over draws of the correlation of the gap, which is claimed to have a sign, with its 99 % interval."""
    mean, low, high = mean_interval(ranks)
    ends = None, None
    if mean is not None and low is not None and high is not None:
        degrees = len(ranks) - 1
        half = (high - low) / 2 * float(stdtrit(degrees, 0.995) / stdtrit(degrees, 0.975))
        ends = max(mean - half, -1.0), min(mean + half, 1.0)
    return within(f"rank correlation of the gap {of}", min(sign, 0), max(sign, 0), mean, *ends)


class _Curves:
    """The gaps along the runs of one size and weight decay, which read the windows in their first part.

    Attributes:
        n, decay, rate: N, lambda and eta.
        steps: after which the gaps were measured, the last of them the end of the run.
        exposed: steps taken when the windows had been read for the last time.
        gaps: of each draw, less those of the run of the draw that read the windows once.
        draws: which these are.
        full: the gap in the last quarter of the exposure, the mean over draws with its interval.
    """

    def __init__(self, own: pd.DataFrame):
        first = own.iloc[0]
        self.n, self.decay, self.rate = float(first["N"]), float(first["weight_decay"]), float(first["lr"])
        self.steps = np.asarray(first[CURVE_TOKENS], float) / float(first["batch_tokens"])
        self.exposed = math.ceil(round(float(first["inject_end"]) * self.steps[-1], 2))
        both = {draw: rows.set_index("inject_copies") for draw, rows in own.groupby("draw")}
        parts = {draw: rows for draw, rows in both.items() if {ONCE, MOST} <= set(rows.index)}
        self.draws = [int(str(draw)) for draw in parts]
        self.gaps = np.array([_along(rows.loc[MOST]) - _along(rows.loc[ONCE]) for rows in parts.values()])
        self.gaps = self.gaps.reshape(len(parts), len(self.steps))
        self.full = mean_interval(self._mean_over(PLATEAU * self.exposed, self.exposed))

    @property
    def mean(self) -> Float[np.ndarray, "points"]:
        """The mean over draws."""
        return self.gaps.mean(axis=0)

    @property
    def left(self) -> Float[np.ndarray, "draws"]:
        """What is left of the full gap in the end, of each draw."""
        return self._mean_over((1 + FROM) * self.exposed, self.steps[-1]) / float(self.full.estimate or math.nan)

    def _mean_over(self, first: float, last: float) -> Float[np.ndarray, "draws"]:
        return self.gaps[:, (self.steps >= first) & (self.steps <= last)].mean(axis=1)


def _along(run: pd.Series) -> Float[np.ndarray, "points"]:
    return np.asarray(run["curve_control"], float) - np.asarray(run["curve_injected"], float)


def _early_curves(known: pd.DataFrame) -> list[_Curves]:
    found = [_Curves(own) for _, own in known.groupby(["N", "weight_decay"])]
    return [each for each in found if each.full.low is not None and each.full.low > 0]


def _left_after(curves: list[_Curves]) -> list[float]:
    """The share of the full gap that is left in the end: for each draw the mean over sizes and decays."""
    found: dict[int, list[float]] = {}
    for each in curves:
        for draw, share in zip(each.draws, each.left, strict=True):
            found.setdefault(draw, []).append(float(share))
    return [float(np.mean(values)) for values in found.values()]


def _times(curves: list[_Curves]) -> dict[tuple[float, float], Interval95]:
    """(N, lambda) -> the log of the forgetting time over 1/(eta lambda), of the mean gap.

    The interval is the jackknife's over draws. Where the gap does not fall to 1/e in the run, the rest of the run
    stands for the time, which is longer.
    """
    found = {}
    for each in curves:
        count = len(each.gaps)
        whole = _log_time(each, each.mean)
        without = [_log_time(each, np.delete(each.gaps, draw, axis=0).mean(axis=0)) for draw in range(count)]
        found[each.n, each.decay] = mean_interval(count * whole - (count - 1) * np.asarray(without))
    return found


def _log_time(curves: _Curves, gaps: Float[np.ndarray, "points"]) -> float:
    after = curves.steps > curves.exposed
    steps, gaps = (
        np.r_[first, each[after]] for first, each in ((curves.exposed, curves.steps), (curves.full.estimate, gaps))
    )
    time = observed_forgetting_time(steps, gaps, curves.exposed)
    return math.log((steps[-1] - curves.exposed if time is None else time) * curves.rate * curves.decay)


def _gap_rows(gaps: pd.DataFrame) -> list[dict[str, Any]]:
    told = []
    for keys, own in gaps.loc[gaps["inject_copies"] > ONCE].groupby(["N", "D", "inject_copies"]):
        mean, low, high = mean_interval(own["gap"])
        group = dict(zip(("N", "D", "readings"), map(float, keys), strict=True))
        told.append(group | {"draws": len(own), "gap": mean, "low": low, "high": high})
    return told


def _early_rows(curves: list[_Curves], times: dict[tuple[float, float], Interval95]) -> list[dict[str, Any]]:
    told = []
    for each in curves:
        bound, share = 1 / (each.rate * each.decay), mean_interval(each.left)
        time = [None if value is None else bound * math.exp(value) for value in times[each.n, each.decay]]
        told.append(
            {"N": each.n, "weight decay": each.decay, "draws": len(each.draws), "full gap": each.full.estimate,
             "left": share.estimate, "left, low": share.low, "left, high": share.high, "1/(eta lambda), steps": bound}
            | dict(zip(("forgetting time, steps", "time, low", "time, high"), time, strict=True))
        )  # fmt: skip
    return told


def _copies_figure(gaps: pd.DataFrame) -> "Figure":
    series = {}
    for n, own in gaps.groupby("N"):
        found = {copies: mean_interval(rows["gap"]) for copies, rows in own.groupby("inject_copies")}
        mean, low, high = (np.array([each[part] for each in found.values()], float) for part in range(3))
        series[f"N = {n:,.0f}"] = Series(np.array([*found], float), mean, low, high)
    ticks = {float(value): str(value) for value in (4, 12, 36)}
    return series_figure(
        series, "readings of each window", "gap, nats per token", log_x=True, ticks=ticks,
        title="The gap of text that was read several times",
    )  # fmt: skip


def _curves_figure(curves: list[_Curves]) -> "Figure":
    series = {
        f"N = {each.n:,.0f}, weight decay {each.decay:g}": Series(
            each.steps / each.exposed, each.mean / (each.full.estimate or math.nan), mark=""
        )
        for each in curves
    }
    label = "tokens read, as multiples of those until the last reading"
    return series_figure(
        series, label, "gap over the full gap", band=(-LEFT, LEFT), levels={"1/e": math.exp(-1)}, kinds=True,
        title="The gap while text is read, and after its last reading at 1",
    )  # fmt: skip


# The errors of the loss on injected windows: of a run, and of each of its evaluations, nats. In six pairs of small runs
# on other text the gap varied by 0.02 to 0.03 from one evaluation to the next, and its mean over many by 0.01.
_RUN_ERROR, _POINT_ERROR = 0.01, 0.02


def _world(
    id_: str, truth: str, gap: float, powers: tuple[float, float], left: float, pace: float, *words: tuple[Any, ...]
) -> LossWorld:
    """A world with a known gap and a known forgetting.

    Args:
        gap: of 36 readings at 1e4 parameters and 40 tokens a parameter, nats; it grows as the root of the readings.
        powers: how it grows with N at equal tokens per parameter, and with D at equal N.
        left: the share of the gap that is never forgotten.
        pace: the time in which the rest falls to 1/e, over 1/(eta lambda).
    """

    def of_n(n: Any, tokens: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        return 1.3 + 16.3 * n**-0.35 + 82 * tokens**-0.35

    def held_out(runs: pd.DataFrame, tokens: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        return of_n(runs["N_nonembedding"].to_numpy(float), tokens)

    def measured(runs: pd.DataFrame, errors: Float[np.ndarray, "rows"]) -> Mapping[str, Any]:
        rng = np.random.default_rng(np.frombuffer(errors.tobytes(), np.uint32))
        point_error = _POINT_ERROR * float(np.sqrt(np.mean(errors**2)))
        columns: dict[str, list[Any]] = {"injected_loss": [], "control_loss": []}
        columns |= {CURVE_TOKENS: [], CURVE_LOSS: [], "curve_injected": [], "curve_control": []}
        for run, error in zip(runs.to_dict("records"), errors, strict=True):
            # Evaluations every 24th of a doubling, as in the blocks whose curves are judged.
            steps = np.unique(np.round(run["steps"] * 2.0 ** (-np.arange(120) / 24)))
            n, exposed = run["N_nonembedding"] / 1e4, run["inject_end"] * run["steps"]
            full = gap * math.sqrt((run["inject_copies"] - 1) / (MOST - 1)) * n ** powers[0]
            full *= (run["D"] / run["N_nonembedding"] / 40) ** powers[1] if run["inject_end"] == 1 else 1.0
            since = np.maximum(steps - exposed, 0.0) * run["lr"] * run["weight_decay"] / pace
            kept = full * np.minimum(steps / exposed, 1.0) * (left + (1 - left) * np.exp(-since))
            loss = of_n(run["N_nonembedding"], steps * run["batch_tokens"])
            # Every draw has windows of its own, which are harder or easier than their control.
            injected = loss - kept - 0.3 * math.cos(2.4 * run["draw"]) + _RUN_ERROR * error
            injected += point_error * rng.standard_normal(len(steps))
            values = (injected[-1], loss[-1], steps * run["batch_tokens"], loss, injected, loss)
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
        return columns

    return LossWorld(id_, truth, held_out, numbered("CT", words), measured)


_WORLDS = (
    _world(
        "forgotten", "the gap grows with readings and N, falls with D, and goes three times as fast as weights decay",
        0.2, (0.3, -0.3), 0.0, 1 / 3, (YES,), (YES,), (YES,), (YES,), (YES,),
    ),
    _world(
        "kept", "the gap falls with N and grows with D; a quarter is kept, the rest goes three times as slowly",
        0.2, (-0.3, 0.3), 0.25, 3.0, (YES,), (NO,), (NO,), (NO,), (NO,),
    ),
    _world(
        "nothing", "what was read leaves no gap", 0.0, (0.0, 0.0), 0.0, 1.0, *5 * ((OPEN,),),
    ),
)  # fmt: skip

CONTAMINATION = Paper(_judge, _WORLDS)
