"""How a fit moves under other choices, and whether the rows determine what it predicts beyond them."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.fit.results.shown import NOT_DETERMINED, UNDETERMINED, is_determined, number

# What the range of the prediction beyond the rows is called.
PREDICTION = "prediction"


@dataclass(frozen=True)
class SensitivityCase:
    """The same fit under another choice.

    Attributes:
        estimates: the identified parameters and combinations under this choice.
        prediction: the response at sqrt(10) times the largest sizes; None if the law cannot predict it.
        aic_behind: the AIC of the alternative law minus the AIC of the fit; None if the law is the same.
    """

    case: str
    rows: int
    estimates: Mapping[str, float]
    prediction: float | None
    aic_behind: float | None = None


@dataclass(frozen=True)
class Robustness:
    """Whether a fit is `fragile`, `stable` or `undecided` under other choices, and why.

    `ranges` are name -> (low, case, high, case).
    """

    verdict: str
    reasons: tuple[str, ...]
    ranges: Mapping[str, tuple[float, str, float, str]]

    @property
    def determines_prediction(self) -> bool:
        """Whether the prediction beyond the rows is known to a factor of `UNDETERMINED`; True without a prediction."""
        low, _, high, _ = self.ranges.get(PREDICTION, (1.0, "", 1.0, ""))
        return is_determined(low, high)

    def lines(self) -> list[str]:
        """A line for each range; the prediction's says so where the rows do not determine it."""
        return [
            f"{name}: {number(low)} ({at_low}) to {number(high)} ({at_high})"
            if name != PREDICTION or self.determines_prediction
            else f"{name}: {NOT_DETERMINED} (from {at_low} to {at_high} by more than a factor of {UNDETERMINED:g})"
            for name, (low, at_low, high, at_high) in self.ranges.items()
        ]
