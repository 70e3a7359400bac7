"""Probabilities of passing, measured by sampling until r answers pass (Hu et al., arXiv 2310.03262).

The count K of samples is negative binomial. r/K is the maximum-likelihood estimate and is too high by about (1-p)/r of
itself; (r-1)/(K-1) is unbiased for r >= 2 (Haldane 1945). Its relative error is about sqrt((1-p)/r) however rare
passing is, whereas a fixed number n of samples resolves nothing below 1/n.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from sweeps.errors import InputError


def _counts(passes: ArrayLike, samples: ArrayLike, least: int) -> tuple[np.ndarray, np.ndarray]:
    r, k = np.broadcast_arrays(np.asarray(passes, float), np.asarray(samples, float))
    if not np.all(np.isfinite(r) & np.isfinite(k) & (r >= least) & (k >= r)):
        expected = f"at least {least} passes in K >= r samples"
        raise InputError("pass_until", "passes, samples", (r.min(), k.min()), expected)
    return r, k


def most_likely_pass_rate(passes: ArrayLike, samples: ArrayLike) -> Float[np.ndarray, "..."]:
    """The maximum-likelihood estimate r/K of a pass rate; InputError without a pass, or if K < r."""
    r, k = _counts(passes, samples, 1)
    return r / k


def unbiased_pass_rate(passes: ArrayLike, samples: ArrayLike) -> Float[np.ndarray, "..."]:
    """The estimate (r-1)/(K-1) of a pass rate: unbiased when sampling ended with the r-th pass.

    Raises InputError for fewer than two passes, or fewer samples than passes.
    """
    r, k = _counts(passes, samples, 2)
    return (r - 1.0) / (k - 1.0)


def pass_rate_error(passes: ArrayLike, samples: ArrayLike) -> Float[np.ndarray, "..."]:
    """The standard error of `unbiased_pass_rate`, by an unbiased estimate of its variance, p (1-p)/(K-2).

    Raises InputError for fewer than three passes, or fewer samples than passes.
    """
    r, k = _counts(passes, samples, 3)
    p = (r - 1.0) / (k - 1.0)
    return np.sqrt(p * (1.0 - p) / (k - 2.0))


def pass_rates_of_models(frame: pd.DataFrame, by: str = "N") -> pd.DataFrame:
    """Average a table of single questions to one row per model, ready for the law `pass_until`.

    Args:
        frame: one row per question and model: `by`, `passes` (r) and `samples` (K at the r-th pass). InputError for
            fewer than three passes in a row, or fewer samples than passes.
        by: the column that tells the models apart.

    Returns:
        `by`, PU (mean over questions of the unbiased estimate), PU_se (standard error of that mean, given these
        questions), questions (their number).
    """
    p = unbiased_pass_rate(frame["passes"], frame["samples"])
    variance = pass_rate_error(frame["passes"], frame["samples"]) ** 2
    table = frame.assign(PU=p, variance=variance, questions=1).groupby(by, sort=True)
    models = table.agg(PU=("PU", "mean"), PU_se=("variance", "sum"), questions=("questions", "sum"))
    return models.assign(PU_se=np.sqrt(models["PU_se"]) / models["questions"]).reset_index()
