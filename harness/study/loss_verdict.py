"""What a study of losses says: claims with their words, tables, and figures that its page shows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, Ruling
from harness.fit.results.shown import factor, finite_rows, number, span

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Within(DecidingNumber):
    """A number of which a claim says only where it lies.

    Attributes:
        least, most: the ends of that range; None where it is open.
    """

    name: str
    least: float | None
    most: float | None
    estimate: float | None
    low: float | None
    high: float | None

    @property
    def claimed(self) -> tuple[float, float]:
        """The range, infinite where it is open."""
        return -math.inf if self.least is None else self.least, math.inf if self.most is None else self.most

    def to_dict(self) -> dict[str, Any]:
        """The number, the range that is claimed, and the word."""
        return asdict(self) | {"ruling": self.ruling}

    def __str__(self) -> str:
        if self.least is None or self.most is None:
            claimed = f"at least {number(self.least)}" if self.most is None else f"at most {number(self.most)}"
        else:
            claimed = f"{number(self.least)} to {number(self.most)}"
        if self.estimate is None:
            return f"{self.name} is not known ({claimed} is claimed)"
        told = f"{number(self.estimate)} {span(self.low, self.high)}"
        told += factor(self.name, self.estimate, self.low, self.high)
        return f"{self.name} is {told}, {claimed} is claimed"


def within(name: str, least: float | None, most: float | None, *found: float | None) -> Within:
    """A number with the ends of its 95 % interval (`found`), which a claim says to lie from `least` to `most`.

    A limit of None is none; a number or an end that is not finite is not known.
    """
    estimate, low, high = (None if each is None or not math.isfinite(each) else float(each) for each in found)
    known = estimate is not None
    return Within(name, least, most, estimate, low if known else None, high if known else None)


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
