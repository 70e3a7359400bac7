"""A repeat of a study beside the committed one: its words, its numbers, and whether it read the same text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from harness.files import read_object
from harness.fit.gap_law.rulings import Ruling
from harness.fit.results.shown import number, span
from harness.study.cells import read_study_runs
from harness.study.studies import RUNS, studies_folder

# The file of a study's claims, beside its table of runs.
VERDICT = "verdict.json"


class Spanned(NamedTuple):
    """A number with the ends of its 95 % interval; None where a number is not known, or has no limit."""

    estimate: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return "not known" if self.estimate is None else f"{number(self.estimate)} {span(self.low, self.high)}"

    def holds(self, value: float) -> bool:
        """Whether a value lies within the interval."""
        return (-math.inf if self.low is None else self.low) <= value <= (math.inf if self.high is None else self.high)


@dataclass(frozen=True)
class RepeatedNumber:
    """A number that decides a claim, as it was found here and in the committed study.

    Attributes:
        inside: whether the number found here lies within the interval of the study; None where one is not known.
    """

    name: str
    here: Spanned
    there: Spanned

    @property
    def inside(self) -> bool | None:
        if self.here.estimate is None or self.there.estimate is None:
            return None
        return self.there.holds(self.here.estimate)


@dataclass(frozen=True)
class RepeatedClaim:
    """A claim with its word here and in the committed study, and its numbers."""

    id: str
    claim: str
    here: Ruling
    there: Ruling
    numbers: tuple[RepeatedNumber, ...]

    def rows(self) -> Iterator[dict[str, str]]:
        """A row for each number; the first one has the claim and its words, as has that of a claim without numbers."""
        said = (self.id, self.claim, self.here.words, self.there.words)
        for each in self.numbers or (None,):
            told = ("", "", "", "")
            if each is not None:
                told = (each.name, str(each.here), str(each.there), _PLACES[each.inside])
            yield dict(zip(_COLUMNS, (*said, *told), strict=True))
            said = ("", "", "", "")


_COLUMNS = (
    "claim", "what is claimed", "verdict", "verdict of the study", "number", "here", "in the study", "of its interval",
)  # fmt: skip
_PLACES = {True: "inside", False: "outside", None: ""}


@dataclass(frozen=True)
class Repeat:
    """What a repeat of a study has in common with the committed one.

    Attributes:
        claims: those that both judge.
        text: whether both read the same text, in words.
    """

    claims: tuple[RepeatedClaim, ...]
    text: str

    def rows(self) -> list[dict[str, str]]:
        """The claims with their words and numbers, here and in the study."""
        return [row for claim in self.claims for row in claim.rows()]

    def __str__(self) -> str:
        words = sum(claim.here is claim.there for claim in self.claims)
        known = [each.inside for claim in self.claims for each in claim.numbers if each.inside is not None]
        return (
            f"{words} of {len(self.claims)} words as in the study; {sum(known)} of {len(known)} numbers inside of its"
            f" intervals; text: {self.text}"
        )


def repeat_of(study: str, verdict: Mapping[str, Any], runs: pd.DataFrame, folder: Path) -> Repeat | None:
    """Compare a study with the committed one of its name; None if there is none with its claims, or if this is it.

    Args:
        verdict: what the runs say, as it stands in verdict.json.
        runs: the table of runs.
        folder: where the table is.
    """
    committed = studies_folder() / study
    if not (committed / VERDICT).is_file() or folder.resolve() == committed.resolve():
        return None
    theirs = {claim["id"]: claim for claim in read_object(committed / VERDICT)["claims"]}
    claims = tuple(_claim(own, theirs[own["id"]]) for own in verdict["claims"] if own["id"] in theirs)
    if not claims:
        return None
    table = committed / RUNS  # which an installed package is without
    return Repeat(claims, _texts_compared(runs, read_study_runs(table) if table.is_file() else pd.DataFrame()))


def _claim(own: Mapping[str, Any], other: Mapping[str, Any]) -> RepeatedClaim:
    numbers = tuple(
        RepeatedNumber(here["name"], _interval(here), _interval(there))
        for here, there in _pairs(own["evidence"], other["evidence"])
    )
    return RepeatedClaim(own["id"], own["claim"], Ruling(own["ruling"]), Ruling(other["ruling"]), numbers)


def _pairs(
    own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The numbers of a claim in pairs: by their names, which may count runs, or else by their places."""
    by_name = {each["name"]: each for each in other}
    if len(own) == len(other) and {each["name"] for each in own} != by_name.keys():
        return list(zip(own, other, strict=True))
    return [(each, by_name[each["name"]]) for each in own if each["name"] in by_name]


def _interval(evidence: Mapping[str, Any]) -> Spanned:
    return Spanned(evidence["estimate"], evidence["low"], evidence["high"])


def _texts_compared(own: pd.DataFrame, other: pd.DataFrame) -> str:
    """Whether the runs read the text of those of the committed study, in words."""
    here, there = _texts(own), _texts(other)
    if not there:
        return "not recorded in the study"
    if not here:
        return "not recorded here"
    differ = sorted({domain for domain, _ in here - there})
    return f"other than in the study: {', '.join(differ)}" if differ else "the same as in the study"


def _texts(runs: pd.DataFrame) -> set[tuple[str, str]]:
    """The domains with the hashes of their text, of runs that have one; tables of before have no such column."""
    if "corpus_hash" not in runs.columns:
        return set()
    known = runs.dropna(subset=["corpus_hash"])
    return set(zip(known["domain"], known["corpus_hash"], strict=True))
