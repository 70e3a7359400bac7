"""Collects the evidence about the gap law from its fits and applies the rule to it.

The verdict on a table and the simulated truths beside it both call `judge`, with different kinds of errors.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from harness.fit.certainty.sign_flip import Signal, detect
from harness.fit.compare import aicc
from harness.fit.fitting import SolvedFit, curvature_estimates
from harness.fit.gap_law.contest import EpochsTest
from harness.fit.gap_law.rule import TESTED_EXPONENTS, TESTED_LAW, Evidence, ExponentEvidence, Word, apply_rule
from harness.fit.results.result import Estimate


class ErrorKind(enum.StrEnum):
    """Where the intervals of the exponents under test come from."""

    BOOTSTRAP = "bootstrap"
    """Refits to resampled clusters."""
    CURVATURE = "curvature"
    """The curvature of the likelihood at the best point: no refits, and too narrow where the likelihood is skewed."""


@dataclass(frozen=True)
class Judgement:
    """The word of the rule and what it rests on.

    Attributes:
        reason: why the rule says that word, in a clause.
        signal: the sign-flip test of whether there is a gap at all.
        epochs: the test of whether repetition matters; None if epochs do not vary or were not asked about.
        errors: the kind of intervals that the exponents were judged with.
    """

    word: Word
    reason: str
    evidence: Evidence
    signal: Signal
    epochs: EpochsTest | None
    errors: ErrorKind


def judge(
    fits: Mapping[str, SolvedFit], estimates: Mapping[str, Estimate], epochs: EpochsTest | None, errors: ErrorKind
) -> Judgement:
    """Apply the rule to fits of the gap law and its rivals.

    The rule asks in this order, and stops at the first answer: is there a gap (sign-flip test at 1 %); do epochs
    matter; does a law without N, or another rival, describe the rows better (AICc, 10 is clear); are alpha, z and beta
    identified; do they agree with the published values; are their intervals within 0.1 of them.

    Guarantee: the result is deterministic and depends on the arguments only. It is `supported` only if every exponent
    under test is shown to be equivalent to the published one and every rival is worse by 10 in AICc. On tables of 174
    runs that reach both branches of the law, with 8 % scatter and errors from the curvature, it was the right word for
    197, 198 and 200 of 200 tables in three worlds without a gap, for 200 of 200 where the gap does not depend on N, and
    for 200 of 200 where the law is true (`scripts/worlds.py`).

    Not for: rows that were chosen by their gaps; runs that share documents of which the table does not say how, whose
    errors it takes as independent, so that it is too sure; gaps that had not settled, about which the law says nothing;
    or another law, whose exponents and rivals it does not know.

    Args:
        fits: law id -> solved fit of the same rows, for the law under test and every rival at least.
        estimates: the estimated parameters of the law under test.
        errors: the kind of errors in `estimates`. The slope in N and the factor of epochs have errors from the
            curvature in either case.
    """
    tested = fits[TESTED_LAW]
    rows = int(tested.problem.fitted.sum())
    signal = detect(tested.problem)
    evidence = Evidence(
        signal.detected,
        {law: aicc(fitted.log_likelihood, fitted.degrees, rows) for law, fitted in fits.items()},
        _exponents(estimates),
        _slope_in_n(fits),
        None if epochs is None else epochs.matter,
    )
    return Judgement(*apply_rule(evidence), evidence, signal, epochs, errors)


def _exponents(estimates: Mapping[str, Estimate]) -> dict[str, ExponentEvidence]:
    """The exponents under test that are identified."""
    known = {}
    for name in TESTED_EXPONENTS:
        value = estimates[name]
        if value.identified and value.estimate is not None and value.published is not None:
            known[name] = ExponentEvidence(value.estimate, value.ci_low, value.ci_high, value.published)
    return known


def _slope_in_n(fits: Mapping[str, SolvedFit]) -> tuple[float | None, float | None] | None:
    """The 95 % interval of c in G = a N^c D^-b, the slope of log G in log N at fixed D; None if not identified."""
    c = curvature_estimates(fits["gap_free_n"])["c"]
    return (c.ci_low, c.ci_high) if c.identified else None
