"""Warnings that follow from a fit itself: how it ended, what is not identified, what is fragile."""

import numpy as np

from harness.fit.certainty.identifiability import FEWEST_ROWS, FEWEST_SHARE, Identified
from harness.fit.problem.centred import Problem
from harness.fit.problem.fit_status import FitStatus, FitWarning
from harness.fit.problem.model import ends_of_range
from harness.fit.results.result import Estimate, Robustness

FEWEST_CLUSTERS = 12

STATUS_MESSAGES = {
    FitStatus.MAX_ITER: "the search ran out of steps while the objective still fell",
    FitStatus.AT_BOUND: "a parameter lies on the edge of its range: the range, not the data, decides it",
    FitStatus.DID_NOT_MOVE: "the best search ended where it began: the start, not the data, is the answer",
}


def _at_ends(problem: Problem, identified: Identified) -> list[str]:
    """Constants of the law that ended at an end of their range: a floor at zero, an exponent as steep as is allowed."""
    ends = zip(problem.law.parameters, ends_of_range(problem.model, identified.theta), strict=False)
    return [f"{parameter.name} ({'lowest' if end < 0 else 'highest'})" for parameter, end in ends if end]


def warnings_of(
    status: FitStatus,
    problem: Problem,
    identified: Identified,
    estimates: dict[str, Estimate],
    robust: Robustness | None,
) -> tuple[FitWarning, ...]:
    """Warnings about the end of the search, identifiability, thin regimes, few clusters and fragile estimates."""
    warnings = []
    if status in STATUS_MESSAGES:
        warnings.append(FitWarning(status.value, STATUS_MESSAGES[status]))
    ends = _at_ends(problem, identified)
    if ends:
        warnings.append(
            FitWarning("at_end", f"at an end of its range, where its term is lost or too steep: {', '.join(ends)}")
        )
    if problem.law.contrast and not identified.identified.any():
        warnings.append(
            FitWarning(
                "no_detectable_gap", "the gaps are not shown to lie above zero (one-sided sign-flip test at 1 %)"
            )
        )
    unknown = [name for name, value in estimates.items() if not value.identified]
    if unknown:
        warnings.append(FitWarning("not_identified", f"not identified by these rows: {', '.join(unknown)}"))
    rows = problem.fitted.sum()
    for regime, count in identified.regime_rows.items():
        if count < max(FEWEST_ROWS, FEWEST_SHARE * rows):
            warnings.append(FitWarning("thin_regime", f"{count} of {rows} rows lie in the regime {regime}"))
    clusters = len(np.unique(problem.cluster[problem.fitted]))
    if clusters < FEWEST_CLUSTERS:
        warnings.append(
            FitWarning("few_clusters", f"{clusters} clusters: bootstrap intervals from so few are too narrow")
        )
    if problem.law.contrast:
        noise = problem.noise[problem.fitted]
        small = np.mean(np.abs(problem.response[problem.fitted]) < 2 * noise)
        if small > 0.5:
            warnings.append(
                FitWarning("noise_dominates", f"{small:.0%} of the gaps are smaller than two standard errors")
            )
    warnings += [FitWarning("fragile", reason) for reason in (robust.reasons if robust else ())]
    return tuple(warnings)
