"""Fits of the gap law and its rivals to one table, and what the rule says: shared by the verdict and its nulls."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.fit.certainty.estimates import estimates_of
from harness.fit.certainty.sign_flip import Signal, detect
from harness.fit.certainty.uncertainty import resample
from harness.fit.compare import aicc
from harness.fit.fitting import Fitted, solve
from harness.fit.gap_law.decide import RIVALS, TESTED, Evidence, Word, decide
from harness.fit.laws.law import get_law, with_factor
from harness.fit.result import Estimate

LIKELIHOOD_DROP = 6.63


@dataclass(frozen=True)
class Epochs:
    """Whether epochs D/U carry something that N and D do not: the gap law times epochs^rho."""

    rho: Estimate
    likelihood_ratio: float
    matter: bool


@dataclass(frozen=True)
class Assessment:
    """Solved fits by law, the sign-flip test, the epochs test, and the word with its reason."""

    fits: dict[str, Fitted]
    signal: Signal
    epochs: Epochs | None
    word: Word
    reason: str


def exponents(estimates: dict[str, Estimate]) -> dict[str, tuple[float, float | None, float | None, float]]:
    """The identified ones among the exponents under test, as the rule wants them."""
    found = {}
    for name in TESTED:
        value = estimates[name]
        if value.identified and value.estimate is not None and value.published is not None:
            found[name] = (value.estimate, value.ci_low, value.ci_high, value.published)
    return found


def slope_in_n(fits: dict[str, Fitted]) -> tuple[float | None, float | None] | None:
    """The 95 % interval of c in G = a N^c D^-b, which every other law here has as a special or limiting slope."""
    c = quick_estimates(fits["gap_free_n"])["c"]
    return (c.ci_low, c.ci_high) if c.identified else None


def unique_tokens(frame: pd.DataFrame) -> pd.DataFrame | None:
    """The rows with unique tokens U for D; None if U is not known, or D wherever it is."""
    if "U" not in frame.columns and "epochs" in frame.columns:
        frame = frame.assign(U=frame["D"] / frame["epochs"])
    if "U" not in frame.columns or np.allclose(frame["U"], frame["D"], rtol=1e-3):
        return None
    return frame.assign(D=frame["U"])


def solve_all(laws: tuple[str, ...], frame: pd.DataFrame, source: str) -> dict[str, Fitted]:
    """Each law on the rows; a rival in processed or in unique tokens, whichever describes them better.

    The rivals' sources mean the size of the data set by D, and the law's does not say: it is tested as it is written.
    """
    unique = unique_tokens(frame)
    fits = {}
    for law in laws:
        fits[law] = solve(law, frame, source=source)
        if law in RIVALS and unique is not None:
            fits[law] = max(fits[law], solve(law, unique, source=source), key=lambda fitted: fitted.log_likelihood)
    return fits


def quick_estimates(fitted: Fitted) -> dict[str, Estimate]:
    """Estimates with errors from the curvature alone."""
    nothing = resample(fitted.problem, fitted.solutions, fitted.identified, 0, 0)
    return estimates_of(fitted.problem, fitted.identified, *nothing)


def epochs_test(frame: pd.DataFrame, gap: Fitted, source: str) -> Epochs | None:
    """The gap law with a factor epochs^rho; None if the table has no epochs or they hardly vary.

    Significant means that the likelihood ratio passes 6.63 (1 % of chi-squared) and the interval of rho excludes 0.
    """
    if "epochs" not in frame.columns and "U" in frame.columns:
        frame = frame.assign(epochs=frame["D"] / frame["U"])
    if "epochs" not in frame.columns or np.ptp(np.log(frame["epochs"].to_numpy(float))) < 0.01:
        return None
    wider = solve(with_factor(get_law("gap"), "epochs"), frame, source=source)
    ratio = 2.0 * (wider.log_likelihood - gap.log_likelihood)
    rho = quick_estimates(wider)["rho_epochs"]
    excludes = rho.identified and not (rho.ci_low or 0.0) <= 0.0 <= (rho.ci_high or 0.0)
    return Epochs(rho, float(ratio), bool(ratio > LIKELIHOOD_DROP and excludes))


def assess(
    frame: pd.DataFrame, laws: tuple[str, ...] = ("gap", *RIVALS), *, epochs: bool = False, source: str = "table"
) -> Assessment:
    """Solve the laws on the table and apply the rule, with errors from the curvature."""
    fits = solve_all(laws, frame, source)
    gap = fits["gap"]
    signal = detect(gap.problem)
    tested = epochs_test(frame, gap, source) if epochs else None
    rows = int(gap.problem.fitted.sum())
    evidence = Evidence(
        signal.detected,
        {law: aicc(fitted.log_likelihood, fitted.degrees, rows) for law, fitted in fits.items()},
        exponents(quick_estimates(gap)),
        slope_in_n(fits),
        None if tested is None else tested.matter,
    )
    return Assessment(fits, signal, tested, *decide(evidence))
