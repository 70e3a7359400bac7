"""The findings of a verdict: what the law's source claims, and what these rows say of it, each with its number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.fit.certainty.sign_flip import Signal
from harness.fit.compare import Compared
from harness.fit.gap_law.assess import Epochs
from harness.fit.gap_law.nulls import Null
from harness.fit.gap_law.published import predict_gap
from harness.fit.result import FitResult, number, span

SOURCE_N = (7e7, 1.3e10)
SOURCE_D = (1e9, 4e12)
SOURCE_Z = 0.74
SOURCE_SCATTER = 0.08


@dataclass(frozen=True)
class Claim:
    """A claim of the law's source, and what the rows say of it."""

    id: str
    claim: str
    finding: str


def source_ranges() -> Claim:
    """u over the source's own N and D: its crossover at u = 1 lies below all of them."""
    low = SOURCE_D[0] / SOURCE_N[1] ** SOURCE_Z
    high = SOURCE_D[1] / SOURCE_N[0] ** SOURCE_Z
    return Claim(
        "source_design",
        "a crossover at u = D/N^0.74 near 1 was observed in 174 runs",
        f"Over the N ({SOURCE_N[0]:g} to {SOURCE_N[1]:g}) and D ({SOURCE_D[0]:g} to {SOURCE_D[1]:g}) of the source,"
        f" u lies between {low:.0f} and {high:.1e}: none of its runs can reach u = 1 in raw counts, so its design"
        " cannot identify alpha, z, A or u_star.",
    )


def _coverage(coverage: dict, rows: int) -> Claim:
    def counts(at: dict) -> str:
        return (
            f"{at['u_below_0.3']} rows with u < 0.3, {at['u_below_1']} below 1, {at['u_above_1']} above 1,"
            f" {at['u_above_3']} above 3"
        )

    text = f"Of {rows} rows, at z = 0.74: {counts(coverage['published_z'])}"
    fitted = coverage["fitted_z"]
    text += f"; at the fitted z = {fitted['z']:.3f}: {counts(fitted)}." if fitted else "; z is not identified here."
    return Claim("coverage", "the law has a branch on either side of u_star", text)


def _signal(signal: Signal, shared: bool) -> Claim:
    said = "lie above zero" if signal.detected else "are not shown to lie above zero"
    text = (
        f"The gaps {said}: one-sided sign-flip p = {signal.p_value:.2g}, {signal.positive_share:.0%} of rows positive."
    )
    if shared:
        text += (
            " Runs on one text are measured on the same held-out documents; the test and all intervals take their"
            " errors as independent, so they are too sure."
        )
    return Claim("detection", "there is a gap", text)


def _magnitude(frame: pd.DataFrame) -> Claim:
    """Under raw counts, and if N were meant in millions and D in billions: the source does not say which."""
    n, d = frame["N"].to_numpy(float), frame["D"].to_numpy(float)
    observed = float(np.median(frame["G"]))
    raw, scaled = float(np.median(predict_gap(n, d))), float(np.median(predict_gap(n / 1e6, d / 1e9)))
    return Claim(
        "magnitude",
        "A = 0.86 and u_star = 1",
        f"The median gap here is {number(observed)} nats; the published constants predict {number(raw)} from raw counts"
        f" and {number(scaled)} if N is in millions and D in billions (the source names no unit; fits use raw counts).",
    )


def _exponents(gap: FitResult) -> Claim:
    known, unknown = [], []
    for name in ("alpha", "z", "beta", "A", "u_star"):
        value = gap.parameters[name]
        interval = span(value.ci_low, value.ci_high)
        text = f"{name} {number(value.estimate)} {interval} (published {number(value.published)})"
        known.append(text) if value.identified else unknown.append(name)
    text = (
        "Fitted with 95 % intervals: " + "; ".join(known) + "." if known else "No parameter of the law is identified."
    )
    if unknown and known:
        text += f" Not identified: {', '.join(unknown)}."
    return Claim("S0-1", "alpha 0.31, z 0.74, A 0.86, beta 0.42, u_star 1", text)


def _kink(fits: dict[str, FitResult]) -> Claim:
    gap, smooth = fits["gap"], fits["gap_smooth"]
    gain = 2 * (smooth.log_likelihood - gap.log_likelihood)
    gains = f"gains {gain:.1f}" if gain > 0.05 else "gains nothing"  # the kink is the limit of large s
    sharpness = smooth.parameters["s"]
    if not gap.parameters["u_star"].identified:
        text = "Whether f is kinked cannot be asked: the position of the crossover is not identified."
    elif sharpness.identified:
        interval = span(sharpness.ci_low, sharpness.ci_high)
        shown = f"s = {number(sharpness.estimate)} {interval}"
        text = f"A rounded crossover has {shown} and {gains} in 2 log L over the kink."
    else:
        text = f"The sharpness s of the crossover has no upper limit: rounding {gains} in 2 log L."
    return Claim("S0-2", "f has a kink at u_star: flat below, a power law above", text)


def _scatter(gap: FitResult) -> Claim:
    found = gap.scatter
    tau = gap.parameters["tau"]
    if not tau.identified:
        return Claim(
            "S0-5", "residual scatter below 8 %", "Without a detectable gap there is no scatter about the law."
        )
    below, above = (tau.ci_high or np.inf) < SOURCE_SCATTER, (tau.ci_low or 0.0) > SOURCE_SCATTER
    side = "below" if below else "above" if above else "not distinguishable from"
    text = (
        f"The multiplicative scatter beyond measured noise is tau = {found['tau']:.3g} {span(tau.ci_low, tau.ci_high)},"
        f" {side} 8 %; the raw log-residual sd is {number(found['log_residual_sd'])} and the median |residual|"
        f" over the prediction {found['median_abs_relative']:.3g}. The source does not define its scatter."
    )
    return Claim("S0-5", "residual scatter below 8 %", text)


def _balance(gap: FitResult) -> Claim:
    entries = {entry["combination"]: entry for entry in gap.identifiability["identified_combinations"]}
    entry = entries.get("alpha - z*beta")
    if entry is None:
        return Claim("alpha_z_beta", "alpha = z beta", "alpha - z beta is not identified.")
    low, high = entry["ci_low"], entry["ci_high"]
    holds = (low is None or low <= 0) and (high is None or high >= 0)
    side = "contains" if holds else "excludes"
    text = f"alpha - z beta = {number(entry['estimate'])} {span(low, high)}, which {side} 0."
    if not gap.parameters["z"].identified:
        text += " Above the crossover this says only whether G depends on N at fixed D: it is no evidence about z."
    return Claim("alpha_z_beta", "alpha = z beta", text)


def _epochs(epochs: Epochs | None) -> Claim:
    claim = "the gap depends on N and D alone, not on how often the data are repeated"
    if epochs is None:
        return Claim("epochs", claim, "Epochs do not vary here (or are not given): repetition is not tested.")
    rho, ratio = epochs.rho, epochs.likelihood_ratio
    shown = f"{number(rho.estimate)} {span(rho.ci_low, rho.ci_high)}" if rho.identified else "not identified"
    said = "which refutes the law as stated" if epochs.matter else "no significant dependence"
    return Claim("epochs", claim, f"A factor epochs^rho has rho {shown} and gains {ratio:.1f} in 2 log L: {said}.")


def _comparison(comparison: Sequence[Compared], in_unique: Sequence[str]) -> Claim:
    names = {row.law: f"{row.law} (unique tokens)" if row.law in in_unique else row.law for row in comparison}
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


def _nulls(nulls: Sequence[Null]) -> Claim:
    told = "; ".join(f"{null.truth}: {null.verdict}" for null in nulls)
    text = f"On this design the same rule says, of one simulated table each: {told}."
    if nulls and not nulls[-1].passed:
        text += " So rows like these would not have supported the law even if it were true."
    return Claim("nulls", "the design can tell the law from its rivals", text)


def findings(
    frame: pd.DataFrame,
    fits: dict[str, FitResult],
    comparison: Sequence[Compared],
    signal: Signal,
    epochs: Epochs | None,
    coverage: dict,
    nulls: Sequence[Null],
    in_unique: Sequence[str],
) -> tuple[Claim, ...]:
    """Every finding, the source's own design first; `in_unique` are the rivals fitted on unique tokens."""
    gap = fits["gap"]
    claims = [
        source_ranges(),
        _coverage(coverage, gap.rows),
        _signal(signal, "domain" in frame.columns),
        _magnitude(frame),
        _comparison(comparison, in_unique),
        _exponents(gap),
        _kink(fits),
        _scatter(gap),
        _balance(gap),
        _epochs(epochs),
    ]
    return (*claims, _nulls(nulls)) if nulls else tuple(claims)
