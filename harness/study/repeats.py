"""A study that is repeated: its words, numbers and losses beside those of the study that comes with isogap."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.fit.gap_law.rulings import Ruling
from harness.fit.results.shown import number, span
from harness.study.studies import RUNS, VERDICT, studies_folder

# What differs between two trainings of a run even where every loss is the same.
_CLOCK = "wall_seconds"


@dataclass(frozen=True)
class Repeat:
    """How what was found compares with the study that comes with isogap.

    Attributes:
        words: a row for each claim of both: `claim`, `here` and `in_study`, the words.
        numbers: a row for each number that decides such a claim and is known in both: `claim`, `number` (its name),
            `here` and `in_study` (the number with its interval), and `inside`, whether the number here is in the
            study's interval.
        runs: how many runs have a held-out loss in both.
        difference: the median relative difference of their held-out losses; None without such runs.
        same_text: how many of these runs read text with the same bytes per token and contamination to the last digit,
            which another text would hardly have.
    """

    words: tuple[dict[str, str], ...]
    numbers: tuple[dict[str, Any], ...]
    runs: int
    difference: float | None
    same_text: int

    @property
    def summary(self) -> str:
        """The comparison in sentences."""
        equal = sum(row["here"] == row["in_study"] for row in self.words)
        inside = sum(row["inside"] for row in self.numbers)
        parts = [
            f"{equal} of {len(self.words)} words are those of the study, and {inside} of {len(self.numbers)} numbers"
            " lie in its 95 % intervals."
        ]
        if self.difference is not None:
            parts.append(
                f"The held-out losses of {self.runs:,} runs differ by {self.difference:.2%} (median);"
                f" {self.same_text:,} of them read text with exactly the same bytes per token and contamination."
            )
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The rows and the numbers, and the comparison in sentences."""
        return asdict(self) | {"summary": self.summary}


def repeat_of(study: str, found: Mapping[str, Any], table: Path, folder: Path | None = None) -> Repeat | None:
    """Compare the verdict of a table of runs with that of the study of this name.

    Args:
        found: the verdict, as in verdict.json.
        table: the table of runs that it is of.
        folder: of the study's table and verdict; by default that which comes with isogap.

    Returns:
        the comparison; None where there is no such study, or where its own table was judged.
    """
    folder = folder or studies_folder() / study
    if not (folder / VERDICT).is_file():
        return None
    here = pd.read_parquet(table)
    there = pd.read_parquet(folder / RUNS) if (folder / RUNS).is_file() else None
    both = pd.DataFrame() if there is None else here.merge(there, on="run_id", suffixes=("", "_there"))
    if len(both) and _equal(both, _CLOCK).all():
        return None
    claims = {claim["id"]: claim for claim in json.loads((folder / VERDICT).read_text(encoding="utf-8"))["claims"]}
    words, numbers = [], []
    for claim in found["claims"]:
        if committed := claims.get(claim["id"]):
            rulings = (Ruling(each["ruling"]).words for each in (claim, committed))
            words.append(dict(zip(("claim", "here", "in_study"), (claim["id"], *rulings), strict=True)))
            numbers += _numbers(claim, committed)
    both = both.dropna(subset=["heldout_loss", "heldout_loss_there"]) if len(both) else both
    if not len(both):
        return Repeat(tuple(words), tuple(numbers), 0, None, 0)
    ratios = both["heldout_loss"].to_numpy(float) / both["heldout_loss_there"].to_numpy(float)
    same_text = _equal(both, "bytes_per_token") & _equal(both, "contamination")
    difference = float(np.median(np.abs(ratios - 1)))
    return Repeat(tuple(words), tuple(numbers), len(both), difference, int(same_text.sum()))


def _numbers(claim: Mapping[str, Any], committed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the numbers of one claim."""
    known, rows = {each["name"]: each for each in committed["evidence"]}, []
    for each in claim["evidence"]:
        there = known.get(each["name"])
        if there is None or each["estimate"] is None or there["estimate"] is None:
            continue
        low, high = there["low"], there["high"]
        inside = (low is None or each["estimate"] >= low) and (high is None or each["estimate"] <= high)
        shown = (f"{number(one['estimate'])} {span(one['low'], one['high'])}" for one in (each, there))
        names = ("claim", "number", "here", "in_study")
        rows.append(dict(zip(names, (claim["id"], each["name"], *shown), strict=True)) | {"inside": inside})
    return rows


def _equal(both: pd.DataFrame, name: str) -> "pd.Series[bool]":
    """In which rows a column has the same value in both tables; a value that is missing in both counts as the same."""
    first, second = (pd.to_numeric(both[column], errors="coerce") for column in (name, f"{name}_there"))
    return (first == second) | (first.isna() & second.isna())
