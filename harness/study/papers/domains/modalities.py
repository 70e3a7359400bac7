"""The study of modalities: one law of size and data, with constants of its own for each, and the entropy where known.

Henighan et al. 2020 (arXiv 2010.14701) found losses of images, video, mathematics and text to be powers of the size or
the compute plus a constant, and the best size to grow as nearly the same power of the compute in all. Here the law is
L = E + A/N^alpha + B/D^beta, fitted to one grid in five domains. The rules are those of
`sweeps/studies/modalities/design.md`.
"""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import chdtri

from harness.data.world import parse_world
from harness.fit.compare import aicc_of_squares
from harness.fit.gap_law.rulings import JudgedClaim, Ruling, together
from harness.study.contrasts import NOT_KNOWN, Interval95
from harness.study.loss_runs import cell_losses, ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import LossWorld, further_errors, lettered
from harness.study.methods.many_fits import LogModel, fit_many, starts_of_sums, sums_of_powers
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The blocks, and the grammar, whose entropy is known, with the context of its windows.
_DOMAINS = ("grammar", "arithmetic", "images", "chaos", "text")
_GRAMMAR, _CONTEXT = "grammar:symbols=12,nesting=0", 64
# A constant is needed if AICc falls by more than this with it, and not if it is surely below the second, a share of the
# least loss. How near E is to be to a known entropy, as a share; how near the exponents of the best size are to their
# mean; and how far losses may be from the law, in logs.
_NEEDED, _SMALL, _NEAR, _SAME, _FITS = 10.0, 0.25, 0.02, 0.1, 0.02
# Means of cells count as if they had at least this error, for no law of so few constants is better.
_LEAST_ERROR = 0.001
# Copies of the losses with new errors, and their seed; the fewest cells of a fit. A constant is identified if it is not
# at the end of the search in any but this share of the copies.
_COPIES, _SEED, _FEWEST, _LOST = 200, 0, 12, 0.05
# Constants beyond these are at an end of the search: a floor below a thousandth of the least loss, and powers.
_NO_FLOOR, _LEAST_POWER, _MOST_POWER = 1e-3, 0.02, 5.0
# A floor of nothing, in logs.
_ZERO = -12.0


class _Fit(NamedTuple):
    """The law in one domain.

    Attributes:
        n, d, loss: the cells.
        copies: rows of E, A, alpha, B, beta of the losses and of every copy; A and B at the geometric means of N and D.
        constants: E, alpha, beta and a = beta / (alpha + beta), with intervals; unknown where not identified.
        pure: AICc of the law without E, less that of the law.
        misfit: the standard deviation of log loss about the law beyond that of the means of cells.
        scatter, noise: both together, and the second alone; cells count as much as they do in the fit.
    """

    n: Float[np.ndarray, "cells"]
    d: Float[np.ndarray, "cells"]
    loss: Float[np.ndarray, "cells"]
    copies: Float[np.ndarray, "copies 5"]
    constants: Mapping[str, Interval95]
    pure: float
    misfit: Interval95
    scatter: float
    noise: float


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended."""
    ended = ended_runs(runs)
    cells = cell_losses(ended)
    found = {name: _fit(own) for name in _DOMAINS if len(own := cells.loc[cells["block"] == name]) >= _FEWEST}
    claims = _claims(found)
    tables = {"constants of the law": _rows(found)}
    drawings = {}
    if found:
        drawings["sizes"] = StudyFigure(
            "The loss of the longest runs over its mean in the domain, by size, and the fitted law (lines).",
            functools.partial(_sizes_figure, found),
        )
    e = found["grammar"].constants["E"] if "grammar" in found else NOT_KNOWN
    off = None if e.estimate is None else e.estimate / _entropy() - 1
    told = "is not known" if off is None else f"is {abs(off):.1%} {'above' if off > 0 else 'below'} its entropy"
    notes = (f"{len(ended)} finished runs; N is without the embedding, and a cell is the mean of its draws.",)
    return LossVerdict(
        f"The fitted floor E of the grammar {told}: {count_of_words(claims)}.", claims, tables, notes, drawings
    )


@functools.cache
def _entropy() -> float:
    """Of the grammar, nats per target of a window."""
    world, options = parse_world(_GRAMMAR)
    return world.window_entropy(options, _CONTEXT) or np.nan


def _fit(cells: pd.DataFrame) -> _Fit:
    n, d, losses = (cells[name].to_numpy(float) for name in ("N_nonembedding", "D", "L"))
    logs, noise = np.log(losses), _noise(cells)
    variance = noise**2 + _LEAST_ERROR**2
    weights = 1 / variance / np.mean(1 / variance)
    model, starts = sums_of_powers({"n": n, "d": d}), starts_of_sums(logs, 2, ((0.1, 0.2), (0.6, 0.5), (0.95, 1.0)))
    best = fit_many(model, starts, logs[None], weights[None])
    squares = float(np.sum(weights * (logs - model(best)[0]) ** 2))
    pure_model = _without_floor(model)
    pure_best = fit_many(pure_model, [start[1:] for start in starts], logs[None], weights[None])
    pure_squares = float(np.sum(weights * (logs - pure_model(pure_best)[0]) ** 2))
    count, degrees = len(logs), len(logs) - 5
    of_runs = float(np.mean(weights * noise**2))
    scatter = np.array([squares / each for each in (degrees, *chdtri(degrees, [0.025, 0.975]))])
    error = np.sqrt(np.fmax(scatter[0], of_runs) / weights)
    copies = model(best) + error * np.random.default_rng(_SEED).standard_normal((_COPIES, count))
    constants = np.vstack(
        [best, fit_many(model, [starts[1], best[0].tolist()], copies, np.tile(weights, (_COPIES, 1)))]
    )
    pure = aicc_of_squares(pure_squares, 5, count) - aicc_of_squares(squares, 6, count)
    theta = np.exp(constants)
    misfit = Interval95(*np.sqrt(np.fmax(scatter - of_runs, 0.0)).tolist())
    found = _intervals(theta, losses.min())
    return _Fit(n, d, losses, theta, found, pure, misfit, float(np.sqrt(scatter[0])), float(np.sqrt(of_runs)))


def _noise(cells: pd.DataFrame) -> Float[np.ndarray, "cells"]:
    """The standard error of each cell's mean log loss, from runs of one length together; 0 where no cell has two."""
    runs, lengths = cells["runs"].to_numpy(float), np.unique(cells["D"], return_inverse=True)[1]
    squares = np.bincount(lengths, (runs - 1) * cells["log_variance"].fillna(0.0).to_numpy(float))
    degrees = np.fmax(np.bincount(lengths, runs - 1), 1.0)
    return np.sqrt((squares / degrees)[lengths] / runs)


def _without_floor(model: LogModel) -> LogModel:
    return lambda theta: model(np.column_stack([np.full(len(theta), _ZERO), theta]))


def _intervals(theta: Float[np.ndarray, "copies 5"], least: float) -> dict[str, Interval95]:
    """E, alpha, beta and a with percentiles of the copies; unknown where too many are at an end of the search."""
    floor, alpha, beta = theta[:, 0], theta[:, 2], theta[:, 4]
    lost = {
        "E": floor < _NO_FLOOR * least,
        "alpha": (alpha < _LEAST_POWER) | (alpha > _MOST_POWER),
        "beta": (beta < _LEAST_POWER) | (beta > _MOST_POWER),
    }
    lost["a"] = lost["alpha"] | lost["beta"]
    values = {"E": floor, "alpha": alpha, "beta": beta, "a": beta / (alpha + beta)}
    return {
        name: NOT_KNOWN if lost[name].mean() > _LOST or lost[name][0] else _percentiles(value)
        for name, value in values.items()
    }


def _percentiles(values: Float[np.ndarray, "copies"], beyond: float = 0.025) -> Interval95:
    """The first value, with the interval that has this share of the others beyond each end."""
    low, high = np.quantile(values[1:], [beyond, 1 - beyond])
    return Interval95(float(values[0]), float(low), float(high))


def _claims(found: Mapping[str, _Fit]) -> tuple[JudgedClaim, ...]:
    rows = f"{sum(len(each.n) for each in found.values())} cells in {len(found)} domains"
    claims = []
    for place, name in enumerate(("images", "arithmetic"), 1):
        word, reason = Ruling.NOT_RESOLVED, ""
        if name in found:
            own = found[name]
            most = float(np.quantile(own.copies[1:, 0], 0.975) / own.loss.min())
            reason = (
                f"AICc of the law without a constant is {own.pure:+.1f} against that with it; the constant is at most "
                f"{most:.2f} of the least loss."
            )
            if own.pure > _NEEDED or most < _SMALL:
                word = Ruling.SUPPORTED if own.pure > _NEEDED else Ruling.NOT_SUPPORTED
        claims.append(
            JudgedClaim(f"MO-{place}", f"in {name} powers need a constant beside them", word, rows, (), reason)
        )
    spread = _spread(found)
    evidence = tuple(
        within(
            f"the exponent of the best size in {name}, less the mean of all",
            -_SAME,
            _SAME,
            *spread.get(name, NOT_KNOWN),
        )
        for name in _DOMAINS
    )
    claims.append(
        JudgedClaim("MO-3", "the best size grows as one power of the compute in all domains",
                    together([each.ruling for each in evidence]), rows, evidence, "")
    )  # fmt: skip
    e = found["grammar"].constants["E"] if "grammar" in found else NOT_KNOWN
    shares = (None if value is None else value / _entropy() - 1 for value in e)
    number = within("the floor E over the entropy of the grammar, less one", -_NEAR, _NEAR, *shares)
    claims.append(JudgedClaim("MO-4", "the floor E is the entropy in the grammar", number.ruling, rows, (number,), ""))
    evidence = tuple(
        within(f"the misfit of the law in {name}, log loss", None, _FITS, *(
            found[name].misfit if name in found else NOT_KNOWN))
        for name in _DOMAINS
    )  # fmt: skip
    claims.append(
        JudgedClaim("MO-5", "one law describes the losses of every domain",
                    together([each.ruling for each in evidence]), rows, evidence, "")
    )  # fmt: skip
    return tuple(claims)


def _spread(found: Mapping[str, _Fit]) -> dict[str, Interval95]:
    """By domain the exponent a less the mean of all whose a is known, copy by copy; nothing unless two are known.

    A domain counts in the mean by the inverse variance of its a. Five intervals hold together in 95 % if each does so
    in 99 %.
    """
    known = {
        name: each.copies[:, 4] / (each.copies[:, 2] + each.copies[:, 4])
        for name, each in found.items()
        if each.constants["a"].estimate is not None
    }
    if len(known) < 2:
        return {}
    mean = np.average(list(known.values()), axis=0, weights=[1 / np.var(values) for values in known.values()])
    beyond = 0.025 / len(_DOMAINS)
    return {name: _percentiles(values - mean, beyond) for name, values in known.items()}


def _rows(found: Mapping[str, _Fit]) -> list[dict[str, Any]]:
    return [
        {"domain": name, "entropy": _entropy() if name == "grammar" else None, "least loss": float(each.loss.min())}
        | {
            key: value
            for constant, interval in each.constants.items()
            for key, value in zip((constant, f"low {constant}", f"high {constant}"), interval, strict=True)
        }
        | {"AICc without E, less that with it": each.pure, "misfit of log loss": each.misfit.estimate}
        | {"scatter of log loss": each.scatter, "noise of a cell": each.noise}
        for name, each in found.items()
    ]


def _sizes_figure(found: Mapping[str, _Fit]) -> "Figure":
    series = {}
    for name, each in found.items():
        longest = each.d == each.d.max()
        order = np.argsort(each.n[longest])
        n, loss = each.n[longest][order], each.loss[longest][order]
        e, a, alpha, b, beta = each.copies[0]
        law = e + a * (n / np.exp(np.log(each.n).mean())) ** -alpha
        law = law + b * (each.d.max() / np.exp(np.log(each.d).mean())) ** -beta
        level = np.exp(np.log(each.loss).mean())
        series[name] = Series(n, loss / level, line="", of=name)
        series[f"{name}, law"] = Series(n, law / level, mark="", of=name)
    return series_figure(
        series, "parameters without the embedding", "loss over the domain's mean", log_x=True, kinds=True,
        title="Losses of the longest runs, and the law of each domain",
    )  # fmt: skip


# Of each domain E, A, alpha, B and beta where the law holds, with A at 1e4 parameters and B at 8e5 tokens, near the
# losses of the pilot; the error of the log loss of a run of 8e5 tokens, and its power of their number, from the pilot;
# and the error of all losses of a draw.
_Law = tuple[float, float, float, float, float]
_TRUE: dict[str, _Law] = {
    "grammar": (1.84726, 0.012, 0.7, 0.012, 1.0),
    "arithmetic": (0.55, 0.15, 0.7, 0.2, 0.7),
    "images": (0.85, 0.05, 0.5, 0.05, 0.5),
    "chaos": (0.95, 0.08, 0.5, 0.13, 0.5),
    "text": (1.0, 0.65, 0.25, 0.75, 0.25),
}
_ERRORS = {"grammar": 0.004, "arithmetic": 0.04, "images": 0.012, "chaos": 0.012, "text": 0.012}
_DRAW_ERROR, _ERROR_POWER = 0.001, -0.9


def _world(id_: str, truth: str, laws: Mapping[str, _Law], words: str, steps: bool = False) -> LossWorld:
    """A world with these laws, and those of `_TRUE` in other domains.

    Args:
        words: the right ones, as in `lettered`.
        steps: whether arithmetic is learned all at once, at a product of size and tokens.
    """

    def loss(runs: pd.DataFrame, tokens: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        n = runs["N_nonembedding"].to_numpy(float)
        e, a, alpha, b, beta = np.array([{**_TRUE, **laws}[name] for name in runs["block"]]).T
        law = e + a * (n / 1e4) ** -alpha + b * (tokens / 8e5) ** -beta
        learned = 0.6 + 0.8 / (1 + (n * tokens / 3e9) ** 2)
        return np.where(steps & (runs["block"] == "arithmetic"), learned, law)

    def measured(runs: pd.DataFrame, errors: Float[np.ndarray, "rows"]) -> dict[str, Float[np.ndarray, "rows"]]:
        tokens = runs["D"].to_numpy(float)
        own = np.array([_ERRORS[name] for name in runs["block"]]) * errors * (tokens / 8e5) ** _ERROR_POWER
        groups = runs.groupby(["block", "draw"], sort=False).ngroup().to_numpy()
        own += _DRAW_ERROR * further_errors(errors, (groups.max() + 1,))[groups]
        return {"heldout_loss": loss(runs, tokens) * np.exp(own)}

    return LossWorld(id_, truth, loss, lettered("MO", words), measured)


_WORLDS = (
    _world("one_law", "the law holds above the entropy, and alpha is nearly beta in every domain", {}, "yyyYy"),
    _world("differ", "images are powers alone, arithmetic is learned in a step, models of the grammar remain 6 % above "
           "its entropy, and sizes matter more in chaos, data more in text",
           {"images": (0.0, 0.45, 0.1, 0.5, 0.1), "grammar": (1.958, 0.012, 0.7, 0.012, 1.0),
            "chaos": (0.95, 0.08, 0.2, 0.13, 0.9), "text": (1.0, 0.65, 0.6, 0.75, 0.15)}, "n?nNN", steps=True),
    _world("nothing", "no loss depends on size or data", dict.fromkeys(_DOMAINS, (2.0, 0.0, 1.0, 0.0, 1.0)),
           "nn?ny"),
)  # fmt: skip

MODALITIES = Paper(_judge, _WORLDS)
