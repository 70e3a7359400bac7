"""The findings of a verdict in sentences: what the law's source claims, and what these rows say of it in numbers.

Every sentence is made from typed evidence. `Verdict.claims` has them in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.fit.certainty.sign_flip import Signal
from harness.fit.compare import ComparedLaw
from harness.fit.gap_law.constants import (
    SOURCE_D,
    SOURCE_N,
    SOURCE_RUNS,
    SOURCE_SCATTER,
    predict_gap,
    reduced_data,
    source_reach,
)
from harness.fit.gap_law.contest import EpochsTest
from harness.fit.gap_law.nulls import Null
from harness.fit.results.result import FitResult, covers
from harness.fit.results.shown import number, span
from sweeps.published_gap import PUBLISHED_GAP


@dataclass(frozen=True)
class Claim:
    """A claim of the law's source, and what the rows say of it."""

    id: str
    claim: str
    finding: str


@dataclass(frozen=True)
class Coverage:
    """How many rows lie on either side of the crossover u = 1 at one exponent z of u = D/N^z, in raw counts."""

    z: float
    u_below_03: int
    u_below_1: int
    u_above_1: int
    u_above_3: int
    u_min: float
    u_max: float

    def to_dict(self) -> dict[str, float | int]:
        """The part `coverage` of a verdict's JSON."""
        return {"u_below_0.3" if name == "u_below_03" else name: value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Magnitude:
    """Median gaps in nats per token: the observed one, and the published law's predictions in two units of N and D.

    `raw` takes N and D as counts; `scaled` takes N in millions and D in billions. The source does not say which.
    """

    observed: float
    raw: float
    scaled: float


def coverage_at(n: Float[np.ndarray, "rows"], d: Float[np.ndarray, "rows"], z: float) -> Coverage:
    """Count the rows on either side of the crossover for an exponent; n and d are raw counts."""
    u = reduced_data(n, d, z)
    return Coverage(
        z=z,
        u_below_03=int(np.sum(u < 0.3)),
        u_below_1=int(np.sum(u < 1.0)),
        u_above_1=int(np.sum(u > 1.0)),
        u_above_3=int(np.sum(u > 3.0)),
        u_min=float(u.min()),
        u_max=float(u.max()),
    )


def magnitude_of(
    n: Float[np.ndarray, "rows"], d: Float[np.ndarray, "rows"], gap: Float[np.ndarray, "rows"]
) -> Magnitude:
    """Compare the median gap with the medians that the published constants predict."""
    raw, scaled = predict_gap(n, d), predict_gap(n / 1e6, d / 1e9)
    return Magnitude(float(np.median(gap)), float(np.median(raw)), float(np.median(scaled)))


def source_claim() -> Claim:
    """State the range of u over the source's own N and D: the crossover at u = 1 lies below all of it."""
    low, high = source_reach()
    return Claim(
        "source_design",
        f"a crossover at u = D/N^{PUBLISHED_GAP.z} near {PUBLISHED_GAP.u_star:g} was observed in {SOURCE_RUNS} runs",
        f"Over the N ({SOURCE_N[0]:g} to {SOURCE_N[1]:g}) and D ({SOURCE_D[0]:g} to {SOURCE_D[1]:g}) of the source,"
        f" u lies between {low:.0f} and {high:.1e}: none of its runs can reach u = 1 in raw counts, so its design"
        " cannot identify alpha, z, A or u_star.",
    )


def coverage_claim(published: Coverage, fitted: Coverage | None, rows: int) -> Claim:
    """Say how many rows lie on either side of the crossover."""

    def counts(at: Coverage) -> str:
        return (
            f"{at.u_below_03} rows with u < 0.3, {at.u_below_1} below 1, {at.u_above_1} above 1, {at.u_above_3} above 3"
        )

    text = f"Of {rows} rows, at z = {published.z}: {counts(published)}"
    text += f"; at the fitted z = {fitted.z:.3f}: {counts(fitted)}." if fitted else "; z is not identified here."
    return Claim("coverage", "the law has a branch on either side of u_star", text)


def detection_claim(signal: Signal, shared: bool | None) -> Claim:
    """Say whether there is a gap, and what the test of it assumes; `shared` is `Verdict.shared_errors`."""
    answer = "lie above zero" if signal.detected else "are not shown to lie above zero"
    text = (
        f"The gaps {answer}: one-sided sign-flip p = {signal.p_value:.2g},"
        f" {signal.positive_share:.0%} of rows positive."
    )
    if shared:
        text += " The errors that runs share because they were measured on the same documents are part of all errors."
    elif shared is False:
        text += (
            " Runs on one text are measured on the same documents; this table does not say how, so the test and all"
            " intervals take their errors as independent, and are too sure. The sweep's folder says it."
        )
    return Claim("detection", "there is a gap", text)


def magnitude_claim(magnitude: Magnitude) -> Claim:
    """Compare the size of the gaps with the published prediction."""
    return Claim(
        "magnitude",
        f"A = {PUBLISHED_GAP.A} and u_star = {PUBLISHED_GAP.u_star:g}",
        f"The median gap here is {number(magnitude.observed)} nats; the published constants predict"
        f" {number(magnitude.raw)} from raw counts and {number(magnitude.scaled)} if N is in millions and D in billions"
        " (the source names no unit; fits use raw counts).",
    )


def exponents_claim(tested: FitResult) -> Claim:
    """Give the constants of the law with their intervals, and name those that are not identified."""
    known, unknown = [], []
    for name in ("alpha", "z", "beta", "A", "u_star"):
        value = tested.parameters[name]
        interval = span(value.ci_low, value.ci_high)
        text = f"{name} {number(value.estimate)} {interval} (published {number(value.published)})"
        known.append(text) if value.identified else unknown.append(name)
    text = (
        "Fitted with 95 % intervals: " + "; ".join(known) + "." if known else "No parameter of the law is identified."
    )
    if unknown and known:
        text += f" Not identified: {', '.join(unknown)}."
    p = PUBLISHED_GAP
    return Claim("S0-1", f"alpha {p.alpha}, z {p.z}, A {p.A}, beta {p.beta}, u_star {p.u_star:g}", text)


def kink_claim(tested: FitResult, rounded: FitResult) -> Claim:
    """Say whether a rounded crossover describes the rows better than a kink."""
    gain = 2 * (rounded.log_likelihood - tested.log_likelihood)
    gains = f"gains {gain:.1f}" if gain > 0.05 else "gains nothing"  # the kink is the limit of large s
    sharpness = rounded.parameters["s"]
    if not tested.parameters["u_star"].identified:
        text = "Whether f is kinked cannot be asked: the position of the crossover is not identified."
    elif sharpness.identified:
        interval = span(sharpness.ci_low, sharpness.ci_high)
        text = f"A rounded crossover has s = {number(sharpness.estimate)} {interval}"
        text += f" and {gains} in 2 log L over the kink."
    else:
        text = f"The sharpness s of the crossover has no upper limit: rounding {gains} in 2 log L."
    return Claim("S0-2", "f has a kink at u_star: flat below, a power law above", text)


def scatter_claim(tested: FitResult) -> Claim:
    """Compare the scatter about the law with the one that the source states."""
    claim = f"residual scatter below {100 * SOURCE_SCATTER:g} %"
    scatter, tau = tested.scatter, tested.parameters["tau"]
    if not tau.identified:
        return Claim("S0-5", claim, "Without a detectable gap there is no scatter about the law.")
    below, above = (tau.ci_high or np.inf) < SOURCE_SCATTER, (tau.ci_low or 0.0) > SOURCE_SCATTER
    side = "below" if below else "above" if above else "not distinguishable from"
    text = (
        f"The multiplicative scatter beyond measured noise is tau = {scatter.tau:.3g}"
        f" {span(tau.ci_low, tau.ci_high)}, {side} {100 * SOURCE_SCATTER:g} %; the raw log-residual sd is"
        f" {number(scatter.log_residual_sd)} and the median |residual| over the prediction"
        f" {scatter.median_abs_relative:.3g}. The source does not define its scatter."
    )
    return Claim("S0-5", claim, text)


def balance_claim(tested: FitResult) -> Claim:
    """Say whether alpha = z beta, where the gap no longer depends on N above the crossover."""
    entry = tested.combinations.get("alpha - z*beta")
    if entry is None:
        return Claim("alpha_z_beta", "alpha = z beta", "alpha - z beta is not identified.")
    low, high = entry.ci_low, entry.ci_high
    side = "contains" if covers(low, high, 0.0) else "excludes"
    text = f"alpha - z beta = {number(entry.estimate)} {span(low, high)}, which {side} 0."
    if not tested.parameters["z"].identified:
        text += " Above the crossover this says only whether G depends on N at fixed D: it is no evidence about z."
    return Claim("alpha_z_beta", "alpha = z beta", text)


def epochs_claim(epochs: EpochsTest | None) -> Claim:
    """Say whether repetition matters beyond N and D."""
    claim = "the gap depends on N and D alone, not on how often the data are repeated"
    if epochs is None:
        return Claim("epochs", claim, "Epochs do not vary here (or are not given): repetition is not tested.")
    rho, ratio = epochs.rho, epochs.likelihood_ratio
    shown = f"{number(rho.estimate)} {span(rho.ci_low, rho.ci_high)}" if rho.identified else "not identified"
    meaning = "which refutes the law as stated" if epochs.matter else "no significant dependence"
    return Claim("epochs", claim, f"A factor epochs^rho has rho {shown} and gains {ratio:.1f} in 2 log L: {meaning}.")


def comparison_claim(comparison: Sequence[ComparedLaw], in_unique_tokens: Sequence[str]) -> Claim:
    """Say how the law ranks among the rival laws."""
    names = {row.law: f"{row.law} (unique tokens)" if row.law in in_unique_tokens else row.law for row in comparison}
    ranked = ", ".join(
        f"{names[row.law]} +{row.delta_aicc:.1f}" for row in sorted(comparison, key=lambda row: row.delta_aicc)
    )
    score = max(comparison, key=lambda row: row.cv_log_score)
    text = f"AICc above the best: {ranked}. Best cross-validated log score: {score.law} ({score.cv_log_score:.1f})."
    beyond = comparison[0]
    if beyond.p_best is not None and beyond.reach is not None:
        text += (
            f" Fitted to the smaller runs and scored on the larger (by a factor {beyond.reach:.2g} in N D),"
            f" {names[beyond.law]} is best, in {beyond.p_best:.0%} of resamplings."
        )
    return Claim("rivals", "the law beats its rivals", text)


def nulls_claim(nulls: Sequence[Null]) -> Claim:
    """Give the rule's word for each simulated truth."""
    words = "; ".join(f"{null.truth}: {null.verdict}" for null in nulls)
    text = f"On this design the same rule says, of one simulated table each: {words}."
    if not nulls[-1].passed:
        text += " So rows like these would not have supported the law even if it were true."
    return Claim("nulls", "the design can tell the law from its rivals", text)
