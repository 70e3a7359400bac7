"""A study that is repeated: its words, numbers and losses beside those of the study that comes with isogap."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

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
        same_text: how many of these runs read the same text: by the hashes of their corpora; in tables without these,
            by bytes per token and contamination, which another text would hardly have to the last digit.
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
                f" {self.same_text:,} of them read exactly the same text."
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
    return Repeat(tuple(words), tuple(numbers), len(both), float(np.median(np.abs(ratios - 1))), _same_text(both))


def _numbers(claim: Mapping[str, Any], committed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the numbers of one claim, in pairs by their names, or by their places if names count runs."""
    here, there = claim["evidence"], {each["name"]: each for each in committed["evidence"]}
    if len(here) == len(there) and {each["name"] for each in here} != there.keys():
        there = dict(zip((each["name"] for each in here), there.values(), strict=True))
    rows = []
    for each in here:
        other = there.get(each["name"])
        if other is None or each["estimate"] is None or other["estimate"] is None:
            continue
        low, high = other["low"], other["high"]
        inside = (low is None or each["estimate"] >= low) and (high is None or each["estimate"] <= high)
        shown = (f"{number(one['estimate'])} {span(one['low'], one['high'])}" for one in (each, other))
        names = ("claim", "number", "here", "in_study")
        rows.append(dict(zip(names, (claim["id"], each["name"], *shown), strict=True)) | {"inside": inside})
    return rows


def _same_text(both: pd.DataFrame) -> int:
    """How many runs read the same text: by the hash of the corpus, or in tables without it by two measures."""
    hashes = both.get(["corpus_hash", "corpus_hash_there"])
    if hashes is not None and hashes.notna().to_numpy().all():
        return int(np.sum(hashes["corpus_hash"].to_numpy() == hashes["corpus_hash_there"].to_numpy()))
    return int(np.sum(_equal(both, "bytes_per_token") & _equal(both, "contamination")))


def _equal(both: pd.DataFrame, name: str) -> Bool[np.ndarray, "rows"]:
    """In which rows a number is the same in both tables; one that is missing in both counts as the same."""
    first, second = (both[column].astype(float).to_numpy() for column in (name, f"{name}_there"))
    return (first == second) | (np.isnan(first) & np.isnan(second))
