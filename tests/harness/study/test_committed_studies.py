"""The verdicts in the repository are those of the tables beside them, and numpy alone finds their main numbers."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rederive import rederive

from harness.study.judges import report_study

STUDIES = Path(__file__).parents[3] / "sweeps" / "studies"
JUDGED = sorted(file.parent for file in STUDIES.glob("*/verdict.json"))
GAP = STUDIES / "gap"
NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
# By what share numbers may differ: processors round sums in other orders. Of the places with flat fits, two processors
# differed by 1.1 % in constants of contests and by 0.4 % in tables; elsewhere by less than one in a thousand.
APART, FLAT = 1e-3, {"verdict.laws": 0.03, "verdict.tables": 0.01}
# The share of resamplings in which a law was best: 200 of them, apart by 0.015 there.
RESAMPLED = 0.03
INPUTS = ("runs.parquet", "study.yaml", "*.jsonl")


def same(found: Any, committed: Any, where: str) -> None:
    """Words are the same, and numbers nearly."""
    share = next((more for place, more in FLAT.items() if where.startswith(place)), APART)
    most = RESAMPLED if where.endswith("p_best") else 1e-6
    if isinstance(committed, dict):
        assert found.keys() == committed.keys(), where
        for name, value in committed.items():
            same(found[name], value, f"{where}.{name}")
    elif isinstance(committed, list):
        assert len(found) == len(committed), where
        for place, value in enumerate(committed):
            same(found[place], value, f"{where}[{place}]")
    elif isinstance(committed, float):
        assert found == pytest.approx(committed, rel=share, abs=most), where
    elif isinstance(committed, str):  # numbers in sentences are rounded to four digits
        assert re.sub(NUMBER, "#", found) == re.sub(NUMBER, "#", committed), where
        numbers = (list(map(float, re.findall(NUMBER, text))) for text in (found, committed))
        assert next(numbers) == pytest.approx(next(numbers), rel=2 * share, abs=most), where
    else:
        assert found == committed, where


@pytest.mark.slow
@pytest.mark.parametrize("folder", JUDGED, ids=lambda folder: folder.name)
def test_the_committed_table_gives_the_committed_verdict(folder, tmp_path):
    for file in (found for pattern in INPUTS for found in folder.glob(pattern)):
        shutil.copy(file, tmp_path)
    report_study(tmp_path / "runs.parquet")
    committed = json.loads((folder / "verdict.json").read_text())
    same(json.loads((tmp_path / "verdict.json").read_text()), committed, "verdict")
    assert {file.name for file in tmp_path.glob("*.svg")} == {file.name for file in folder.glob("*.svg")}


@pytest.mark.parametrize("folder", JUDGED, ids=lambda folder: folder.name)
def test_the_page_says_the_words_of_the_verdict(folder):
    claims, page = json.loads((folder / "verdict.json").read_text())["claims"], (folder / "README.md").read_text()
    said = dict(re.findall(r"^\| ([A-Z]+\d?-\d+) [^|]*\| (not supported|not resolved|supported)", page, re.M))
    assert said == {claim["id"]: claim["ruling"].replace("_", " ") for claim in claims}


def test_numpy_alone_finds_the_main_numbers():
    verdict = json.loads((GAP / "verdict.json").read_text())
    evidence = {each["name"]: each["estimate"] for claim in verdict["claims"] for each in claim["evidence"]}
    once = next(group for group in verdict["slopes"] if group["block"] == "once")
    expected = {
        "gap over the law's": evidence["the gap over the law's"],
        "online gap over twin gap": evidence["the online gap over the twin gap"],
        "power of N in the gap": once["in_n"],
        "power of D in the gap": once["in_d"],
    }
    found = rederive(str(GAP / "runs.parquet"))
    assert found.keys() == expected.keys()
    for name, (value, error) in found.items():
        # The same runs, other weights: the difference is a part of the error.
        assert abs(value - expected[name]) < error, name


def test_pages_name_every_column_of_the_committed_tables():
    root = STUDIES.parents[1]
    pages = ("harness/record", "harness/machine", "sweeps", "sweeps/studies")
    lines = [line for page in pages for line in (root / page / "README.md").read_text().splitlines()]
    cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
    names = {re.escape(name) for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    # DOMAIN, NAME, a level n and a layer L stand for what differs.
    named = re.compile("|".join(re.sub("DOMAIN|NAME", ".+", re.sub("_[nL](?=_|$)", r"_\\d+", name)) for name in names))
    tables = {file: pq.read_schema(file).names for file in STUDIES.glob("*/runs.parquet")}
    unknown = {column for columns in tables.values() for column in columns if not named.fullmatch(column)}
    assert len(tables) > 20 and unknown == set()
