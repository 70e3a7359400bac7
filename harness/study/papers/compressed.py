"""The study of compressed weights: whether a format's Gaussian error says as how large a model a compressed one acts.

The claims are those of Panferov et al. 2025 (arXiv 2506.01863): a model of N parameters in a format R has the loss of a
dense one of N rho_R, L = E + A (N rho_R)^-alpha at one number of tokens, and rho_R follows from the mean square error
with which R represents Gaussian numbers, on one curve for formats of few bits and for sparse ones. The rules are those
of `sweeps/studies/compressed/design.md`.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.special import stdtrit
from scipy.stats import spearmanr

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, Measured, Ruling, together
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval, paired, symmetric
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import REFERENCE, Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What a format's rank correlation is at least to be, over so many formats; how near rho is to be predicted, and how far
# apart the families may be; by which share log rho may change with each doubling of N.
_MONOTONE, _FEWEST, _NEAR, _STEADY = 0.95, 6, 0.07, 0.1
_SPARSE = ("2of4", "sparse50", "sparse75", "sparse90")
# The constants of the curve rho = tanh(c r^s) that are tried, r the format's bits for Gaussian numbers.
_C, _S = (axis.ravel() for axis in np.meshgrid(np.geomspace(0.05, 3, 100), np.linspace(0.1, 3, 59)))
_RESAMPLINGS = 2000


class _Efficiencies(NamedTuple):
    """What the law's fit says of the formats, which are in the order of their bits.

    Attributes:
        formats, bits: their names, and log_{1/4} of their Gaussian error.
        log_rho, covariance: log rho of each, and how it errs.
        degrees: degrees of freedom of the scatter from which that is known.
        alpha, steady: the exponent of N, and the change of log rho with a doubling of N as a share of it.
    """

    formats: tuple[str, ...]
    bits: Float[np.ndarray, "formats"]
    log_rho: Float[np.ndarray, "formats"]
    covariance: Float[np.ndarray, "formats formats"]
    degrees: int
    alpha: Interval95
    steady: Interval95

    def interval(self, place: int) -> Interval95:
        """rho of a format with its 95 % interval."""
        half = float(stdtrit(self.degrees, 0.975)) * float(self.covariance[place, place]) ** 0.5
        return Interval95(*(float(np.exp(self.log_rho[place] + side * half)) for side in (0, -1, 1)))

    def draws(self) -> Float[np.ndarray, "draws formats"]:
        """rho as other runs might have shown it: the estimates, and Student's errors about them."""
        rng, shape = np.random.default_rng(0), (_RESAMPLINGS, len(self.bits))
        # The symmetric root is unique. Signs of eigenvectors, on which numpy's own draws depend, are not: with these an
        # interval began at -0.165 on one processor and at -0.216 on another.
        values, vectors = np.linalg.eigh(self.covariance)
        errors = rng.standard_normal(shape) @ (vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T)
        spread = np.sqrt(self.degrees / rng.chisquare(self.degrees, shape[0]))
        return np.exp(self.log_rho + errors * spread[:, None])


def _cells(ended: pd.DataFrame) -> pd.DataFrame:
    """Cells of runs that differ in their draw only; L is the geometric mean."""
    keys = ["width", "N_nonembedding", "D", "quantize_weights", "weight_error"]
    cells = ended.assign(mean=np.log(ended["L"])).groupby(keys)["mean"].agg(["mean", "size"]).reset_index()
    return cells.assign(L=np.exp(cells["mean"]), N=cells["N_nonembedding"].astype(float)).rename(
        columns={"size": "runs"}
    )


def _bits(errors: np.ndarray) -> np.ndarray:
    """The bits log_{1/4} error with which a Gaussian source can at best be coded with a mean square error."""
    return -np.log(errors) / np.log(4)


def _efficiencies(cells: pd.DataFrame) -> _Efficiencies | None:
    """Fit L = E + A (N rho_R)^-alpha to log L by least squares; None where the cells do not tell it."""
    known = cells.loc[cells["weight_error"] > 0].drop_duplicates("quantize_weights")
    known = known.sort_values("weight_error", ascending=False)
    formats = tuple(known["quantize_weights"])
    kinds = np.array([formats.index(name) if name in formats else -1 for name in cells["quantize_weights"]])
    log_n, log_loss = np.log(cells["N"].to_numpy(float)), np.log(cells["L"].to_numpy(float))
    degrees = len(cells) - len(formats) - 3
    if degrees < 2 or not formats or len(np.unique(log_n[kinds < 0])) < 4:
        return None
    size, least = log_n - log_n.mean(), float(log_loss.min())

    def residuals(point: np.ndarray) -> np.ndarray:
        """E and A are given by their logs; `change` is that of log rho with a doubling, as a share of it."""
        floor, scale, alpha, change = point[:4]
        log_rho = np.append(point[4:], 0.0)[kinds] * (1 + change * size / np.log(2))
        return np.log(np.exp(floor) + np.exp(scale - alpha * (size + log_rho))) - log_loss

    start = np.concatenate([[least - 0.5, least - 1.0, 0.3, 0.0], np.full(len(formats), -0.3)])
    whole = least_squares(residuals, start, x_scale="jac")
    law = least_squares(lambda point: residuals(np.insert(point, 3, 0.0)), np.delete(whole.x, 3), x_scale="jac")
    ends, spread = _covariance(law, degrees), _covariance(whole, degrees - 1)
    bits = _bits(known["weight_error"].to_numpy(float))
    return _Efficiencies(
        formats, bits, law.x[3:], ends[3:, 3:], degrees, _student(law.x[2], ends[2, 2], degrees),
        _student(whole.x[3], spread[3, 3], degrees - 1),
    )  # fmt: skip


def _covariance(fit: Any, degrees: int) -> np.ndarray:
    """The covariance of a fit's constants, from the scatter of its residuals."""
    return np.linalg.pinv(fit.jac.T @ fit.jac) * float(fit.fun @ fit.fun) / degrees


def _student(value: float, variance: float, degrees: int) -> Interval95:
    half = float(stdtrit(degrees, 0.975)) * float(variance) ** 0.5
    return symmetric(value, half)


def _curves(bits: np.ndarray) -> np.ndarray:
    """[constants, formats] rho of each curve that is tried."""
    return np.tanh(_C[:, None] * bits ** _S[:, None])


def _predicted(rho: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """[draws, formats] rho of each format by the curve with the least squares from the other formats."""
    curves = _curves(bits)
    predicted = np.empty_like(rho)
    for place in range(len(bits)):
        others = np.arange(len(bits)) != place
        squares = np.sum(curves[:, others] ** 2, axis=1) - 2 * rho[:, others] @ curves[:, others].T
        predicted[:, place] = curves[squares.argmin(axis=1), place]
    return predicted


def _family_gap(rho: np.ndarray, bits: np.ndarray, sparse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[draws] by how much rho of sparse formats lies above the curve of those of few bits, and the squares left."""
    curves = _curves(bits)
    gaps = rho[:, None, sparse].mean(axis=-1) - curves[:, sparse].mean(axis=-1)
    squares = np.sum(curves**2, axis=1) - 2 * rho @ curves.T + np.sum(rho**2, axis=1, keepdims=True)
    squares = squares - sparse.sum() * gaps**2
    best = squares.argmin(axis=1)
    rows = np.arange(len(rho))
    return gaps[rows, best], squares[rows, best]


def _spread(point: float, draws: np.ndarray) -> Interval95:
    """A number with the middle 95 % of what other runs might have shown of it."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval95(float(point), float(low), float(high))


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    cells = _cells(ended)
    found = _efficiencies(cells)
    claims = _claims(found, len(cells))
    dense = ended["weight_error"] == 0
    against = paired(ended.loc[~dense], ended.loc[dense], ["width", "draw", "seed", "D"])
    tables, drawings = {}, {}
    if found is not None:
        rho = np.exp(found.log_rho)
        predicted = _predicted(rho[None], found.bits)[0]
        efficiencies = [found.interval(place) for place in range(len(rho))]
        tables["efficiency rho of each format"] = [
            {"format": name, "bits for Gaussian numbers": float(found.bits[place]), "rho": each.estimate,
             "low": each.low, "high": each.high, "rho by the others' curve": float(predicted[place])}
            for place, (name, each) in enumerate(zip(found.formats, efficiencies, strict=True))
        ]  # fmt: skip
        tables["exponent of N"] = [dict(zip(("alpha", "low", "high"), found.alpha, strict=True))]
        drawings["efficiency"] = StudyFigure(
            "The efficiency of each format, the share of its parameters that a dense model of the same loss has, by"
            " the bits for Gaussian numbers that its error stands for; the line is the curve with the least squares.",
            functools.partial(_figure, found),
        )
    tables["log loss of a format less that of the dense model of the same size"] = [
        {"format": str(own["quantize_weights"].iloc[0]), "width": float(own["width"].iloc[0]), "runs": len(own)}
        | dict(zip(("mean", "low", "high"), mean_interval(own["effect"]), strict=True))
        for _, own in against.groupby(["quantize_weights", "width"])
    ]
    tables["loss by cell, nats per token"] = [
        {"format": cell["quantize_weights"], **{name: float(cell[name]) for name in ("width", "N", "L", "runs")}}
        for cell in cells.to_dict("records")
    ]
    ranked = claims[0].evidence[0].estimate
    known = "is not known" if ranked is None else f"is {ranked:.2f}"
    headline = (
        "The rank correlation of what formats keep of Gaussian numbers and what their weights are worth"
        f" {known}: {count_of_words(claims)}."
    )
    notes = (
        f"{len(ended)} finished runs in {len(cells)} cells. N is without the embedding, which is never compressed.",
        "Formats that are both sparse and of few bits were not trained: that they multiply is not judged.",
    )
    return LossVerdict(headline, claims, {title: rows for title, rows in tables.items() if rows}, notes, drawings)


def _claims(found: _Efficiencies | None, cells: int) -> tuple[JudgedClaim, ...]:
    rank = gap = steady = NOT_KNOWN
    misses: list[DecidingNumber] = []
    if found is not None:
        rho, drawn, bits = np.exp(found.log_rho)[None], found.draws(), found.bits
        steady = found.steady
        if len(bits) >= _FEWEST:
            order = np.array([spearmanr(bits, each)[0] for each in np.concatenate([rho, drawn])])
            # Within 0.95 to 1 up to rounding.
            rank = _spread(order[0], np.minimum(order[1:], 1 - 1e-9))
            errors = _predicted(drawn, bits) - drawn
            misses = [
                Measured(
                    f"predicted less measured efficiency rho of {name}", 0.0, _NEAR, *_spread(point, errors[:, place])
                )
                for place, (name, point) in enumerate(zip(found.formats, (_predicted(rho, bits) - rho)[0], strict=True))
            ]
        sparse = np.array([name in _SPARSE for name in found.formats])
        if sparse.sum() >= 2 and (~sparse).sum() >= 4:
            gap = _gap_interval(rho, drawn, bits, sparse, found)
    monotone = within(
        "rank correlation of the efficiency rho and the bits that a Gaussian number keeps", _MONOTONE, 1.0, *rank
    )
    families = Measured("the efficiency rho of sparse formats less the curve of formats of few bits", 0.0, _NEAR, *gap)
    change = Measured("change of log rho with a doubling of N, as a share of it", 0.0, _STEADY, *steady)
    said = f"{cells} cells"
    return (
        JudgedClaim("CP-1", "the better a format represents Gaussian numbers, the more its weights are worth",
                    monotone.ruling, said, (monotone,), ""),
        JudgedClaim("CP-2", "the curve of the other formats predicts what a format is worth",
                    together([each.ruling for each in misses]), said, tuple(misses), "Every format must agree."),
        JudgedClaim("CP-3", "sparse formats and those of few bits lie on one curve", families.ruling, said,
                    (families,), ""),
        JudgedClaim("CP-4", "what a format is worth does not depend on the size of the model", change.ruling, said,
                    (change,), ""),
    )  # fmt: skip


def _gap_interval(
    rho: np.ndarray, drawn: np.ndarray, bits: np.ndarray, sparse: np.ndarray, found: _Efficiencies
) -> Interval95:
    """The gap of the families; formats scatter about their curve by more than their errors, and that counts, too."""
    (point,), (squares,) = _family_gap(rho, bits, sparse)
    errors = np.diag(found.covariance) * rho[0] ** 2
    more = max(float(squares) / max(len(bits) - 3, 1) - float(errors.mean()), 0.0) ** 0.5
    scattered = drawn + more * np.random.default_rng(1).standard_normal(drawn.shape)
    return _spread(point, _family_gap(scattered, bits, sparse)[0])


def _figure(found: _Efficiencies) -> "Figure":
    rho = np.exp(found.log_rho)
    squares = np.sum((_curves(found.bits) - rho) ** 2, axis=1)
    at = np.geomspace(0.3, 8, 60)
    best = int(squares.argmin())
    series = {"curve of all formats": Series(at, np.tanh(_C[best] * at ** _S[best]), mark="", of=REFERENCE)}
    ends = [found.interval(place) for place in range(len(rho))]
    for label, wanted in (("formats of few bits", False), ("sparse formats", True)):
        own = [place for place, name in enumerate(found.formats) if (name in _SPARSE) is wanted]
        y, low, high = np.array([ends[place] for place in own], float).reshape(-1, 3).T
        series[label] = Series(found.bits[own], y, low, high, line="")
    ticks = {0.5: "0.5", 1.0: "1", 2.0: "2", 4.0: "4", 8.0: "8"}
    label = "bits that a Gaussian number keeps, log(error) to base 1/4"
    return series_figure(
        series, label, "rho, worth of a parameter in full ones", log_x=True, ticks=ticks, kinds=True,
        title="What compressed parameters are worth, by format",
    )  # fmt: skip


def _world(
    id_: str, truth: str, efficiency: Callable[[pd.DataFrame], np.ndarray], growth: float, *words: tuple[Ruling, ...]
) -> LossWorld:
    """A world in which formats have given efficiencies at 7,000 parameters, whose logs grow with doublings of N."""

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n = runs["N_nonembedding"].to_numpy(float)
        rho = np.where(runs["weight_error"] > 0, efficiency(runs), 1.0)
        worth = n * rho ** (1 + growth * np.log2(n / 7e3))
        return 1.0 + 16.3 * worth**-0.35 + 82 * tokens**-0.35

    return LossWorld(id_, truth, loss, numbered("CP", words))


def _on_curve(runs: pd.DataFrame) -> np.ndarray:
    return np.tanh(0.45 * _bits(np.maximum(runs["weight_error"].to_numpy(float), 1e-9)))


def _sparse_is_worse(runs: pd.DataFrame) -> np.ndarray:
    return _on_curve(runs) - 0.15 * runs["quantize_weights"].isin(_SPARSE).to_numpy(float)


def _share_kept(runs: pd.DataFrame) -> np.ndarray:
    kept = {"2of4": 0.5, "sparse50": 0.5, "sparse75": 0.25, "sparse90": 0.1}
    return np.array([kept.get(name, 0.95) for name in runs["quantize_weights"]])


_WORLDS = (
    _world("capacity", "rho follows from the Gaussian error", _on_curve, 0.0,
           (YES, OPEN), (YES, OPEN), (YES,), (YES,)),
    _world("families", "sparse weights are worth 0.15 less than as good ones of few bits", _sparse_is_worse, 0.0,
           (YES, OPEN), (NO, OPEN), (NO,), (YES,)),
    _world("zeros", "sparse weights are worth their share that is not zero, others nearly all", _share_kept, 0.0,
           (NO,), (NO,), (NO,), (YES,)),
    _world("sizes", "rho follows from the Gaussian error, and compression costs ever less as models grow", _on_curve,
           -0.3, (YES, OPEN), (YES, OPEN), (YES, OPEN), (NO,)),
)  # fmt: skip

COMPRESSED = Paper(_judge, _WORLDS)
