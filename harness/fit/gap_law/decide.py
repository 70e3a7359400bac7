"""From numbers to one word: the rule by which a table supports the gap law, refutes it, or cannot tell."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

CLEARLY_BETTER = 10.0
EQUIVALENCE = 0.05
# An interval that reaches further than this from the published value is too wide to support it.
RESOLUTION = 0.1
TESTED = ("alpha", "z", "beta")
RIVALS = ("gap_n_free", "gap_free_n", "gap_kaplan")


class Word(enum.StrEnum):
    """What a table of gaps says about the law."""

    SUPPORTED = "supported"
    """Every exponent is known to within 0.1 and agrees with the published one, and every rival is clearly worse."""
    NOT_SUPPORTED = "not_supported"
    """A rival describes the rows better, an identified exponent disagrees, or epochs matter, which the law has not."""
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


@dataclass(frozen=True)
class Evidence:
    """What the rule looks at.

    Attributes:
        detected: whether the gaps lie above zero.
        aicc: law id -> AICc on the same rows; `gap` and the rivals at least.
        exponents: name -> (estimate, ci_low, ci_high, published), only those identified.
        slope: 95 % interval of the slope of log G in log N at fixed tokens; None if it is not identified.
        epochs_matter: whether a factor epochs^rho improves the law significantly; None if epochs do not vary.
    """

    detected: bool
    aicc: Mapping[str, float]
    exponents: Mapping[str, tuple[float, float | None, float | None, float]]
    slope: tuple[float | None, float | None] | None = None
    epochs_matter: bool | None = None


def contradicts(estimate: float, low: float | None, high: float | None, published: float) -> bool:
    """The interval leaves the published value out, and the estimate is not within 0.05 of it (equivalent for use)."""
    inside = (low is None or low <= published) and (high is None or published <= high)
    return not inside and abs(estimate - published) > EQUIVALENCE


def within(low: float | None, high: float | None, centre: float, margin: float) -> bool:
    """The interval is closed and lies within the margin: equivalence, where overlap would only be no rejection."""
    return low is not None and high is not None and centre - margin <= low and high <= centre + margin


def decide(evidence: Evidence) -> tuple[Word, str]:
    """The word, and the reason in a clause."""
    if not evidence.detected:
        return Word.NO_DETECTABLE_GAP, "the gaps are not shown to lie above zero (one-sided sign-flip test at 1 %)"
    # Before the rivals, none of which knows epochs either: being free of N is no description of gaps that epochs make.
    if evidence.epochs_matter:
        return Word.NOT_SUPPORTED, "the gap depends on epochs at fixed N and D, and the law has no such term"
    aicc = evidence.aicc
    form = min(value for law, value in aicc.items() if law not in RIVALS)
    rival = min(RIVALS, key=lambda law: aicc[law])
    ahead = aicc[rival] - form
    behind = aicc["gap_n_free"] - form
    free = aicc["gap_n_free"] <= min(aicc.values()) + CLEARLY_BETTER
    if free and evidence.slope is not None and within(*evidence.slope, 0.0, EQUIVALENCE):
        return Word.N_FREE, f"G = a D^-b, which does not know N, has an AICc {behind:+.1f} against the law's"
    if ahead < -CLEARLY_BETTER:
        return Word.NOT_SUPPORTED, f"the rival {rival} describes the rows better (AICc {ahead:+.1f})"
    if free:
        text = f"whether the gap depends on N is not resolved (without N, AICc {behind:+.1f} against the law's)"
        return Word.NOT_IDENTIFIED, text
    missing = [name for name in TESTED if name not in evidence.exponents]
    if missing:
        return Word.NOT_IDENTIFIED, f"these rows do not identify {', '.join(missing)}"
    apart = [name for name in TESTED if contradicts(*evidence.exponents[name])]
    if apart:
        return Word.NOT_SUPPORTED, f"{', '.join(apart)} disagree with the published values"
    wide = []
    for name in TESTED:
        _, low, high, published = evidence.exponents[name]
        if not within(low, high, published, RESOLUTION):
            wide.append(name)
    if wide:
        return Word.NOT_IDENTIFIED, f"{', '.join(wide)} may lie further than {RESOLUTION} from the published values"
    if ahead < CLEARLY_BETTER:
        return Word.NOT_IDENTIFIED, f"the rival {rival} describes the rows as well (AICc {ahead:+.1f})"
    return Word.SUPPORTED, f"exponents agree with the published ones and every rival is worse by {ahead:.0f} in AICc"
