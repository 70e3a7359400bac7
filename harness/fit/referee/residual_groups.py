"""Whether the residuals of a fit differ between the groups of a column that the law does not read."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import kruskal

from harness.fit.certainty.identifiability import Identified
from harness.fit.problem.centred import Problem
from harness.fit.problem.fit_status import FitWarning
from harness.fit.problem.raw_units import predictions

# Columns of so many groups, of so many clusters each, are looked at: with more groups a column is a name, not a choice.
MOST_GROUPS, FEWEST_CLUSTERS = 12, 5
# The chance of a false alarm in a table, shared by its columns.
FALSE_ALARMS = 0.001


def residual_groups(problem: Problem, identified: Identified, frame: pd.DataFrame) -> Iterator[FitWarning]:
    """Warn of columns of words between whose groups the residuals differ (Kruskal and Wallis 1952, on cluster means).

    A law that leaves out what distinguishes the groups fits none of them, and its scatter hides that.
    """
    with np.errstate(all="ignore"):
        residual = (problem.observed / predictions(problem, identified.theta) - 1.0)[problem.fitted]
    fitted, cluster = problem.fitted, problem.cluster[problem.fitted]
    read = {*problem.law.roles, *problem.law.labels, "cluster", "holdout"}
    words = [name for name in frame.columns if name not in read and frame[name].dtype.kind not in "biufc"]
    for name in words:
        values = np.asarray(frame[name].astype(str))[fitted]
        groups = {}
        for group in np.unique(values)[: MOST_GROUPS + 1]:
            own = values == group
            _, place = np.unique(cluster[own], return_inverse=True)
            groups[group] = np.bincount(place, residual[own]) / np.bincount(place)
        means = np.concatenate([*groups.values()])
        enough = min(map(len, groups.values())) >= FEWEST_CLUSTERS and bool(np.isfinite(means).all())
        if not 1 < len(groups) <= MOST_GROUPS or not enough or np.ptp(means) == 0.0:
            continue
        if kruskal(*groups.values()).pvalue < FALSE_ALARMS / len(words):
            told = ", ".join(f"{group} {np.median(own):+.1%}" for group, own in groups.items())
            message = f"the residuals differ by {name} (median {told}): fit its values apart with --by {name}"
            yield FitWarning("residuals_by_group", message)
