"""Do curves of the gap over D, one for each N, fall on one curve of u = D/N^z when they are scaled by N^alpha?

There are two measures, and neither assumes a plateau or a power law.
- S of Houdayer and Hartmann (Phys. Rev. B 70, 014418, 2004): the mean squared distance of each point from the line
  through its neighbours on the other curves, in units of its error; here in logs of both axes. About 1 is a collapse.
- the law `gap_spline`, whose f is any decreasing curve: alpha and z with errors, and whether they are identified.

A small S alone is not evidence: on a single power law every z makes the curves collapse. So S is compared with the S of
the same curves with their N shuffled, and the range of z with nearly as small an S is given.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.certainty.sign_flip import no_gap
from harness.fit.fitting import curvature_estimates, solve
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import centre
from harness.fit.problem.columns import column_of
from harness.fit.problem.fit_status import FitWarning
from harness.fit.results.no_gap import NoGap
from harness.fit.results.result import Estimate, StrictJson
from harness.fit.results.shown import Showable, number, span, warning_lines
from sweeps.errors import InputError
from sweeps.published_gap import PUBLISHED_GAP

if TYPE_CHECKING:
    import plotly.graph_objects as go

# The largest z that is tried. The least is 0: in the permutation test, a shuffle that happens to reverse the order of N
# would collapse again with a negative z.
LARGEST_Z = 2.0
COARSE = 41  # values of z in the first scan
FINE = 21  # values of z in the second scan, about the best of the first
FEWEST_OVERLAP = 0.5  # the least share of points that have neighbours on other curves
MOST_CURVES = 8  # bins of N that serve as curves where N hardly repeats
FEWEST_POINTS = 4  # per curve
_FEWEST_GAPS = 12
PERMUTATIONS = 199  # shuffles of N, for the p value of S


@dataclass(frozen=True)
class Quality:
    """S at one alpha and z, and the share of points that have neighbours on other curves there."""

    s: float
    alpha: float
    z: float
    overlap: float


@dataclass(frozen=True)
class Collapse(StrictJson, Showable):
    """How well a table's curves collapse, and what that is worth.

    Attributes:
        curves: the N (geometric mean) of each curve; `binned`: N hardly repeats, so that curves are bins of it.
        errors: `measured` (every gap has a standard error) or `fitted scatter`, with which S is near 1 by construction.
        best: the least S, and where it is.
        published: S at the published exponents; None if too few points overlap there.
        z_low, z_high: the range of z in which S is within 1 of the least.
        p_value: the share of shuffles of N over the curves that give an S as small.
        alpha, z: the estimates of the law `gap_spline`, with 95 % intervals.
        tau: the scatter about that law.
        finding: all of this in a sentence.
        points: the gaps that were used, in logs; not part of the JSON.
    """

    rows: int
    curves: tuple[float, ...]
    binned: bool
    errors: str
    best: Quality
    published: Quality | None
    z_low: float
    z_high: float
    p_value: float
    permutations: int
    alpha: Estimate
    z: Estimate
    tau: float
    finding: str
    warnings: tuple[FitWarning, ...]
    points: "LogCurves" = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Every field but the points, as plain dictionaries, lists, numbers and strings."""
        fields = {name: value for name, value in asdict(self).items() if name != "points"}
        return json.loads(json.dumps(fields))

    def shown(self) -> list[str]:
        """The finding and the warnings."""
        return [self.finding, *warning_lines(self.warnings)]

    def figure(self) -> "go.Figure":
        """Draw the curves scaled at the best exponents: G N^alpha against D/N^z, one colour for each N."""
        import plotly.graph_objects as go

        figure, points = go.Figure(), self.points
        x = np.exp(points.log_d - self.best.z * points.log_n)
        y = np.exp(points.log_g + self.best.alpha * points.log_n)
        for size, code in zip(self.curves, np.unique(points.curve), strict=True):
            rows = points.curve == code
            figure.add_scatter(x=x[rows], y=y[rows], mode="markers", name=f"N = {size:.3g}")
        figure.update_xaxes(type="log", title=f"D / N^{self.best.z:.3f}")
        return figure.update_yaxes(type="log", title=f"G N^{self.best.alpha:.3f}")


@dataclass(frozen=True)
class LogCurves:
    """The points of several curves in logs, with the variance of log G."""

    log_n: Float[np.ndarray, "points"]
    log_d: Float[np.ndarray, "points"]
    log_g: Float[np.ndarray, "points"]
    variance: Float[np.ndarray, "points"]
    curve: np.ndarray


def curves_of(n: Float[np.ndarray, "points"]) -> tuple[np.ndarray, bool]:
    """The number of each point's curve: of its N where N repeats, else of its bin of N; and whether it is a bin."""
    values, codes, counts = np.unique(n, return_inverse=True, return_counts=True)
    if 3 * len(values) <= len(n) and len(values) > 1 and np.median(counts) >= FEWEST_POINTS:
        return codes, False
    bins = int(np.clip(len(n) // 12, 2, MOST_CURVES))
    ranks = np.argsort(np.argsort(n, kind="stable"), kind="stable")
    return ranks * bins // len(n), True


def _distances(curves: LogCurves, z: float):
    """Arrays r0, r1, v over the points that have neighbours, and the share of such points.

    (r0 + alpha r1)^2 / v is the squared distance of a point from the line through its neighbours, in units of its
    error. A point's neighbours are the two points of every other curve between which its u lies. The line
    through them is a weighted one, and linear in their heights: so the distance is linear in alpha, and S is quadratic.
    """
    order = np.argsort(curves.log_d - z * curves.log_n, kind="stable")
    x = (curves.log_d - z * curves.log_n)[order]
    own = curves.curve[order] == np.unique(curves.curve)[:, None]
    index = np.arange(len(x))
    before = np.maximum.accumulate(np.where(own, index, -1), axis=1)
    after = np.minimum.accumulate(np.where(own, index, len(x))[:, ::-1], axis=1)[:, ::-1]
    between = (before >= 0) & (after < len(x)) & ~own
    at = np.stack([np.where(between, before, 0), np.where(between, after, 0)])
    weight = between / curves.variance[order][at]
    away = (x[at] - x) * weight
    values = np.stack([curves.log_g[order], curves.log_n[order]])
    total, first, second = weight.sum((0, 1)), away.sum((0, 1)), np.sum(away * (x[at] - x), (0, 1))
    flat, sloped = np.sum(weight * values[:, at], (1, 2)), np.sum(away * values[:, at], (1, 2))
    known = total > 0
    spread = total * second - first**2
    # Neighbours at a single x give no slope: their mean takes the place of the line.
    line = known & (spread > 1e-9 * total * second)
    safe, total = np.where(line, spread, 1.0), np.where(known, total, 1.0)
    r = values - np.where(line, (second * flat - first * sloped) / safe, flat / total)
    v = curves.variance[order] + np.where(line, second / safe, 1.0 / total)
    return r[0, known], r[1, known], v[known], float(known.mean())


def quality(curves: LogCurves, z: float, alpha: float | None = None) -> Quality | None:
    """S at one z, and at the alpha that makes it least unless one is given; None if too few points overlap."""
    r0, r1, v, overlap = _distances(curves, z)
    if overlap < FEWEST_OVERLAP:
        return None
    if alpha is None:
        alpha = float(-np.sum(r0 * r1 / v) / max(np.sum(r1**2 / v), 1e-300))
    return Quality(float(np.mean((r0 + alpha * r1) ** 2 / v)), alpha, z, overlap)


def scan_of(curves: LogCurves, low: float = 0.0, high: float = LARGEST_Z, places: int = COARSE) -> list[Quality]:
    """S at a grid of z, with the best alpha for each z; without the z at which too few points overlap."""
    qualities = (quality(curves, float(z)) for z in np.linspace(low, high, places))
    return [at_z for at_z in qualities if at_z is not None]


def _least(scan: list[Quality]) -> float:
    return min((at_z.s for at_z in scan), default=np.inf)


def best_collapse(curves: LogCurves, scan: list[Quality]) -> Quality:
    """The least S, from a finer scan about the least S of `scan` (S has corners, which rule out a smooth search)."""
    best = min(scan, key=lambda at_z: at_z.s)
    step = LARGEST_Z / (COARSE - 1)
    finer = scan_of(curves, max(best.z - step, 0.0), min(best.z + step, LARGEST_Z), FINE)
    return min([best, *finer], key=lambda at_z: at_z.s)


def shuffled(curves: LogCurves, rng: np.random.Generator) -> LogCurves:
    """Return the curves with their N exchanged; within a bin, N keeps its distance from the bin's mean."""
    labels, codes = np.unique(curves.curve, return_inverse=True)
    means = np.bincount(codes, curves.log_n) / np.bincount(codes)
    moved = means[rng.permutation(len(labels))]
    log_n = curves.log_n - means[codes] + moved[codes]
    return LogCurves(log_n, curves.log_d, curves.log_g, curves.variance, curves.curve)


def judge_collapse(
    frame: pd.DataFrame, *, permutations: int = PERMUTATIONS, seed: int = 0, source: str = "table"
) -> Collapse | NoGap:
    """Apply both measures to the rows of a table with roles N, D, G, and G_se if it is known.

    Gaps that are not shown to lie above zero have no curves to collapse: that is what is returned then.

    Raises InputError if N, D or G is missing or unusable, there are too few rows, or the curves overlap at no z.
    """
    n, d = column_of(frame, "N", source), column_of(frame, "D", source)
    gap = column_of(frame, "G", source, signed=True)
    if nothing := no_gap(centre(get_law("gap_spline"), frame, source=source), "collapse"):
        return nothing
    fitted = solve("gap_spline", frame, source=source)
    estimates = curvature_estimates(fitted)
    tau = float(estimates["tau"].estimate or 0.0)
    noise = fitted.problem.noise * fitted.problem.scales["G"]
    measured = bool(np.all(noise > 0))
    shown = gap > 0
    warnings = list(fitted.problem.warnings)
    if not shown.all():
        message = f"{int((~shown).sum())} of {len(gap)} gaps are not above zero and have no place on log axes"
        warnings.append(FitWarning("not_positive", message))
    if shown.sum() < _FEWEST_GAPS:
        raise InputError(source, "G", f"{int(shown.sum())} gaps above zero", f"at least {_FEWEST_GAPS} of them")
    curve, binned = curves_of(n[shown])
    spread = (noise[shown] / gap[shown]) ** 2 + (0.0 if measured else tau**2)
    curves = LogCurves(np.log(n[shown]), np.log(d[shown]), np.log(gap[shown]), np.maximum(spread, 1e-12), curve)
    scan = scan_of(curves)
    if not scan:
        raise InputError(source, "N", f"{len(np.unique(curve))} curves", "curves that overlap in D/N^z at some z")
    best = best_collapse(curves, scan)
    rng = np.random.default_rng(seed)
    null = [_least(scan_of(shuffled(curves, rng))) for _ in range(permutations)]
    p_value = float((1 + np.sum(np.array(null) <= _least(scan))) / (1 + permutations))
    good = [at_z.z for at_z in scan if at_z.s <= best.s + 1.0] + [best.z]
    errors = "measured" if measured else "fitted scatter"
    alpha, z = estimates["alpha"], estimates["z"]
    return Collapse(
        rows=int(shown.sum()),
        curves=tuple(float(np.exp(curves.log_n[curve == k].mean())) for k in np.unique(curve)),
        binned=binned,
        errors=errors,
        best=best,
        published=quality(curves, PUBLISHED_GAP.z, PUBLISHED_GAP.alpha),
        z_low=min(good),
        z_high=max(good),
        p_value=p_value,
        permutations=permutations,
        alpha=alpha,
        z=z,
        tau=tau,
        finding=_finding(best, p_value, errors, min(good), max(good), alpha, z),
        warnings=tuple(warnings),
        points=curves,
    )


def _finding(best: Quality, p_value: float, errors: str, low: float, high: float, alpha: Estimate, z: Estimate) -> str:
    better = "less than" if p_value <= 0.05 else "not less than"
    text = (
        f"The curves collapse with S = {best.s:.2f} (errors: {errors}) at alpha {best.alpha:.3f}, z {best.z:.3f}, where"
        f" {best.overlap:.0%} of the points overlap with other curves: {better} with N shuffled (p = {p_value:.2g});"
        f" S stays within 1 of that for z from {low:.2f} to {high:.2f}."
    )
    if alpha.identified and z.identified:
        return text + (
            f" With any decreasing f, alpha is {number(alpha.estimate)} {span(alpha.ci_low, alpha.ci_high)} and z"
            f" {number(z.estimate)} {span(z.ci_low, z.ci_high)}."
        )
    unknown = " and ".join(name for name, value in (("alpha", alpha), ("z", z)) if not value.identified)
    return text + f" With any decreasing f, these rows do not identify {unknown}, as on one power law."
