"""The study of fine-tuning: which law a loss follows in the tokens of a new domain, and which model is to be chosen.

The claims are those of Lin et al. 2024 (arXiv 2402.02314), whose law is `rectified`. The rules are those of
`sweeps/studies/fine_tuning/design.md`.
"""

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata

from harness.fit.compare import aicc
from harness.fit.fitting import solve
from harness.fit.gap_law.rulings import JudgedClaim
from harness.fit.problem.raw_units import predictions, raw_point
from harness.study.contrasts import mean_interval
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure
from sweeps.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The law, and the power law without what was learned before: that is so small there that it changes nothing.
RECTIFIED, VANILLA = "rectified", "rectified with D_l=1e-6"
# The laws are fitted to curves of so many lengths at least.
_FEWEST = 8
# The residuals of the law are to be at most this share of those of the power law.
HALF = 0.5
# The loss of the longest run is foretold from lengths up to this share of it, by a line through so many at least.
SMALL, POINTS = 1 / 64, 3
# The rank correlation that the foretold and the true order of models are to have.
_RANKED = 0.8
# Slopes are over the first so many doublings, and over the next ones.
DOUBLINGS = 3


class _Curve(NamedTuple):
    """The losses of a model after fine-tuning on several lengths of the new text.

    Attributes:
        n, learned: parameters without embeddings, and the tokens that the model had read before; 0 from scratch.
        tokens: the lengths in rising order.
        logs: of each draw of the text that has all of them the log losses, nats per token.
    """

    n: float
    learned: float
    tokens: Float[np.ndarray, "lengths"]
    logs: dict[int, Float[np.ndarray, "lengths"]]

    @property
    def mean(self) -> Float[np.ndarray, "lengths"]:
        """The log losses, their means over draws."""
        return np.mean(list(self.logs.values()), axis=0)

    @property
    def bend(self) -> float:
        """The slope of log loss in log tokens over the first doublings less that over the next ones."""
        (x, y), one, two = (np.log(self.tokens), self.mean), DOUBLINGS, 2 * DOUBLINGS
        return float((y[one] - y[0]) / (x[one] - x[0]) - (y[two] - y[one]) / (x[two] - x[one]))


class _Fitted(NamedTuple):
    """Both laws on a curve: their root mean square residuals of log loss, and how much lower the power law's AICc is.

    `before` and `power` are D_l and beta of the law.
    """

    curve: _Curve
    residual: float
    vanilla: float
    simpler: float
    before: float
    power: float


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    curves = _curves(ended)
    fitted = [each for each in map(_fit, curves) if each is not None]
    tuned = [each for each in fitted if each.curve.learned]
    ranks = _ranks([curve for curve in curves if curve.learned])
    claims = _claims(tuned, [each for each in fitted if not each.curve.learned], ranks)
    ratio = math.exp(np.mean([math.log(each.residual / each.vanilla) for each in tuned])) if tuned else math.nan
    said = f"are {ratio:.0%} of those of a power law" if tuned else "were not found"
    headline = f"On fine-tuned models the residuals of the rectified law {said}: {count_of_words(claims)}."
    tables = {
        "fits to the means over draws": _fit_rows(fitted),
        "order of the fine-tuned models, correlation with the true one at the longest": [
            {"draw": draw, "by the line from a 64th": line, "by the loss at a 64th": plain}
            for draw, (line, plain) in ranks.items()
        ],
    }
    drawings = {}
    if curves:
        drawings["curves"] = StudyFigure(
            "The loss on documentation after training on it, against the number of tokens: models that had read code"
            " before, and models from scratch. Geometric means over draws.",
            functools.partial(_curves_figure, curves),
        )
    if fitted:
        drawings["residuals"] = StudyFigure(
            "Root mean square residuals of the rectified law over those of the power law, of every curve; the band is"
            " what is claimed of fine-tuned models.",
            functools.partial(_residuals_figure, fitted),
        )
    notes = (f"{len(ended)} finished runs, {len(curves)} curves of models, each the mean over draws of the text.",)
    return LossVerdict(headline, claims, tables, notes, drawings)


def _curves(ended: pd.DataFrame) -> list[_Curve]:
    """The curves of the models that were tuned, and of those from scratch."""
    lengths = ended.set_index("run_id")["D"].astype(float)
    later = ended.loc[ended["block"].isin(["tuned", "scratch"])]
    before = later["start_from"].map(lengths).fillna(0.0) if "start_from" in later.columns else 0.0
    later = later.assign(learned=before, N=later["N_nonembedding"].astype(float))
    # The start of a tuned run is not among the runs that have ended: what it had read is not known.
    later = later.loc[(later["block"] == "scratch") | (later["learned"] > 0)]
    found = []
    for _, own in later.groupby(["N", "learned"]):
        table = own.pivot_table(index="draw", columns="D", values="L").dropna()
        logs = {int(str(draw)): np.log(row.to_numpy(float)) for draw, row in table.iterrows()}
        if logs:
            first = own.iloc[0]
            found.append(_Curve(float(first["N"]), float(first["learned"]), table.columns.to_numpy(float), logs))
    return found


def _fit(curve: _Curve) -> _Fitted | None:
    """Both laws fitted to a curve; None if it is too short, or a law cannot be fitted."""
    if len(curve.tokens) < _FEWEST:
        return None
    frame = pd.DataFrame({"D": curve.tokens, "L": np.exp(curve.mean)})
    try:
        both = [solve(law, frame) for law in (RECTIFIED, VANILLA)]
    except InputError:
        return None
    errors = [curve.mean - np.log(predictions(each.problem, each.identified.theta)) for each in both]
    residual, vanilla = (float(np.sqrt(np.mean(each**2))) for each in errors)
    criteria = [aicc(each.log_likelihood, each.degrees, len(frame)) for each in both]
    point = raw_point(both[0].problem, both[0].identified.theta)
    return _Fitted(curve, residual, vanilla, criteria[0] - criteria[1], point["D_l"], point["beta"])


def _ranks(curves: list[_Curve]) -> dict[int, tuple[float, float]]:
    """For each draw the rank correlation of the true order of models with two foretold ones: by the line, by the loss.

    The true order is that of the losses of the longest runs, their means over draws.
    """
    longest = max((curve.tokens[-1] for curve in curves), default=0.0)
    known = [curve for curve in curves if curve.tokens[-1] == longest]
    found = {}
    for draw in sorted(set.intersection(*(set(curve.logs) for curve in known)) if known else ()):
        told = []
        for curve in known:
            small = curve.tokens <= SMALL * longest
            x, y = np.log(curve.tokens[small]), curve.logs[draw][small]
            if len(x) >= POINTS:
                told.append((curve.mean[-1], np.polyval(np.polyfit(x, y, 1), math.log(longest)), y[-1]))
        if len(told) > 2:
            truth, line, plain = (rankdata(part) for part in zip(*told, strict=True))
            found[draw] = (float(np.corrcoef(truth, line)[0, 1]), float(np.corrcoef(truth, plain)[0, 1]))
    return found


def _claims(
    tuned: list[_Fitted], scratch: list[_Fitted], ranks: Mapping[int, tuple[float, float]]
) -> tuple[JudgedClaim, ...]:
    misses = within(
        "log of the law's residuals over the power law's",
        None,
        math.log(HALF),
        *mean_interval([math.log(each.residual / each.vanilla) for each in tuned]),
    )
    simpler = within(
        "AICc of the law less that of the power law", 0.0, None, *mean_interval([each.simpler for each in scratch])
    )
    ranked = within(
        "rank correlation of what is foretold and the final loss", _RANKED, 1.0,
        *mean_interval([line for line, _ in ranks.values()]).clip(-1.0, 1.0),
    )  # fmt: skip
    bends = within(
        "slope of log loss over the first doublings less that over the next ones",
        0.0,
        None,
        *mean_interval([each.curve.bend for each in tuned]),
    )
    models = "The interval is over models."
    return (
        JudgedClaim("FT-1", "on fine-tuned models the rectified law has at most half the residuals of a power law",
                    misses.ruling, f"{len(tuned)} fine-tuned models", (misses,), models),
        JudgedClaim("FT-2", "on models from scratch the power law, without what was learned before, is the better one",
                    simpler.ruling, f"{len(scratch)} models from scratch", (simpler,), models),
        JudgedClaim("FT-3", "lengths up to a 64th foretell the order of pretrained models at the full length",
                    ranked.ruling, "fine-tuned models", (ranked,), "The interval is over draws."),
        JudgedClaim("FT-4", "in fine-tuning the loss first falls slowly, then faster",
                    bends.ruling, f"fine-tuned models, the first {DOUBLINGS} doublings and the next", (bends,), models),
    )  # fmt: skip


def _fit_rows(fitted: list[_Fitted]) -> list[dict[str, Any]]:
    return [
        {"N": each.curve.n, "tokens of code before": each.curve.learned, "draws": len(each.curve.logs),
         "residual of the law": each.residual, "residual of the power law": each.vanilla,
         "AICc of the law less the power law's": each.simpler, "D_l": each.before, "beta": each.power,
         "first slope less the next": each.curve.bend}
        for each in fitted
    ]  # fmt: skip


def _name(n: float, learned: float) -> str:
    return f"N = {n:,.0f}, {f'{learned:,.0f} tokens before' if learned else 'from scratch'}"


def _style(learned: float, longest: float) -> str:
    """How a curve is drawn: dashed from scratch, dotted after few tokens of what was learned before, else solid."""
    return "--" if not learned else "-" if learned == longest else ":"


def _curves_figure(curves: list[_Curve]) -> "Figure":
    longest = max((each.learned for each in curves), default=0)
    series = {
        _name(each.n, each.learned): Series(
            each.tokens, np.exp(each.mean), line=_style(each.learned, longest), of=f"{each.n:,.0f}"
        )
        for each in curves
    }
    return series_figure(
        series, "tokens of documentation read", "loss on documentation, nats per token", log_x=True, log_y=True,
        kinds=True, title="Fine-tuning: dashed from scratch, solid after the most tokens of code",
    )  # fmt: skip


def _residuals_figure(fitted: list[_Fitted]) -> "Figure":
    series = {
        f"N = {n:,.0f}": Series(
            [_place(each.curve.learned) for each in fitted if each.curve.n == n],
            [each.residual / each.vanilla for each in fitted if each.curve.n == n],
        )
        for n in sorted({each.curve.n for each in fitted})
    }
    ticks = {_place(each.curve.learned): f"{each.curve.learned:,.0f}" for each in fitted}
    label = "tokens of code that were read before"
    return series_figure(
        series, label, "residual of the rectified law\nover the power law's", log_x=True, band=(0.0, HALF), ticks=ticks,
        title="What the rectified law misses",
    )  # fmt: skip


def _place(learned: float) -> float:
    """Where a model stands on a logarithmic axis; those that had read nothing at the left."""
    return max(learned, 8192.0)


# The errors of log loss in small runs on other text: of a run about the curve of its draw, and of a draw, whose
# held-out windows are others.
_RUN_ERROR, _DRAW_ERROR = 0.006, 0.01


def _world(id_: str, truth: str, loss: Any, *words: tuple[Any, ...]) -> LossWorld:
    """A world in which `loss`(N, tokens read before, tokens) is the loss of a model."""

    def of_runs(runs: pd.DataFrame, tokens: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        lengths = dict(zip(runs["run_id"], runs["D"].astype(float), strict=True))
        learned = np.array([lengths.get(start, 0.0) for start in runs["start_from"]])
        return loss(runs["N_nonembedding"].to_numpy(float), learned, tokens)

    def measured(runs: pd.DataFrame, errors: Float[np.ndarray, "rows"]) -> Mapping[str, Any]:
        scale = float(np.sqrt(np.mean(errors**2)))
        draws = _DRAW_ERROR * scale * np.cos(2.4 * runs["draw"].to_numpy(float))
        final = of_runs(runs, runs["D"].to_numpy(float))
        return {"heldout_loss": final * np.exp(_RUN_ERROR * errors + draws)}

    return LossWorld(id_, truth, of_runs, numbered("FT", words), measured)


def _level(n: Any, learned: Any) -> Any:
    """The loss at the end of fine-tuning, which is lower for models that had read much code."""
    return 1.0 + 16.3 * n**-0.35 - 0.12 * (learned > 1e5)


def _published(n: Any, learned: Any, tokens: Any) -> Any:
    before = np.where(learned > 0, 500 * (np.maximum(learned, 1) / 65536) ** 0.25, 0.0)
    return _level(n, learned) + 600 / (before + tokens**0.6)


def _powers(n: Any, learned: Any, tokens: Any) -> Any:
    return _level(n, learned) + np.where(learned > 0, 15.0, 36.0) * tokens**-0.35


def _delayed(n: Any, learned: Any, tokens: Any) -> Any:
    place = np.log(n / 3e3) + 0.5 * (learned > 1e5)
    slow = np.where(learned > 0, 3000, 1000)
    return 1.5 + 0.4 * place + np.where(learned > 0, 2.2 - 0.6 * place, 3.0) * slow / (slow + tokens**0.6)


_WORLDS = (
    _world(
        "published", "what was learned before counts as data, by the rectified law", _published,
        (YES,), (YES,), (YES,), (YES,),
    ),
    _world(
        "powers", "all curves are power laws, those of models that had read code with a smaller constant", _powers,
        (NO,), (YES,), (YES,), (NO,),
    ),
    _world(
        "delayed", "also models from scratch begin slowly, and models that are better at first are worse in the end",
        _delayed, (YES,), (NO,), (NO,), (YES,),
    ),
)  # fmt: skip

FINE_TUNING = Paper(_judge, _WORLDS)
