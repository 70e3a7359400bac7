"""The verdict on the gap law from a table of gaps: one word, short sentences with their numbers, and all the fits."""

import json
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from harness.fit.compare import Compared, compare_fitted
from harness.fit.fitting import complete
from harness.fit.gap_law.assess import assess, epochs_test, exponents, slope_in_n, unique_tokens
from harness.fit.gap_law.decide import HEADLINES, RIVALS, Evidence, decide
from harness.fit.gap_law.findings import Claim, findings
from harness.fit.gap_law.nulls import Null, simulate_nulls
from harness.fit.problem.problem import Problem, Warned, column_of
from harness.fit.result import FitResult

LAWS = ("gap", "gap_smooth", *RIVALS)
PUBLISHED_Z = 0.74


@dataclass(frozen=True)
class Verdict:
    """What a table says about the gap law.

    Attributes:
        headline: the verdict in a sentence.
        verdict: a member of `Word`.
        sentences: the findings, each with its number; the first is about the source's own ranges.
        claims: the same findings, each with the claim it answers.
        coverage: rows by u = D/N^z at the published and, where z is identified, the fitted exponent.
        fits: law id -> result; all on the same rows.
        comparison: the laws, best extrapolation to larger runs first, then by AICc.
        nulls: what the rule says of three simulated truths on this design.
    """

    headline: str
    verdict: str
    reason: str
    sentences: tuple[str, ...]
    claims: tuple[Claim, ...]
    coverage: dict
    fits: dict[str, FitResult]
    comparison: tuple[Compared, ...]
    nulls: tuple[Null, ...]
    warnings: tuple[Warned, ...]

    def to_dict(self) -> dict:
        return json.loads(self.to_json())

    def to_json(self) -> str:
        """Strict JSON of every field; the fits as in the JSON of a fit."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)


def coverage_at(frame: pd.DataFrame, z: float) -> dict[str, float | int]:
    """Rows on either side of the crossover for an exponent: u = D/N^z in raw counts."""
    u = frame["D"].to_numpy(float) / frame["N"].to_numpy(float) ** z
    return {
        "z": z,
        "u_below_0.3": int(np.sum(u < 0.3)),
        "u_below_1": int(np.sum(u < 1.0)),
        "u_above_1": int(np.sum(u > 1.0)),
        "u_above_3": int(np.sum(u > 3.0)),
        "u_min": float(u.min()),
        "u_max": float(u.max()),
    }


def _reads(problem: Problem, frame: pd.DataFrame) -> bool:
    return bool(np.allclose(problem.raw_columns["D"], frame["D"].to_numpy(float), rtol=1e-6))


def verdict(
    frame: pd.DataFrame, *, bootstrap: int = 200, seed: int = 0, nulls: bool = True, source: str = "table"
) -> Verdict:
    """Fit the gap law and its rivals to the same rows, and say what follows.

    Args:
        frame: roles N, D, G (nats per token); optional G_se, epochs or U, cluster.
        bootstrap: cluster bootstrap draws for the gap law's intervals.
        seed: of bootstrap, folds and simulations.
        nulls: whether to run the three simulated truths.

    Raises:
        InputError: N, D or G is missing or unusable, or there are too few rows.
    """
    for role in ("N", "D", "G"):
        column_of(frame, role, source, signed=role == "G")
    found = assess(frame, LAWS, source=source)
    epochs = epochs_test(frame, found.fits["gap"], source)
    results = {
        law: complete(
            fitted,
            frame,
            draws=bootstrap if law == "gap" else 0,
            seed=seed,
            sensitivity=law == "gap",
            source=source,
        )
        for law, fitted in found.fits.items()
    }
    comparison = compare_fitted(list(found.fits.values()), seed)
    evidence = Evidence(
        found.signal.detected,
        {row.law: row.aicc for row in comparison},
        exponents(results["gap"].parameters),
        slope_in_n(found.fits),
        None if epochs is None else epochs.matter,
    )
    word, reason = decide(evidence)
    simulated = simulate_nulls(frame, found, seed) if nulls else ()
    z = results["gap"].parameters["z"]
    coverage = {
        "published_z": coverage_at(frame, PUBLISHED_Z),
        "fitted_z": coverage_at(frame, z.estimate) if z.identified and z.estimate is not None else None,
    }
    unique = unique_tokens(frame)
    in_unique = tuple(law for law in RIVALS if unique is not None and _reads(found.fits[law].problem, unique))
    claims = findings(frame, results, comparison, found.signal, epochs, coverage, simulated, in_unique)
    return Verdict(
        headline=f"{HEADLINES[word]}: {reason}.",
        verdict=word.value,
        reason=reason,
        sentences=tuple(claim.finding for claim in claims),
        claims=claims,
        coverage=coverage,
        fits=results,
        comparison=comparison,
        nulls=simulated,
        warnings=results["gap"].warnings,
    )
