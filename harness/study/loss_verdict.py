"""What a study of losses says: claims with their words, tables, and figures that its page shows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling
from harness.fit.results.shown import finite_rows, number, span

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Within(Measured):
    """A number of which a claim says only that it lies in a range: `predicted` is the middle, `margin` half of it."""

    def __str__(self) -> str:
        low, high = self.predicted - self.margin, self.predicted + self.margin
        claimed = f"{number(low)} to {number(high)} is claimed"
        if self.estimate is None:
            return f"{self.name} is not known ({claimed})"
        return f"{self.name} is {number(self.estimate)} {span(self.low, self.high)}, {claimed}"


def within(
    name: str, low: float, high: float, estimate: float | None, first: float | None, last: float | None
) -> Within:
    """A number with the ends of its 95 % interval, which a claim says to lie from `low` to `high`."""
    known = None if estimate is None or not math.isfinite(estimate) else float(estimate)
    ends = (None if known is None or end is None or not math.isfinite(end) else float(end) for end in (first, last))
    return Within(name, (low + high) / 2, (high - low) / 2, known, *ends)


@dataclass(frozen=True)
class StudyFigure:
    """A figure of one panel: what it shows, in a sentence of plain text, and how it is drawn."""

    caption: str
    draw: Callable[[], "Figure"]


@dataclass(frozen=True)
class LossVerdict:
    """What the runs of a study of losses say.

    Attributes:
        headline: the finding in a sentence.
        claims: each with its word and its evidence.
        tables: title -> rows of plain numbers and strings, in the order in which a page shows them.
        notes: what a reader should know of the runs: what was left out, and which noise they had.
        drawings: name -> figure; not part of the JSON.
    """

    headline: str
    claims: tuple[JudgedClaim, ...]
    tables: Mapping[str, list[dict[str, Any]]]
    notes: tuple[str, ...]
    drawings: Mapping[str, StudyFigure] = field(default_factory=dict, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; None for a number that is not finite."""
        return {
            "headline": self.headline,
            "claims": [claim.to_dict() for claim in self.claims],
            "tables": {title: finite_rows(rows) for title, rows in self.tables.items()},
            "notes": list(self.notes),
        }


def count_of_words(claims: Sequence[JudgedClaim]) -> str:
    """How many of the claims got each word, as the end of a headline."""
    counts = {word: sum(claim.ruling is word for claim in claims) for word in Ruling}
    parts = [f"{count} {word.words}" for word, count in counts.items() if count]
    return f"of {len(claims)} claims {', '.join(parts)}"
