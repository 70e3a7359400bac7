"""The rule that decides the verdict: whether the evidence supports the gap law, refutes it, or cannot tell."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from harness.fit.results.result import covers

TESTED_LAW, ROUNDED_LAW = "gap", "gap_smooth"
RIVALS = ("gap_n_free", "gap_free_n", "gap_kaplan")
TESTED_EXPONENTS = ("alpha", "z", "beta")
# The difference in AICc from which on one law counts as clearly better than another.
CLEARLY_BETTER = 10.0
# Two exponents are treated as equal if they differ by no more than this.
EQUIVALENCE = 0.05
# An interval that reaches further than this from the published value is too wide to support it.
RESOLUTION = 0.1


class Word(enum.StrEnum):
    """What a table of gaps says about the law."""

    SUPPORTED = "supported"
    """Every exponent is known to within 0.1 and agrees with the published one, and every rival is clearly worse."""
    NOT_SUPPORTED = "not_supported"
    """A rival describes the rows better, an identified exponent disagrees, or epochs matter, for which the law has no
    term."""
    N_FREE = "n_free"
    """A law in tokens alone describes the rows, and the slope in N at fixed tokens is known to be within 0.05 of 0."""
    NOT_IDENTIFIED = "not_identified"
    """There is a gap, but these rows cannot tell the law from its rivals or fix its exponents."""
    NO_DETECTABLE_GAP = "no_detectable_gap"
    """The gaps are not shown to lie above zero."""


HEADLINES = {
    Word.SUPPORTED: "The gap law is supported by these rows",
    Word.NOT_SUPPORTED: "The gap law is not supported by these rows",
    Word.N_FREE: "These rows show a gap that does not depend on N",
    Word.NOT_IDENTIFIED: "These rows cannot test the gap law",
    Word.NO_DETECTABLE_GAP: "These rows show no detectable gap",
}


class ExponentEvidence(NamedTuple):
    """An identified exponent with its 95 % interval (None on an open side) and the published value."""

    estimate: float
    ci_low: float | None
    ci_high: float | None
    published: float

    @property
    def contradicts(self) -> bool:
        """Whether the interval leaves the published value out and the estimate is not within 0.05 of it."""
        apart = abs(self.estimate - self.published) > EQUIVALENCE
        return apart and not covers(self.ci_low, self.ci_high, self.published)


@dataclass(frozen=True)
class Evidence:
    """The numbers from which the rule decides.

    Attributes:
        detected: whether the gaps lie above zero.
        aicc: law id -> AICc on the same rows, for the law under test and the rivals at least.
        exponents: by name, those of the exponents under test that are identified.
        slope: 95 % interval of the slope of log G in log N at fixed tokens; None if it is not identified.
        epochs_matter: whether a factor epochs^rho improves the law significantly; None if epochs do not vary.
    """

    detected: bool
    aicc: Mapping[str, float]
    exponents: Mapping[str, ExponentEvidence]
    slope: tuple[float | None, float | None] | None = None
    epochs_matter: bool | None = None


def lies_within(low: float | None, high: float | None, centre: float, margin: float) -> bool:
    """Whether a closed interval lies within the margin of the centre, which shows equivalence.

    An interval that merely overlaps the margin would show only that a difference is not detected.
    """
    return low is not None and high is not None and centre - margin <= low and high <= centre + margin


def apply_rule(evidence: Evidence) -> tuple[Word, str]:
    """Return the word, and the reason for it in a clause."""
    if not evidence.detected:
        return Word.NO_DETECTABLE_GAP, "the gaps are not shown to lie above zero (one-sided sign-flip test at 1 %)"
    # Epochs come before the rivals, which have no term for them either: even if a rival such as the law without N fits
    # well, it does not describe gaps that depend on epochs.
    if evidence.epochs_matter:
        return Word.NOT_SUPPORTED, "the gap depends on epochs at fixed N and D, and the law has no such term"
    aicc = evidence.aicc
    form = min(value for law, value in aicc.items() if law not in RIVALS)
    rival = min(RIVALS, key=lambda law: aicc[law])
    ahead = aicc[rival] - form
    behind = aicc["gap_n_free"] - form
    free = aicc["gap_n_free"] <= min(aicc.values()) + CLEARLY_BETTER
    if free and evidence.slope is not None and lies_within(*evidence.slope, 0.0, EQUIVALENCE):
        return Word.N_FREE, f"G = a D^-b, which does not know N, has an AICc {behind:+.1f} against the law's"
    if ahead < -CLEARLY_BETTER:
        return Word.NOT_SUPPORTED, f"the rival {rival} describes the rows better (AICc {ahead:+.1f})"
    if free:
        text = f"whether the gap depends on N is not resolved (without N, AICc {behind:+.1f} against the law's)"
        return Word.NOT_IDENTIFIED, text
    missing = [name for name in TESTED_EXPONENTS if name not in evidence.exponents]
    if missing:
        return Word.NOT_IDENTIFIED, f"these rows do not identify {', '.join(missing)}"
    apart = [name for name in TESTED_EXPONENTS if evidence.exponents[name].contradicts]
    if apart:
        return Word.NOT_SUPPORTED, f"{', '.join(apart)} disagree with the published values"
    wide = []
    for name in TESTED_EXPONENTS:
        _, low, high, published = evidence.exponents[name]
        if not lies_within(low, high, published, RESOLUTION):
            wide.append(name)
    if wide:
        return Word.NOT_IDENTIFIED, f"{', '.join(wide)} may lie further than {RESOLUTION} from the published values"
    if ahead < CLEARLY_BETTER:
        return Word.NOT_IDENTIFIED, f"the rival {rival} describes the rows as well (AICc {ahead:+.1f})"
    return Word.SUPPORTED, f"exponents agree with the published ones and every rival is worse by {ahead:.0f} in AICc"
