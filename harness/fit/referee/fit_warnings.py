"""Warnings that follow from a fit itself: how it ended, what is not identified, what is fragile."""

from collections.abc import Iterator

import numpy as np

from harness.fit.certainty.identifiability import FEWEST_ROWS, FEWEST_SHARE, Identified
from harness.fit.certainty.sign_flip import NOT_ABOVE_ZERO
from harness.fit.problem.centred import Problem
from harness.fit.problem.fit_status import FitStatus, FitWarning
from harness.fit.problem.model import ends_of_range
from harness.fit.results.result import Estimate
from harness.fit.results.robustness import Robustness

FEWEST_CLUSTERS = 12

STATUS_MESSAGES = {
    FitStatus.MAX_ITER: "the search ran out of steps while the objective still fell",
    FitStatus.AT_BOUND: "a parameter lies on the edge of its range: the range, not the data, decides it",
    FitStatus.DID_NOT_MOVE: "the best search ended where it began: the start, not the data, is the answer",
}


def warnings_of(
    status: FitStatus,
    problem: Problem,
    identified: Identified,
    estimates: dict[str, Estimate],
    robust: Robustness | None,
) -> Iterator[FitWarning]:
    """Warn about the end of the search, identifiability, thin regimes, few clusters and fragile estimates."""
    law, fitted = problem.law, problem.fitted
    if status in STATUS_MESSAGES:
        yield FitWarning(status.value, STATUS_MESSAGES[status])
    # Parameters at an end of their range, such as a floor at zero or an exponent as steep as is allowed.
    places = zip(law.parameters, ends_of_range(problem.model, identified.theta), strict=False)
    ends = ", ".join(f"{parameter.name} ({'lowest' if end < 0 else 'highest'})" for parameter, end in places if end)
    if ends:
        yield FitWarning("at_end", f"at an end of its range, where its term is lost or too steep: {ends}")
    if law.contrast and not identified.identified.any():
        yield FitWarning("no_detectable_gap", NOT_ABOVE_ZERO)
    unknown = [name for name, value in estimates.items() if not value.identified]
    if unknown:
        yield FitWarning("not_identified", f"not identified by these rows: {', '.join(unknown)}")
    rows = fitted.sum()
    for regime, count in identified.regime_rows.items():
        if count < max(FEWEST_ROWS, FEWEST_SHARE * rows):
            yield FitWarning("thin_regime", f"{count} of {rows} rows lie in the regime {regime}")
    clusters = len(np.unique(problem.cluster[fitted]))
    drawn = any(value.bootstrap_low is not None or value.bootstrap_high is not None for value in estimates.values())
    if drawn and clusters < FEWEST_CLUSTERS:
        yield FitWarning("few_clusters", f"{clusters} clusters: bootstrap intervals from so few are too narrow")
    if law.contrast:
        small = np.mean(np.abs(problem.response[fitted]) < 2 * problem.noise[fitted])
        if small > 0.5:
            yield FitWarning("noise_dominates", f"{small:.0%} of the gaps are smaller than two standard errors")
    for reason in robust.reasons if robust and robust.verdict == "fragile" else ():
        yield FitWarning("fragile", reason)
