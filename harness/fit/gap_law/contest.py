"""The gap law, its rounded form and its rivals, each fitted to the same rows; and the test of epochs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.fit.fitting import SolvedFit, curvature_estimates, solve
from harness.fit.gap_law.rule import RIVALS, TESTED_LAW
from harness.fit.laws.law import with_factor
from harness.fit.laws.registry import get_law
from harness.fit.results.result import Estimate, covers

# The 1 % critical value of chi-squared with one degree of freedom.
LIKELIHOOD_DROP = 6.63


@dataclass(frozen=True)
class EpochsTest:
    """Whether epochs D/U explain gaps beyond N and D: the gap law is fitted again with a factor epochs^rho.

    `likelihood_ratio` is the gain in 2 log L. `matter` says whether that gain is significant.
    """

    rho: Estimate
    likelihood_ratio: float
    matter: bool


def with_unique_tokens(frame: pd.DataFrame) -> pd.DataFrame | None:
    """The rows with unique tokens U in the place of D; None if U is unknown or equals D in every row."""
    if "U" not in frame.columns and "epochs" in frame.columns:
        frame = frame.assign(U=frame["D"] / frame["epochs"])
    if "U" not in frame.columns or np.allclose(frame["U"], frame["D"], rtol=1e-3):
        return None
    return frame.assign(D=frame["U"])


def solve_contest(
    frame: pd.DataFrame, laws: tuple[str, ...], source: str = "table"
) -> tuple[dict[str, SolvedFit], tuple[str, ...]]:
    """Fit each law to the rows; fit a rival in unique tokens too, and keep the better of its fits.

    The sources of the rivals mean the size of the data set by D. The gap law's source does not say what it means, so
    the gap law is tested as it is written, in processed tokens. It is fitted first, so that messages about unusable
    rows name it.

    Returns:
        the fits by law id, and the rivals whose better fit is the one in unique tokens.

    Raises:
        InputError: N, D or G is missing or unusable, or there are too few rows.
    """
    fits = {law: solve(law, frame, source=source) for law in laws}
    unique = with_unique_tokens(frame)
    in_unique_tokens = []
    if unique is not None:
        for law in RIVALS:
            other = solve(law, unique, source=source)
            if other.log_likelihood > fits[law].log_likelihood:
                fits[law] = other
                in_unique_tokens.append(law)
    return fits, tuple(in_unique_tokens)


def epochs_test(frame: pd.DataFrame, gap: SolvedFit, source: str) -> EpochsTest | None:
    """Fit the gap law times epochs^rho; None if the table has no epochs or they hardly vary.

    Epochs matter if the likelihood ratio passes 6.63 (1 % of chi-squared) and the 95 % interval of rho excludes 0.
    """
    if "epochs" not in frame.columns and "U" in frame.columns:
        frame = frame.assign(epochs=frame["D"] / frame["U"])
    if "epochs" not in frame.columns or np.ptp(np.log(frame["epochs"].to_numpy(float))) < 0.01:
        return None
    wider = solve(with_factor(get_law(TESTED_LAW), "epochs"), frame, source=source)
    ratio = 2.0 * (wider.log_likelihood - gap.log_likelihood)
    rho = curvature_estimates(wider)["rho_epochs"]
    excludes_zero = rho.identified and not covers(rho.ci_low, rho.ci_high, 0.0)
    return EpochsTest(rho, float(ratio), bool(ratio > LIKELIHOOD_DROP and excludes_zero))
