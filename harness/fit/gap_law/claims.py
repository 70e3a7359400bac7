"""The claims of the gap law's source, S0-1 to S0-15, and the rule by which a study's runs judge each of them.

The rows are the cells of a study's blocks (`sweeps/studies/gap/study.yaml`), each the mean over its draws. A claim is
judged on the block that was designed for it; a block that was not run leaves its claims unresolved.
"""

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from harness.fit.certainty.intervals import combinations_of
from harness.fit.fitting import SolvedFit, curvature_estimates, solve
from harness.fit.gap_law.constants import SOURCE_N, SOURCE_RUNS, SOURCE_SCATTER, predict_gap, reduced_data, source_reach
from harness.fit.gap_law.contest import solve_contest
from harness.fit.gap_law.judge import ErrorKind, Judgement, judge
from harness.fit.gap_law.rule import RIVALS, TESTED_LAW, Word
from harness.fit.gap_law.rulings import (
    JudgedClaim,
    Measured,
    Ruling,
    common_ratio,
    normal,
    together,
)
from harness.fit.gap_law.surface import Surface, compare_groups, fit_surface, scatter_interval
from harness.fit.problem.raw_units import raw_point
from sweeps.errors import InputError
from sweeps.published_gap import PUBLISHED_GAP, GapConstants

# An exponent agrees with the claimed one within this margin: a third of alpha, a quarter of beta.
EXPONENT = 0.1
# The same for the difference of two measured slopes, of groups or of branches: half of alpha, a third of beta.
SAME_SLOPES = 0.15
# Two prefactors count as equal, and a prefactor as within the claimed 1.6, up to this factor.
PREFACTOR = 1.1
CLAIMED_RATIO = 1.6
# u of the rows on either side of the crossover at u = 1; those between are too near to belong to one branch.
BELOW, ABOVE = 1.1, 3.5
# How far the online gap may be from the twin gap, as a share of it, and still be the same quantity.
SAME_QUANTITY = 0.25
# The factor up to which a predicted gap counts as met.
MET = 1.5
# How far log10 u_star may be from 0: the crossover within a factor of ten of u = 1.
PLACE = 1.0
# The exponent a in N* ~ C^a: half the distance between Chinchilla's 1/2 and the law's 1/(1 + z).
ALLOCATION = (1 / (1 + PUBLISHED_GAP.z) - 0.5) / 2

# Block of a study -> its cells in roles.
Blocks = Mapping[str, pd.DataFrame]
# The block that repeats the layout of the source's own study.
SOURCE_BLOCK = "as_published"
Told = tuple[Ruling, str, tuple[Measured, ...], str]
# What the rows of a claim are that needs no runs.
ARITHMETIC = "arithmetic"
NOT_RUN: Told = (Ruling.NOT_RESOLVED, "none", (), "The block that would answer was not run, or has too few cells.")


def slope(name: str, predicted: float, surface: Surface | None, column: int) -> Measured:
    """The slope of log G in N (column 1) or in D (column 2) as evidence; unknown without a surface."""
    if surface is None:
        return Measured(name, predicted, EXPONENT, None, None, None)
    estimate, se = surface.slope(column)
    half = surface.half_width(se)
    return Measured(name, predicted, EXPONENT, estimate, estimate - half, estimate + half)


IN_N, IN_D = 1, 2


def judge_claims(blocks: Blocks) -> tuple[JudgedClaim, ...]:
    """Judge every claim of the source.

    Args:
        blocks: the study's cells by block, with the roles N, D, U, G, G_se, L, and the columns `gap_online`,
            `gap_online_se`, `converged`, `N_active` and those by which a block is grouped.
    """
    known = {name: rows.reset_index(drop=True) for name, rows in blocks.items() if len(rows)}
    contest = _contest(known)
    rules: Mapping[str, tuple[str, Callable[[], Told]]] = {
        "S0-1": (
            "G = A N^-alpha f(D/N^z) with alpha 0.31, z 0.74, A 0.86, beta 0.42, u_star 1",
            lambda: _law(known, contest),
        ),
        "S0-2": ("f = 1 up to u_star, then (u/u_star)^-beta: flat, then a kink", lambda: _branches(known)),
        "S0-3": (f"{SOURCE_RUNS} runs of six architectures on four domains", lambda: _coverage(known)),
        "S0-4": ("the gap is L_val - L_train, means over the final 100 steps", lambda: _estimator(known)),
        "S0-5": ("the scatter about the law is below 8 %", lambda: _scatter(known, contest)),
        "S0-6": ("the crossover is at u = 1", lambda: _crossover(known, contest)),
        "S0-7": (
            "tokenizers share the exponents, up to an effective-token rescaling",
            lambda: _tokenizers(known),
        ),
        "S0-8": (
            "architectures share the exponents; the prefactor changes by up to 1.6",
            lambda: _architectures(known),
        ),
        "S0-9": (
            "the batch size at a fixed rate changes the prefactor and not the exponents",
            lambda: _temperature(known),
        ),
        "S0-10": ("a thermodynamic relation gives alpha (alpha = z beta)", lambda: _relation(known)),
        "S0-11": ("doubling N needs 2^z = 1.67 times the tokens to stay at the same point", lambda: _same_point(known)),
        "S0-12": ("the linear rule of Hoffmann et al. corresponds to z = 1", _linear_rule),
        "S0-13": ("compute-optimal sizes shift towards parameters", lambda: _allocation(known)),
        "S0-14": ("log G = log A - alpha log N + log f", _identity),
        "S0-15": ("the law holds for a converged gap", lambda: _converged(known)),
    }
    judged = []
    for name, (claim, rule) in rules.items():
        ruling, rows, evidence, reason = rule()
        judged.append(JudgedClaim(name, claim, ruling, rows, evidence, reason))
    return tuple(judged)


def _contest(blocks: Blocks) -> tuple[Judgement, Mapping[str, SolvedFit]] | None:
    """The gap law and its rivals on the cells of text read once, judged by the rule of `rule.apply_rule`."""
    if "once" not in blocks:
        return None
    try:
        fits, _ = solve_contest(blocks["once"], (TESTED_LAW, *RIVALS))
    except InputError:  # fewer cells than the laws have constants
        return None
    return judge(fits, curvature_estimates(fits[TESTED_LAW]), None, ErrorKind.CURVATURE), fits


def _law(blocks: Blocks, contest: tuple[Judgement, Mapping[str, SolvedFit]] | None) -> Told:
    """The gap over the law's own prediction, and how that ratio depends on N and D, which it should not."""
    if contest is None:
        return NOT_RUN
    rows = blocks["once"]
    predicted = predict_gap(rows["N"].to_numpy(float), rows["D"].to_numpy(float))
    ratio = rows.assign(G=rows["G"] / predicted, G_se=rows["G_se"] / predicted)
    size = normal("the gap over the law's", 1.0, MET - 1, *common_ratio(ratio["G"], ratio["G_se"]))
    trend = fit_surface(ratio)
    ratio = "in the gap over the law's"
    evidence = (
        size,
        slope(f"the power of N {ratio}", 0.0, trend, IN_N),
        slope(f"the power of D {ratio}", 0.0, trend, IN_D),
    )
    word, _ = contest
    ruling = together([each.ruling for each in evidence])
    if ruling is Ruling.NOT_RESOLVED and word.word in (Word.N_FREE, Word.NOT_SUPPORTED):
        ruling = Ruling.NOT_SUPPORTED
    return ruling, _said(rows), evidence, f"The rule for fitted constants says {word.word}: {word.reason}."


def _branches(blocks: Blocks) -> Told:
    if "once" not in blocks:
        return NOT_RUN
    below, above = _sides(blocks["once"])
    plateau = slope(f"the slope in D of {len(below)} cells up to u = 1", 0.0, fit_surface(below), IN_D)
    power = slope(f"the slope in D of {len(above)} cells from u = 4", -PUBLISHED_GAP.beta, fit_surface(above), IN_D)
    return together([plateau.ruling, power.ruling]), _said(blocks["once"]), (plateau, power), ""


def _sides(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the branch below the crossover, and those of the branch above."""
    u = reduced_data(rows["N"].to_numpy(float), rows["D"].to_numpy(float))
    return rows.loc[u < BELOW].reset_index(drop=True), rows.loc[u > ABOVE].reset_index(drop=True)


def _coverage(blocks: Blocks) -> Told:
    low, high = source_reach()
    text = (
        f"The source publishes no run and no N or D of one. Over the ranges that its posted text gives (N from"
        f" {SOURCE_N[0]:g}), u lies between {low:.0f} and {high:.1e}: none of its runs can reach the crossover at u = 1"
        " in raw counts."
    )
    if SOURCE_BLOCK in blocks:
        rows = blocks[SOURCE_BLOCK]
        kinds = [f"{rows[name].nunique()} {name}s" for name in ("architecture", "tokenizer", "domain")]
        u = reduced_data(rows["N"].to_numpy(float), rows["D"].to_numpy(float))
        text += f" Here {len(rows)} cells of {', '.join(kinds)} lie on both sides, {np.sum(u < 1)} of them below 1."
    return Ruling.NOT_RESOLVED, "the source's own text", (), text


def _estimator(blocks: Blocks) -> Told:
    if "once" not in blocks or "gap_online" not in blocks["once"]:
        return NOT_RUN
    rows = blocks["once"].dropna(subset=["gap_online", "gap_online_se"])
    online, twin = rows["gap_online"].to_numpy(float), rows["G"].to_numpy(float)
    error = np.hypot(rows["gap_online_se"].to_numpy(float), rows["G_se"].to_numpy(float))
    if not np.all(twin > 0):
        return Ruling.NOT_RESOLVED, _said(rows), (), "Some twin gaps are not above zero, so there is no ratio to them."
    ratio = normal("the online gap over the twin gap", 1.0, SAME_QUANTITY, *common_ratio(online / twin, error / twin))
    negative = f"{np.mean(online < 0):.0%} of the online gaps are below zero, {np.mean(twin < 0):.0%} of the twin gaps."
    return ratio.ruling, _said(rows), (ratio,), negative


def _scatter(blocks: Blocks, contest: tuple[Judgement, Mapping[str, SolvedFit]] | None) -> Told:
    if contest is None:
        return NOT_RUN
    rows, fitted = blocks["once"], contest[1][TESTED_LAW]
    if not contest[0].evidence.detected:
        return Ruling.NOT_RESOLVED, _said(rows), (), "Without a detectable gap there is no scatter about the law."
    values = raw_point(fitted.problem, fitted.identified.theta)
    predicted = predict_gap(rows["N"], rows["D"], **{name: values[name] for name in GapConstants._fields})
    gap, error = rows["G"].to_numpy(float), rows["G_se"].to_numpy(float)
    found = scatter_interval(gap / predicted - 1, error / predicted, len(rows) - fitted.degrees)
    # A scatter lies between 0 and the claimed limit if it lies within half the limit of the middle.
    half = SOURCE_SCATTER / 2
    evidence = Measured("the scatter about the law beyond the errors", half, half, *found)
    return evidence.ruling, _said(rows), (evidence,), f"The claim is any scatter up to {SOURCE_SCATTER}."


def _crossover(blocks: Blocks, contest: tuple[Judgement, Mapping[str, SolvedFit]] | None) -> Told:
    if contest is None:
        return NOT_RUN
    rows, name = blocks["once"], "the change of the slope in D at the crossover"
    sides = [fit_surface(side) for side in _sides(rows)]
    change = Measured(name, -PUBLISHED_GAP.beta, SAME_SLOPES, None, None, None)
    if sides[0] is not None and sides[1] is not None:
        (first, first_se), (second, second_se) = (side.slope(IN_D) for side in sides if side is not None)
        change = normal(name, -PUBLISHED_GAP.beta, SAME_SLOPES, second - first, math.hypot(first_se, second_se))
    if change.ruling is Ruling.NOT_SUPPORTED:
        return Ruling.NOT_SUPPORTED, _said(rows), (change,), "Without that change there is no crossover."
    place = curvature_estimates(contest[1][TESTED_LAW])["u_star"]
    ends = _log10(place.estimate, place.ci_low, place.ci_high, place.identified)
    found = Measured("log10 of u_star", 0.0, PLACE, *ends)
    return together([change.ruling, found.ruling]), _said(rows), (change, found), ""


def _log10(estimate: float | None, low: float | None, high: float | None, identified: bool):
    if not identified or estimate is None:
        return None, None, None
    return tuple(None if value is None or value <= 0 else math.log10(value) for value in (estimate, low, high))


def _tokenizers(blocks: Blocks) -> Told:
    if "tokenizers" not in blocks:
        return NOT_RUN
    return _shared(blocks["tokenizers"], "tokenizer")


def _shared(rows: pd.DataFrame, by: str) -> Told:
    """Whether the groups share the slopes of log G in N and in D, their levels being their own.

    They do if the 90 % interval of the difference of every two groups lies within the margin (two one-sided tests at
    5 %). They do not if equal slopes are rejected at 1 % and two groups differ by more than the margin.
    """
    surface = compare_groups(rows, by)
    if surface is None:
        return Ruling.NOT_RESOLVED, _said(rows), (), "Not every group has gaps clear enough for slopes of its own."
    p_value, evidence, widest = surface.equality([IN_N, IN_D]), [], []
    pairs = list(itertools.combinations(range(len(surface.groups)), 2))
    for column, name in ((IN_N, "the slope in N"), (IN_D, "the slope in D")):
        differences = {pair: surface.difference(column, *pair) for pair in pairs}
        first, second = max(pairs, key=lambda pair: abs(differences[pair][0]))
        value, se = differences[first, second]
        half = surface.half_width(se, 0.9)
        label = f"{name} of {surface.groups[first]} minus that of {surface.groups[second]} (90 %)"
        evidence.append(Measured(label, 0.0, SAME_SLOPES, value, value - half, value + half))
        widest.append(max(abs(value) + surface.half_width(se, 0.9) for value, se in differences.values()))
    apart = any(abs(each.estimate or 0.0) > SAME_SLOPES for each in evidence)
    if p_value <= 0.01 and apart:
        ruling = Ruling.NOT_SUPPORTED
    else:
        ruling = Ruling.SUPPORTED if max(widest) <= SAME_SLOPES else Ruling.NOT_RESOLVED
    text = f"Equal slopes of {len(surface.groups)} groups have p = {p_value:.2g} (F test)."
    return ruling, _said(rows), tuple(evidence), text


def _prefactors(rows: pd.DataFrame, by: str, reference: str) -> tuple[Measured, ...]:
    """The log of every group's gap over the reference's at the same points, the slopes being shared."""
    surface = compare_groups(rows, by, reference, levels_only=True)
    if surface is None:
        return ()
    limit, ratios = math.log(CLAIMED_RATIO * PREFACTOR), []
    for group, name in enumerate(surface.groups[1:], 1):
        value, se = surface.difference(0, group, 0)
        half = surface.half_width(se)
        ends = (value, value - half, value + half)
        ratios.append(Measured(f"log of the gap of {name} over that of {reference}", 0.0, limit, *ends))
    return tuple(ratios)


def _architectures(blocks: Blocks) -> Told:
    """Exponents as in `_shared`, and the prefactors over the dense model's, at equal total parameters."""
    if "architectures" not in blocks:
        return NOT_RUN
    rows = blocks["architectures"]
    ruling, said, evidence, text = _shared(rows, "architecture")
    ratios = _prefactors(rows, "architecture", "dense")
    if "architectures_active" in blocks:
        dense = rows.loc[rows["architecture"].isin(["dense", "parallel"])]
        both = pd.concat([dense, blocks["architectures_active"]], ignore_index=True)
        others = _prefactors(both.assign(N=both["N_active"]), "architecture", "dense")
        far = max((abs(each.estimate or 0.0) for each in others), default=0.0)
        text += f" At equal active parameters the prefactors differ by up to a factor of {math.exp(far):.2f}."
    return together([ruling, *(each.ruling for each in ratios)]), said, (*evidence, *ratios), text


def _temperature(blocks: Blocks) -> Told:
    """Exponents as in `_shared`; and the prefactor must change with the batch, or there is nothing to rescale."""
    if "temperature" not in blocks:
        return NOT_RUN
    rows = blocks["temperature"]
    ruling, said, evidence, text = _shared(rows, "B")
    surface = compare_groups(rows, "B", levels_only=True)
    if surface is None:
        return Ruling.NOT_RESOLVED, said, evidence, text
    p_value = surface.equality([0])
    if ruling is Ruling.SUPPORTED and p_value > 0.01:
        ruling = Ruling.NOT_RESOLVED
    return ruling, said, evidence, f"{text} One prefactor for all batches has p = {p_value:.2g}."


def _relation(blocks: Blocks) -> Told:
    if "once" not in blocks:
        return NOT_RUN
    _, above = _sides(blocks["once"])
    found = slope(f"the slope in N at fixed D of {len(above)} cells from u = 4", 0.0, fit_surface(above), IN_N)
    text = "Above the crossover alpha = z beta says that the gap does not depend on N; it says nothing of z or entropy."
    return found.ruling, _said(above), (found,), text


def _same_point(blocks: Blocks) -> Told:
    if "once" not in blocks:
        return NOT_RUN
    _, above = _sides(blocks["once"])
    u = reduced_data(above["N"].to_numpy(float), above["D"].to_numpy(float))
    name = f"the slope in N at fixed u of {len(above)} cells from u = 4"
    found = slope(name, -PUBLISHED_GAP.alpha, fit_surface(above.assign(D=u)), IN_N)
    return found.ruling, _said(above), (found,), "Along one u the law says that G falls as N^-alpha."


def _linear_rule() -> Told:
    return Ruling.SUPPORTED, ARITHMETIC, (), "At one D/N^z tokens grow as N^z, which is in proportion to N for z = 1."


def _allocation(blocks: Blocks) -> Told:
    if "once" not in blocks or "L" not in blocks["once"]:
        return NOT_RUN
    rows = blocks["once"]
    predicted = 1 / (1 + PUBLISHED_GAP.z)
    name = "the power of C in the compute-optimal N, of the losses of these runs"
    try:
        found = solve("chinchilla", rows.drop(columns=["G", "G_se"]))
    except InputError as error:
        return Ruling.NOT_RESOLVED, _said(rows), (), str(error)
    known = {each.combination: each for each in combinations_of(found.problem, found.identified)}
    split = known.get("beta/(alpha + beta)")
    ends = (None, None, None) if split is None else (split.estimate, split.ci_low, split.ci_high)
    evidence = Measured(name, predicted, ALLOCATION, *ends)
    return evidence.ruling, _said(rows), (evidence,), "Chinchilla's rule has a = 0.5; the law's own, D ~ N^z, 0.575."


def _identity() -> Told:
    n, d = np.meshgrid(np.geomspace(1e3, 1e12, 19), np.geomspace(1e3, 1e15, 25))
    p = PUBLISHED_GAP
    f = np.minimum((d / n**p.z / p.u_star) ** -p.beta, 1.0)
    error = np.max(np.abs(np.log(predict_gap(n, d)) - (np.log(p.A) - p.alpha * np.log(n) + np.log(f))))
    ruling = Ruling.SUPPORTED if error < 1e-12 else Ruling.NOT_SUPPORTED
    return ruling, ARITHMETIC, (), f"The published code satisfies it to {error:.0e} on a grid of {n.size} points."


def _converged(blocks: Blocks) -> Told:
    if "converged" not in blocks:
        return NOT_RUN
    rows = blocks["converged"].loc[blocks["converged"]["converged"].astype(bool)]
    if rows.empty:
        return Ruling.NOT_RESOLVED, "no cell whose gap had converged", (), ""
    gap, se = rows["G"].to_numpy(float), rows["G_se"].to_numpy(float)
    predicted = predict_gap(rows["N"].to_numpy(float), rows["D"].to_numpy(float))
    ratio = normal("the converged gap over the law's", 1.0, MET - 1, *common_ratio(gap / predicted, se / predicted))
    return ratio.ruling, _said(rows), (ratio,), ""


def _said(rows: pd.DataFrame) -> str:
    """Which rows these are, in words."""
    n, d = rows["N"], rows["D"]
    return f"{len(rows)} cells, N {n.min():.2g} to {n.max():.2g}, D {d.min():.2g} to {d.max():.2g}"
