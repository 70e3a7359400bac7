"""What is answered to a question about gaps where no gap is detected."""

from dataclasses import dataclass

from harness.fit.results.result import StrictJson
from harness.fit.results.shown import Showable, number


@dataclass(frozen=True)
class NoGap(StrictJson, Showable):
    """The answer to a question about gaps that are not shown to lie above zero: there is nothing to be asked about.

    Attributes:
        question: what was asked for.
        rows: the number of gaps.
        mean, sd: of the gaps, nats per token.
        p_value, positive_share: of the sign-flip test (`harness.fit.certainty.sign_flip`).
    """

    question: str
    rows: int
    mean: float
    sd: float
    p_value: float
    positive_share: float
    verdict: str = "no_detectable_gap"

    @property
    def finding(self) -> str:
        """All of this in a line."""
        return (
            f"no gap detected, so no {self.question}: {self.rows} gaps with a mean of {number(self.mean)} and an sd of "
            f"{number(self.sd)} nats, {self.positive_share:.0%} of them positive; sign-flip p = {self.p_value:.2g}"
        )

    def shown(self) -> list[str]:
        """The line."""
        return [self.finding]
