"""The study of subsets: how far the compute-optimal exponent depends on which runs are fitted, and on how.

McLeish et al. 2025 (arXiv 2502.06857) trained models of many widths and depths and found that the exponent a of
N* ~ C^a moves by more than 0.1 with the choice of the runs, differs between the hull of all curves (approach 1) and a
fitted loss (approach 3), and that some choices identify nothing. The rules are those of
`sweeps/studies/gemstones/design.md`.
"""

import functools
import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.allocation.frontier_runs import hull_records
from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, Ruling
from harness.fit.problem.sizes import FLOPS_PER_PARAMETER_TOKEN
from harness.study.contrasts import NOT_KNOWN, Interval95
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS, ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import OPEN, YES, LossWorld, lettered
from harness.study.methods.many_fits import fit_many, starts_of_sums, sums_of_powers
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The tokens at which curves are read, from after the warm-up on to where the rate begins to fall; early ends at 2^18.
READ_AT = 2.0 ** np.arange(16, 21, 0.5)
CONSTANT, EARLY = 0.8, 2**18
# The blocks of runs at the full rate, and that at half of it.
FULL, LONG, HALF = ("short", "long"), "long", "half_rate"
# Sizes are told apart at these N; of each the shape nearest to this width over depth is the one of its size.
SIZE_EDGES, USUAL_SHAPE, ONE_WIDTH = (6e3, 1.8e4, 3.5e4, 9e4), 12.0, 32
# Copies of the losses with new errors; the fewest rows and sizes of a fit.
COPIES, FEWEST_ROWS, FEWEST_SIZES = 100, 12, 3
# An exponent is fragile if subsets differ by more.
FRAGILE = 0.1
# An exponent whose 95 % interval is wider is not identified; an alpha above NONSENSE is none of a loss.
WIDEST, NONSENSE = 0.5, 1.0
# A floor below this share of the least loss is lost.
LOST = 0.05


class _Fit(NamedTuple):
    """What one subset says, and what copies of it with new errors say; nan where nothing.

    Attributes:
        edge, law: the exponent a of approaches 1 and 3.
        alpha, floor: of the law; the floor over the least loss.
    """

    edge: Float[np.ndarray, "copies"]
    law: Float[np.ndarray, "copies"]
    alpha: Float[np.ndarray, "copies"]
    floor: Float[np.ndarray, "copies"]


_NOTHING = _Fit(*[np.full(COPIES + 1, np.nan)] * 4)


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    points = _points(ended)
    noisy = _copies(points)
    subsets = {name: np.flatnonzero(kept) for name, kept in _subsets(points).items()}
    fits = {name: _fit(points.iloc[rows], noisy[:, rows]) for name, rows in subsets.items()}
    without = points.assign(N=points["N_nonembedding"].astype(float))
    fits["without embeddings"] = _fit(without.iloc[subsets["all"]], noisy[:, subsets["all"]])
    one_width = (points["width"] == ONE_WIDTH).to_numpy() & np.isin(np.arange(len(points)), subsets["all"])
    fits["one width"] = _fit(points.loc[one_width], noisy[:, one_width])
    shape = _law_of_shape(points.iloc[subsets["all"]], noisy[:, subsets["all"]])
    claims = _claims(fits, shape, points)
    law = _range({name: fit.law for name, fit in fits.items() if name != "one width"})
    moves = f"by {law.estimate:.2f}" if law.estimate is not None else "by an unknown amount"
    headline = (
        f"The choice of runs moves the exponent a of the compute-optimal size, by the fitted loss, {moves}:"
        f" {count_of_words(claims)}."
    )
    rows = [
        {"subset": name, "rows": _rows_of(name, subsets, int(one_width.sum()))}
        | _line("1", fit.edge) | _line("3", fit.law) | _line("alpha", fit.alpha) | _line("E/L", fit.floor)
        for name, fit in fits.items()
    ]  # fmt: skip
    drawings = {}
    if any(math.isfinite(fit.law[0]) or math.isfinite(fit.edge[0]) for fit in fits.values()):
        drawings["exponents"] = StudyFigure(
            "The exponent a of N* in C by subset and approach, with 95 % intervals; one width is left out.",
            functools.partial(_figure, fits),
        )
    notes = (
        f"{len(ended)} finished runs, read at {len(points)} points of curves and ends; N counts the embedding unless"
        " said otherwise, and C is 6 N D.",
        f"Intervals are from {COPIES} copies of the losses with errors as between draws; they hold none of a law that"
        " does not fit.",
    )
    return LossVerdict(headline, claims, {"exponents by subset, with 95 % intervals": rows}, notes, drawings)


def _rows_of(name: str, subsets: Mapping[str, np.ndarray], one_width: int) -> int:
    return one_width if name == "one width" else len(subsets.get(name, subsets["all"]))


def _points(ended: pd.DataFrame) -> pd.DataFrame:
    """The losses that are fitted: of every cell at the ladder of tokens while the rate is constant, and at the end.

    Columns: the cell's sizes and its number of `runs`, `arm` (constant, half or cooled), `curve`, which numbers cells
    and arms, D, N with embeddings, `log_L`, the mean over draws, and `residual`, log L of the first draw less that of
    the second over the root of 2; nan with one draw.
    """
    rows, curve = [], 0
    for _, own in ended.groupby(["block", "width", "depth", "D"], sort=False):
        block, length = str(own["block"].iloc[0]), float(own["D"].iloc[0])
        about = {name: own[name].iloc[0] for name in ("width", "depth", "N_total", "N_nonembedding")}
        about["runs"] = len(own)
        ladders = []
        if block in FULL:
            ladders.append(("cooled", [length], np.log(own["L"].to_numpy(float))[:, None]))
        if block in (LONG, HALF):
            at = READ_AT[READ_AT <= CONSTANT * length]
            curves = [
                np.interp(np.log(at), np.log(np.asarray(tokens, float)), np.log(np.asarray(loss, float)))
                for tokens, loss in zip(own[CURVE_TOKENS], own[CURVE_LOSS], strict=True)
            ]
            ladders.append(("constant" if block == LONG else "half", at, np.array(curves)))
        for arm, at, logs in ladders:
            for place, tokens in enumerate(at):
                two = (logs[0, place] - logs[1, place]) / math.sqrt(2) if len(logs) > 1 else math.nan
                about_point = {"arm": arm, "curve": curve, "D": float(tokens), "residual": two}
                rows.append(about | about_point | {"log_L": logs[:, place].mean()})
            curve += 1
    table = pd.DataFrame(rows)
    return table.assign(N=table["N_total"].astype(float))


def _copies(points: pd.DataFrame) -> Float[np.ndarray, "copies rows"]:
    """Log losses as measured, and copies with new errors: those of another cell with two draws, at the same tokens.

    The errors along a curve go together. Every cell borrows the difference of two draws of a cell that is drawn at
    random, times a standard normal number, over the root of its own number of runs.
    """
    rng = np.random.default_rng(0)
    copies = np.tile(points["log_L"].to_numpy(float), (COPIES + 1, 1))
    cooled = points["arm"] == "cooled"
    known = points.loc[points["residual"].notna()]
    donors = [
        (own["arm"].iloc[0] == "cooled", dict(zip(own["D"], own["residual"], strict=True)))
        for _, own in known.groupby("curve")
    ]
    for _, rows in points.groupby("curve"):
        tokens = rows["D"].tolist()
        likewise = [each for of_ends, each in donors if of_ends == cooled[rows.index[0]] and set(tokens) <= each.keys()]
        if likewise:
            errors = np.array([[each[at] for at in tokens] for each in likewise])
            chosen = errors[rng.integers(len(likewise), size=COPIES)]
            scale = rng.standard_normal(COPIES)[:, None] / math.sqrt(rows["runs"].iloc[0])
            copies[1:, rows.index] += scale * chosen
        else:
            copies[1:, rows.index] = np.nan
    return copies


def _subsets(points: pd.DataFrame) -> dict[str, np.ndarray]:
    constant = points["arm"].eq("constant").to_numpy()
    early = points["D"].to_numpy(float) <= EARLY
    width, depth = points["width"].to_numpy(float), points["depth"].to_numpy(float)
    shape = np.abs(np.log(width / depth / USUAL_SHAPE))
    size = np.digitize(points["N_nonembedding"].to_numpy(float), SIZE_EDGES)
    nearest = np.array([shape[size == own].min() for own in size])
    return {
        "all": constant,
        "early": constant & early,
        "late": constant & ~early,
        "cooled": points["arm"].eq("cooled").to_numpy(),
        "half rate": points["arm"].eq("half").to_numpy(),
        "one shape a size": constant & (shape <= nearest + 1e-9),
    }


def _fit(points: pd.DataFrame, noisy: Float[np.ndarray, "copies rows"]) -> _Fit:
    """Both approaches on a subset, and on its copies with new errors."""
    n, d = points["N"].to_numpy(float), points["D"].to_numpy(float)
    if len(n) < FEWEST_ROWS or len(np.unique(n)) < FEWEST_SIZES or len(np.unique(d)) < 2:
        return _NOTHING
    flops = FLOPS_PER_PARAMETER_TOKEN * n * d
    edge = np.array([_exponent_of_hull(flops, n, logs) for logs in noisy])
    theta = _constants({"N": n, "D": d}, noisy)
    alpha, beta = np.exp(theta[:, 2]), np.exp(theta[:, 4])
    return _Fit(edge, beta / (alpha + beta), alpha, np.exp(theta[:, 0] - noisy.min(axis=1)))


def _exponent_of_hull(flops: np.ndarray, n: np.ndarray, logs: np.ndarray) -> float:
    """The slope of log N in log C at the corners of the lower hull; nan of fewer than three corners, or of one size."""
    if not np.isfinite(logs).all():
        return math.nan
    corners = hull_records(flops, np.exp(logs))
    if len(corners) < 3 or len(np.unique(n[corners])) < 2:
        return math.nan
    return float(np.polyfit(np.log(flops[corners]), np.log(n[corners]), 1)[0])


def _constants(columns: Mapping[str, np.ndarray], noisy: np.ndarray) -> Float[np.ndarray, "copies constants"]:
    """A floor and a power of each column fitted to each copy (`sums_of_powers`); nan for one that is not known."""
    terms = len(columns)
    starts = starts_of_sums(noisy[0], terms, itertools.product((0.1, 0.6), (0.2, 0.5)))
    known = np.isfinite(noisy).all(axis=1)
    theta = np.full((len(noisy), 1 + 2 * terms), np.nan)
    theta[known] = fit_many(sums_of_powers(columns), starts, noisy[known])
    return theta


def _law_of_shape(points: pd.DataFrame, noisy: np.ndarray) -> Float[np.ndarray, "copies"]:
    """The floor of the law in width, depth and tokens over the least loss."""
    columns = {role: points[name].to_numpy(float) for role, name in (("w", "width"), ("d", "depth"), ("D", "D"))}
    if len(points) < FEWEST_ROWS or min(len(np.unique(values)) for values in columns.values()) < FEWEST_SIZES:
        return _NOTHING.floor
    return np.exp(_constants(columns, noisy)[:, 0] - noisy.min(axis=1))


def _interval(values: Float[np.ndarray, "copies"]) -> Interval95:
    """The first value, with the 95 % interval of the others; no ends unless nearly all copies have a value."""
    if not math.isfinite(values[0]):
        return NOT_KNOWN
    copies = values[1:][np.isfinite(values[1:])]
    if len(copies) < 0.9 * COPIES:
        return Interval95(float(values[0]), None, None)
    low, high = np.percentile(copies, [2.5, 97.5])
    return Interval95(float(values[0]), float(low), float(high))


def _line(name: str, values: Float[np.ndarray, "copies"]) -> dict[str, float | None]:
    found = _interval(values)
    named = f"a, approach {name}" if name in "13" else name
    return {named: found.estimate, f"low {name}": found.low, f"high {name}": found.high}


def _range(exponents: Mapping[str, Float[np.ndarray, "copies"]]) -> Interval95:
    """The largest difference of two subsets, with a simultaneous interval over all pairs of them.

    The largest of many noisy differences is too large. So the interval of every difference is widened alike until, in
    95 % of the copies, all of them would hold; the ends are the largest of their ends.
    """
    known = [values for values in exponents.values() if math.isfinite(values[0])]
    if len(known) < len(exponents):
        return NOT_KNOWN
    differences = np.array([first - second for first, second in itertools.combinations(known, 2)])
    values = np.abs(differences[:, 0])
    copies = differences[:, 1:][:, np.isfinite(differences[:, 1:]).all(axis=0)]
    if copies.shape[1] < 0.9 * COPIES:
        return Interval95(float(values.max()), None, None)
    low, high = np.percentile(copies, [16, 84], axis=1)
    errors = np.maximum((high - low) / 2, 1e-9)
    off = np.abs(copies - differences[:, :1]) / errors[:, None]
    wide = float(np.percentile(off.max(axis=0), 95)) * errors
    return Interval95(float(values.max()), max(0.0, float((values - wide).max())), float((values + wide).max()))


def _claims(fits: Mapping[str, _Fit], shape: np.ndarray, points: pd.DataFrame) -> tuple[JudgedClaim, ...]:
    compared = {name: fit for name, fit in fits.items() if name != "one width"}
    law, edge = (_range({name: getattr(fit, of) for name, fit in compared.items()}) for of in ("law", "edge"))
    apart = _interval(fits["all"].law - fits["all"].edge)
    alpha = _interval(fits["one width"].alpha)
    floor = _interval(shape)
    names = ", ".join(compared)
    said = f"{len(points)} points of curves and ends"
    moved = "the largest difference of the exponent a between two subsets"
    evidence = (
        within(f"{moved}, approach 3", FRAGILE, None, *law),
        within(f"{moved}, approach 1", FRAGILE, None, *edge),
        within("the exponent a of approach 3 less that of approach 1", FRAGILE, None, *apart),
        within("the exponent alpha of N in models of one width", NONSENSE, None, *alpha),
        within("the floor E over the least loss", 0.0, LOST, *floor),
    )
    word, reason = _identified(alpha, _interval(fits["one shape a size"].alpha), evidence[3])
    judged = (
        ("GE-1", "the exponent of the fitted loss is fragile", evidence[0].ruling, f"Subsets: {names}."),
        ("GE-2", "the exponent of the hull is fragile", evidence[1].ruling, f"Subsets: {names}."),
        ("GE-3", "the fitted loss gives a larger exponent than the hull", evidence[2].ruling, ""),
        ("GE-4", "models of one width do not identify the power of N", word, reason),
        ("GE-5", "the law of width and depth loses its floor", evidence[4].ruling, ""),
    )
    return tuple(
        JudgedClaim(id_, claim, ruling, said, (each,), why)
        for (id_, claim, ruling, why), each in zip(judged, evidence, strict=True)
    )


def _identified(alpha: Interval95, control: Interval95, evidence: DecidingNumber) -> tuple[Ruling, str]:
    """Whether alpha of one width is above what a loss can have, or not identified where one shape a size has it."""
    if None in (*alpha, *control):
        return OPEN, ""
    width, other = (float(np.ptp(np.array(each[1:], float))) for each in (alpha, control))
    text = f"The interval is {width:.2g} wide, of one shape a size {other:.2g}; above {WIDEST} it is not identified."
    if width > WIDEST and evidence.ruling is not YES:
        return (YES if other <= WIDEST else OPEN), text
    return evidence.ruling, text


def _figure(fits: Mapping[str, _Fit]) -> "Figure":
    shown = [name for name in fits if name != "one width"]
    series = {}
    for number, of, shift in ((1, "edge", -0.1), (3, "law", 0.1)):
        found = [(place, _interval(getattr(fits[name], of))) for place, name in enumerate(shown)]
        known = [(place, each) for place, each in found if each.estimate is not None]
        at, values = [place + shift for place, _ in known], np.array([each for _, each in known], float).reshape(-1, 3)
        series[f"approach {number}"] = Series(at, values[:, 0], values[:, 1], values[:, 2], line="")
    ticks = {float(place): name.replace(" ", "\n") for place, name in enumerate(shown)}
    return series_figure(
        series, "runs that are fitted", "exponent a of the best size, N* ~ C$^a$", ticks=ticks, kinds=True,
        title="The exponent by the choice of runs",
    )  # fmt: skip


def _world(
    id_: str, truth: str, words: str, *, powers: tuple[float, float], spread: float = 0.0, shape: bool = False
) -> LossWorld:
    """A world with a floor, a power of N and one of D; N counts the embedding.

    Args:
        words: of the claims in order, in the letters of `lettered`.
        powers: of N and of D.
        spread: by how much the power of N is less at half the rate and more at the end, and that of D the other way
            round.
        shape: whether the loss has powers of width and of depth in place of that of N.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n, width, depth = (runs[name].to_numpy(float) for name in ("N_total", "width", "depth"))
        ended = runs["D"].to_numpy(float) * CONSTANT < tokens
        tilt = np.where(runs["block"] == HALF, -spread, np.where(ended, spread, 0.0))
        of_shape = 0.6 * (width / 32) ** -0.5 + 0.4 * depth**-2.0
        size = of_shape if shape else 0.6 * (n / 2e4) ** -(powers[0] + tilt)
        return (1.2 + size + 0.8 * (tokens / 3e5) ** -(powers[1] - tilt)) * np.where(ended, 0.95, 1.0)

    return LossWorld(id_, truth, loss, lettered("GE", words))


_WORLDS = (
    _world("one_law", "one law in N and D holds for all runs, with powers 0.1 and 0.4", "ny???", powers=(0.1, 0.4)),
    _world("fragile", "the powers are 0.35, and others at half the rate and at the end", "YY??y", powers=(0.35, 0.35),
           spread=0.12),
    _world("shape", "the loss follows width and depth above a floor", "YY?YN", powers=(0.35, 0.35), shape=True),
)  # fmt: skip

GEMSTONES = Paper(_judge, _WORLDS)
