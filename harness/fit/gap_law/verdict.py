"""The verdict on the gap law from a table of gaps: one word, short sentences with their numbers, and all the fits."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.fit.compare import ComparedLaw, compare_fitted
from harness.fit.fitting import complete
from harness.fit.gap_law import findings
from harness.fit.gap_law.contest import epochs_test, solve_contest
from harness.fit.gap_law.judge import ErrorKind, Judgement, judge
from harness.fit.gap_law.nulls import Null, simulate_nulls
from harness.fit.gap_law.rule import HEADLINES, RIVALS, ROUNDED_LAW, TESTED_LAW
from harness.fit.results.result import FitResult, StrictJson
from harness.fit.results.shown import Showable
from sweeps.published_gap import PUBLISHED_GAP

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Verdict(StrictJson, Showable):
    """What a table says about the gap law.

    Attributes:
        judgement: the word, its reason and its evidence.
        coverage: how many rows lie on either side of the crossover at the published z.
        fitted_coverage: the same at the fitted z; None where z is not identified.
        shared_errors: whether the errors that runs share by their documents are part of all errors
            (`harness.gaps.shared_documents`); None if the table is not one of a sweep.
        fits: law id -> result, all on the same rows.
        comparison: the laws, ordered by how well they predict runs of larger scale, then by AICc.
        in_unique_tokens: the rivals that were fitted in unique instead of processed tokens.
        nulls: the rule's words for three simulated truths on this design; empty if they were not asked for.
    """

    judgement: Judgement
    coverage: findings.Coverage
    fitted_coverage: findings.Coverage | None
    magnitude: findings.Magnitude
    shared_errors: bool | None
    fits: dict[str, FitResult]
    comparison: tuple[ComparedLaw, ...]
    in_unique_tokens: tuple[str, ...]
    nulls: tuple[Null, ...]

    @property
    def verdict(self) -> str:
        """The word of the verdict, a value of `harness.fit.gap_law.rule.Word`."""
        return self.judgement.word.value

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        return f"{HEADLINES[self.judgement.word]}: {self.judgement.reason}."

    @property
    def fit(self) -> FitResult:
        """The result of the law under test."""
        return self.fits[TESTED_LAW]

    @property
    def claims(self) -> tuple[findings.Claim, ...]:
        """Every finding in a sentence, with the claim it answers; the first is about the source's own ranges."""
        claims = (
            findings.source_claim(),
            findings.coverage_claim(self.coverage, self.fitted_coverage, self.fit.rows),
            findings.detection_claim(self.judgement.signal, self.shared_errors),
            findings.magnitude_claim(self.magnitude),
            findings.comparison_claim(self.comparison, self.in_unique_tokens),
            findings.exponents_claim(self.fit),
            findings.kink_claim(self.fit, self.fits[ROUNDED_LAW]),
            findings.scatter_claim(self.fit),
            findings.balance_claim(self.fit),
            findings.epochs_claim(self.judgement.epochs),
        )
        return (*claims, findings.nulls_claim(self.nulls)) if self.nulls else claims

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(claim.finding for claim in self.claims)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain dictionaries, lists, numbers and strings; the fits as in the JSON of a fit."""
        fitted = self.fitted_coverage
        return {
            "headline": self.headline,
            "verdict": self.verdict,
            "reason": self.judgement.reason,
            "sentences": list(self.sentences),
            "claims": [asdict(claim) for claim in self.claims],
            "coverage": {
                "published_z": self.coverage.to_dict(),
                "fitted_z": None if fitted is None else fitted.to_dict(),
            },
            "fits": {law: result.to_dict() for law, result in self.fits.items()},
            "comparison": [row.to_dict() for row in self.comparison],
            "nulls": [asdict(null) for null in self.nulls],
            "warnings": [asdict(warning) for warning in self.fit.warnings],
        }

    def shown(self) -> list[str]:
        """The headline, and every finding in a sentence."""
        return [self.headline, *self.sentences]

    def figure(self) -> "Figure":
        """Draw the constants of the law under test with their 95 % intervals, and the published ones (hollow)."""
        return self.fit.figure().update_layout(title=self.headline)


def verdict(
    frame: pd.DataFrame, *, bootstrap: int = 200, seed: int = 0, nulls: bool = True, source: str = "table"
) -> Verdict:
    """Fit the gap law and its rivals to the same rows, judge them, and say what follows.

    Args:
        frame: roles N, D, G (nats per token); optional G_se, epochs or U, cluster.
        bootstrap: number of cluster-bootstrap draws for the gap law's intervals; 0 takes errors from the curvature.
        seed: the seed of the bootstrap, the folds and the simulations.
        nulls: whether to judge this design also with simulated gaps of known truth (no gap; G = a D^-b; the published
            law) in place of the measured ones.

    Raises:
        InputError: N, D or G is missing or unusable, or there are too few rows.
    """
    fits, in_unique_tokens = solve_contest(frame, (TESTED_LAW, ROUNDED_LAW, *RIVALS), source)
    epochs = epochs_test(frame, fits[TESTED_LAW], source)
    results = {}
    for law, fitted in fits.items():
        tested = law == TESTED_LAW
        draws = bootstrap if tested else 0
        results[law] = complete(fitted, frame, draws=draws, seed=seed, sensitivity=tested, source=source)
    estimates = results[TESTED_LAW].parameters
    judgement = judge(fits, estimates, epochs, ErrorKind.BOOTSTRAP if bootstrap else ErrorKind.CURVATURE)
    n, d, gap = (frame[role].to_numpy(float) for role in ("N", "D", "G"))
    z = estimates["z"]
    return Verdict(
        judgement=judgement,
        coverage=findings.coverage_at(n, d, PUBLISHED_GAP.z),
        fitted_coverage=findings.coverage_at(n, d, z.estimate) if z.identified and z.estimate is not None else None,
        magnitude=findings.magnitude_of(n, d, gap),
        shared_errors=None if "domain" not in frame.columns else fits[TESTED_LAW].problem.shared is not None,
        fits=results,
        comparison=compare_fitted(list(fits.values()), seed),
        in_unique_tokens=in_unique_tokens,
        nulls=simulate_nulls(frame, fits["gap_n_free"], seed) if nulls else (),
    )
